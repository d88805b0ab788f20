//! Bodies that are gathered before the application is asked: a client that sends slowly then holds
//! none of its workers, and a body of unknown length gets one, without which Django reads nothing.
//!
//! What is short stays in memory; what is longer, or finds the memory taken, goes to a file. No connection to the
//! application is held meanwhile, so the number of connections does not bound how many gather at once: memory
//! and disk do. Who finds both taken is refused, since who waited would hold what others wait for, and who streamed
//! through would hold a worker. The bodies of one client network find their part taken before that, and a small body,
//! as a login is, has memory of its own.
//!
//! Only where the operator allows no disk, what does not fit goes on as it comes.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use fs_err::File;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::failure::{ClientFault, Failure};
use super::pieces::Pieces;
use super::storage::{self, Share, Storage};
use crate::http::body::{Body, BodyError, FileSlice};

/// How much is written to a file at once.
const BATCH: usize = 256 * 1024;
/// What has come of a body when its length is believed. Who only announces one takes no memory for it.
const FAR: usize = 64 * 1024;

/// How long a body is that may use the memory for small ones: a form, without its files.
const SMALL: u64 = 16 * 1024;

/// A body of which some has been gathered, or all.
#[derive(Debug)]
pub(super) struct Gathered {
    /// What comes first.
    pub(super) front: Front,
    /// What comes after it.
    pub(super) rest: Option<Body>,
    /// How long all of it is, if it was gathered whole.
    pub(super) length: Option<u64>,
}

/// Gathers bodies.
#[derive(Debug)]
pub(super) struct Gathering {
    storage: Arc<Storage>,
}

impl Gathering {
    pub(super) fn new(storage: Arc<Storage>) -> Self {
        Self { storage }
    }

    /// Whether a body of this length is not even begun with: it goes on as it comes, because no disk is to be used
    /// for what is longer than the memory for one.
    pub(super) fn streams(&self, length: u64) -> bool {
        !self.storage.has_disk() && length > self.storage.limit as u64
    }

    /// Reads a body to its end. Without a disk, until it is longer than one may be; one with an announced length
    /// then goes on as it comes also when the memory is taken. `network` is the client's.
    pub(super) async fn gather(
        &self,
        mut body: Body,
        announced: Option<u64>,
        network: Option<IpAddr>,
    ) -> Result<Gathered, Failure> {
        if announced.is_some_and(|length| length > self.storage.longest()) {
            return Err(Failure::TooLongToHold);
        }
        let mut held = Held::new(&self.storage, announced, network);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::Client(ClientFault::of(&*error)))?;
            let Ok(data) = frame.into_data() else { continue };
            if self.storage.has_disk() {
                held.add(data).await?;
            } else if !held.keep(&data) {
                let is_too_long = held.pieces.len() + data.len() > self.storage.limit;
                if announced.is_none() && !is_too_long {
                    let network = held.memory.bound_by(data.len() as u64);
                    return Err(network.map_or(Failure::MemoryTaken, Failure::ShareTaken));
                }
                held.pieces.add(&data, usize::MAX);
                return Ok(Gathered { front: held.into_front(), rest: Some(body), length: None });
            }
            // Not every body knows its own end.
            if announced.is_some_and(|length| held.length() >= length) {
                break;
            }
        }
        let length = held.length();
        if announced.is_some_and(|announced| announced != length) {
            return Err(Failure::Client(ClientFault::Broken));
        }
        held.into_whole(length).await
    }
}

/// What is held of one body.
struct Held<'s> {
    storage: &'s Storage,
    network: Option<IpAddr>,
    /// How long it is going to be, if the client says so.
    announced: Option<u64>,
    /// What is not in the file: all of it, or what is to be written next.
    pieces: Pieces,
    memory: Share,
    /// `memory` is of what is kept for small bodies.
    is_in_reserve: bool,
    file: Option<OnDisk>,
}

/// The beginning of a body, in a file.
struct OnDisk {
    file: File,
    length: u64,
    share: Share,
}

impl<'s> Held<'s> {
    fn new(storage: &'s Storage, announced: Option<u64>, network: Option<IpAddr>) -> Self {
        let memory = storage.memory.share_for(network);
        Self { storage, network, announced, pieces: Pieces::default(), memory, is_in_reserve: false, file: None }
    }

    fn length(&self) -> u64 {
        self.pieces.len() as u64 + self.file.as_ref().map_or(0, |file| file.length)
    }

    /// How much of it may be in memory now: of a body that is in a file, a batch.
    fn room(&self) -> usize {
        if self.file.is_some() { self.storage.limit.min(BATCH) } else { self.storage.limit }
    }

    async fn add(&mut self, data: Bytes) -> Result<(), Failure> {
        if self.keep(&data) {
            return Ok(());
        }
        self.write_out().await?;
        if !self.keep(&data) {
            self.write(vec![data]).await?;
        }
        Ok(())
    }

    /// Adds to what is in memory, if it may; what it takes is at least doubled each time, so that bytes that come
    /// one by one are not copied over and over. A body that has come far takes all that it announced.
    fn keep(&mut self, data: &Bytes) -> bool {
        let (taken, needed, room) = (self.memory.size(), self.pieces.len() + data.len(), self.room());
        if needed > room {
            return false;
        }
        if needed as u64 > taken {
            let announced = self.announced.filter(|_| needed >= FAR).unwrap_or(taken * 2);
            if !self.take(needed as u64, (needed as u64).max((room as u64).min(announced))) {
                return false;
            }
        }
        self.pieces.add(data, usize::try_from(self.memory.size()).expect("it is no more than one may have"));
        true
    }

    /// Takes memory, `size` if there is as much: of what is there for all, or, if that is taken and `needed` is little,
    /// of what is kept for small bodies. One that grows out of that goes back to what is there for all.
    fn take(&mut self, needed: u64, size: u64) -> bool {
        if !self.is_in_reserve && self.memory.grow(size - self.memory.size()) {
            return true;
        }
        let (mut other, size) = match self.is_in_reserve {
            true => (self.storage.memory.share_for(self.network), size),
            false => {
                let length = self.announced.unwrap_or(SMALL).max(needed);
                if self.file.is_some() || length > SMALL {
                    return false;
                }
                (self.storage.reserve.share_for(self.network), length)
            }
        };
        if other.grow(size) {
            (self.memory, self.is_in_reserve) = (other, !self.is_in_reserve);
            return true;
        }
        false
    }

    /// Moves what is in memory to the file.
    async fn write_out(&mut self) -> Result<(), Failure> {
        match self.pieces.take() {
            pieces if pieces.is_empty() => Ok(()),
            pieces => self.write(pieces).await,
        }
    }

    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), Failure> {
        let (file, offset, mut share) = match self.file.take() {
            Some(OnDisk { file, length, share }) => (file, length, share),
            None => (self.storage.file().await.map_err(Failure::Disk)?.0, 0, self.storage.disk_share(self.network)),
        };
        let length = offset + pieces.iter().map(Bytes::len).sum::<usize>() as u64;
        let more = length.max(self.storage.least_on_disk()).saturating_sub(share.size());
        if !self.storage.take_disk(&mut share, more) {
            return Err(if length > self.storage.longest() {
                Failure::TooLongToHold
            } else {
                share.bound_by(more).map_or(Failure::DiskTaken, Failure::ShareTaken)
            });
        }
        if std::mem::take(&mut self.is_in_reserve) {
            self.memory = self.storage.memory.share_for(self.network);
        }
        let file = storage::write(file, offset, pieces).await.map_err(Failure::Disk)?;
        self.file = Some(OnDisk { file, length, share });
        // The next batch takes the place of this one, if there is memory for batches at all.
        self.memory.shrink(self.memory.size().saturating_sub(BATCH as u64));
        Ok(())
    }

    /// The body that is all here. What was begun in a file goes there whole, so that the memory is free again while
    /// it waits for a connection.
    async fn into_whole(mut self, length: u64) -> Result<Gathered, Failure> {
        if self.file.is_some() {
            self.write_out().await?;
        }
        let rest = self.file.take().map(|OnDisk { file, length, share }| {
            Body::stream(Filed { slice: Body::File(FileSlice::new(file, 0..length)), _share: share })
        });
        let front = if rest.is_some() { Front::default() } else { self.into_front() };
        Ok(Gathered { front, rest, length: Some(length) })
    }

    fn into_front(mut self) -> Front {
        Front { pieces: self.pieces.take(), memory: Some(Arc::new(self.memory)) }
    }
}

/// What was gathered in memory, with its share of it, which is given back when the last of it has been written to the
/// application, or is dropped.
#[derive(Debug, Clone, Default)]
pub(super) struct Front {
    pub(super) pieces: Vec<Bytes>,
    pub(super) memory: Option<Arc<Share>>,
}

/// What was gathered in a file.
struct Filed {
    slice: Body,
    _share: Share,
}

impl HttpBody for Filed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().slice).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.slice.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.slice.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UpstreamConfig;
    use crate::config::values::ByteSize;
    use futures_util::{FutureExt as _, StreamExt as _, stream};
    use http_body_util::StreamBody;

    fn body(pieces: &[&[u8]]) -> Body {
        let frames: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        Body::stream(StreamBody::new(stream::iter(frames)))
    }

    fn gathering(limit: u64, memory: u64, disk: u64) -> Gathering {
        let (storage, _) = Storage::both(&UpstreamConfig {
            request_buffer: ByteSize(limit),
            request_buffer_memory: ByteSize(memory),
            buffer_disk: ByteSize(disk),
            request_buffer_share: 1.0,
            request_buffer_reserve: ByteSize(0),
            ..UpstreamConfig::default()
        });
        Gathering::new(storage)
    }

    const NETWORK: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    /// With so much memory and disk that others have taken all of, but for what is kept for small bodies.
    fn crowded(reserve: u64) -> (Gathering, Share, Share) {
        let (storage, _) = Storage::both(&UpstreamConfig {
            request_buffer_memory: ByteSize(10),
            buffer_disk: ByteSize(1 << 20),
            request_buffer_reserve: ByteSize(reserve),
            ..UpstreamConfig::default()
        });
        let (mut memory, mut disk) = (storage.memory.share(), storage.disk_share(None));
        assert!(memory.grow(10) && storage.take_disk(&mut disk, 1 << 20));
        (Gathering::new(storage), memory, disk)
    }

    #[tokio::test]
    async fn a_small_body_finds_memory_when_all_other_is_taken() {
        let long = [b'x'; 20_000];
        for (pieces, announced, fits) in [
            (&[&long[..1000]][..], Some(1000), true),
            (&[&long[..1000], &long[..1000]], None, true),
            (&[&long[..16_384]], Some(16_384), true),
            (&[&long[..16_385]], Some(16_385), false),
            (&[&long[..100], &long[..17_000]], None, false),
            (&[&long[..100]], Some(17_000), false), // it takes nothing of it, even while it is short
        ] {
            let (gathering, ..) = &crowded(1 << 20);
            let gathered = gathering.gather(body(pieces), announced, NETWORK).await;
            let context = format!("for {announced:?} and {} bytes", pieces.concat().len());
            match gathered {
                Ok(gathered) => {
                    assert!(fits && gathered.rest.is_none(), "{context}");
                    assert!(gathering.storage.reserve.taken() >= 1000, "{context}");
                    assert_eq!(whole(gathered).await, pieces.concat(), "{context}");
                }
                Err(failure) => assert!(!fits && matches!(failure, Failure::DiskTaken), "{context}: {failure}"),
            }
            assert_eq!(gathering.storage.reserve.taken(), 0, "{context}");
        }
    }

    #[tokio::test]
    async fn a_body_that_grows_out_of_what_is_for_small_ones_finds_what_has_become_free() {
        let (gathering, memory, disk) = crowded(1 << 20);
        drop(disk);
        let gathered = gathering.gather(body(&[&[b'x'; 100], &[b'y'; 17_000]]), None, NETWORK).await.unwrap();
        assert_eq!((gathering.storage.reserve.taken(), gathering.taken()), (0, (10, 17_100)));
        assert_eq!(whole(gathered).await.len(), 17_100);
        drop(memory);
    }

    #[tokio::test]
    async fn the_bodies_of_one_network_leave_room_for_those_of_others() {
        let (storage, _) = Storage::both(&UpstreamConfig {
            request_buffer: ByteSize(10),
            request_buffer_memory: ByteSize(40),
            buffer_disk: ByteSize(400),
            request_buffer_share: 0.25,
            request_buffer_reserve: ByteSize(0),
            ..UpstreamConfig::default()
        });
        let gathering = Gathering::new(storage);
        let mut held = Vec::new();
        let refused = loop {
            match gathering.gather(body(&[&[b'x'; 30]]), None, NETWORK).await {
                Ok(gathered) => held.push(gathered),
                Err(failure) => break failure,
            }
        };
        assert!(matches!(refused, Failure::ShareTaken(network) if Some(network) == NETWORK), "{refused}");
        assert_eq!(held.len(), 3);
        for other in [None, Some([192, 0, 2, 2].into())] {
            let gathered = gathering.gather(body(&[&[b'x'; 30]]), None, other).await.unwrap();
            assert_eq!(whole(gathered).await.len(), 30);
        }
        drop(held);
        let only = gathering.gather(body(&[&[b'x'; 300]]), None, NETWORK).await.unwrap();
        assert_eq!(whole(only).await.len(), 300);
    }

    impl Gathering {
        /// What is taken of memory and of the disk.
        fn taken(&self) -> (u64, u64) {
            (self.storage.memory.taken(), self.storage.disk_taken())
        }
    }

    async fn whole(gathered: Gathered) -> Vec<u8> {
        let rest = match gathered.rest {
            Some(rest) => rest.collect().await.unwrap().to_bytes(),
            None => Bytes::new(),
        };
        [gathered.front.pieces.concat(), rest.into()].concat()
    }

    #[tokio::test]
    async fn what_does_not_fit_into_memory_is_gathered_in_a_file() {
        for (limit, memory, is_in_file) in
            [(6, 100, false), (5, 100, true), (0, 100, true), (6, 6, false), (6, 5, true), (6, 0, true)]
        {
            let gathering = gathering(limit, memory, 100);
            let gathered = gathering.gather(body(&[b"abc", b"de", b"f"]), None, None).await.unwrap();
            let context = format!("for {limit} of {memory}");
            assert_eq!(gathered.length, Some(6), "{context}");
            assert_eq!(gathered.rest.is_some(), is_in_file, "{context}");
            assert_eq!(gathering.taken(), if is_in_file { (0, 6) } else { (6, 0) }, "{context}");
            assert_eq!(whole(gathered).await, b"abcdef", "{context}");
            assert_eq!(gathering.taken(), (0, 0), "{context}");
        }
    }

    #[tokio::test]
    async fn who_finds_memory_and_disk_taken_is_refused_and_keeps_nothing() {
        let gathering = gathering(4, 4, 10);
        let held = gathering.gather(body(&[b"abcd", b"efgh"]), None, None).await.unwrap();
        assert_eq!(gathering.taken(), (0, 8));
        assert!(matches!(gathering.gather(body(&[b"abcdef"]), None, None).await, Err(Failure::DiskTaken)));
        assert_eq!(gathering.taken(), (0, 8));
        assert_eq!(whole(gathering.gather(body(&[b"abcd"]), None, None).await.unwrap()).await, b"abcd");
        drop(held);
        assert_eq!(whole(gathering.gather(body(&[b"abcdef"]), None, None).await.unwrap()).await, b"abcdef");
    }

    #[tokio::test]
    async fn who_could_never_fit_is_told_so_and_an_announcement_is_enough() {
        let gathering = gathering(4, 4, 10);
        assert!(matches!(
            gathering.gather(body(&[b"abcdef", b"ghijkl"]), None, None).await,
            Err(Failure::TooLongToHold)
        ));
        let unread = Body::stream(StreamBody::new(stream::pending::<Result<Frame<Bytes>, BodyError>>()));
        assert!(matches!(gathering.gather(unread, Some(11), None).await, Err(Failure::TooLongToHold)));
    }

    #[tokio::test]
    async fn a_folder_that_takes_no_files_refuses_what_does_not_fit_into_memory() {
        let (storage, _) = Storage::both(&UpstreamConfig {
            request_buffer: ByteSize(4),
            buffer_directory: Some("/no/such/folder".into()),
            ..UpstreamConfig::default()
        });
        let gathering = Gathering::new(storage);
        assert!(matches!(gathering.gather(body(&[b"abcdef"]), None, None).await, Err(Failure::Disk(_))));
        assert_eq!(gathering.taken().0, 0);
    }

    #[tokio::test]
    async fn without_a_disk_a_body_is_gathered_within_the_limit_and_goes_on_beyond_it() {
        for (limit, front, is_whole) in
            [(7, "abcdef", true), (6, "abcdef", true), (5, "abcdef", false), (4, "abcde", false), (0, "abc", false)]
        {
            let gathered = gathering(limit, 100, 0).gather(body(&[b"abc", b"de", b"f"]), None, None).await.unwrap();
            let found = (&*gathered.front.pieces.concat(), gathered.rest.is_none(), gathered.length.is_some());
            assert_eq!(found, (front.as_bytes(), is_whole, is_whole), "for a limit of {limit}");
            assert_eq!(whole(gathered).await, b"abcdef", "for a limit of {limit}");
        }
    }

    #[tokio::test]
    async fn without_a_disk_a_body_that_may_go_on_does_when_the_memory_is_taken() {
        let gathering = gathering(100, 4, 0);
        let gathered = gathering.gather(body(&[b"abc", b"def", b"g"]), Some(7), None).await.unwrap();
        assert_eq!((&*gathered.front.pieces.concat(), gathered.length), (&b"abcdef"[..], None));
        assert_eq!(whole(gathered).await, b"abcdefg");
        assert!(matches!(gathering.gather(body(&[b"abc", b"def"]), None, None).await, Err(Failure::MemoryTaken)));
        assert_eq!(gathering.taken().0, 0);
    }

    #[tokio::test]
    async fn the_memory_is_given_back_with_the_last_of_the_bytes() {
        let gathering = gathering(100, 10, 0);
        let gathered = gathering.gather(body(&[b"abc", b"defg"]), None, None).await.unwrap();
        let copy = gathered.front.clone();
        drop(gathered);
        assert_eq!(gathering.taken().0, 7);
        drop(copy);
        assert_eq!(gathering.taken().0, 0);
    }

    #[tokio::test]
    async fn what_was_taken_is_given_back_by_a_client_that_leaves() {
        for (first, taken) in [(b"abc".to_vec(), (3, 0)), (b"abcdefghijk".to_vec(), (0, 11))] {
            let gathering = gathering(10, 10, 100);
            let frame = Ok::<_, BodyError>(Frame::data(Bytes::from(first)));
            let endless = stream::iter([frame]).chain(stream::pending());
            let mut gathered = Box::pin(gathering.gather(Body::stream(StreamBody::new(endless)), None, None));
            while gathering.taken() != taken {
                assert!(gathered.as_mut().now_or_never().is_none());
                tokio::task::yield_now().await;
            }
            drop(gathered);
            assert_eq!(gathering.taken(), (0, 0));
        }
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_take_no_more_than_one_body_may() {
        let gathering = gathering(5, 100, 100);
        let gathered = gathering.gather(body(&[&b"a"[..]; 5]), None, None).await.unwrap();
        assert!(gathered.front.pieces.concat() == b"aaaaa" && gathered.rest.is_none());
        assert_eq!(gathering.taken(), (5, 0));
    }

    #[tokio::test]
    async fn a_body_of_another_length_than_announced_is_the_clients_fault() {
        for announced in [5, 7] {
            let gathered = gathering(100, 100, 100).gather(body(&[b"abc", b"def"]), Some(announced), None).await;
            assert!(matches!(gathered, Err(Failure::Client(ClientFault::Broken))), "for {announced}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 64, ..Default::default() })]

        #[test]
        fn whatever_the_pieces_and_the_bounds_what_is_gathered_whole_is_what_came(
            pieces in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400), 0..12),
            limit in 0u64..1000, memory in 0u64..1000, disk in 0u64..5000, others in 0u64..1000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let gathering = gathering(limit, memory, disk);
                let mut taken_by_others = gathering.storage.memory.share();
                let others = if taken_by_others.grow(others) { others } else { 0 };
                let borrowed: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
                match gathering.gather(body(&borrowed), None, None).await {
                    Ok(gathered) => {
                        assert!(gathered.length.is_none_or(|length| length == pieces.concat().len() as u64));
                        assert!(gathered.length.is_some() || disk == 0);
                        assert!(gathering.storage.memory.taken() <= memory);
                        assert_eq!(whole(gathered).await, pieces.concat());
                    }
                    Err(Failure::TooLongToHold | Failure::DiskTaken) => {
                        assert!(disk > 0 && pieces.concat().len() as u64 > disk);
                    }
                    Err(Failure::MemoryTaken) => assert_eq!(disk, 0),
                    Err(failure) => panic!("{failure}"),
                }
                assert_eq!(gathering.storage.memory.taken(), others);
            });
        }
    }
}
