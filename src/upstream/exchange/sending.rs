//! A request on its way: until the head of its answer has come or, if nobody waits for that any more, until the
//! application has the whole of it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use scopeguard::ScopeGuard;
use tokio::runtime::Handle;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

use super::super::answer_head::Head;
use super::super::connect::Socket;
use super::super::failure::Failure;
use super::super::sent::{Outgoing, Phase, READ_AT_ONCE};
use super::super::{consumed, uwsgi};
use super::Exchange;
use crate::http::early_hints::EarlyHints;

/// How long the application may take for what.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) struct Deadlines {
    pub(in crate::upstream) response: Duration,
    pub(in crate::upstream) idle: Duration,
}

/// What of a request decides how its answer is read.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) struct Asked<'r> {
    /// The method is HEAD.
    pub(in crate::upstream) is_head: bool,
    /// Takes early hints to the client.
    pub(in crate::upstream) early_hints: Option<&'r EarlyHints>,
    /// It is not sent a second time, once it may have been read.
    pub(in crate::upstream) is_unique: bool,
}

/// A request without an answer.
#[derive(Debug)]
pub(in crate::upstream) struct Unanswered {
    pub(in crate::upstream) failure: Failure,
    /// Its body, if nothing of that was sent.
    pub(in crate::upstream) body: Option<Outgoing>,
}

impl Exchange {
    /// Sends a request, whose head is `head`, and waits for the head of the answer. Of what comes before that (1xx),
    /// early hints go on and all else is passed over.
    ///
    /// Over a unix socket the body follows when the head was read, if it is in memory and the request is unique, or if it
    /// is not in memory: until then it is certain that nothing has come of the request, and so that it may be sent again.
    /// What is so short that head and body are read at once goes at once.
    ///
    /// When this is given up, the application still gets the whole of a body that was gathered: it may take what there is
    /// for all of it.
    pub(in crate::upstream) async fn send(
        self: Box<Self>,
        head: Bytes,
        body: Outgoing,
        asked: Asked<'_>,
        deadlines: Deadlines,
    ) -> Result<(Box<Self>, Head), Unanswered> {
        let sending = Sending::begin(self, head, body, asked, deadlines);
        let mut sending = scopeguard::guard(sending, Sending::leave);
        let mut alarm = pin!(Alarm::default());
        let result = poll_fn(|cx| sending.poll_head(cx, alarm.as_mut())).await;
        let sending = ScopeGuard::into_inner(sending);
        match result {
            Ok(head) => Ok((sending.answered(), head)),
            Err(failure) => Err(sending.failed(failure)),
        }
    }

    /// Lets the body come after the head.
    pub(super) fn follow(&mut self, body: Outgoing) {
        // What is shorter finds enough room as it is.
        if body.is_announced_longer(super::UNTAKEN as u64 / 2) {
            self.widen();
        }
        self.sent.follow(body);
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
}

/// A request on its way.
struct Sending<'r> {
    exchange: Box<Exchange>,
    /// While it waits for the head to be read.
    body: Option<Outgoing>,
    asked: Asked<'r>,
    deadlines: Deadlines,
    /// The connection has served a request before.
    reused: bool,
}

impl<'r> Sending<'r> {
    fn begin(mut exchange: Box<Exchange>, head: Bytes, body: Outgoing, asked: Asked<'r>, deadlines: Deadlines) -> Self {
        let reused = std::mem::replace(&mut exchange.was_used, true);
        exchange.hint = if exchange.speaks_uwsgi { uwsgi::hint(&head) } else { None };
        exchange.has_answered = false;
        let room = if exchange.speaks_uwsgi { 0 } else { READ_AT_ONCE.saturating_sub(head.len()) };
        let waits = !body.is_here() || asked.is_unique && body.is_announced_longer(room as u64);
        exchange.sent.begin(head);
        let mut sending = Self { exchange, body: Some(body), asked, deadlines, reused };
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
        match self.exchange.sent.phase() {
            Phase::Broken(fault) => Poll::Ready(Err(Failure::Client(fault))),
            phase => alarm.poll(cx, phase, self.deadlines).map(Err),
        }
    }

    /// The connection, from which the answer's body is to be read.
    fn answered(mut self) -> Box<Exchange> {
        self.give_body();
        self.exchange
    }

    fn failed(mut self, failure: Failure) -> Unanswered {
        let body = if self.exchange.is_closed { self.body.take() } else { None };
        // Who stopped reading has had time enough.
        if !matches!(failure, Failure::NotReading { .. }) {
            self.leave();
        }
        Unanswered { failure, body }
    }

    /// Gives the application the body that waits, as far as the system takes it: whose head is there may be read.
    fn give_body(&mut self) {
        if self.exchange.sent.awaits_body() {
            self.follow();
            // It is not known who is going to send the rest.
            self.exchange.sent.copy_all();
            self.exchange.write_at_once();
        }
    }

    /// Whose head is there may still be read, although nobody waits for the answer: as when the client leaves while all
    /// workers are busy. Its body must not be missing then, or end too early, since gunicorn and Django take what there is
    /// for all of it. Only the client has the rest of one that streams.
    fn leave(mut self) {
        if self.exchange.is_closed {
            return;
        }
        self.give_body();
        if self.exchange.sent.is_cut_short() && Handle::try_current().is_ok() {
            let tasks = self.exchange.tasks.clone();
            tasks.spawn(self.finish());
        }
    }

    /// Sends the rest, within the same deadlines.
    fn finish(self) -> impl Future<Output = ()> + Send + 'static {
        let Self { exchange, body, asked: Asked { is_head, is_unique, .. }, deadlines, reused } = self;
        let asked = Asked { is_head, early_hints: None, is_unique };
        let mut sending = Sending::<'static> { exchange, body, asked, deadlines, reused };
        async move {
            let mut alarm = pin!(Alarm::default());
            poll_fn(|cx| {
                let is_over = sending.poll_head(cx, alarm.as_mut()).is_ready();
                if is_over || sending.exchange.sent.is_done() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
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
