//! One request and its answer on one connection.
//!
//! hyper's `http1::Connection` is polled by whoever waits for something on it: here for the head of
//! the answer, in `received` for its body. So no task of its own stands between the client and the application,
//! and a client that goes away takes its connection to the application with it, because nobody else holds
//! it: where an answer does not come whole at once, `pump` has a task that reads it, and ends with the client.
//!
//! Why not hyper-util's pooled client: gunicorn's sync worker closes every connection, and that
//! client spawns a task for each; it does not tell in which phase a request failed, which the
//! deadlines, the blame and the decision to try again all need; and it cannot speak uwsgi.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};

use super::connect::{Socket, Traffic, Wire};
use super::failure::{Answered, Failure};
use super::sent::{Phase, Progress, Sent};
use super::uwsgi::{self, Packeted};
use crate::config::UpstreamConfig;

/// What hyper reads from and writes to.
pub(super) type Io = TokioIo<Wire<Packeted<Socket>>>;

/// How long the application may take for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) response: Duration,
    pub(super) idle: Duration,
}

/// A connection to the application that carries one request at a time.
pub(super) struct Exchange {
    sender: SendRequest<Sent>,
    connection: Connection<Io, Sent>,
    traffic: Arc<Traffic>,
    /// hyper's connection has ended and must not be polled again.
    has_ended: bool,
    /// It has served a request before, so it may have been closed in the meantime.
    was_used: bool,
    /// Why the application may hang up without a word.
    hint: Option<&'static str>,
}

impl Exchange {
    /// Prepares a fresh connection. With a packet, what hyper writes as the head of the request is
    /// replaced by it.
    pub(super) async fn new(socket: Socket, packet: Option<Bytes>, config: &UpstreamConfig) -> Result<Self, Failure> {
        let head = config.response_header_size.as_usize();
        let hint = packet.as_ref().and_then(uwsgi::hint);
        let is_local = packet.is_none() && matches!(socket, Socket::Left(_));
        let traffic = Arc::new(Traffic::new(is_local));
        let wire = Wire::new(Packeted::new(socket, packet), Arc::clone(&traffic));
        let (sender, connection) = Builder::new()
            .max_header_size(head)
            // It bounds the pieces in which an answer is read, too.
            .max_buf_size(head.max(64 * 1024))
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| Failure::Malformed(error.to_string()))?;
        Ok(Self { sender, connection, traffic, has_ended: false, was_used: false, hint })
    }

    /// Sends the request and waits for the head of the answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Sent>,
        progress: &Progress,
        deadlines: Deadlines,
    ) -> Result<Response<Incoming>, Failure> {
        let reused = std::mem::replace(&mut self.was_used, true);
        self.traffic.forget();
        let mut answer = pin!(self.sender.try_send_request(request));
        let mut alarm = pin!(Alarm::default());
        let result = poll_fn(|cx| {
            // The connection first: it takes the request, and it brings the answer.
            let ended = self.poll_connection(cx).is_ready();
            match answer.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(answer.map_err(|error| self.diagnose(error, progress, reused))),
                Poll::Pending if ended => Poll::Ready(Err(self.closed(None, reused))),
                Poll::Pending => alarm.as_mut().poll(cx, progress.phase(), deadlines).map(Err),
            }
        });
        result.await
    }

    /// Drives the connection: writes what is to be written and reads what is asked for. Ready when
    /// it has ended; who waits for something on it hears why.
    pub(super) fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_ended {
            // An error goes to whoever waits for the answer or its body; none is left for us.
            let _ = ready!(self.connection.poll_without_shutdown(cx));
            self.has_ended = true;
        }
        Poll::Ready(())
    }

    /// Whether the connection is open, silent, and ready for a request.
    pub(super) fn is_reusable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.poll_connection(&mut cx).is_pending() && matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Ok(())))
    }

    /// The bare connection after 101, and what the application sent already of the new protocol.
    pub(super) async fn into_upgraded(mut self) -> (Socket, Bytes) {
        poll_fn(|cx| self.poll_connection(cx)).await;
        let parts = self.connection.into_parts();
        (parts.io.into_inner().into_socket().into_inner(), parts.read_buf)
    }

    fn diagnose(&self, error: TrySendError<Request<Sent>>, progress: &Progress, reused: bool) -> Failure {
        let error = error.into_error();
        if let Phase::Broken(fault) = progress.phase() {
            Failure::Client(fault)
        } else if error.is_parse_too_large() {
            Failure::HeadTooLarge
        } else if error.is_parse() {
            Failure::Malformed(error.to_string())
        } else {
            self.closed(Some(error), reused)
        }
    }

    fn closed(&self, source: Option<hyper::Error>, reused: bool) -> Failure {
        if self.traffic.has_answer() {
            return Failure::Closed { answered: Answered::InPart, reused, hint: None, source };
        }
        let answered = if self.traffic.is_unread() { Answered::Unread } else { Answered::Nothing };
        Failure::Closed { answered, reused, hint: self.hint, source }
    }
}

pin_project_lite::pin_project! {
    /// Rings when whose turn it is, in a phase, has taken too long.
    #[derive(Default)]
    struct Alarm {
        #[pin]
        sleep: Option<Sleep>,
        set_for: Option<Phase>,
    }
}

impl Alarm {
    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>, phase: Phase, deadlines: Deadlines) -> Poll<Failure> {
        let (since, limit) = match phase {
            Phase::Reading(since) => (since, deadlines.idle),
            Phase::Answering(since) => (since, deadlines.response),
            // The client has its own deadline, in the body itself.
            Phase::Client | Phase::Broken(_) => return Poll::Pending,
        };
        let mut this = self.project();
        if *this.set_for != Some(phase) {
            this.sleep.set(Some(sleep_until(since + limit)));
            *this.set_for = Some(phase);
        }
        if let Some(sleep) = this.sleep.as_pin_mut() {
            ready!(sleep.poll(cx));
        }
        let waited = Instant::now() - since;
        Poll::Ready(match phase {
            Phase::Reading(_) => Failure::NotReading { waited },
            _ => Failure::TooSlow { waited },
        })
    }
}
