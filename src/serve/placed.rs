//! How a piece goes out of which the system has the bytes: from there, without a copy, if that is possible.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio_rustls::server::TlsStream;

use super::listen::Stream;
use crate::http::body::Place;

/// A client's stream.
pub trait SendPlaced: AsyncWrite {
    /// Writes what is before a piece and then the piece, as `poll_write_vectored` does with the two. If nothing must be
    /// done to the bytes, the piece may be taken from its place.
    fn poll_send_placed(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        before: &[u8],
        piece: &[u8],
        _place: &Place,
    ) -> Poll<io::Result<usize>> {
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
