//! Gathers what an HTTP/2 connection writes, so that many answers leave in one TLS record and one system
//! call.
//!
//! The protocol's library hands over frame by frame and flushes after each. Here a flush does nothing;
//! the connection's task writes out when the library has nothing more to say for now, see
//! [`Gathered::write_out`]. What is gathered is bounded, so a client that takes nothing is noticed as
//! before.
//!
//! Reading pauses after a while, because the library reads on as long as there is something: see
//! [`Gathered::end_turn`].

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is gathered: two TLS records.
const ENOUGH: usize = 32 * 1024;

/// After how much the library is paused to have taken from it what it has read. It may be one more read, of its buffer.
pub(super) const TURN: usize = 32 * 1024;

/// A connection's stream, as the protocol's library has it.
#[derive(Debug)]
pub struct Gathering<T>(Arc<Mutex<Inner<T>>>);

/// The same stream, as the connection's task has it.
#[derive(Debug)]
pub struct Gathered<T>(Arc<Mutex<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    stream: T,
    waiting: Vec<u8>,
    /// How much of it is written.
    written: usize,
    /// How much has been said in all.
    said: u64,
    /// The stream may hold some of what was written to it, as one with TLS does while its socket is full.
    is_unflushed: bool,
    /// How much has been read in this turn.
    read: usize,
    /// The library wanted more than that.
    is_paused: bool,
    /// There was nothing more in this turn.
    is_drained: bool,
}

/// What was read in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Nothing,
    /// What there was for now.
    All,
    /// As much as is read in a turn. The next one must follow at once: nobody is woken for it.
    Part,
}

/// Both ends of a stream whose writes are gathered.
pub fn gather<T>(stream: T) -> (Gathering<T>, Gathered<T>) {
    let inner = Arc::new(Mutex::new(Inner {
        stream,
        waiting: Vec::new(),
        written: 0,
        said: 0,
        is_unflushed: false,
        read: 0,
        is_paused: false,
        is_drained: false,
    }));
    (Gathering(inner.clone()), Gathered(inner))
}

/// Only ever waited for by nobody: both ends are in the same task.
fn lock<T>(inner: &Mutex<Inner<T>>) -> MutexGuard<'_, Inner<T>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// Writes what has come together. An error comes again to the library, with its next call.
    pub fn write_out(&self, cx: &mut Context<'_>) {
        let mut inner = lock(&self.0);
        if !inner.waiting.is_empty() || inner.is_unflushed {
            let _ = inner.poll_flush(cx);
        }
    }

    /// How many bytes the library has said in all.
    pub fn said(&self) -> u64 {
        lock(&self.0).said
    }

    /// Ends a turn of reading, and begins the next.
    pub fn end_turn(&self) -> Turn {
        let mut inner = lock(&self.0);
        inner.is_drained = false;
        match (std::mem::take(&mut inner.is_paused), std::mem::take(&mut inner.read)) {
            (true, _) => Turn::Part,
            (false, 0) => Turn::Nothing,
            (false, _) => Turn::All,
        }
    }

    /// Gives the memory back while nothing is to be sent.
    pub fn shrink(&self) {
        let mut inner = lock(&self.0);
        if inner.waiting.is_empty() {
            inner.waiting = Vec::new();
        }
    }
}

impl<T: AsyncRead + Unpin> Gathered<T> {
    /// Reads to the end, or so many bytes, and throws away what comes.
    pub async fn drain(&self, mut bytes: usize) {
        let mut room = vec![0; ENOUGH];
        while bytes > 0 {
            let read = poll_fn(|cx| {
                let mut buffer = ReadBuf::new(&mut room);
                ready!(Pin::new(&mut lock(&self.0).stream).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok::<_, io::Error>(buffer.filled().len()))
            });
            match read.await {
                Ok(length @ 1..) => bytes = bytes.saturating_sub(length),
                _ => break,
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            self.is_unflushed = true;
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.waiting[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.waiting.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.is_unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Takes what there is room for.
    fn poll_take(&mut self, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.waiting.len() >= ENOUGH {
            ready!(self.poll_write_out(cx))?;
        }
        if self.waiting.capacity() == 0 {
            self.waiting.reserve_exact(ENOUGH);
        }
        let before = self.waiting.len();
        for slice in slices {
            let room = ENOUGH - self.waiting.len();
            self.waiting.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        self.said += (self.waiting.len() - before) as u64;
        Poll::Ready(Ok(self.waiting.len() - before))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathering<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        if inner.read >= TURN {
            inner.is_paused = true;
            return Poll::Pending;
        }
        // The library asks before each request that it hands over, in the same task, which is woken when there is more.
        if inner.is_drained {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let progress = Pin::new(&mut inner.stream).poll_read(cx, buffer);
        inner.is_drained = progress.is_pending();
        inner.read += buffer.filled().len() - before;
        progress
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathering<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_take(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_take(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        ready!(inner.poll_flush(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Counts the writes that reach it.
    #[derive(Debug, Default)]
    struct Counted {
        writes: Vec<usize>,
        /// How often it is not flushed before it is.
        unready: usize,
        flushes: usize,
    }

    impl AsyncWrite for Counted {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.writes.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            if self.flushes > self.unready { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn write_out<T: AsyncWrite + Unpin>(task: &Gathered<T>) {
        poll_fn(|cx| {
            task.write_out(cx);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn many_flushed_frames_are_one_write() {
        let (mut library, task) = gather(Counted::default());
        for _ in 0..10 {
            library.write_all(&[7; 100]).await.unwrap();
            library.flush().await.unwrap();
        }
        assert!(lock(&task.0).stream.writes.is_empty());
        write_out(&task).await;
        assert_eq!(lock(&task.0).stream.writes, [1000]);
    }

    #[tokio::test]
    async fn what_a_stream_took_and_holds_is_flushed_though_nothing_more_is_written() {
        let (mut library, task) = gather(Counted { unready: 2, ..Counted::default() });
        library.write_all(&[7; 100]).await.unwrap();
        for (turn, flushes) in [(1, 1), (2, 2), (3, 3), (4, 3)] {
            write_out(&task).await;
            let inner = lock(&task.0);
            assert_eq!((inner.stream.flushes, &inner.stream.writes[..]), (flushes, &[100][..]), "turn {turn}");
        }
    }

    #[tokio::test]
    async fn more_than_enough_is_written_at_once_and_in_order() {
        let (client, server) = tokio::io::duplex(16);
        let (mut library, task) = gather(server);
        let sent: Vec<u8> = (0..3 * ENOUGH + 5).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        let reading = tokio::spawn(async move {
            let mut received = Vec::new();
            let mut client = client;
            client.read_to_end(&mut received).await.unwrap();
            received
        });
        library.write_all(&copy).await.unwrap();
        library.shutdown().await.unwrap();
        drop((library, task));
        assert!(reading.await.unwrap() == sent);
    }

    #[tokio::test]
    async fn reading_pauses_until_the_next_turn() {
        let (mut client, server) = tokio::io::duplex(4 * TURN);
        let (mut library, task) = gather(server);
        assert_eq!(task.end_turn(), Turn::Nothing);
        client.write_all(&[7; 2 * TURN + 1]).await.unwrap();
        let mut buffer = vec![0; TURN / 2];
        let mut lengths = Vec::new();
        loop {
            let mut read = 0;
            poll_fn(|cx| {
                let mut buffer = ReadBuf::new(&mut buffer);
                while Pin::new(&mut library).poll_read(cx, &mut buffer).is_ready() {
                    read += buffer.filled().len();
                    buffer.clear();
                }
                Poll::Ready(())
            })
            .await;
            lengths.push(read);
            if task.end_turn() == Turn::All {
                break;
            }
        }
        assert_eq!(lengths, [TURN, TURN, 1]);
    }

    #[tokio::test]
    async fn what_a_client_does_not_take_holds_the_library_up() {
        let (_client, server) = tokio::io::duplex(16);
        let (mut library, task) = gather(server);
        let much = vec![1; 2 * ENOUGH];
        let written = tokio::time::timeout(std::time::Duration::from_millis(10), library.write_all(&much)).await;
        assert!(written.is_err());
        assert_eq!(lock(&task.0).waiting.len(), ENOUGH);
    }
}
