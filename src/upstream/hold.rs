//! Waits for an application that is not there, as while it is restarted: its socket is missing, or nobody
//! accepts on it. Nothing has been sent then, so any request may wait.
//!
//! The time counts from the first request that found nobody, not from each one: a restart of a few seconds is
//! bridged, and while requests keep finding nobody for longer than that, none of them waits in vain. When nobody
//! has asked for as long, it is not known whether the application was there in between, and the time begins anew.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::connect::{Socket, connect};
use super::failure::Failure;
use crate::config::UpstreamConfig;
use crate::config::values::Endpoint;

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Since when the application has been away, and for how long it is waited for.
#[derive(Debug)]
pub(super) struct Hold {
    limit: Duration,
    connect_timeout: Duration,
    absence: Mutex<Option<Absence>>,
}

/// The application's absence, as far as requests have noticed it.
#[derive(Debug, Clone, Copy)]
struct Absence {
    since: Instant,
    last_noticed: Instant,
}

impl Hold {
    pub(super) fn new(config: &UpstreamConfig) -> Self {
        Self { limit: config.hold.0, connect_timeout: config.connect_timeout.0, absence: Mutex::default() }
    }

    /// Opens a connection, as soon as there is somebody to accept it.
    pub(super) async fn connect(&self, endpoint: &Endpoint) -> Result<Socket, Failure> {
        let mut pause = Duration::from_millis(2);
        loop {
            let error = match connect(endpoint, self.connect_timeout).await {
                Err(Failure::Connect(error)) if is_absence(&error) => error,
                result => {
                    self.is_there();
                    return result;
                }
            };
            let waited = self.is_away();
            if self.limit.is_zero() {
                return Err(Failure::Connect(error));
            }
            let Some(left) = self.limit.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Err(Failure::Away { waited, source: error });
            };
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Notes that the application is there.
    pub(super) fn is_there(&self) {
        *self.absence() = None;
    }

    /// Notes that it is not; the answer is for how long that is known.
    fn is_away(&self) -> Duration {
        let now = Instant::now();
        let mut absence = self.absence();
        let known = absence.filter(|absence| now - absence.last_noticed <= self.limit);
        let since = known.map_or(now, |absence| absence.since);
        *absence = Some(Absence { since, last_noticed: now });
        now - since
    }

    fn absence(&self) -> MutexGuard<'_, Option<Absence>> {
        self.absence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error means that nobody listens, as opposed to one that waiting does not mend.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::config::values::HumanDuration;

    fn hold(limit: Duration) -> Hold {
        Hold::new(&UpstreamConfig { hold: HumanDuration(limit), ..UpstreamConfig::default() })
    }

    #[tokio::test]
    async fn who_comes_while_nobody_listens_waits_until_somebody_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let (hold, endpoint) = (hold(Duration::from_secs(30)), Endpoint::Unix(path.clone()));
        let mut connecting = Box::pin(hold.connect(&endpoint));
        assert!(futures_util::FutureExt::now_or_never(&mut connecting).is_none());
        let _listener = UnixListener::bind(&path).unwrap();
        connecting.await.unwrap();
        assert!(hold.absence().is_none(), "its next absence is a new one");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_counts_from_the_first_who_found_nobody() {
        let (hold, endpoint) = (hold(Duration::from_secs(10)), Endpoint::Unix("/no/such.sock".into()));
        let started = Instant::now();
        assert!(matches!(hold.connect(&endpoint).await, Err(Failure::Away { .. })));
        assert!(started.elapsed() >= Duration::from_secs(10));
        let started = Instant::now();
        assert!(matches!(hold.connect(&endpoint).await, Err(Failure::Away { .. })));
        assert!(started.elapsed() < Duration::from_secs(1), "it was known to be away");
        sleep(Duration::from_secs(11)).await;
        let started = Instant::now();
        assert!(matches!(hold.connect(&endpoint).await, Err(Failure::Away { .. })));
        assert!(started.elapsed() >= Duration::from_secs(10), "nobody knows what was in between");
    }

    #[tokio::test]
    async fn what_waiting_does_not_mend_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs_err::write(&file, "x").unwrap();
        // A file stands where a folder should be.
        let (hold, endpoint) = (hold(Duration::from_secs(3600)), Endpoint::Unix(file.join("app.sock")));
        assert!(matches!(hold.connect(&endpoint).await, Err(Failure::Connect(_))));
    }
}
