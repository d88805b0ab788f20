//! The body of a request over HTTP/2, as its client sends it.
//!
//! What has come is taken from the protocol's library at once, whether anybody reads it or not. The library counts the
//! frames that it holds besides their bytes, and ends the connection of a client of which it holds many small ones; but
//! one that sends line by line is no flood, whatever its reader is waiting for. Here small pieces are put together, and
//! all that is held is what the client's window lets through until somebody reads.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};

use ::http::HeaderMap;
use ::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http_body::{Body as HttpBody, Frame, SizeHint};

/// What is shorter is put together with its neighbours. It would hold on to all that was read with it.
const SMALL: usize = 4 * 1024;

/// How long what is put together gets.
const LONGEST: usize = 16 * 1024;

/// A body that lets the client send more as it is read.
#[derive(Debug)]
pub(super) struct Received {
    coming: Arc<Mutex<Coming>>,
    /// How much of what was announced is still to come. That it is right, the library sees to.
    remaining: Option<u64>,
    /// All data has come; trailers may.
    has_data: bool,
}

/// What has come of a body and what is coming, as its reader and its connection have it.
#[derive(Debug)]
struct Coming {
    stream: RecvStream,
    waiting: Waiting,
    /// Who reads.
    reader: Waker,
}

/// What has come and was not read yet.
#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Bytes>,
    /// What comes after those: small pieces, put together.
    last: BytesMut,
}

/// The bodies that are under way on a connection.
#[derive(Debug, Default)]
pub(super) struct Uploads(Vec<Weak<Mutex<Coming>>>);

impl Uploads {
    /// A further one; `headers` are those of its request.
    pub(super) fn begin(&mut self, stream: RecvStream, headers: &HeaderMap) -> Received {
        let remaining = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let coming = Coming { stream, waiting: Waiting::default(), reader: Waker::noop().clone() };
        let coming = Arc::new(Mutex::new(coming));
        self.0.push(Arc::downgrade(&coming));
        Received { coming, remaining, has_data: true }
    }

    /// Takes what has come of all of them.
    pub(super) fn take_in(&mut self) {
        self.0.retain(|coming| coming.upgrade().map(|coming| lock(&coming).take_in()).is_some());
    }
}

/// Hardly ever waited for: a connection and its streams are on one thread.
fn lock(coming: &Mutex<Coming>) -> MutexGuard<'_, Coming> {
    coming.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Coming {
    fn take_in(&mut self) {
        // It is the reader whom the library is to wake.
        let mut cx = Context::from_waker(&self.reader);
        // What is wrong, and that this is the end, it will tell again.
        while let Poll::Ready(Some(Ok(data))) = self.stream.poll_data(&mut cx) {
            self.waiting.add(data);
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let data = match self.waiting.take() {
            Some(data) => data,
            None => {
                self.reader.clone_from(cx.waker());
                match ready!(self.stream.poll_data(cx)) {
                    Some(Ok(data)) => data,
                    end => return Poll::Ready(end),
                }
            }
        };
        // It fails when the stream has ended, and then there is nothing more to let through.
        let _ = self.stream.flow_control().release_capacity(data.len());
        Poll::Ready(Some(Ok(data)))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_empty() && self.stream.is_end_stream()
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.last.is_empty()
    }

    fn add(&mut self, piece: Bytes) {
        let is_small = piece.len() < SMALL;
        if !self.last.is_empty() && (!is_small || self.last.len() + piece.len() > LONGEST) {
            self.pieces.push_back(std::mem::take(&mut self.last).freeze());
        }
        match is_small {
            true => self.last.extend_from_slice(&piece),
            false => self.pieces.push_back(piece),
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let last = || (!self.last.is_empty()).then(|| std::mem::take(&mut self.last).freeze());
        self.pieces.pop_front().or_else(last)
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        let mut coming = lock(&this.coming);
        if this.has_data {
            match ready!(coming.poll_data(cx)) {
                Some(Ok(data)) => {
                    this.remaining = this.remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(settled(Err(error))),
                None => this.has_data = false,
            }
        }
        let trailers = ready!(coming.stream.poll_trailers(cx)).transpose();
        Poll::Ready(trailers.and_then(|trailers| settled(trailers.map(Frame::trailers))))
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.coming).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A stream that the library ended without an error ended early, because its answer was there (RFC 9113, section 8.1). Its
/// client may say the same, and a connection is ended so whose client is not there any more: then the rest is missing.
fn settled<T>(next: Result<T, h2::Error>) -> Option<Result<T, h2::Error>> {
    match next {
        Err(error) if error.reason() == Some(Reason::NO_ERROR) && error.is_library() => None,
        next => Some(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_put_together_and_all_come_in_their_order() {
        let mut waiting = Waiting::default();
        let mut came = Vec::new();
        for length in
            [1, 2, SMALL - 1, SMALL, 5, LONGEST, LONGEST + 1, 1, SMALL - 1, SMALL - 1, SMALL - 1, SMALL - 1, 9]
        {
            let piece = Bytes::from(vec![(length % 251) as u8; length]);
            came.extend_from_slice(&piece);
            waiting.add(piece);
        }
        let taken: Vec<_> = std::iter::from_fn(|| waiting.take()).collect();
        let lengths: Vec<_> = taken.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [SMALL + 2, SMALL, 5, LONGEST, LONGEST + 1, 4 * SMALL - 3, 9]);
        assert!(taken.concat() == came && waiting.is_empty());
    }
}
