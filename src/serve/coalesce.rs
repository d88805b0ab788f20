//! Gathers small writes into few large ones.
//!
//! HTTP/2 hands its frames over one by one, headers and data apart, and TLS makes a record and a
//! system call of each. All that is written between two flushes goes down at once instead.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is gathered at most: two full TLS records. More gained nothing when it was measured.
const LARGEST: usize = 32 * 1024;

/// A stream whose writes wait for a flush.
#[derive(Debug)]
pub struct Coalesced<T> {
    inner: T,
    gathered: Vec<u8>,
    /// How much of `gathered` has gone down already.
    sent: usize,
}

impl<T: AsyncWrite + Unpin> Coalesced<T> {
    /// Nothing is allocated until something is written.
    pub fn new(inner: T) -> Self {
        Self { inner, gathered: Vec::new(), sent: 0 }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.gathered.len() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.gathered[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => self.sent += length,
            }
        }
        self.gathered.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Makes room for at least one more byte; how many there are room for.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= LARGEST {
            ready!(self.poll_send(cx))?;
        }
        Poll::Ready(Ok(LARGEST - self.gathered.len()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Coalesced<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let length = ready!(self.poll_room(cx))?.min(bytes.len());
        self.gathered.extend_from_slice(&bytes[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut room = ready!(self.poll_room(cx))?;
        let before = self.gathered.len();
        for slice in slices {
            let length = room.min(slice.len());
            self.gathered.extend_from_slice(&slice[..length]);
            room -= length;
        }
        Poll::Ready(Ok(self.gathered.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        // An idle connection shall not keep what a busy one needed.
        if self.gathered.capacity() > 0 {
            self.gathered = Vec::new();
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Coalesced<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Keeps each write apart.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl AsyncWrite for Writes {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_written_between_two_flushes_goes_down_at_once() {
        let mut stream = Coalesced::new(Writes::default());
        for part in ["head", "ers", "data"] {
            stream.write_all(part.as_bytes()).await.unwrap();
        }
        assert!(stream.inner.0.is_empty());
        stream.flush().await.unwrap();
        assert_eq!(stream.inner.0, [b"headersdata"]);
    }

    #[tokio::test]
    async fn no_more_than_the_bound_is_held_and_nothing_is_lost() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let (near, mut far) = tokio::io::duplex(1000);
        let mut stream = Coalesced::new(near);
        let sent = bytes.clone();
        let writer = tokio::spawn(async move {
            for part in sent.chunks(7000) {
                stream.write_all(part).await.unwrap();
                assert!(stream.gathered.len() <= LARGEST);
            }
            stream.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        writer.await.unwrap();
        assert!(received == bytes);
    }
}
