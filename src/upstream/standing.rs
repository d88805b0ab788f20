//! What is known of a server: how many requests it has, whether it failed lately, and what its last health check said.
//!
//! It outlives a change of the configuration, as long as the server stays.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::config::UpstreamConfig;

/// What is known of one server.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) in_use: AtomicUsize,
    record: Mutex<Record>,
    checked: AtomicU8,
    checker: Mutex<Option<AbortHandle>>,
}

/// When a server is left out, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    max_fails: u32,
    fail_timeout: Duration,
}

impl Patience {
    pub(super) fn of(config: &UpstreamConfig) -> Self {
        Self { max_fails: config.max_fails, fail_timeout: config.fail_timeout.0 }
    }
}

/// What the last health check said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Checked {
    NotYet,
    Well,
    Ill,
}

/// The failures of a server.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    fails: u32,
    /// When it failed last, or was last tried after that.
    last: Option<Instant>,
}

impl Record {
    fn is_out(&self, now: Instant, patience: Patience) -> bool {
        self.has_failed(patience) && self.is_recent(now, patience)
    }

    fn has_failed(&self, patience: Patience) -> bool {
        patience.max_fails > 0 && self.fails >= patience.max_fails
    }

    fn is_recent(&self, now: Instant, patience: Patience) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) <= patience.fail_timeout)
    }

    /// Whoever asks a server whose time is over tries it for all others, which leave it out for as long again.
    fn ask(&mut self, now: Instant, patience: Patience) {
        if self.has_failed(patience) && !self.is_recent(now, patience) {
            self.last = Some(now);
        }
    }

    /// Counts a failure; whether the server is left out from now on and was not before.
    fn fail(&mut self, now: Instant, patience: Patience) -> bool {
        let had_failed = self.has_failed(patience);
        // A server that was left out stays so until it answers; for any other, old failures are forgotten.
        if !had_failed && !self.is_recent(now, patience) {
            self.fails = 0;
        }
        (self.fails, self.last) = (self.fails.saturating_add(1), Some(now));
        !had_failed && self.has_failed(patience)
    }

    /// Notes an answer; whether the server had been left out.
    fn succeed(&mut self, patience: Patience) -> bool {
        let had_failed = self.has_failed(patience);
        if had_failed {
            *self = Self::default();
        }
        had_failed
    }
}

impl Standing {
    pub(super) fn is_out(&self, now: Instant, patience: Patience) -> bool {
        self.record().is_out(now, patience)
    }

    pub(super) fn ask(&self, now: Instant, patience: Patience) {
        self.record().ask(now, patience);
    }

    pub(super) fn fail(&self, now: Instant, patience: Patience) -> bool {
        self.record().fail(now, patience)
    }

    pub(super) fn succeed(&self, patience: Patience) -> bool {
        self.record().succeed(patience)
    }

    /// Forgets its failures.
    pub(super) fn forgive(&self) {
        *self.record() = Record::default();
    }

    pub(super) fn checked(&self) -> Checked {
        match self.checked.load(Ordering::Relaxed) {
            1 => Checked::Well,
            2 => Checked::Ill,
            _ => Checked::NotYet,
        }
    }

    /// Notes what a health check said; whether that is news.
    pub(super) fn note(&self, checked: Checked) -> bool {
        self.checked.swap(checked as u8, Ordering::Relaxed) != checked as u8
    }

    /// Lets this task check the server from now on, and no other.
    pub(super) fn check_with(&self, checker: AbortHandle) {
        let before = self.checker.lock().unwrap_or_else(PoisonError::into_inner).replace(checker);
        if let Some(before) = before {
            before.abort();
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { max_fails: 2, fail_timeout: Duration::from_secs(10) };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn so_many_failures_within_the_time_leave_a_server_out_for_as_long() {
        let (mut record, start) = (Record::default(), Instant::now());
        assert!(!record.fail(start, PATIENCE) && !record.is_out(start, PATIENCE));
        assert!(record.fail(after(start, 9), PATIENCE));
        for (seconds, is_out) in [(9, true), (19, true), (20, false)] {
            assert_eq!(record.is_out(after(start, seconds), PATIENCE), is_out, "after {seconds} seconds");
        }
    }

    #[test]
    fn failures_that_lie_too_far_apart_do_not_count_together() {
        let (mut record, start) = (Record::default(), Instant::now());
        for seconds in [0, 11, 22, 33] {
            assert!(!record.fail(after(start, seconds), PATIENCE), "after {seconds} seconds");
        }
    }

    #[test]
    fn one_request_tries_a_server_whose_time_is_over() {
        let (mut record, start) = (Record::default(), Instant::now());
        record.fail(start, PATIENCE);
        record.fail(start, PATIENCE);
        record.ask(after(start, 11), PATIENCE);
        assert!(record.is_out(after(start, 11), PATIENCE), "it is being tried");
        assert!(!record.fail(after(start, 12), PATIENCE), "that it is left out is no news");
        assert!(record.is_out(after(start, 21), PATIENCE), "one more failure is enough");
        assert!(record.succeed(PATIENCE));
        assert!(!record.is_out(after(start, 21), PATIENCE) && !record.succeed(PATIENCE));
    }

    #[test]
    fn with_no_number_of_failures_none_is_left_out() {
        let (mut record, start) = (Record::default(), Instant::now());
        let patience = Patience { max_fails: 0, ..PATIENCE };
        assert!(!(0..100).any(|_| record.fail(start, patience)) && !record.is_out(start, patience));
    }

    #[test]
    fn what_a_check_says_again_is_no_news() {
        let standing = Standing::default();
        assert_eq!(standing.checked(), Checked::NotYet);
        let news: Vec<_> =
            [Checked::Well, Checked::Well, Checked::Ill, Checked::Ill].map(|said| standing.note(said)).into();
        assert_eq!((news, standing.checked()), (vec![true, false, true, false], Checked::Ill));
    }
}
