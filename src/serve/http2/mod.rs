//! HTTP/2 with a client: a connection, from its preface to its end.
//!
//! It is served on the library that hyper stands on itself, because hyper cannot send what comes before an answer
//! (`103 Early Hints`), and hides whether a client takes what is sent on a stream. The rules of the protocol, the
//! windows and the order of the streams are the library's. `stream` answers one request, `received` is its body, and
//! [`mod@gather`] writes what all of them have to say.

pub mod gather;
mod head;
mod received;
mod stream;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use ::http::{Method, Request};
use bytes::Bytes;
use h2::server::{Builder, Handshake, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tracing::debug;

use self::gather::{Gathered, Gathering, TURN, Turn, gather};
use self::received::Uploads;
use self::stream::{Answering, Sending, Waiting};
use super::accept::{Graceful, Requests, Stack};
use super::site::Bounds;
use super::watch::Activity;
use crate::http::early_hints::EarlyHints;

/// How much of uploads a client may send before it is read: of one stream, and of all of a connection.
const WINDOW: u32 = 1 << 20;

/// How much may wait of one answer when the socket is full.
const WAITING: usize = 128 * 1024;

/// How much the library may hold of small pieces of uploads, as it counts them: 256 bytes for each at least. It is given
/// none to hold for longer than a turn, and one of a single byte is ten on the wire.
const SMALL_FRAMES: usize = 4 * 256 * TURN / 10;

/// Longer than what is said to end a connection without requests: two GOAWAY, a PING, and what answers the client's own.
const FAREWELL: u64 = 256;

/// After how long a silence a client is asked whether it is there. It may be silent for as long again.
const SILENCE: Duration = Duration::from_secs(15);

/// A connection.
pub(super) struct Connection<T, S> {
    state: State<T>,
    gathered: Gathered<T>,
    streams: Streams<S>,
    /// How much had been said when the end was announced.
    finishing_at: Option<u64>,
    /// The client is not there any more.
    is_absent: bool,
    activity: Arc<Activity>,
}

enum State<T> {
    Beginning(Box<Handshake<Gathering<T>, Bytes>>),
    Open { connection: Box<h2::server::Connection<Gathering<T>, Bytes>>, presence: Option<Presence> },
}

impl<T: AsyncRead + AsyncWrite + Unpin, S: Stack> Connection<T, S> {
    /// Begins; the client's preface is still to be read.
    pub(super) fn new(stream: T, stack: S, requests: Requests, bounds: &Bounds, activity: Arc<Activity>) -> Self {
        let (stream, gathered) = gather(stream);
        let mut builder = Builder::new();
        builder
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(bounds.limits.http2_streams)
            .max_header_list_size(u32::try_from(bounds.limits.header_size.0).unwrap_or(u32::MAX))
            .max_send_buffer_size(WAITING)
            .data_frame_budget(SMALL_FRAMES);
        Self {
            state: State::Beginning(Box::new(builder.handshake(stream))),
            gathered,
            streams: Streams {
                stack,
                requests,
                allowed: bounds.timeouts.send.0,
                unused: None,
                uploads: Uploads::default(),
            },
            finishing_at: None,
            is_absent: false,
            activity,
        }
    }

    /// Reads on when all is said, until the client has ended too, if there were answers, or, where the end was announced to
    /// it, answers behind that. It still says how much it takes of them, and a socket that is closed answers that with a
    /// reset, which cuts off what the client has not taken yet.
    pub(super) async fn linger(self, time: Duration) {
        let had_answers = self.gathered.said() > self.finishing_at.unwrap_or_default() + FAREWELL;
        drop(self.state);
        if had_answers && !self.is_absent {
            let _ = timeout(time, self.gathered.drain(4 * WINDOW as usize)).await;
        }
    }

    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let State::Beginning(handshake) = &mut self.state {
            let mut connection = Box::new(ready!(Pin::new(handshake).poll(cx))?);
            if self.finishing_at.is_some() {
                connection.graceful_shutdown();
            }
            let presence = connection.ping_pong().map(Presence::new);
            self.state = State::Open { connection, presence };
        }
        let State::Open { connection, presence } = &mut self.state else { return Poll::Pending };
        if presence.as_mut().is_some_and(|presence| presence.poll_absence(cx, &self.activity).is_ready()) {
            debug!("a client did not answer a ping; its connection is closed");
            *presence = None;
            self.is_absent = true;
            connection.abrupt_shutdown(Reason::NO_ERROR);
        }
        while let Some(accepted) = ready!(connection.poll_accept(cx)) {
            let (request, respond) = accepted?;
            self.streams.take_on(request, respond);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin, S: Stack> Graceful for Connection<T, S> {
    type Error = h2::Error;

    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let outcome = loop {
            let outcome = self.poll_streams(cx);
            let turn = self.gathered.end_turn();
            if turn != Turn::Nothing {
                self.streams.uploads.take_in();
            }
            if outcome.is_ready() || turn != Turn::Part {
                break outcome;
            }
        };
        self.gathered.write_out(cx);
        outcome
    }

    fn finish(&mut self) {
        self.finishing_at = Some(self.gathered.said());
        if let State::Open { connection, .. } = &mut self.state {
            connection.graceful_shutdown();
        }
    }

    fn shrink(&mut self) {
        self.gathered.shrink();
    }
}

/// What all streams of a connection have in common.
struct Streams<S> {
    stack: S,
    requests: Requests,
    /// How long a client may take nothing.
    allowed: Duration,
    /// For the next request. Most are answered at once and never touch it.
    unused: Option<EarlyHints>,
    uploads: Uploads,
}

impl<S: Stack> Streams<S> {
    fn take_on(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (head, body) = request.into_parts();
        // What follows CONNECT would be no body, and there is nobody for it.
        let has_body = head.method != Method::CONNECT && !body.is_end_stream();
        let body = has_body.then(|| self.uploads.begin(body, &head.headers));
        let hints = self.unused.get_or_insert_default();
        let (request, in_flight) = self.requests.take(head, body, Some(hints.clone()));
        // Most answers are there at once, and then there is no task to make. Whatever is not asks again in
        // a task of its own, so that nobody needs to be woken on account of this first time.
        let mut cx = Context::from_waker(Waker::noop());
        let asked = stream::caught(|| {
            let mut answer = self.stack.call(request);
            let outcome = Pin::new(&mut answer).poll(&mut cx);
            (answer, outcome)
        });
        let outcome = match asked {
            Some((answer, Poll::Pending)) => {
                let hints = self.unused.take().unwrap_or_default();
                let waiting = Waiting { respond, answer, hints, in_flight, allowed: self.allowed };
                tokio::spawn(Answering::Waiting(waiting));
                return;
            }
            Some((_, Poll::Ready(outcome))) => Some(outcome),
            None => None,
        };
        if !hints.is_unused() {
            stream::send_hints(&mut respond, hints.close());
            self.unused = None;
        }
        if let Some(mut sending) = Sending::begin(respond, outcome, in_flight, self.allowed)
            && Pin::new(&mut sending).poll(&mut cx).is_pending()
        {
            tokio::spawn(sending);
        }
    }
}

/// Finds out whether a client that says nothing is there: one that lost its network never says so, and an answer under
/// way for it holds the application.
struct Presence {
    pings: PingPong,
    timer: Pin<Box<Sleep>>,
    is_asked: bool,
}

impl Presence {
    fn new(pings: PingPong) -> Self {
        Self { pings, timer: Box::pin(sleep(SILENCE)), is_asked: false }
    }

    /// Ready when the client is not there any more.
    fn poll_absence(&mut self, cx: &mut Context<'_>, activity: &Activity) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            self.timer.as_mut().reset(Instant::now() + SILENCE);
            // Whatever it says shows that it is there, its answer among other things.
            match (activity.take_heard(), self.is_asked) {
                (true, _) => self.is_asked = false,
                (false, true) => return Poll::Ready(()),
                (false, false) => {
                    // The answer to the last one is taken first: there is never more than one under way.
                    let _ = self.pings.poll_pong(&mut Context::from_waker(Waker::noop()));
                    // It fails when the connection is about to end anyway.
                    self.is_asked = self.pings.send_ping(Ping::opaque()).is_ok();
                }
            }
        }
    }
}
