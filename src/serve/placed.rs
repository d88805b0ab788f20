//! How a piece goes out of which the system has the bytes: from there, without a copy, if that is possible.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio_rustls::server::TlsStream;

use super::listen::Stream;
use crate::http::body::Place;

/// A client's stream.
pub(super) trait SendPlaced: AsyncWrite {
    /// Writes what is before a piece and then the piece, as `poll_write_vectored` does with the two. If nothing must be
    /// done to the bytes, the piece may be taken from its place.
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

/// What is encrypted has to be copied.
impl SendPlaced for Box<TlsStream<Stream>> {}

#[cfg(not(target_os = "linux"))]
impl SendPlaced for Stream {}

#[cfg(target_os = "linux")]
impl SendPlaced for Stream {
    fn poll_send_placed(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        before: &[u8],
        piece: &[u8],
        place: &Place,
    ) -> Poll<io::Result<usize>> {
        use std::task::ready;

        use tokio::io::Interest;
        use tokio_util::either::Either;

        let stream = match self.get_mut() {
            Either::Left(stream) => stream,
            Either::Right(stream) => {
                return Pin::new(stream).poll_write_vectored(cx, &[IoSlice::new(before), IoSlice::new(piece)]);
            }
        };
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_io(Interest::WRITABLE, || send(&*stream, before, piece.len(), place)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

/// How much is sent at once, lest other connections wait.
#[cfg(target_os = "linux")]
const MOST: usize = 1024 * 1024;

/// Sends what is before a piece so that the begin of the piece goes into the same packet.
#[cfg(target_os = "linux")]
fn send(to: &tokio::net::TcpStream, before: &[u8], length: usize, place: &Place) -> io::Result<usize> {
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
    use tokio::net::{TcpListener, TcpStream, UnixStream};
    use tokio_util::either::Either;

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
