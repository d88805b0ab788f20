//! One request of an HTTP/2 connection: what is said before its answer, and the answer, at the pace of its client.
//!
//! A client may go on with other streams, or with nothing but pings, and never take what it asked for on this one. The
//! socket is not blocked then, so nobody else would notice, and the application's connection would be held for ever. So
//! each piece is waited for to find room in the client's window, and not for longer than `timeouts.send`.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http_body::Body as HttpBody;
use tokio::time::{Instant, Sleep, sleep};
use tracing::{debug, error};

use super::super::date;
use super::super::watch::InFlight;
use super::head;
use crate::http::early_hints::EarlyHints;
use crate::layers::access_log::LoggedBody;

/// How much is handed over at a time: a frame, as large as all clients take it.
const PIECE: usize = 16 * 1024;

/// Who takes less than this within `timeouts.send` takes nothing.
const LEAST: usize = 256;

/// What has become of a request: an answer, or nothing that could be told.
type Outcome = Option<Result<Response<LoggedBody>, Infallible>>;

/// Does something, and takes a panic for `None`: it shall cost the request that met it, and not all others of its
/// connection.
pub(super) fn caught<T>(what: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(what));
    if done.is_err() {
        error!("a request made vestibule panic; its stream was reset");
    }
    done.ok()
}

/// Polls, and takes a panic for `None`.
fn poll_caught<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<Option<T>> {
    caught(poll).map_or(Poll::Ready(None), |poll| poll.map(Some))
}

/// Waits for the answer, and sends it. A client that goes away, or gives the request up, ends it at once.
///
/// It is written out, because a function would keep room for each of its steps, and there may be many that wait.
pub(super) enum Answering<F> {
    /// The answer is not there yet.
    Waiting(Waiting<F>),
    /// It is on its way.
    Sending(Sending),
    /// Nothing more is to be done.
    Done,
}

/// What an answer is waited for with.
pub(super) struct Waiting<F> {
    pub(super) respond: SendResponse<Bytes>,
    pub(super) answer: F,
    pub(super) hints: EarlyHints,
    pub(super) in_flight: InFlight,
    pub(super) allowed: Duration,
}

impl<F> Waiting<F>
where
    F: Future<Output = Result<Response<LoggedBody>, Infallible>> + Unpin,
{
    /// The answer; nothing when the client has given it up.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        let outcome = poll_caught(|| Pin::new(&mut self.answer).poll(cx));
        if outcome.is_pending() {
            if let Poll::Ready(reason) = self.respond.poll_reset(cx) {
                debug!(?reason, "a client gave its request up");
                return Poll::Ready(None);
            }
            while let Poll::Ready(fields) = self.hints.poll_next(cx) {
                send_hints(&mut self.respond, [fields]);
            }
        }
        outcome.map(Some)
    }

    fn begin(self, outcome: Outcome) -> Option<Sending> {
        let Self { mut respond, answer, hints, in_flight, allowed } = self;
        drop(answer);
        send_hints(&mut respond, hints.close());
        Sending::begin(respond, outcome, in_flight, allowed)
    }
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<Response<LoggedBody>, Infallible>> + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            let outcome = match this {
                Self::Waiting(waiting) => ready!(waiting.poll_answer(cx)),
                Self::Sending(sending) => return Pin::new(sending).poll(cx),
                Self::Done => return Poll::Ready(()),
            };
            if let (Self::Waiting(waiting), Some(outcome)) = (std::mem::replace(this, Self::Done), outcome)
                && let Some(sending) = waiting.begin(outcome)
            {
                *this = Self::Sending(sending);
            }
        }
    }
}

/// Sends each as a 103.
pub(super) fn send_hints(respond: &mut SendResponse<Bytes>, hints: impl IntoIterator<Item = HeaderMap>) {
    for fields in hints {
        let mut hint = Response::new(());
        *hint.status_mut() = StatusCode::EARLY_HINTS;
        *hint.headers_mut() = fields;
        if let Err(error) = respond.send_informational(hint) {
            debug!(%error, "an early hint was not sent");
        }
    }
}

/// A body on its way.
pub(super) struct Sending {
    stream: SendStream<Bytes>,
    body: LoggedBody,
    /// What is left of its last frame, and whether that is all.
    rest: Bytes,
    is_last: bool,
    in_flight: InFlight,
    allowed: Duration,
    /// Rings when the client has taken nothing for so long. Most bodies never need one.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    /// How much the client has taken while it was waited for.
    taken: usize,
}

impl Sending {
    /// Sends the head of an answer. `None` if that is all.
    pub(super) fn begin(
        mut respond: SendResponse<Bytes>,
        outcome: Outcome,
        mut in_flight: InFlight,
        allowed: Duration,
    ) -> Option<Self> {
        let Some(Ok(response)) = outcome else {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return None;
        };
        let (mut parts, mut body) = response.into_parts();
        // A piece waits for each stream that its client does not take, and nobody counts those of files.
        body.in_small_pieces();
        head::settle(&mut parts.headers, &body, date::now);
        let is_empty = body.is_end_stream();
        match respond.send_response(Response::from_parts(parts, ()), is_empty) {
            Ok(stream) if !is_empty => Some(Self {
                stream,
                body,
                rest: Bytes::new(),
                is_last: false,
                in_flight,
                allowed,
                timer: None,
                is_waiting: false,
                taken: 0,
            }),
            Ok(_) => {
                in_flight.complete();
                None
            }
            // Most likely the client has just given it up.
            Err(error) => {
                debug!(%error, "an answer was not sent");
                respond.send_reset(Reason::INTERNAL_ERROR);
                None
            }
        }
    }

    /// Sends the last piece, which may be empty.
    fn finish(&mut self) {
        let piece = std::mem::take(&mut self.rest);
        let length = piece.len();
        let sent = self.stream.send_data(piece, true);
        self.end(sent, length);
    }

    fn end(&mut self, sent: Result<(), h2::Error>, length: usize) {
        match sent {
            Ok(()) => self.in_flight.complete(),
            Err(error) => {
                debug!(%error, "the end of an answer was not sent");
                self.body.cut(length);
            }
        }
    }

    /// Gets the next frame of the body. Ready when nothing more is to be sent.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Poll::Ready(frame) = poll_caught(|| Pin::new(&mut self.body).poll_frame(cx)) else {
            let reset = self.stream.poll_reset(cx);
            return reset.map(|reason| {
                debug!(?reason, "a client gave its answer up");
                Next::Nothing
            });
        };
        Poll::Ready(match frame {
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    self.rest = data;
                    self.is_last = self.body.is_end_stream();
                    Next::Data
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => {
                        let sent = self.stream.send_trailers(trailers);
                        self.end(sent, 0);
                        Next::Nothing
                    }
                    Err(_) => Next::Data,
                },
            },
            Some(None) => {
                self.finish();
                Next::Nothing
            }
            // Half an answer must not look like a whole one.
            Some(Some(Err(error))) => {
                debug!(%error, "an answer broke off");
                self.stream.send_reset(Reason::INTERNAL_ERROR);
                Next::Nothing
            }
            None => {
                self.stream.send_reset(Reason::INTERNAL_ERROR);
                Next::Nothing
            }
        })
    }

    /// How much the client takes now; nothing when it takes no more of this stream.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        // Room is asked for what is there already: what one stream holds back of the connection's window, all others
        // lack.
        self.stream.reserve_capacity(self.rest.len().clamp(1, PIECE));
        let mut room = self.stream.capacity();
        while room == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(more))) => room = more,
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => {
                    ready!(self.poll_patience(cx));
                    debug!("a client takes nothing of its answer; the stream was reset");
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(None);
                }
            }
        }
        Poll::Ready(Some(room))
    }

    /// Whether what is left may be asked for. What comes in large pieces is not, before there is room for any of it: a
    /// client could have many wait, and take none.
    fn poll_wish(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        if self.body.size_hint().exact().is_some_and(|length| length <= PIECE as u64) {
            return Poll::Ready(Some(()));
        }
        self.poll_room(cx).map(|room| room.map(drop))
    }

    /// Notes how much the client has taken.
    fn took(&mut self, length: usize) {
        self.taken += length;
        if self.taken >= LEAST {
            self.taken = 0;
            self.is_waiting = false;
        }
    }

    /// Ready when the client has taken nothing for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.allowed)));
        if !self.is_waiting {
            self.is_waiting = true;
            timer.as_mut().reset(Instant::now() + self.allowed);
        }
        timer.as_mut().poll(cx)
    }
}

/// What there is to send.
enum Next {
    Data,
    Nothing,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.rest.is_empty() {
            self.body.cut(self.rest.len());
        }
    }
}

impl Future for Sending {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            if this.rest.is_empty() {
                if ready!(this.poll_wish(cx)).is_none() {
                    return Poll::Ready(());
                }
                if let Next::Nothing = ready!(this.poll_next(cx)) {
                    return Poll::Ready(());
                }
            }
            if this.is_last && this.rest.is_empty() {
                this.finish();
                return Poll::Ready(());
            }
            if this.rest.is_empty() {
                continue;
            }
            let Some(room) = ready!(this.poll_room(cx)) else { return Poll::Ready(()) };
            let length = room.min(this.rest.len()).min(PIECE);
            this.took(length);
            if this.is_last && length == this.rest.len() {
                this.finish();
                return Poll::Ready(());
            }
            let piece = this.rest.split_to(length);
            if let Err(error) = this.stream.send_data(piece, false) {
                debug!(%error, "a piece of an answer was not sent");
                this.body.cut(length);
                return Poll::Ready(());
            }
        }
    }
}
