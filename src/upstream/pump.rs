//! Takes an answer from the application as fast as it comes, whatever the pace of the client: the connection, and the
//! worker behind it, are free while the client still reads.
//!
//! Most answers are here whole with their head, or as soon as it has been looked at. They need nothing of this but a
//! count of their bytes. What has not ended then is read by two in turns ([`Tap`]). While the client keeps up, its own
//! connection reads: each piece is sent on at once, and its memory is free for the next. As soon as that is busy, a task
//! reads, and fills a [`spool`], from which the client's connection takes what it has missed. The task ends with the
//! answer, or as soon as nobody reads any more.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::AbortHandle;

use super::exchange::Exchange;
use super::received::Received;
use super::spool::{Reader, Writer, spool};
use super::storage::{Share, Storage};
use crate::http::body::{Body, BodyError};

/// After so much of an answer no more is taken before the client gets the first of it: what its connection takes at once.
const AT_ONCE: usize = 64 * 1024;

/// The body for the client. Nothing is waited for.
pub(super) async fn pump(mut received: Received, storage: &Arc<Storage>) -> Body {
    let length = received.size_hint().exact();
    let (mut pieces, end) = poll_fn(|cx| Poll::Ready(take_what_is_here(&mut received, cx))).await;
    if let Some(Ok(())) = end
        && let Some(whole) = put_together(&pieces, storage)
    {
        return whole;
    }
    let (mut writer, reader) = spool(storage, length);
    // The first goes out with the head.
    let has_begun = pieces.first().is_some_and(|first| writer.begin(first));
    let late = pieces.split_off(usize::from(has_begun));
    // What has ended is not asked again: it would say that it ended well.
    let source = end.is_none().then(|| Box::new(received));
    let (now, later) = if late.is_empty() { (source, None) } else { (None, source) };
    let tap = Tap::new(now, end);
    let task = tokio::spawn(pass_on(late, later, Arc::clone(&tap), writer)).abort_handle();
    Body::stream(Pumped { reader, tap, task })
}

/// The body that is here whole together with its head, as most are, if there is memory for it.
pub(super) fn whole(exchange: &mut Exchange, storage: &Storage) -> Option<Body> {
    let length = exchange.whole()?;
    let mut memory = storage.memory.share();
    memory.grow(length as u64).then(|| held(exchange.take_whole(length), memory))
}

/// How an answer ended.
type Ended = Result<(), BodyError>;
/// The same, if it has.
type End = Option<Ended>;

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

/// Where two take turns at the application's answer: the client's connection while it waits for a piece, and else the
/// task. Whenever there may be something to read both are woken, the client's connection first.
struct Tap {
    turns: Mutex<Turns>,
    /// What the source wakes.
    bell: Waker,
}

struct Turns {
    /// Who reads takes it out, and puts it back when what was read has found its place.
    source: Option<Box<Received>>,
    /// How it ended, until the task tells the spool.
    end: End,
    client: Option<Waker>,
    task: Option<Waker>,
}

impl Tap {
    fn new(source: Option<Box<Received>>, end: End) -> Arc<Self> {
        let turns = Mutex::new(Turns { source, end, client: None, task: None });
        Arc::new_cyclic(|tap| Self { turns, bell: Arc::new(Bell(Weak::clone(tap))).into() })
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece for the client, if it has all that came before: who has the source knows that nothing more goes
    /// into the spool.
    fn poll_for_client(&self, cx: &Context<'_>, has_all: impl FnOnce() -> bool) -> Poll<Bytes> {
        let mut turns = self.turns();
        turns.client = Some(cx.waker().clone());
        let Some(mut source) = turns.source.take() else { return Poll::Pending };
        drop(turns);
        if !has_all() {
            self.put_back(source);
            return Poll::Pending;
        }
        let polled = self.poll(&mut source);
        let mut turns = self.turns();
        let polled = match polled {
            Poll::Pending => {
                turns.source = Some(source);
                return Poll::Pending;
            }
            Poll::Ready(Ok(piece)) => {
                turns.source = Some(source);
                Poll::Ready(piece)
            }
            Poll::Ready(Err(end)) => {
                turns.end = Some(end);
                Poll::Pending
            }
        };
        // It may be busy from now on, and for long.
        turns.client = None;
        wake(&mut turns.task);
        polled
    }

    /// The next piece for the task while the client's connection is busy, or the end.
    fn poll_for_task(&self, cx: &Context<'_>) -> Poll<Result<(Bytes, Box<Received>), Ended>> {
        let mut turns = self.turns();
        if let Some(end) = turns.end.take() {
            return Poll::Ready(Err(end));
        }
        turns.task = Some(cx.waker().clone());
        if turns.client.is_some() {
            return Poll::Pending;
        }
        let Some(mut source) = turns.source.take() else { return Poll::Pending };
        drop(turns);
        let polled = self.poll(&mut source);
        if polled.is_pending() {
            self.put_back(source);
            return Poll::Pending;
        }
        polled.map_ok(|piece| (piece, source))
    }

    fn poll(&self, source: &mut Received) -> Poll<Result<Bytes, Ended>> {
        match ready!(Pin::new(source).poll_frame(&mut Context::from_waker(&self.bell))) {
            Some(Ok(frame)) => Poll::Ready(Ok(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => Poll::Ready(Err(Err(error))),
            None => Poll::Ready(Err(Ok(()))),
        }
    }

    /// Lets the next one read.
    fn put_back(&self, source: Box<Received>) {
        let mut turns = self.turns();
        turns.source = Some(source);
        wake(&mut turns.client);
    }
}

/// Wakes both. The source knows it, so it must not hold the source.
struct Bell(Weak<Tap>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let Some(tap) = self.0.upgrade() else { return };
        let mut turns = tap.turns();
        wake(&mut turns.client);
        wake(&mut turns.task);
    }
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

/// The task: the pieces that are here, and then what comes while the client's connection is busy.
async fn pass_on(late: Vec<Bytes>, mut taken: Option<Box<Received>>, tap: Arc<Tap>, mut writer: Writer) {
    for piece in late {
        writer.write(piece).await;
    }
    let end = loop {
        if let Some(source) = taken.take() {
            tap.put_back(source);
        }
        match poll_fn(|cx| tap.poll_for_task(cx)).await {
            Ok((piece, source)) => {
                writer.write(piece).await;
                taken = Some(source);
            }
            Err(end) => break end,
        }
    };
    writer.end(end);
}

/// What the client's connection reads. Without it the task has no purpose.
struct Pumped {
    reader: Reader,
    tap: Arc<Tap>,
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
        let Self { reader, tap, .. } = self.get_mut();
        let polled = Pin::new(&mut *reader).poll_frame(cx);
        if polled.is_ready() || !reader.has_all() {
            return polled;
        }
        let piece = ready!(tap.poll_for_client(cx, || reader.has_all()));
        reader.pass(piece.len());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.reader.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reader.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;
    use tokio::task::yield_now;

    use super::super::background::Background;
    use super::super::balance::Set;
    use super::super::connect::Socket;
    use super::super::exchange::{Asked, Deadlines};
    use super::super::pool::Pool;
    use super::super::received::{Label, Lease};
    use super::super::sent::Outgoing;
    use super::super::servers::Servers;
    use super::*;
    use crate::config::UpstreamConfig;
    use crate::config::values::UpstreamProtocol;
    use crate::http::RequestId;

    const LENGTH: usize = 3 << 20;

    fn bytes() -> Vec<u8> {
        (0..LENGTH).map(|n| (n / 7 % 251) as u8).collect()
    }

    /// The body of an answer of which so much is here when it is pumped, and the application's end of its connection.
    async fn pumped(framing: &str, here: &[u8], storage: &Arc<Storage>) -> (Body, UnixStream) {
        let (received, application) = received(framing, here).await;
        (pump(received, storage).await, application)
    }

    /// The same before it is pumped.
    async fn received(framing: &str, here: &[u8]) -> (Received, UnixStream) {
        let config = UpstreamConfig { address: Some("unix:app.sock".parse().unwrap()), ..Default::default() };
        let (ours, mut application) = UnixStream::pair().unwrap();
        let background = Background::default();
        let exchange = Exchange::new(Socket::Left(ours), UpstreamProtocol::Http, &config, &background);
        let head = [b"HTTP/1.1 200 OK\r\n", framing.as_bytes(), b"\r\n\r\n", here].concat();
        application.write_all(&head).await.unwrap();
        let (asked, minute) = (Asked { is_head: false, early_hints: None, id: RequestId(1) }, Duration::from_secs(60));
        let deadlines = Deadlines { response: minute, idle: minute };
        let head = Bytes::from_static(b"<head>");
        let (exchange, (), _) = exchange.send((), head, Outgoing::nothing(false), asked, deadlines).await.unwrap();
        application.read_exact(&mut [0; 6]).await.unwrap();
        let pool = Arc::new(Pool::new(&config));
        let permit = pool.permit().await.unwrap();
        let in_use = Servers::new(&config, &[]).choose(None, Set::default(), Set::default()).unwrap();
        let label = Label { socket: Arc::clone(&in_use.server.address), id: RequestId(1) };
        (Received::new(Lease { exchange, pool, permit, in_use }, minute, label), application)
    }

    fn storage(memory: &str) -> Arc<Storage> {
        let limit = memory.parse().unwrap();
        let config = UpstreamConfig { response_buffer: limit, response_buffer_memory: limit, ..Default::default() };
        Storage::both(&config).1
    }

    #[tokio::test]
    async fn what_a_client_takes_at_once_is_held_by_nobody() {
        let (storage, bytes) = (storage("1 MiB"), bytes());
        let (mut body, mut application) = pumped(&format!("Content-Length: {LENGTH}"), &bytes[..9], &storage).await;
        let mut taken = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
        for piece in bytes[9..].chunks(50_000) {
            assert!(body.frame().now_or_never().is_none());
            assert_eq!(storage.memory.taken(), 0);
            application.write_all(piece).await.unwrap();
            taken.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert!(taken == bytes && body.is_end_stream());
    }

    #[tokio::test]
    async fn the_application_is_free_whether_its_client_takes_anything_or_not() {
        for (takes, memory) in [(0, "64 KiB"), (0, "64 MiB"), (1, "64 KiB"), (3, "64 KiB"), (3, "64 MiB")] {
            let (storage, bytes) = (storage(memory), bytes());
            let (mut body, mut application) = pumped("Connection: close", &bytes[..70_000], &storage).await;
            let mut taken = Vec::new();
            let (early, late) = bytes[70_000..].split_at(200_000);
            let mut early = early.chunks(70_000);
            for _ in 0..takes {
                taken.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
                application.write_all(early.next().unwrap_or_default()).await.unwrap();
            }
            // It waits for more when the client's connection becomes busy: here it never asks again.
            while let Some(Some(piece)) = body.frame().now_or_never() {
                taken.extend_from_slice(&piece.unwrap().into_data().unwrap());
            }
            application.write_all(&[early.collect::<Vec<_>>().concat(), late.to_vec()].concat()).await.unwrap();
            drop(application);
            taken.extend_from_slice(&body.collect().await.unwrap().to_bytes());
            assert!(taken == bytes, "{takes} pieces taken, {memory}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_told_behind_all_that_came_of_it() {
        for waits in [false, true] {
            let (storage, bytes) = (storage("1 MiB"), bytes());
            let (mut body, mut application) = pumped("Content-Length: 200000", &bytes[..80_000], &storage).await;
            assert!(body.frame().await.unwrap().is_ok());
            assert!(!waits || body.frame().now_or_never().is_none());
            application.write_all(&bytes[80_000..90_000]).await.unwrap();
            drop(application);
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), bytes[80_000..90_000]);
            assert!(body.frame().await.unwrap().is_err() && !body.is_end_stream());
        }
    }

    #[tokio::test]
    async fn what_broke_off_is_not_taken_for_whole_however_often_it_is_asked_for() {
        let (received, application) = received("Transfer-Encoding: chunked", b"5\r\nfirst\r\n").await;
        let tap = Tap::new(Some(Box::new(received)), None);
        let next = async || poll_fn(|cx| Poll::Ready(tap.poll_for_client(cx, || true))).await;
        assert_eq!(next().await, Poll::Ready(Bytes::from_static(b"first")));
        drop(application);
        // Until the runtime has heard of it.
        tokio::time::sleep(Duration::from_millis(20)).await;
        for _ in 0..3 {
            assert!(next().await.is_pending());
        }
        let end = poll_fn(|cx| tap.poll_for_task(cx)).await;
        assert!(matches!(end, Err(Err(_))), "it ended well");
    }

    #[tokio::test]
    async fn a_client_that_goes_takes_the_connection_with_it() {
        for waits in [false, true] {
            let (mut body, mut application) = pumped("Connection: close", b"some", &storage("1 MiB")).await;
            assert!(body.frame().await.unwrap().is_ok());
            assert!(!waits || body.frame().now_or_never().is_none());
            yield_now().await;
            drop(body);
            yield_now().await;
            assert!(application.write_all(b"more").await.is_err(), "waits: {waits}");
        }
    }
}
