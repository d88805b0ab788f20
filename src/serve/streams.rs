//! Watches the streams of an HTTP/2 connection, each by itself.
//!
//! A client may go on with other streams, or with nothing but pings, and never take what it asked for on
//! this one. The socket is not blocked then, and hyper no longer asks the body for more, so nothing
//! below would notice; the application's connection would be held for ever.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

tokio::task_local! {
    /// The stream that the running task answers.
    static CURRENT: Arc<Taking>;
}

/// Whether the client takes what is sent on one stream.
#[derive(Debug, Default)]
pub struct Taking {
    /// Since when a piece of the body lies ready and no further one was asked for.
    waiting_since: Mutex<Option<Instant>>,
}

impl Taking {
    /// The stream that the running task answers; `None` on HTTP/1.1, where the socket tells.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Notes that a piece was handed over, and that more are to come.
    pub fn handed_over(&self) {
        self.set(Some(Instant::now()));
    }

    /// Notes that more is wanted.
    pub fn wanted(&self) {
        self.set(None);
    }

    fn set(&self, since: Option<Instant>) {
        *self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the streams of a connection, and resets those whose client takes nothing.
#[derive(Debug, Clone)]
pub struct Streams {
    /// How long a client may take nothing.
    pub allowed: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut stream = Box::pin(Stream { inner: stream, taking: Arc::default(), allowed: self.allowed, timer: None });
        // Most answers are there at once, and then there is no task to make. Whatever is not asks again in
        // a task of its own, so that nobody needs to be woken on account of this first time.
        if stream.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(stream);
        }
    }
}

pin_project_lite::pin_project! {
    /// One stream, until it ends or its client has taken nothing for too long.
    struct Stream<F> {
        #[pin]
        inner: F,
        taking: Arc<Taking>,
        allowed: Duration,
        // Most bodies are handed over in one piece, and never need one.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if CURRENT.sync_scope(this.taking.clone(), || this.inner.poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        // The body is asked for more in the poll above and nowhere else, so nothing changes behind its back.
        loop {
            let Some(deadline) = this.taking.since().map(|since| since + *this.allowed) else { return Poll::Pending };
            if deadline <= Instant::now() {
                debug!("a client takes nothing of its answer; the stream was reset");
                return Poll::Ready(());
            }
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            match timer.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                // It was set for a piece before this one.
                Poll::Ready(()) => timer.as_mut().reset(deadline),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Duration = Duration::from_secs(60);

    /// A stream that hands over a piece, waits, asks for more, and so on.
    fn stream(pauses: Vec<Duration>) -> Stream<impl Future> {
        let inner = async move {
            let taking = Taking::current().unwrap();
            for pause in pauses {
                taking.handed_over();
                tokio::time::sleep(pause).await;
                taking.wanted();
            }
            // The application is slow now, not the client.
            tokio::time::sleep(ALLOWED * 10).await;
        };
        Stream { inner, taking: Arc::default(), allowed: ALLOWED, timer: None }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_slowly_has_not_stalled() {
        let begun = Instant::now();
        let pause = ALLOWED - Duration::from_secs(1);
        stream(vec![pause; 10]).await;
        assert_eq!(begun.elapsed().as_secs(), (pause * 10 + ALLOWED * 10).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_has_stalled() {
        let begun = Instant::now();
        stream(vec![Duration::from_secs(50), ALLOWED * 2]).await;
        let elapsed = begun.elapsed();
        let allowed = Duration::from_secs(50) + ALLOWED;
        assert!(elapsed >= allowed && elapsed <= allowed + ALLOWED, "{elapsed:?}");
    }
}
