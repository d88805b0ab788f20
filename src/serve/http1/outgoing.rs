//! What is to be written next: a head or the frame of a chunk, a piece of a body, and what ends it.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};

use crate::http::body::Place;
use crate::serve::client_stream::ClientStream;

/// What ends a piece that is a chunk, and the body with it if it is the last.
const END: [&[u8]; 2] = [b"\r\n", b"\r\n0\r\n\r\n"];

/// All of it goes out in one system call, or two where the system sends the piece by itself, if the client takes it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    before: Vec<u8>,
    /// How much of `before` is sent.
    sent: usize,
    piece: Bytes,
    /// Where the system has the piece.
    place: Option<Place>,
    after: &'static [u8],
}

impl Outgoing {
    /// Begins with a buffer in which some of the head may be written.
    pub(super) fn new(before: Vec<u8>) -> Self {
        Self { before, ..Self::default() }
    }

    /// Where the head is written.
    pub(super) fn head(&mut self) -> &mut Vec<u8> {
        &mut self.before
    }

    /// The buffer, for another answer.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        self.before.clear();
        std::mem::take(&mut self.before)
    }

    /// How much of a piece is not sent.
    pub(super) fn unsent(&self) -> usize {
        self.piece.len()
    }

    /// Whether a piece can be added: the one before is sent, and what ends it.
    pub(super) fn has_room(&self) -> bool {
        self.piece.is_empty() && self.after.is_empty()
    }

    /// Adds a piece, and where the system has it.
    pub(super) fn add(&mut self, piece: Bytes, place: Option<Place>) {
        (self.piece, self.place) = (piece, place);
    }

    /// Adds a piece that is not empty as a chunk (RFC 9112, section 7.1).
    pub(super) fn add_chunk(&mut self, piece: Bytes, is_last: bool) {
        write!(self.before, "{:x}\r\n", piece.len()).expect("writing to memory never fails");
        self.piece = piece;
        self.after = END[usize::from(is_last)];
    }

    /// Ends a body in chunks whose last piece was not known to be the last.
    pub(super) fn end_chunks(&mut self) {
        self.before.extend_from_slice(&END[1][2..]);
    }

    /// Ready when all of it is written.
    pub(super) fn poll_write<T>(&mut self, cx: &mut Context<'_>, stream: &mut T) -> Poll<io::Result<()>>
    where
        T: ClientStream + Unpin,
    {
        loop {
            let mut slices = [IoSlice::new(&[]); 3];
            let mut count = 0;
            for part in [&self.before[self.sent..], &self.piece, self.after] {
                if !part.is_empty() {
                    slices[count] = IoSlice::new(part);
                    count += 1;
                }
            }
            if count == 0 {
                self.before.clear();
                self.sent = 0;
                return Poll::Ready(Ok(()));
            }
            let stream = Pin::new(&mut *stream);
            let written = ready!(match &self.place {
                Some(place) => stream.poll_send_placed(cx, &self.before[self.sent..], &self.piece, place),
                None => stream.poll_write_vectored(cx, &slices[..count]),
            })?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
    }

    fn advance(&mut self, mut written: usize) {
        let mut of = |length: usize| {
            let part = written.min(length);
            written -= part;
            part
        };
        self.sent += of(self.before.len() - self.sent);
        let part = of(self.piece.len());
        self.piece.advance(part);
        if let Some(place) = &mut self.place {
            place.offset += part as u64;
        }
        self.after = &self.after[of(self.after.len())..];
        if self.piece.is_empty() {
            // An empty rest would hold the whole of it in memory.
            (self.piece, self.place) = (Bytes::new(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Waker;

    use tokio::io::AsyncWrite;

    /// Takes so many bytes at a time.
    struct Narrow(usize, Vec<u8>);

    impl ClientStream for Narrow {
        fn waiting(&self) -> usize {
            0
        }

        /// Has other bytes there than in memory, to be told from them.
        fn poll_send_placed(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            before: &[u8],
            piece: &[u8],
            place: &Place,
        ) -> Poll<io::Result<usize>> {
            let there = (0..piece.len() as u64).map(|n| b'a' + u8::try_from(place.offset + n).expect("a letter"));
            let all: Vec<u8> = before.iter().copied().chain(there).collect();
            self.poll_write(cx, &all)
        }
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let length = self.0.min(bytes.len());
            self.1.extend_from_slice(&bytes[..length]);
            Poll::Ready(Ok(length))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn all_of_it_is_written_in_order_however_little_is_taken_at_a_time() {
        let mut cx = Context::from_waker(Waker::noop());
        for width in [1, 2, 3, 5, 100] {
            let mut stream = Narrow(width, Vec::new());
            let mut out = Outgoing::default();
            out.head().extend_from_slice(b"head ");
            let mut write = |out: &mut Outgoing| {
                assert!(matches!(out.poll_write(&mut cx, &mut stream), Poll::Ready(Ok(()))));
                assert!(out.has_room() && out.unsent() == 0);
            };
            write(&mut out);
            out.add(Bytes::from_static(b"piece "), None);
            assert!(!out.has_room() && out.unsent() == 6);
            write(&mut out);
            out.head().extend_from_slice(b"head ");
            let file = Arc::new(tempfile::tempfile().expect("a file").into());
            out.add(Bytes::from_static(b"-------"), Some(Place { file, offset: 2 }));
            write(&mut out);
            out.add(Bytes::from_static(b" piece "), None);
            write(&mut out);
            out.add_chunk(Bytes::from_static(b"a chunk of 17 by."), false);
            write(&mut out);
            out.add_chunk(Bytes::from_static(b"last"), true);
            write(&mut out);
            out.end_chunks();
            write(&mut out);
            let expected = "head piece head cdefghi piece 11\r\na chunk of 17 by.\r\n4\r\nlast\r\n0\r\n\r\n0\r\n\r\n";
            assert_eq!(String::from_utf8(stream.1).expect("ASCII"), expected, "{width} at a time");
        }
    }
}
