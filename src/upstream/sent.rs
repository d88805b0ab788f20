//! The request's body on its way to the application.
//!
//! It keeps account of who is to move next, the client or the application, because the deadlines
//! depend on it: a slow client is no fault of the application's. It decides nothing about the head.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tokio::time::Instant;

use super::failure::ClientFault;
use super::gather::Gathered;
use crate::http::body::{Body, BodyError};

/// Who is to move next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client, with the next piece of its body.
    Client,
    /// The application: it has been given a piece, and must take it.
    Reading(Instant),
    /// The application: it has the whole request, and must answer.
    Answering(Instant),
    /// Nobody: the client's body broke off.
    Broken(ClientFault),
}

/// The phase of one request, shared between its body, which hyper holds, and who waits for the answer.
#[derive(Debug, Clone)]
pub(super) struct Progress(Arc<Mutex<Phase>>);

impl Progress {
    pub(super) fn phase(&self) -> Phase {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }
}

/// A request's body as hyper sends it.
#[derive(Debug)]
pub(super) struct Sent {
    front: Bytes,
    rest: Body,
    /// How much of an announced length is still to come. Not every body knows its own end, and hyper
    /// does not ask again once the length is reached.
    remaining: Option<u64>,
    progress: Progress,
}

impl Sent {
    pub(super) fn new(body: Outgoing) -> (Self, Progress) {
        let phase = if body.is_empty() { Phase::Answering(Instant::now()) } else { Phase::Client };
        let progress = Progress(Arc::new(Mutex::new(phase)));
        let remaining = match body.length {
            Length::Known(length) => Some(length),
            Length::None | Length::Chunked => None,
        };
        (Self { front: body.front, rest: body.rest, remaining, progress: progress.clone() }, progress)
    }
}

impl Sent {
    fn has_ended(&self) -> bool {
        self.rest.is_end_stream() || self.remaining == Some(0)
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let data = if this.front.is_empty() {
            this.progress.set(Phase::Client);
            match ready!(poll_data(&mut this.rest, cx)) {
                Some(Ok(data)) => data,
                Some(Err(error)) => {
                    this.progress.set(Phase::Broken(ClientFault::of(&*error)));
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.progress.set(Phase::Answering(Instant::now()));
                    return Poll::Ready(None);
                }
            }
        } else {
            std::mem::take(&mut this.front)
        };
        let now = Instant::now();
        this.remaining = this.remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
        this.progress.set(if this.has_ended() { Phase::Answering(now) } else { Phase::Reading(now) });
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.front.is_empty() && self.rest.is_end_stream()
    }
}

/// The next piece of data. Trailers are dropped: no application server hands them on.
fn poll_data(body: &mut Body, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
    loop {
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            }
        }
    }
}

/// A request's body before it is sent: how long it is, and what of it is here already.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) length: Length,
    front: Bytes,
    rest: Body,
}

/// How the end of a request's body is told to the application.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Length {
    /// There is no body, and the client said nothing of a length.
    #[default]
    None,
    /// `Content-Length`.
    Known(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

impl Outgoing {
    /// No body; with `Content-Length: 0` if the client sent that.
    pub(super) fn nothing(is_announced: bool) -> Self {
        let length = if is_announced { Length::Known(0) } else { Length::None };
        Self { length, ..Self::default() }
    }

    /// A body of which some was gathered, or all. One of known length is sent with it.
    pub(super) fn gathered(gathered: Gathered, announced: Option<u64>) -> Self {
        let Gathered { front, rest, length } = gathered;
        let length = length.or(announced).map_or(Length::Chunked, Length::Known);
        Self { length, front, rest: rest.unwrap_or_default() }
    }

    /// The same body once more, if all of it is in memory.
    pub(super) fn again(&self) -> Option<Self> {
        let is_here = self.rest.is_end_stream();
        is_here.then(|| Self { length: self.length, front: self.front.clone(), rest: Body::Empty })
    }

    /// A body that goes on as it comes.
    pub(super) fn streamed(body: Body, announced: Option<u64>) -> Self {
        Self::gathered(Gathered { front: Bytes::new(), rest: Some(body), length: None }, announced)
    }

    fn is_empty(&self) -> bool {
        self.front.is_empty() && self.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    fn pieces(pieces: &[&'static str]) -> Body {
        let frames: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
        Body::stream(StreamBody::new(stream::iter(frames)))
    }

    #[tokio::test]
    async fn what_was_gathered_goes_first() {
        let front = || Bytes::from_static(b"abc");
        for (rest, length, whole) in
            [(None, Length::Known(3), "abc"), (Some(pieces(&["de", "f"])), Length::Chunked, "abcdef")]
        {
            let whole_length = rest.is_none().then_some(3);
            let gathered = Outgoing::gathered(Gathered { front: front(), rest, length: whole_length }, None);
            assert_eq!(gathered.length, length);
            let (sent, _) = Sent::new(gathered);
            assert_eq!(sent.collect().await.unwrap().to_bytes(), whole);
        }
    }

    #[tokio::test]
    async fn progress_tells_who_is_to_move() {
        let (mut sent, progress) = Sent::new(Outgoing::streamed(pieces(&["a", "b"]), Some(2)));
        assert_eq!(progress.phase(), Phase::Client);
        sent.frame().await;
        assert!(matches!(progress.phase(), Phase::Reading(_)));
        sent.frame().await; // the announced length is reached, and nobody asks again
        assert!(matches!(progress.phase(), Phase::Answering(_)));
    }

    #[test]
    fn no_body_means_that_the_application_is_to_move() {
        let (_, progress) = Sent::new(Outgoing::default());
        assert!(matches!(progress.phase(), Phase::Answering(_)));
    }
}
