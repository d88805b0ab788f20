//! Takes an answer from the application as fast as it comes, whatever the pace of the client: the connection, and the
//! worker behind it, are free while the client still reads.
//!
//! Most answers are here whole with their head, or as soon as it has been looked at. They need nothing of this but a
//! count of their bytes. For what has not ended then, a task takes the connection and fills a [`spool`], from which the
//! client's connection reads. The task ends with the answer, or as soon as nobody reads any more.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::task::AbortHandle;

use super::exchange::Exchange;
use super::received::Received;
use super::spool::{Reader, Writer, spool};
use super::storage::{Share, Storage};
use crate::http::body::{Body, BodyError};

/// How much of an answer is waited for in one go, before the client gets any of it: what its connection takes at once.
const AT_ONCE: usize = 64 * 1024;

/// The body for the client. Nothing is waited for.
pub(super) async fn pump(mut received: Received, storage: &Arc<Storage>) -> Body {
    let length = received.size_hint().exact();
    let (pieces, end) = poll_fn(|cx| Poll::Ready(take_what_is_here(&mut received, cx))).await;
    if let Some(Ok(())) = end
        && let Some(whole) = put_together(&pieces, storage)
    {
        return whole;
    }
    let (writer, reader) = spool(storage, length);
    let task = tokio::spawn(pass_on(pieces, end, received, writer)).abort_handle();
    Body::stream(Pumped { reader, task })
}

/// The body that is here whole together with its head, as most are, if there is memory for it.
pub(super) fn whole(exchange: &mut Exchange, storage: &Storage) -> Option<Body> {
    let length = exchange.whole()?;
    let mut memory = storage.memory.share();
    memory.grow(length as u64).then(|| held(exchange.take_whole(length), memory))
}

/// How an answer ended, if it has.
type End = Option<Result<(), BodyError>>;

/// Takes what can be had without waiting.
fn take_what_is_here(received: &mut Received, cx: &mut Context<'_>) -> (Vec<Bytes>, End) {
    let (mut pieces, mut taken) = (Vec::new(), 0);
    while taken < AT_ONCE && !received.is_end_stream() {
        match Pin::new(&mut *received).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let Ok(piece) = frame.into_data() else { continue };
                taken += piece.len();
                pieces.push(piece);
            }
            Poll::Ready(Some(Err(error))) => return (pieces, Some(Err(error))),
            Poll::Ready(None) => return (pieces, Some(Ok(()))),
            Poll::Pending => return (pieces, None),
        }
    }
    let end = received.is_end_stream().then_some(Ok(()));
    (pieces, end)
}

/// A whole answer as one piece, if there is memory for it.
fn put_together(pieces: &[Bytes], storage: &Storage) -> Option<Body> {
    let mut memory = storage.memory.share();
    if !memory.grow(pieces.iter().map(Bytes::len).sum::<usize>() as u64) {
        return None;
    }
    let bytes = match pieces {
        [] => return Some(Body::Empty),
        [piece] => piece.clone(),
        pieces => pieces
            .iter()
            .fold(BytesMut::new(), |mut bytes, piece| {
                bytes.extend_from_slice(piece);
                bytes
            })
            .freeze(),
    };
    Some(held(bytes, memory))
}

fn held(bytes: Bytes, memory: Share) -> Body {
    Body::Full(Bytes::from_owner(Held { bytes, _memory: memory }))
}

/// Bytes, and the share of memory that they have.
struct Held {
    bytes: Bytes,
    _memory: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The task: the pieces that are here, and then what comes.
async fn pass_on(pieces: Vec<Bytes>, end: End, mut received: Received, mut writer: Writer) {
    for piece in pieces {
        writer.write(piece).await;
    }
    let end = match end {
        Some(end) => end,
        None => pass_on_the_rest(&mut received, &mut writer).await,
    };
    writer.end(end);
}

async fn pass_on_the_rest(received: &mut Received, writer: &mut Writer) -> Result<(), BodyError> {
    while let Some(frame) = received.frame().await {
        if let Ok(piece) = frame?.into_data() {
            writer.write(piece).await;
        }
    }
    Ok(())
}

/// What the client's connection reads. Without it the task has no purpose.
#[derive(Debug)]
struct Pumped {
    reader: Reader,
    task: AbortHandle,
}

impl Drop for Pumped {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HttpBody for Pumped {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().reader).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.reader.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reader.size_hint()
    }
}
