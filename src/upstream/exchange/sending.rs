//! [`Exchange::send`], from the first byte of a request to the head of its answer: when the body may follow, how long
//! each side may take, and what becomes of the rest when nobody waits any more.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use rustix::io::Errno;
use rustix::net::sockopt;
use scopeguard::ScopeGuard;
use tokio::io::AsyncWrite as _;
use tokio::runtime::Handle;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::warn;

use super::super::answer_head::{self, Head};
use super::super::connect::Socket;
use super::super::failure::{Answered, Failure};
use super::super::framing::Framing;
use super::super::sent::{Outgoing, Phase, READ_AT_ONCE, is_reset};
use super::super::{consumed, uwsgi};
use super::{Exchange, descriptor};
use crate::http::RequestId;
use crate::http::early_hints::EarlyHints;

/// How much of an upload may lie in a unix socket until the application takes it: the more, the less often it has to be
/// woken. Linux counts its own records of it too and allows twice as much for both: 512 KiB, or twice `net.core.wmem_max` if
/// that is less (416 KiB where nobody has raised it). By itself it allows 208 KiB.
pub(super) const UNTAKEN: usize = 256 * 1024;

/// How long the application may take for what.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) struct Deadlines {
    pub(in crate::upstream) response: Duration,
    pub(in crate::upstream) idle: Duration,
}

/// What of a request decides how it is sent, and its answer read.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) struct Asked<'r> {
    /// The method is HEAD.
    pub(in crate::upstream) is_head: bool,
    /// Takes early hints to the client.
    pub(in crate::upstream) early_hints: Option<&'r EarlyHints>,
    /// For the log.
    pub(in crate::upstream) id: RequestId,
}

/// A request without an answer.
#[derive(Debug)]
pub(in crate::upstream) struct Unanswered<K> {
    pub(in crate::upstream) failure: Failure,
    /// What it needs to be sent again, if the connection was closed.
    pub(in crate::upstream) again: Option<Again<K>>,
}

/// What a request has when its connection was closed.
#[derive(Debug)]
pub(in crate::upstream) struct Again<K> {
    /// What it was given to keep.
    pub(in crate::upstream) keep: K,
    /// Its body, if nothing of that was sent.
    pub(in crate::upstream) body: Option<Outgoing>,
}

impl Exchange {
    /// Sends a request, whose head is `head`, and waits for the head of the answer. Of what comes before that (1xx),
    /// early hints go on and all else is passed over. `keep` is what the connection needs for as long as it is open.
    ///
    /// Over a unix socket the body is held back until the application has read the head, unless both together are so short
    /// that they are read at once. Until then nothing can have come of the request, and it may be sent again.
    ///
    /// When this is given up, or fails, the application still gets the whole of a body that was gathered, if it may already
    /// read the request: it takes what there is of a body for all of it.
    pub(in crate::upstream) async fn send<K: Send + 'static>(
        self: Box<Self>,
        keep: K,
        head: Bytes,
        body: Outgoing,
        asked: Asked<'_>,
        deadlines: Deadlines,
    ) -> Result<(Box<Self>, K, Head), Unanswered<K>> {
        let sending = Sending::begin(self, keep, head, body, asked, deadlines);
        // No `Drop`: what follows takes it apart.
        let mut sending = scopeguard::guard(sending, Sending::leave);
        let mut alarm = pin!(Alarm::default());
        let result = poll_fn(|cx| sending.poll_head(cx, alarm.as_mut())).await;
        let sending = ScopeGuard::into_inner(sending);
        match result {
            Ok(head) => {
                let (exchange, keep) = sending.answered();
                Ok((exchange, keep, head))
            }
            Err(failure) => Err(sending.failed(failure)),
        }
    }

    /// Nobody waits for the answer any more: sends what is left of a body that is all here, in a task of its own.
    ///
    /// The application may still read a request whose head was written: as when the client leaves while all workers are
    /// busy. The body must not end too early then, since gunicorn and Django take what there is for all of it. The rest of
    /// one that streams only its client has, so it is cut.
    fn finish_alone<K: Send + 'static>(mut self: Box<Self>, keep: K, id: RequestId, deadlines: Deadlines) {
        // There is no runtime when it is dropped after its own has ended, as that of a test.
        if self.sent.can_be_finished_alone() && Handle::try_current().is_ok() {
            let background = self.background.clone();
            background.spawn(async move {
                if let Some(failure) = self.finish(deadlines).await {
                    warn!(%id, "an upload whose client has left was cut: {failure}");
                }
                drop(keep);
            });
        }
    }

    /// Sends the rest. The application may not have begun to read, so it has the time of an answer, or `idle_timeout` if that
    /// is longer, from now on and anew with each write; what it answers is for nobody. Returns what was too late.
    async fn finish(&mut self, deadlines: Deadlines) -> Option<Failure> {
        let mut alarm = pin!(Alarm::default());
        let deadlines = Deadlines { idle: deadlines.idle.max(deadlines.response), ..deadlines };
        // What lies in a unix socket can be read when that is closed. TCP throws it away if the application says anything.
        let keeps_all = matches!(self.socket, Socket::Left(_));
        poll_fn(|cx| {
            self.poll_write(cx);
            self.buffer.clear();
            while let Poll::Ready(read) = self.poll_read(cx) {
                self.buffer.clear();
                if !matches!(read, Ok(1..)) {
                    return Poll::Ready(None);
                }
            }
            if self.sent.is_deaf() || self.sent.is_done() && keeps_all {
                return Poll::Ready(None);
            }
            if self.sent.is_done() {
                // Its end then says that it has read ours. If this fails it has ended already, and the next read says so.
                let _ = Pin::new(&mut self.socket).poll_shutdown(cx);
            }
            alarm.as_mut().poll(cx, self.sent.phase(), deadlines).map(Some)
        })
        .await
    }

    /// Lets the body come after the head.
    pub(super) fn follow(&mut self, body: Outgoing) {
        // What is shorter finds enough room as it is.
        if body.is_announced_longer(UNTAKEN as u64 / 2) {
            self.widen();
        }
        self.sent.follow(body);
    }

    /// Lets more lie in a unix socket, for good. TCP finds out by itself how much it shall be.
    fn widen(&mut self) {
        if let Socket::Left(socket) = &self.socket
            && !std::mem::replace(&mut self.is_wide, true)
        {
            // It goes on with what it has, if that is more, or the system does not grant it.
            let has_less = sockopt::socket_send_buffer_size(socket).is_ok_and(|size| size < 2 * UNTAKEN);
            let _ = has_less.then(|| sockopt::set_socket_send_buffer_size(socket, UNTAKEN));
        }
    }

    /// Ready when the application has read the head. All that had come from it was read before this is asked.
    fn poll_head_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A connection that has ended is never read again, and tells no more when it could be written to.
        if self.has_more_to_read() {
            return Poll::Pending;
        }
        let Socket::Left(socket) = &self.socket else { return Poll::Ready(()) };
        ready!(consumed::poll_consumed(socket, cx));
        // What is thrown away as the application goes was not read: but then the connection had ended before that.
        if self.has_more_to_read() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Whether something has come, if only the end. Then the next read tells what.
    fn has_more_to_read(&mut self) -> bool {
        let peeked = self.peek();
        // This is told once only; what is left is the end.
        self.was_reset |= peeked == Err(Errno::CONNRESET);
        peeked != Err(Errno::AGAIN)
    }

    fn write_at_once(&mut self) {
        self.sent.write_at_once(descriptor(&self.socket));
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, asked: Asked<'_>, reused: bool) -> Poll<Result<Head, Failure>> {
        loop {
            while let Some(head) = answer_head::take(&mut self.buffer, self.head_limit)? {
                let framing = Framing::of(asked.is_head, &head);
                self.framing = framing.map_err(|error| Failure::Malformed(error.to_string()))?;
                let status = head.parts.status;
                if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                    if let (StatusCode::EARLY_HINTS, Some(hints)) = (status, asked.early_hints) {
                        hints.send(head.parts.headers);
                    }
                    continue;
                }
                self.keeps_alive &= answer_head::keeps_alive(&head);
                return Poll::Ready(Ok(head));
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err(self.closed(None, reused))),
                Ok(_) => self.has_answered = true,
                Err(error) => {
                    self.was_reset |= is_reset(&error);
                    return Poll::Ready(Err(self.closed(Some(error), reused)));
                }
            }
        }
    }

    fn closed(&mut self, source: Option<io::Error>, reused: bool) -> Failure {
        self.is_closed = true;
        // Over TCP that says nothing of what was read.
        let was_reset = self.was_reset && matches!(self.socket, Socket::Left(_));
        let answered = match () {
            () if !self.buffer.is_empty() => Answered::InPart,
            () if self.has_answered => Answered::Interim,
            () if self.sent.is_unread(was_reset, !self.speaks_uwsgi) => Answered::Unread,
            () => Answered::Nothing,
        };
        Failure::Closed { answered, reused, hint: self.hint, source }
    }
}

/// An exchange whose answer is awaited.
struct Sending<'r, K> {
    exchange: Box<Exchange>,
    keep: K,
    /// While it waits for the head to be read.
    body: Option<Outgoing>,
    asked: Asked<'r>,
    deadlines: Deadlines,
    /// The connection has served a request before.
    reused: bool,
}

impl<'r, K: Send + 'static> Sending<'r, K> {
    fn begin(
        mut exchange: Box<Exchange>,
        keep: K,
        head: Bytes,
        body: Outgoing,
        asked: Asked<'r>,
        deadlines: Deadlines,
    ) -> Self {
        let reused = std::mem::replace(&mut exchange.was_used, true);
        exchange.hint = if exchange.speaks_uwsgi { uwsgi::hint(&head) } else { None };
        exchange.has_answered = false;
        let room = if exchange.speaks_uwsgi { 0 } else { READ_AT_ONCE.saturating_sub(head.len()) };
        let waits = !body.is_here() || body.is_announced_longer(room as u64);
        exchange.sent.begin(head);
        let mut sending = Self { exchange, keep, body: Some(body), asked, deadlines, reused };
        if !(waits && matches!(sending.exchange.socket, Socket::Left(_))) {
            sending.follow();
        }
        if !reused {
            sending.exchange.write_at_once();
        }
        sending
    }

    fn follow(&mut self) {
        if let Some(body) = self.body.take() {
            self.exchange.follow(body);
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, alarm: Pin<&mut Alarm>) -> Poll<Result<Head, Failure>> {
        let exchange = &mut *self.exchange;
        exchange.poll_write(cx);
        if self.reused && exchange.sent.is_refused() {
            // It was closed while it was idle. What it sent before that is for nobody.
            return Poll::Ready(Err(exchange.closed(None, self.reused)));
        }
        if let Poll::Ready(result) = exchange.poll_head(cx, self.asked, self.reused) {
            return Poll::Ready(result);
        }
        if exchange.sent.awaits_body() && exchange.poll_head_read(cx).is_ready() {
            self.follow();
            self.exchange.poll_write(cx);
        }
        if let Some(body) = &mut self.body
            && let Err(fault) = body.poll_ahead(cx)
        {
            return Poll::Ready(Err(Failure::Client(fault)));
        }
        match self.exchange.sent.phase() {
            Phase::Broken(fault) => Poll::Ready(Err(Failure::Client(fault))),
            phase => alarm.poll(cx, phase, self.deadlines).map(Err),
        }
    }

    /// The connection, from which the answer's body is to be read.
    fn answered(mut self) -> (Box<Exchange>, K) {
        self.give_body();
        (self.exchange, self.keep)
    }

    fn failed(mut self, failure: Failure) -> Unanswered<K> {
        if self.exchange.is_closed {
            let again = Again { keep: self.keep, body: self.body.take() };
            return Unanswered { failure, again: Some(again) };
        }
        // Who stopped reading has had time enough, and of a body that is broken nobody has the rest.
        if !matches!(failure, Failure::NotReading { .. } | Failure::Client(_)) {
            self.leave();
        }
        Unanswered { failure, again: None }
    }

    /// Gives the application the body that is held back, as far as the system takes it.
    fn give_body(&mut self) {
        if self.body.is_some() {
            self.follow();
            // From shared memory it would be sent only while somebody holds that until it was read.
            self.exchange.sent.copy_all();
            self.exchange.write_at_once();
        }
    }

    /// Nobody waits for the answer any more.
    fn leave(mut self) {
        // Of less than a whole head nothing can come.
        if !self.exchange.is_closed && self.exchange.sent.has_given_head() {
            self.give_body();
            self.exchange.finish_alone(self.keep, self.asked.id, self.deadlines);
        }
    }
}

pin_project_lite::pin_project! {
    /// Rings when whose turn it is, in a phase, has taken too long.
    #[derive(Default)]
    struct Alarm {
        #[pin]
        sleep: Option<Sleep>,
        set_for: Option<(Phase, Instant)>,
    }
}

impl Alarm {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, phase: Phase, deadlines: Deadlines) -> Poll<Failure> {
        let limit = match phase {
            Phase::Reading(_) => deadlines.idle,
            Phase::ReadingHead | Phase::Answering => deadlines.response,
            // The client has its own deadline, in the body itself.
            Phase::Client | Phase::Broken(_) => return Poll::Pending,
        };
        let mut this = self.project();
        let since = match *this.set_for {
            Some((set_for, since)) if set_for == phase => since,
            _ => {
                let now = Instant::now();
                this.sleep.set(Some(sleep_until(now + limit)));
                *this.set_for = Some((phase, now));
                now
            }
        };
        // A timer that is asked when the task has done too much at once does not ring, and who floods us sees to that.
        let is_over = !has_budget_remaining() && since + limit <= Instant::now();
        if let Some(sleep) = this.sleep.as_pin_mut().filter(|_| !is_over) {
            ready!(sleep.poll(cx));
        }
        let waited = since.elapsed();
        Poll::Ready(match phase {
            Phase::Reading(_) => Failure::NotReading { waited },
            _ => Failure::TooSlow { waited },
        })
    }
}
