//! The answer's body on its way to the client.
//!
//! Each piece goes on at once; nothing is gathered here. The connection belongs to the body: it goes
//! back to the pool when the body ended as it should, and is closed in every other case, above all
//! when the client goes away.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};
use tracing::warn;

use super::exchange::{Cut, Exchange};
use super::failure::innermost;
use super::pool::Pool;
use super::servers::InUse;
use crate::config::values::UpstreamAddress;
use crate::http::RequestId;
use crate::http::body::BodyError;

/// A connection in use, and where it goes afterwards.
pub(super) struct Lease {
    pub(super) exchange: Box<Exchange>,
    pub(super) pool: Arc<Pool>,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) in_use: InUse,
}

impl Lease {
    /// Gives the connection back after a whole answer.
    pub(super) fn release(mut self) {
        self.exchange.let_go();
        self.pool.put(self.exchange, self.in_use.server.number);
        drop((self.permit, self.in_use));
    }
}

/// What a failure's line in the log needs.
#[derive(Debug, Clone)]
pub(super) struct Label {
    pub(super) socket: Arc<UpstreamAddress>,
    pub(super) id: RequestId,
}

/// Why an answer broke off. The client sees its connection cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenOff {
    #[error("the application paused for too long within its answer")]
    Paused,
    #[error("the application's answer broke off")]
    Cut(#[from] Cut),
}

/// An answer's body as the client gets it.
pub(super) struct Received {
    /// Its connection, until the answer has ended or broken off.
    lease: Option<Lease>,
    idle_timeout: Duration,
    /// Made at the first wait: most answers are here whole with their head, and need no clock.
    alarm: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    /// Why the answer broke off, to be told when what came before has been sent.
    broken: Option<BodyError>,
    has_broken: bool,
    label: Label,
}

impl Received {
    pub(super) fn new(lease: Lease, idle_timeout: Duration, label: Label) -> Self {
        Self {
            lease: Some(lease),
            idle_timeout,
            alarm: None,
            is_waiting: false,
            broken: None,
            has_broken: false,
            label,
        }
    }

    /// The next piece: from what has been read, or after reading more.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        match &mut self.lease {
            Some(lease) => lease.exchange.poll_body(cx),
            None => Poll::Ready(None),
        }
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self.idle_timeout;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if !self.is_waiting {
            alarm.as_mut().reset(Instant::now() + timeout);
            self.is_waiting = true;
        }
        alarm.as_mut().poll(cx)
    }

    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release();
        }
    }

    fn break_off(&mut self, error: BrokenOff) -> BodyError {
        self.lease = None;
        self.has_broken = true;
        let Label { socket, id } = &self.label;
        let cause = std::error::Error::source(&error).map(innermost);
        warn!(%socket, %id, cause, "{error}");
        error.into()
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match this.poll_piece(cx) {
            Poll::Pending => {
                std::task::ready!(this.poll_alarm(cx));
                Poll::Ready(Some(Err(this.break_off(BrokenOff::Paused))))
            }
            Poll::Ready(Some(Ok(piece))) => {
                this.is_waiting = false;
                // A client's connection asks no more once the announced length is reached.
                if this.lease.as_ref().is_some_and(|lease| lease.exchange.has_ended()) {
                    this.release();
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Poll::Ready(Some(Err(error))) => {
                // An error ends the client's connection, and with it what is not sent yet, which may be the head and
                // all that came of the body; a pause lets that go first.
                this.broken = Some(this.break_off(error.into()));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(None) => {
                this.release();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none() && !self.has_broken
    }

    fn size_hint(&self) -> SizeHint {
        match &self.lease {
            Some(lease) => lease.exchange.remaining().map(SizeHint::with_exact).unwrap_or_default(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("label", &self.label).finish_non_exhaustive()
    }
}
