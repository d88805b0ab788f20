//! Watches the streams of an HTTP/2 connection, each by itself.
//!
//! A client may go on with other streams, or with nothing but pings, and never take what it asked for on
//! this one. The socket is not blocked then, and hyper no longer asks the body for more, so nothing
//! below would notice; the application's connection would be held for ever.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
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
    first: Notify,
}

impl Taking {
    /// The stream that the running task answers; `None` on HTTP/1.1, where the socket tells.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Notes that a piece was handed over, and that more are to come.
    pub fn handed_over(&self) {
        self.set(Some(Instant::now()));
        self.first.notify_one();
    }

    /// Notes that more is wanted.
    pub fn wanted(&self) {
        self.set(None);
    }

    fn set(&self, since: Option<Instant>) {
        *self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Returns when nothing was taken for so long.
    async fn stalled(&self, allowed: Duration) {
        // Most bodies are handed over in one piece, and never need a timer.
        self.first.notified().await;
        loop {
            let since = *self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            match since.map(|since| since + allowed) {
                Some(deadline) if deadline <= now => return,
                deadline => sleep_until(deadline.unwrap_or(now + allowed)).await,
            }
        }
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
        let (taking, allowed) = (Arc::<Taking>::default(), self.allowed);
        tokio::spawn(CURRENT.scope(taking.clone(), async move {
            tokio::select! {
                _ = stream => {}
                () = taking.stalled(allowed) => debug!("a client takes nothing of its answer; the stream was reset"),
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_has_stalled_and_who_takes_slowly_has_not() {
        let taking = Arc::<Taking>::default();
        let watched = taking.clone();
        let stalled = tokio::spawn(async move { watched.stalled(ALLOWED).await });
        for _ in 0..10 {
            taking.handed_over();
            tokio::time::sleep(ALLOWED - Duration::from_secs(1)).await;
            taking.wanted();
            assert!(!stalled.is_finished());
        }
        // The application is slow now, not the client.
        tokio::time::sleep(ALLOWED * 10).await;
        assert!(!stalled.is_finished());
        taking.handed_over();
        let begun = Instant::now();
        stalled.await.unwrap();
        assert!(begun.elapsed() >= ALLOWED && begun.elapsed() <= ALLOWED * 2);
    }
}
