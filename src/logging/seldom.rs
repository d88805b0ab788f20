//! What strangers can bring about as often as they like is told seldom, so that they cannot fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long after one time is told the next one may be.
const PAUSE: Duration = Duration::from_secs(60);

/// One kind of trouble: it is told once a minute, with how many times it was not. It reads no clock.
#[derive(Debug)]
pub struct Seldom {
    // Only who is in trouble comes here.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// Nothing has been told.
    pub const fn new() -> Self {
        Self { state: Mutex::new(State { told: None, untold: 0 }) }
    }

    /// Notes that it has come about. `None` if it was told not long ago; otherwise how often it has been left untold
    /// since.
    pub fn note(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.told.is_some_and(|told| now.saturating_duration_since(told) < PAUSE) {
            state.untold += 1;
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_a_minute_with_how_often_it_was_not() {
        let (began, trouble) = (Instant::now(), Seldom::new());
        for (seconds, expected) in [
            (0, Some(0)),
            (0, None),
            (30, None),
            (59, None),
            (60, Some(3)),
            (61, None),
            (119, None),
            (1000, Some(2)),
            (1000, None),
            // Another thread looked at the clock before this one did.
            (999, None),
            (1060, Some(2)),
            (1120, Some(0)),
        ] {
            assert_eq!(trouble.note(began + Duration::from_secs(seconds)), expected, "after {seconds} seconds");
        }
    }

    #[test]
    fn each_kind_is_told_by_itself() {
        let (now, one, other) = (Instant::now(), Seldom::new(), Seldom::new());
        assert_eq!((one.note(now), one.note(now), other.note(now)), (Some(0), None, Some(0)));
    }
}
