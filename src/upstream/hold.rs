//! Waits for an application that is not there, as while it is restarted: its socket is missing, or nobody
//! accepts on it. Nothing has been sent then, so any request may wait.
//!
//! The time counts from the first request that found nobody, not from each one: a restart of a few seconds is
//! bridged, and while requests keep finding nobody for longer than that, none of them waits in vain. When nobody
//! has asked for as long, it is not known whether the application was there in between, and the time begins anew.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::balance::Set;
use super::connect::Socket;
use super::failure::Failure;
use super::servers::{InUse, Servers};
use crate::config::UpstreamConfig;

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Since when the application has been away, and for how long it is waited for.
#[derive(Debug)]
pub(super) struct Hold {
    limit: Duration,
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
        Self { limit: config.hold.0, absence: Mutex::default() }
    }

    /// Opens a connection, to the server `first` or another, as soon as there is one to accept it.
    pub(super) async fn connect(
        &self,
        servers: &Servers,
        mut first: Option<InUse>,
        client: Option<IpAddr>,
        asked: Set,
    ) -> Result<(InUse, Socket), Failure> {
        let (mut pause, mut since) = (Duration::from_millis(2), None);
        loop {
            let error = match servers.connect(first.take(), client, asked).await {
                Err(failure) if failure.is_absence() => failure,
                result => {
                    self.is_there();
                    return result;
                }
            };
            // What it knows it does not forget, however short the limit is and however late it is woken.
            let known = self.is_away();
            let waited = since.get_or_insert_with(|| Instant::now() - known).elapsed();
            if self.limit.is_zero() {
                return Err(error);
            }
            let Some(left) = self.limit.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Err(error.after(waited));
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::net::UnixListener;

    use super::*;
    use crate::config::values::HumanDuration;

    /// An application at a path, and how long to wait for it.
    struct Away(Hold, Servers);

    impl Away {
        fn at(path: &Path, limit: Duration) -> Self {
            let address = format!("unix:{}", path.display()).parse().unwrap();
            let config =
                UpstreamConfig { address: Some(address), hold: HumanDuration(limit), ..UpstreamConfig::default() };
            Self(Hold::new(&config), Servers::new(&config, &[]))
        }

        async fn connect(&self) -> Result<(InUse, Socket), Failure> {
            self.0.connect(&self.1, None, None, Set::default()).await
        }
    }

    #[tokio::test]
    async fn who_comes_while_nobody_listens_waits_until_somebody_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let away = Away::at(&path, Duration::from_secs(30));
        let mut connecting = Box::pin(away.connect());
        assert!(futures_util::FutureExt::now_or_never(&mut connecting).is_none());
        let _listener = UnixListener::bind(&path).unwrap();
        connecting.await.unwrap();
        assert!(away.0.absence().is_none(), "its next absence is a new one");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_counts_from_the_first_who_found_nobody() {
        let away = Away::at(Path::new("/no/such.sock"), Duration::from_secs(10));
        let started = Instant::now();
        assert!(matches!(away.connect().await, Err(Failure::Away { .. })));
        assert!(started.elapsed() >= Duration::from_secs(10));
        let started = Instant::now();
        assert!(matches!(away.connect().await, Err(Failure::Away { .. })));
        assert!(started.elapsed() < Duration::from_secs(1), "it was known to be away");
        sleep(Duration::from_secs(11)).await;
        let started = Instant::now();
        assert!(matches!(away.connect().await, Err(Failure::Away { .. })));
        assert!(started.elapsed() >= Duration::from_secs(10), "nobody knows what was in between");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_woken_later_than_the_limit_has_waited_all_the_same() {
        // Sleeps end on whole milliseconds, which here is too late.
        let away = Away::at(Path::new("/no/such.sock"), Duration::from_micros(1500));
        let outcome = tokio::time::timeout(Duration::from_secs(1), away.connect()).await;
        assert!(matches!(outcome, Ok(Err(Failure::Away { .. }))));
    }

    #[tokio::test]
    async fn what_waiting_does_not_mend_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs_err::write(&file, "x").unwrap();
        // A file stands where a folder should be.
        let away = Away::at(&file.join("app.sock"), Duration::from_secs(3600));
        assert!(matches!(away.connect().await, Err(Failure::Connect(_))));
    }
}
