//! HTTP/1.1 with a client, as far as a request is plain: nearly all requests of nearly all clients.
//!
//! hyper serves whatever HTTP/1.1 there is, and is ready for chunks, upgrades and much else at every step. Most requests
//! need none of that, and are answered here: in one read and one write, if all of the request is there when it is read. A
//! longer body is read by whoever wants it ([`incoming`]; what comes fast into a [`body_room`]), all else into memory that a thread's
//! connections share ([`rooms`]). Whatever else comes is left as it is ([`head::take`]), and hyper takes the connection
//! over from its first byte, until the connection rests.

mod body_room;
mod head;
mod incoming;
mod outgoing;
mod rooms;

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::{Method, Response};
use bytes::Bytes;
use http_body::Body as HttpBody;
use tokio::io::{AsyncRead, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use self::head::{Framing, Seen};
use self::incoming::Line;
use self::outgoing::Outgoing;
use self::rooms::READ;
use super::accept::{Graceful, Requests, Stack};
use super::client_stream::ClientStream;
use super::date;
use super::linger::Lingering;
use super::site::Bounds;
use super::watch::{InFlight, REST};
use crate::http::body::Body;
use crate::http::lines::Lines;
use crate::layers::access_log::LoggedBody;

/// How much is read at once of a head that did not come at once.
const READ_MORE: usize = 2 * 1024;

/// How long an answer may take before it is looked whether its client is still there. Some say in one breath what they
/// want and that they say no more, and take the answer all the same. The connection is driven once in that time at least.
const SOON: Duration = REST;

/// A connection.
pub(super) struct Connection<T, S: Stack> {
    line: Line<T>,
    stack: S,
    requests: Arc<Requests>,
    bounds: Arc<Bounds>,
    /// What was read and is not yet understood.
    unread: Bytes,
    /// It is the beginning of a head, of which the rest is awaited.
    is_hearing: bool,
    state: State<S::Future>,
    is_finishing: bool,
}

#[expect(
    clippy::large_enum_variant,
    reason = "the large ones are what most of them are while there is something to do"
)]
enum State<F> {
    /// Between two requests, or within a head.
    Reading,
    /// The answer is not there yet.
    Asking { answer: F, since: Instant, in_flight: InFlight, asked: Asked },
    /// It is on its way.
    Answering(Answer),
    /// It is sent, but the body of the request is still coming.
    Lingering { was_last: bool },
    /// It was the last one.
    Closing,
    /// Something else has come.
    Leaving,
}

/// What of a request counts for the form of its answer.
#[derive(Debug, Clone, Copy)]
struct Asked {
    is_head: bool,
    is_last: bool,
}

impl<T, S> Connection<T, S>
where
    T: AsyncRead + ClientStream + Unpin + Send + 'static,
    S: Stack,
{
    /// Begins, or goes on behind hyper.
    pub(super) fn new(stream: T, stack: S, requests: Arc<Requests>, bounds: Arc<Bounds>) -> Self {
        Self {
            line: Line::new(stream),
            stack,
            requests,
            bounds,
            unread: Bytes::new(),
            is_hearing: false,
            state: State::Reading,
            is_finishing: false,
        }
    }

    /// The stream, to wait for the next request of a connection that rests.
    pub(super) fn stream(&self) -> Option<&T> {
        self.line.free()
    }

    /// The stream with what has come that is not for here; `None` if the connection has ended.
    pub(super) fn leave(self) -> Option<(T, Bytes)> {
        let is_left = matches!(self.state, State::Leaving);
        Some((self.line.into_free().filter(|_| is_left)?, self.unread))
    }

    /// Reads, when all that was read before is understood. Ready when there is something, or the client has ended.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was read last holds the room no longer, so that nothing is allocated for this most often.
        self.unread = Bytes::new();
        let (result, read) = rooms::read(|room| poll_read_buf(Pin::new(&mut self.line), cx, room));
        ready!(result)?;
        self.unread = read;
        Poll::Ready(Ok(()))
    }

    /// Reads more of a head. Ready when there is the end of a line, or too much.
    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut more = [const { MaybeUninit::uninit() }; READ_MORE];
            let mut more = ReadBuf::uninit(&mut more);
            ready!(Pin::new(&mut self.line).poll_read(cx, &mut more))?;
            let more = more.filled();
            if more.is_empty() {
                return Poll::Ready(Err(io::Error::other("the client has left within a head")));
            }
            self.unread = [&*self.unread, more].concat().into();
            if more.contains(&b'\n') || self.unread.len() >= READ {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes away what some clients send behind a body; it begins no head (RFC 9112, section 2.2).
    fn skip_empty_lines(&mut self) {
        if self.unread.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            self.unread.clear();
        }
    }

    /// Ready when a client has gone that waits for its answer. What it says meanwhile is kept for later.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Until its body has come it may say nothing else, and whoever reads that finds out.
        if self.line.take_back() && self.unread.is_empty() {
            ready!(self.poll_read(cx))?;
            if self.unread.is_empty() {
                return Poll::Ready(Err(io::Error::other("the client has left without its answer")));
            }
        }
        Poll::Pending
    }

    /// Takes the next request off what was read, and asks for its answer, which most often is there at once.
    fn ask(&mut self, cx: &mut Context<'_>) -> State<S::Future> {
        let was_hearing = std::mem::replace(&mut self.is_hearing, false);
        let seen = head::take(&mut self.unread, &self.bounds.limits);
        let Seen::Request(taken) = seen else {
            if !was_hearing {
                self.requests.activity.head_begins();
            }
            let is_beginning = matches!(seen, Seen::Beginning) && self.unread.len() < READ;
            return if is_beginning { self.hear() } else { State::Leaving };
        };
        let asked = Asked { is_head: taken.head.method == Method::HEAD, is_last: taken.is_last };
        let body = match taken.missing {
            0 => taken.body.into(),
            missing => {
                let Requests { linger, activity, .. } = &*self.requests;
                let incoming = self.line.lend(taken.body, missing);
                Body::stream(Lingering::new(incoming, &taken.head.headers, *linger, activity.clone()))
            }
        };
        let (mut request, in_flight) = self.requests.take_whole(taken.head, body, None);
        request.lines = Some(Lines { text: rooms::take_spare(), coding: None });
        let mut answer = self.stack.call(request);
        match Pin::new(&mut answer).poll(cx) {
            Poll::Ready(Ok(response)) => State::Answering(self.answer(response, in_flight, asked)),
            Poll::Pending => State::Asking { answer, since: Instant::now(), in_flight, asked },
        }
    }

    /// Awaits the rest of a head, which may be long in coming. What is there of it is all that is held meanwhile.
    fn hear(&mut self) -> State<S::Future> {
        self.unread = Bytes::copy_from_slice(&self.unread);
        self.is_hearing = true;
        State::Reading
    }

    fn answer(&mut self, response: Response<LoggedBody>, in_flight: InFlight, asked: Asked) -> Answer {
        let (head, mut body) = response.into_parts();
        let framing = Framing::of(asked.is_head, head.status, &head.headers, body.size_hint().exact());
        let mut out = Outgoing::new(body.take_head());
        let may_be_last = asked.is_last || self.is_finishing || self.line.is_cut();
        let is_last = head::write(out.head(), head.status, &head.headers, framing, may_be_last, date::now);
        let remaining = match framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
            Framing::Untold | Framing::Nothing => Some(0),
        };
        let has_ended = remaining == Some(0);
        Answer { out, body, remaining, has_ended, is_waiting: false, in_flight, is_last }
    }
}

impl<T, S> Graceful for Connection<T, S>
where
    T: AsyncRead + ClientStream + Unpin + Send + 'static,
    S: Stack,
{
    type Error = io::Error;

    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.state = match &mut self.state {
                State::Reading => {
                    if self.is_hearing {
                        ready!(self.poll_hear(cx))?;
                    } else {
                        self.skip_empty_lines();
                        if self.unread.is_empty() && !self.is_finishing {
                            ready!(self.poll_read(cx))?;
                        }
                    }
                    let next = if self.unread.is_empty() { State::Closing } else { self.ask(cx) };
                    if let State::Asking { .. } = next {
                        self.state = next;
                        return Poll::Pending;
                    }
                    next
                }
                State::Asking { answer, since, .. } => {
                    let Poll::Ready(Ok(response)) = Pin::new(answer).poll(cx) else {
                        return if since.elapsed() < SOON { Poll::Pending } else { self.poll_gone(cx) };
                    };
                    match std::mem::replace(&mut self.state, State::Closing) {
                        State::Asking { in_flight, asked, .. } => {
                            State::Answering(self.answer(response, in_flight, asked))
                        }
                        state => state,
                    }
                }
                State::Answering(answer) => match answer.poll_send(cx, &mut self.line)? {
                    Poll::Ready(()) => {
                        rooms::keep_spare(answer.out.take_buffer());
                        let was_last = answer.is_last;
                        if !self.line.take_back() {
                            // What still comes has the time of a head, besides that for which it is read on.
                            self.requests.activity.head_begins();
                            State::Lingering { was_last }
                        } else if was_last {
                            State::Closing
                        } else {
                            State::Reading
                        }
                    }
                    Poll::Pending if answer.is_waiting => return self.poll_gone(cx),
                    Poll::Pending => return Poll::Pending,
                },
                State::Lingering { was_last } => {
                    let is_back = ready!(self.line.poll_back(cx));
                    if is_back && !*was_last {
                        self.requests.activity.no_head_begins();
                        State::Reading
                    } else {
                        State::Closing
                    }
                }
                State::Closing => return Pin::new(&mut self.line).poll_shutdown(cx),
                State::Leaving => return Poll::Ready(Ok(())),
            };
        }
    }

    fn finish(&mut self) {
        self.is_finishing = true;
    }

    fn shrink(&mut self) {
        if matches!(self.state, State::Reading) && self.unread.is_empty() {
            // Even so it may hold a room.
            self.unread = Bytes::new();
        }
        self.line.shrink();
    }
}

/// An answer on its way.
struct Answer {
    out: Outgoing,
    body: LoggedBody,
    /// How much is still to come of a body with a length.
    remaining: Option<u64>,
    has_ended: bool,
    /// What has come is sent, and more is not there yet.
    is_waiting: bool,
    in_flight: InFlight,
    is_last: bool,
}

impl Answer {
    /// Ready when all of it is with the system.
    fn poll_send<T>(&mut self, cx: &mut Context<'_>, stream: &mut T) -> Poll<io::Result<()>>
    where
        T: ClientStream + Unpin,
    {
        loop {
            // The head waits for what comes of the body at once.
            self.is_waiting = !self.has_ended && self.out.has_room() && self.poll_piece(cx)?.is_pending();
            ready!(self.out.poll_write(cx, stream))?;
            if self.has_ended || self.is_waiting {
                ready!(Pin::new(&mut *stream).poll_flush(cx))?;
            }
            if self.has_ended {
                self.in_flight.complete();
                return Poll::Ready(Ok(()));
            }
            if self.is_waiting {
                return Poll::Pending;
            }
        }
    }

    /// Gets the next piece of the body.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let place = self.body.place().cloned();
        let piece = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            // Trailers end at this hop.
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            None if self.remaining.is_some() => {
                return Poll::Ready(Err(io::Error::other("an answer is shorter than its head says")));
            }
            None => {
                self.has_ended = true;
                self.out.end_chunks();
                return Poll::Ready(Ok(()));
            }
        };
        match &mut self.remaining {
            _ if piece.is_empty() => {}
            None => {
                self.has_ended = self.body.is_end_stream();
                self.out.add_chunk(piece, self.has_ended);
            }
            Some(remaining) => {
                let Some(rest) = remaining.checked_sub(piece.len() as u64) else {
                    return Poll::Ready(Err(io::Error::other("an answer is longer than its head says")));
                };
                *remaining = rest;
                self.has_ended = rest == 0;
                self.out.add(piece, place);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.out.unsent() > 0 {
            self.body.cut(self.out.unsent());
        }
    }
}
