//! Bodies that are gathered before the application is asked: a client that sends slowly then holds
//! none of its workers, and a body of unknown length gets one, without which Django reads nothing.
//!
//! No connection to the application is held meanwhile, so the number of connections does not bound
//! how many gather at once. The memory does. Who finds it taken does not wait, since those who hold a
//! part of it may be waiting for more themselves: a body with a length goes on as it comes, one
//! without is refused.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::{ClientFault, Failure};
use crate::config::UpstreamConfig;
use crate::http::body::Body;

/// The beginning of a body, and what comes after it; `None` if that was all.
pub(super) type Parts = (Bytes, Option<Body>);

/// Where bodies are gathered.
#[derive(Debug)]
pub(super) struct Gathering {
    /// How much of one body.
    limit: usize,
    /// How much of all together: a permit for each byte.
    memory: Arc<Semaphore>,
}

impl Gathering {
    pub(super) fn new(config: &UpstreamConfig) -> Self {
        let memory = config.request_buffer_memory.as_usize().min(Semaphore::MAX_PERMITS);
        Self { limit: config.request_buffer.as_usize(), memory: Arc::new(Semaphore::new(memory)) }
    }

    /// Whether a body of this length is gathered whole.
    pub(super) fn holds(&self, length: u64) -> bool {
        length <= self.limit as u64
    }

    /// Reads a body to its end, or until it is longer than one may be. One with an announced length goes
    /// on as it comes when the memory is taken.
    pub(super) async fn gather(&self, mut body: Body, announced: Option<u64>) -> Result<Parts, Failure> {
        let mut gathered = Gathered { bytes: Vec::new(), share: self.take(0)? };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::Client(ClientFault::of(&*error)))?;
            let Ok(data) = frame.into_data() else { continue };
            match self.add(&mut gathered, &data) {
                Ok(()) => {}
                Err(_) if announced.is_some() => {
                    gathered.bytes.extend_from_slice(&data);
                    return Ok((Bytes::from_owner(gathered), Some(body)));
                }
                Err(failure) => return Err(failure),
            }
            if gathered.bytes.len() > self.limit {
                return Ok((Bytes::from_owner(gathered), Some(body)));
            }
            // Not every body knows its own end.
            if announced == Some(gathered.bytes.len() as u64) {
                break;
            }
        }
        Ok((Bytes::from_owner(gathered), None))
    }

    /// Adds to what is gathered; what it takes is at least doubled each time, so that bytes that come
    /// one by one are not copied over and over.
    fn add(&self, gathered: &mut Gathered, data: &[u8]) -> Result<(), Failure> {
        let (held, needed) = (gathered.share.num_permits(), gathered.bytes.len() + data.len());
        if needed > held {
            let size = needed.max(self.limit.min(held * 2));
            gathered.share.merge(self.take(size - held)?);
            gathered.bytes.reserve_exact(size - gathered.bytes.len());
        }
        gathered.bytes.extend_from_slice(data);
        Ok(())
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let bytes = u32::try_from(bytes).map_err(|_| Failure::MemoryTaken)?;
        Arc::clone(&self.memory).try_acquire_many_owned(bytes).map_err(|_| Failure::MemoryTaken)
    }
}

/// What has been gathered. Its share of the memory is given back when the last of it has been written
/// to the application, or is dropped.
struct Gathered {
    bytes: Vec<u8>,
    share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Gathered {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::ByteSize;
    use crate::http::body::BodyError;
    use futures_util::{FutureExt as _, StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    fn pieces(pieces: &[&'static str]) -> Body {
        let frames: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
        Body::stream(StreamBody::new(stream::iter(frames)))
    }

    fn gathering(limit: u64, memory: u64) -> Gathering {
        Gathering::new(&UpstreamConfig {
            request_buffer: ByteSize(limit),
            request_buffer_memory: ByteSize(memory),
            ..UpstreamConfig::default()
        })
    }

    #[tokio::test]
    async fn a_body_within_the_limit_is_gathered_whole() {
        for (limit, front, is_whole) in
            [(7, "abcdef", true), (6, "abcdef", true), (5, "abcdef", false), (4, "abcde", false), (0, "abc", false)]
        {
            let (gathered, rest) = gathering(limit, 100).gather(pieces(&["abc", "de", "f"]), None).await.unwrap();
            assert_eq!((&gathered[..], rest.is_none()), (front.as_bytes(), is_whole), "for a limit of {limit}");
        }
    }

    #[tokio::test]
    async fn the_memory_is_given_back_with_the_last_of_the_bytes() {
        let gathering = gathering(100, 10);
        let (gathered, _) = gathering.gather(pieces(&["abc", "defg"]), None).await.unwrap();
        let copy = gathered.slice(1..2);
        drop(gathered);
        assert_eq!(gathering.memory.available_permits(), 3);
        assert!(matches!(gathering.gather(pieces(&["abc", "d"]), None).await, Err(Failure::MemoryTaken)));
        assert_eq!(gathering.memory.available_permits(), 3, "who is refused keeps nothing");
        drop(copy);
        assert_eq!(gathering.memory.available_permits(), 10);
    }

    #[tokio::test]
    async fn the_memory_is_given_back_by_a_client_that_leaves() {
        let gathering = gathering(100, 10);
        let frame = Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"abc")));
        let endless = stream::iter([frame]).chain(stream::pending());
        let mut gathered = Box::pin(gathering.gather(Body::stream(StreamBody::new(endless)), None));
        assert!(gathered.as_mut().now_or_never().is_none());
        assert_eq!(gathering.memory.available_permits(), 7);
        drop(gathered);
        assert_eq!(gathering.memory.available_permits(), 10);
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_take_no_more_than_one_body_may() {
        let gathering = gathering(5, 100);
        let (gathered, rest) = gathering.gather(pieces(&["a"; 5]), None).await.unwrap();
        assert!(gathered == "aaaaa" && rest.is_none());
        assert_eq!(gathering.memory.available_permits(), 95);
    }

    #[tokio::test]
    async fn a_body_that_may_go_on_does_when_the_memory_is_taken() {
        let gathering = gathering(100, 4);
        let (gathered, rest) = gathering.gather(pieces(&["abc", "def", "g"]), Some(7)).await.unwrap();
        assert_eq!(&gathered[..], b"abcdef");
        assert_eq!(rest.unwrap().collect().await.unwrap().to_bytes(), "g");
    }
}
