//! The body of a request over HTTP/2, as its client sends it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::HeaderMap;
use ::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body as HttpBody, Frame, SizeHint};

/// A body that lets the client send more as it is read.
#[derive(Debug)]
pub(super) struct Received {
    stream: RecvStream,
    /// How much of what was announced is still to come. That it is right, the library sees to.
    remaining: Option<u64>,
    /// All data has come; trailers may.
    has_data: bool,
}

impl Received {
    /// `headers` are those of the request.
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let remaining = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Self { stream, remaining, has_data: true }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let data = match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => data,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(None),
        };
        // It fails when the stream has ended, and then there is nothing more to let through.
        let _ = self.stream.flow_control().release_capacity(data.len());
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
        Poll::Ready(Some(Ok(data)))
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.has_data {
            match ready!(self.poll_data(cx)) {
                Some(data) => return Poll::Ready(settled(data.map(Frame::data))),
                None => self.has_data = false,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx)).transpose();
        Poll::Ready(trailers.and_then(|trailers| settled(trailers.map(Frame::trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A stream that ends without an error ended early, because its answer was there (RFC 9113, section 8.1).
fn settled<T>(next: Result<T, h2::Error>) -> Option<Result<T, h2::Error>> {
    match next {
        Err(error) if error.reason() == Some(Reason::NO_ERROR) => None,
        next => Some(next),
    }
}
