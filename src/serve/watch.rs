//! Watches one client connection for progress, with a single timer.
//!
//! The libraries of the protocols have no deadline for an idle connection or a client that takes nothing, and hyper's
//! for heads counts idle time too. So the connection's streams and requests note what they do, and the
//! connection's task asks from time to time whether anything is overdue. Noting costs an atomic
//! store; no timer is touched per request.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::client_stream::ClientStream;
use crate::config::TimeoutsConfig;
use crate::http::body;

/// What one connection is doing. Times are milliseconds since it began, plus one; 0 means "not".
#[derive(Debug)]
pub struct Activity {
    began: Instant,
    in_flight: AtomicUsize,
    idle_since: AtomicU64,
    head_since: AtomicU64,
    blocked_since: AtomicU64,
    /// Answers that the client did not wait for.
    abandoned: AtomicUsize,
    /// Whether a request came with a body. Where it ends is known to nobody but the protocol's library.
    had_body: AtomicBool,
    /// Whether the client has said anything since that was asked last.
    was_heard: AtomicBool,
    /// Rung when they are too many.
    too_many: Notify,
    /// The last head that hyper has read as it was written, with what came together with it, up to `most_written` bytes.
    ///
    /// hyper mends two things of a head that [`crate::http::request_rules`] refuses, and only the bytes tell of them.
    /// They are copied before hyper reads them, because it keeps them to itself. That is some hundred bytes for each
    /// head, into room that the head before has left, so nothing is allocated but for the first; and only the task of
    /// the connection comes here, so the lock is always free.
    written: Mutex<Vec<u8>>,
    most_written: AtomicUsize,
    /// There is so much of it that a connection without a next request should not hold it.
    much_is_written: AtomicBool,
    /// The request is in chunks, of which the last has not come.
    has_open_chunks: AtomicBool,
    /// The place among the permitted connections, given back when the last stream of this one is gone.
    _permit: OwnedSemaphorePermit,
}

/// Whether heads have a deadline of their own. On HTTP/2 they come in frames among others, and a
/// connection without a request is idle whatever it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    /// HTTP/1.1.
    Timed,
    /// HTTP/2.
    Untimed,
}

/// Where in a head some bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadPart {
    Begin,
    Further,
}

/// What the connection's task must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing until then.
    Wait(Instant),
    /// Close it: no request for too long.
    Idle,
    /// Cut it: a request's head takes too long.
    SlowHead,
    /// Cut it: the client takes nothing of its answer.
    SlowReader,
}

impl Activity {
    /// A connection that begins now, of which a request is expected.
    pub fn begin(permit: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            in_flight: AtomicUsize::new(0),
            idle_since: AtomicU64::new(1),
            head_since: AtomicU64::new(1),
            blocked_since: AtomicU64::new(0),
            abandoned: AtomicUsize::new(0),
            had_body: AtomicBool::new(false),
            was_heard: AtomicBool::new(false),
            too_many: Notify::new(),
            written: Mutex::default(),
            most_written: AtomicUsize::new(0),
            much_is_written: AtomicBool::new(false),
            has_open_chunks: AtomicBool::new(false),
            _permit: permit,
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn at(&self, mark: u64) -> Instant {
        self.began + Duration::from_millis(mark.saturating_sub(1))
    }

    /// Notes that the head of a request has come in; the answer is under way until the guard is dropped.
    pub fn request(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        InFlight { activity: self.clone(), complete: false }
    }

    /// Notes that a request has a body.
    pub fn body_comes(&self) {
        self.had_body.store(true, Ordering::Relaxed);
    }

    /// Keeps heads as they are written from now on, up to so many bytes of each; with 0, none.
    pub fn keep_heads(&self, most: usize) {
        self.most_written.store(most, Ordering::Relaxed);
        *self.written() = Vec::new();
    }

    /// What was kept of the last head, with its room: where a request has a body, or the connection rests, or is
    /// another protocol's, it may be long until the next head needs that.
    pub fn take_written(&self) -> Vec<u8> {
        std::mem::take(&mut self.written())
    }

    /// Gives the room back, if it is larger than most heads need.
    pub fn give_back_much(&self) {
        if self.much_is_written.swap(false, Ordering::Relaxed) {
            drop(self.take_written());
        }
    }

    /// Notes that a body in chunks comes, or that it has come to its end.
    pub fn note_chunks(&self, are_open: bool) {
        self.has_open_chunks.store(are_open, Ordering::Relaxed);
    }

    fn keep(&self, bytes: &[u8], part: HeadPart) {
        let most = self.most_written.load(Ordering::Relaxed);
        if most == 0 {
            return;
        }
        let mut written = self.written();
        if part == HeadPart::Begin {
            written.clear();
        }
        let room = most.saturating_sub(written.len());
        written.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if written.capacity() > MUCH {
            self.much_is_written.store(true, Ordering::Relaxed);
        }
    }

    fn written(&self) -> MutexGuard<'_, Vec<u8>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client has said anything since this was asked last.
    pub fn take_heard(&self) -> bool {
        self.was_heard.swap(false, Ordering::Relaxed)
    }

    /// Whether the client has given up so many requests that it looks like a flood.
    pub fn is_flooded(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) >= ABANDONED
    }

    /// Whether an HTTP/1.1 connection is between two requests, and has been for a moment: nothing of it is
    /// in the hands of the protocol's library, which may let go of it then.
    pub fn rests(&self, now: Instant) -> bool {
        let is_between =
            self.is_idle() && self.head_since.load(Ordering::Relaxed) == 0 && !self.had_body.load(Ordering::Relaxed);
        is_between && now.saturating_duration_since(self.at(self.idle_since.load(Ordering::Relaxed))) >= REST
    }

    /// When an idle connection is to be closed.
    pub fn idle_until(&self, timeouts: &TimeoutsConfig) -> Instant {
        self.at(self.idle_since.load(Ordering::Relaxed)) + timeouts.idle.0
    }

    /// Notes that a head has begun, of which the first bytes may have come together with the request before.
    pub fn head_begins(&self) {
        self.head_since.store(self.now(), Ordering::Relaxed);
    }

    /// Notes that what was read without a request under way was the rest of a body.
    pub fn no_head_begins(&self) {
        self.head_since.store(0, Ordering::Relaxed);
    }

    /// Returns when the client has given up so many requests that it looks like a flood: each may have
    /// cost the application an answer.
    pub async fn too_many_abandoned(&self) {
        self.too_many.notified().await;
    }

    /// Whether no answer is under way, and nothing of the last one waits for the client.
    pub fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && self.blocked_since.load(Ordering::Relaxed) == 0
    }

    /// What is overdue at `now`.
    pub fn verdict(&self, now: Instant, heads: Heads, timeouts: &TimeoutsConfig) -> Verdict {
        let (idle, head, blocked) = (
            self.idle_since.load(Ordering::Relaxed),
            self.head_since.load(Ordering::Relaxed),
            self.blocked_since.load(Ordering::Relaxed),
        );
        let mut next = now + timeouts.idle.0.min(timeouts.header.0).min(timeouts.send.0);
        let mut overdue = |mark: u64, allowed: Duration| {
            let deadline = self.at(mark) + allowed;
            next = next.min(deadline.max(now));
            mark != 0 && deadline <= now
        };
        if blocked != 0 && overdue(blocked, timeouts.send.0) {
            return Verdict::SlowReader;
        }
        if self.is_idle() {
            if heads == Heads::Timed && head != 0 && overdue(head, timeouts.header.0) {
                return Verdict::SlowHead;
            }
            if overdue(idle, timeouts.idle.0) {
                return Verdict::Idle;
            }
        }
        Verdict::Wait(next)
    }
}

/// After how long without a request a connection gives its buffers back. Browsers ask for what belongs
/// to a page within a moment.
pub const REST: Duration = Duration::from_secs(1);

/// More than this is not held of a head that nobody looks at again.
const MUCH: usize = 4 * 1024;

/// How many requests of one connection a client may give up before it is asked to open another one.
const ABANDONED: usize = 1000;

/// An answer under way.
#[derive(Debug)]
pub struct InFlight {
    activity: Arc<Activity>,
    complete: bool,
}

impl InFlight {
    /// Whether the request is in chunks that have not come to their end.
    pub fn has_open_chunks(&self) -> bool {
        self.activity.has_open_chunks.load(Ordering::Relaxed)
    }

    /// Notes that all of it has been handed over.
    pub fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let activity = &self.activity;
        activity.idle_since.store(activity.now(), Ordering::Relaxed);
        activity.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.complete && activity.abandoned.fetch_add(1, Ordering::Relaxed) + 1 == ABANDONED {
            activity.too_many.notify_one();
        }
    }
}

/// A connection's stream that notes its progress, with the bytes first that were read to find out
/// which protocol it speaks.
#[derive(Debug)]
pub struct Watched<T> {
    inner: T,
    first: Bytes,
    activity: Arc<Activity>,
}

impl<T> Watched<T> {
    /// `first` is what was read of `inner` already.
    pub fn new(inner: T, first: Bytes, activity: Arc<Activity>) -> Self {
        Self { inner, first, activity }
    }

    /// The stream itself, when nothing of `first` is left.
    pub fn stream(&self) -> Option<&T> {
        self.first.is_empty().then_some(&self.inner)
    }

    /// Puts bytes before all others that are still to be read.
    pub fn put_back(&mut self, bytes: Bytes) {
        self.first = match self.first.is_empty() {
            true => bytes,
            false => [bytes, self.first.clone()].concat().into(),
        };
    }

    fn note_read(&self, bytes: &[u8]) {
        let activity = &self.activity;
        activity.was_heard.store(true, Ordering::Relaxed);
        if !activity.is_idle() {
            return;
        }
        // Only the first bytes of a head begin its time; those that follow must not prolong it.
        let part = match activity.head_since.load(Ordering::Relaxed) {
            0 => HeadPart::Begin,
            _ => HeadPart::Further,
        };
        if part == HeadPart::Begin {
            activity.head_since.store(activity.now(), Ordering::Relaxed);
        }
        activity.keep(bytes, part);
    }

    fn note_write<R>(&self, progress: &Poll<R>) {
        let blocked = &self.activity.blocked_since;
        let since = blocked.load(Ordering::Relaxed);
        match progress {
            Poll::Ready(_) if since != 0 => blocked.store(0, Ordering::Relaxed),
            Poll::Pending if since == 0 => blocked.store(self.activity.now(), Ordering::Relaxed),
            _ => {}
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let length = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first[..length]);
            self.activity.keep(&self.first[..length], HeadPart::Further);
            self.first.advance(length);
            if self.first.is_empty() {
                // An empty rest would hold the whole of it in memory.
                self.first = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let progress = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let read = &buffer.filled()[before..];
        if !read.is_empty() {
            self.note_read(read);
        }
        progress
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.note_write(&progress);
        progress
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // To the kernel, a list of one buffer costs more than the buffer.
        let progress = match slices {
            [only] => Pin::new(&mut self.inner).poll_write(cx, only),
            slices => Pin::new(&mut self.inner).poll_write_vectored(cx, slices),
        };
        self.note_write(&progress);
        progress
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.inner).poll_flush(cx);
        self.note_write(&progress);
        progress
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.note_write(&progress);
        progress
    }
}

impl<T: ClientStream + Unpin> ClientStream for Watched<T> {
    fn waiting(&self) -> usize {
        self.first.len() + self.inner.waiting()
    }

    fn poll_send_placed(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        before: &[u8],
        piece: &[u8],
        place: &body::Place,
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_send_placed(cx, before, piece, place);
        self.note_write(&progress);
        progress
    }
}

pin_project_lite::pin_project! {
    /// A body that is under way until it is dropped.
    #[derive(Debug)]
    pub struct WatchedBody<B> {
        #[pin]
        inner: B,
        in_flight: InFlight,
    }
}

impl<B: HttpBody> WatchedBody<B> {
    /// Ties the guard of a request to the body of its answer.
    pub fn new(inner: B, mut in_flight: InFlight) -> Self {
        in_flight.complete = inner.is_end_stream();
        Self { inner, in_flight }
    }
}

impl<B: HttpBody> HttpBody for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = this.inner.as_mut().poll_frame(cx);
        this.in_flight.complete |= matches!(frame, Poll::Ready(None)) || this.inner.is_end_stream();
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::advance;

    async fn begin() -> (Arc<Activity>, TimeoutsConfig) {
        let permits = Arc::new(tokio::sync::Semaphore::new(1));
        (Activity::begin(permits.acquire_owned().await.unwrap()), TimeoutsConfig::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_cut_after_the_time_for_a_head() {
        let (activity, timeouts) = begin().await;
        advance(timeouts.header.0 - Duration::from_millis(1)).await;
        assert!(matches!(activity.verdict(Instant::now(), Heads::Timed, &timeouts), Verdict::Wait(_)));
        advance(Duration::from_millis(1)).await;
        assert_eq!(activity.verdict(Instant::now(), Heads::Timed, &timeouts), Verdict::SlowHead);
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_the_idle_time_counts() {
        let (activity, timeouts) = begin().await;
        drop(activity.request());
        advance(timeouts.header.0 * 2).await;
        assert!(matches!(activity.verdict(Instant::now(), Heads::Timed, &timeouts), Verdict::Wait(_)));
        advance(timeouts.idle.0).await;
        assert_eq!(activity.verdict(Instant::now(), Heads::Timed, &timeouts), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_does_not_prolong_the_time_for_a_head() {
        let (activity, timeouts) = begin().await;
        drop(activity.request());
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Watched::new(server, Bytes::new(), activity.clone());
        advance(Duration::from_secs(5)).await;
        for _ in 0..3 {
            client.write_all(b"G").await.unwrap();
            server.read_u8().await.unwrap();
            advance(timeouts.header.0 / 3).await;
        }
        assert_eq!(activity.verdict(Instant::now(), Heads::Timed, &timeouts), Verdict::SlowHead);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_is_neither_idle_nor_slow() {
        let (activity, timeouts) = begin().await;
        let _request = activity.request();
        advance(timeouts.idle.0 * 10).await;
        assert!(matches!(activity.verdict(Instant::now(), Heads::Timed, &timeouts), Verdict::Wait(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_cut() {
        let (activity, timeouts) = begin().await;
        let _request = activity.request();
        let (_client, server) = tokio::io::duplex(4);
        let mut server = Watched::new(server, Bytes::new(), activity.clone());
        let blocked = tokio::time::timeout(Duration::from_millis(1), server.write_all(b"12345678")).await;
        assert!(blocked.is_err(), "four of eight bytes must stay behind");
        advance(timeouts.send.0).await;
        assert_eq!(activity.verdict(Instant::now(), Heads::Untimed, &timeouts), Verdict::SlowReader);
    }

    #[tokio::test]
    async fn the_bytes_of_a_head_are_kept_until_the_next_one_begins() {
        let (activity, _) = begin().await;
        activity.keep_heads(9);
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Watched::new(server, Bytes::from_static(b"<fi"), activity.clone());
        let mut hear = async |said: &'static str, length| {
            client.write_all(said.as_bytes()).await.unwrap();
            server.read_exact(&mut vec![0; length]).await.unwrap();
        };
        hear("rst>", 7).await;
        assert_eq!(*activity.written(), b"<first>");
        let request = activity.request();
        hear("body", 4).await;
        assert_eq!(*activity.written(), b"<first>", "while a request is under way nothing is kept");
        drop(request);
        for said in ["<", "next", "> and more"] {
            hear(said, said.len()).await;
        }
        assert_eq!(activity.take_written(), b"<next> an", "as much as there is room for");
        assert_eq!(activity.written().capacity(), 0);
        activity.keep_heads(0);
        hear("frames", 6).await;
        assert!(activity.take_written().is_empty());
    }

    #[tokio::test]
    async fn what_was_read_to_find_the_protocol_comes_first() {
        let (activity, _) = begin().await;
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b" world").await.unwrap();
        drop(client);
        let mut text = String::new();
        Watched::new(server, Bytes::from_static(b"hello"), activity).read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello world");
    }
}
