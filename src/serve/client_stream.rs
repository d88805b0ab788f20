//! What a client's stream can do besides reading and writing.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
#[cfg(target_os = "linux")]
use std::task::ready;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
#[cfg(target_os = "linux")]
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::listen::Stream;
use crate::http::body::Place;

/// A client's stream.
pub(super) trait ClientStream: AsyncWrite {
    /// How much has come that nobody has read, as far as the system tells.
    fn waiting(&self) -> usize;

    /// Writes what is before a piece and then the piece, as `poll_write_vectored` does with the two. If nothing must be
    /// done to the bytes, the piece may be taken from its place, without a copy.
    fn poll_send_placed(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        before: &[u8],
        piece: &[u8],
        place: &Place,
    ) -> Poll<io::Result<usize>> {
        let _ = place;
        self.poll_write_vectored(cx, &[IoSlice::new(before), IoSlice::new(piece)])
    }
}

impl ClientStream for Box<TlsStream<Stream>> {
    /// Before it is decrypted, which makes it hardly shorter, unless the client sends it in very small records.
    fn waiting(&self) -> usize {
        self.get_ref().0.waiting()
    }
}

/// `sendfile` is for TCP, where it was measured.
impl ClientStream for UnixStream {
    fn waiting(&self) -> usize {
        unread(self)
    }
}

impl ClientStream for TcpStream {
    fn waiting(&self) -> usize {
        unread(self)
    }

    #[cfg(target_os = "linux")]
    fn poll_send_placed(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        before: &[u8],
        piece: &[u8],
        place: &Place,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(cx))?;
            match self.try_io(Interest::WRITABLE, || send(&self, before, piece.len(), place)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl<L: ClientStream + Unpin, R: ClientStream + Unpin> ClientStream for Either<L, R> {
    fn waiting(&self) -> usize {
        match self {
            Self::Left(stream) => stream.waiting(),
            Self::Right(stream) => stream.waiting(),
        }
    }

    fn poll_send_placed(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        before: &[u8],
        piece: &[u8],
        place: &Place,
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Left(stream) => Pin::new(stream).poll_send_placed(cx, before, piece, place),
            Self::Right(stream) => Pin::new(stream).poll_send_placed(cx, before, piece, place),
        }
    }
}

fn unread(socket: impl AsFd) -> usize {
    rustix::io::ioctl_fionread(socket).ok().and_then(|unread| usize::try_from(unread).ok()).unwrap_or(0)
}

/// How much is sent at once, lest other connections wait.
#[cfg(target_os = "linux")]
const MOST: usize = 1024 * 1024;

/// Sends what is before a piece so that the begin of the piece goes into the same packet.
#[cfg(target_os = "linux")]
fn send(to: &TcpStream, before: &[u8], length: usize, place: &Place) -> io::Result<usize> {
    use rustix::net::SendFlags;

    let sent = match before {
        [] => 0,
        _ => rustix::net::send(to, before, SendFlags::MORE | SendFlags::NOSIGNAL)?,
    };
    if sent < before.len() {
        return Ok(sent);
    }
    let mut offset = place.offset;
    match rustix::fs::sendfile(to, &place.file, Some(&mut offset), length.min(MOST)) {
        Ok(more) => Ok(sent + more),
        // What is wrong the next time tells.
        Err(_) if sent > 0 => Ok(sent),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::sync::Arc;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    const LENGTH: usize = 2 * MOST + 1000;

    /// What a client gets of a piece of `m` of which the place has `f`, with `<head>` before it.
    async fn got(mut stream: Stream, mut client: impl tokio::io::AsyncRead + Unpin + Send + 'static) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'-'; 10]).unwrap();
        file.write_all(&vec![b'f'; LENGTH]).unwrap();
        let place = Place { file: Arc::new(file.into()), offset: 10 };
        let reading = tokio::spawn(async move {
            let mut got = vec![0; 6 + LENGTH];
            client.read_exact(&mut got).await.unwrap();
            got
        });
        let (mut before, piece) = (&b"<head>"[..], vec![b'm'; LENGTH]);
        let mut sent = 0;
        while sent < LENGTH {
            let place = place.behind(sent as u64);
            let more = poll_fn(|cx| Pin::new(&mut stream).poll_send_placed(cx, before, &piece[sent..], &place)).await;
            let more = more.unwrap();
            let of_before = more.min(before.len());
            before = &before[of_before..];
            sent += more - of_before;
        }
        reading.await.unwrap()
    }

    #[tokio::test]
    async fn what_goes_out_in_the_clear_over_tcp_comes_from_its_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = listener.accept().await.unwrap().0;
        let got = got(Either::Left(stream), client).await;
        assert!(got.starts_with(b"<head>") && got[6..].iter().all(|byte| *byte == b'f'));
    }

    #[tokio::test]
    async fn what_goes_into_a_unix_socket_comes_from_memory() {
        let (stream, client) = UnixStream::pair().unwrap();
        let got = got(Either::Right(stream), client).await;
        assert!(got.starts_with(b"<head>") && got[6..].iter().all(|byte| *byte == b'm'));
    }
}
