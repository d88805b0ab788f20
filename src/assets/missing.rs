//! Which missing files are asked for, and how often.
//!
//! A page that names a file that is not there is a mistake of the site, so its operator is told, with the name
//! that was perhaps meant. Whoever tries names at random must not fill memory nor the log by it, so both have
//! bounds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A name that is longer is counted with those for which there is no room.
const LONGEST: usize = 256;

/// How often something may be told in a [`PERIOD`].
const TOLD: u32 = 10;
const PERIOD: Duration = Duration::from_secs(60);

/// The names so far.
#[derive(Debug)]
pub(super) struct Missing {
    most: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    names: HashMap<String, u64>,
    /// Requests for names beyond the bounds.
    others: u64,
    period: Option<Instant>,
    told: u32,
    untold: u64,
}

/// What the log should say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) news: News,
    /// How much has not been told since the notice before, so that the log stays short.
    pub(super) untold: u64,
}

/// What is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The name has been asked for so often.
    Asked(u64),
    /// There is no room for more names; from now on they are counted together.
    Full,
}

impl Missing {
    /// Counts up to so many names.
    pub(super) fn new(most: usize) -> Self {
        Self { most, counts: Mutex::default() }
    }

    /// Counts a request. Tells of the first, the tenth, the hundredth of a name, and so on.
    pub(super) fn note(&self, name: &str, now: Instant) -> Option<Notice> {
        if self.most == 0 {
            return None;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let news = counts.add(name, self.most)?;
        if counts.period.is_none_or(|period| now.duration_since(period) >= PERIOD) {
            (counts.period, counts.told) = (Some(now), 0);
        }
        if counts.told == TOLD {
            counts.untold += 1;
            return None;
        }
        counts.told += 1;
        Some(Notice { news, untold: std::mem::take(&mut counts.untold) })
    }
}

impl Counts {
    fn add(&mut self, name: &str, most: usize) -> Option<News> {
        if let Some(count) = self.names.get_mut(name) {
            *count += 1;
            return (10_u64.pow(count.ilog10()) == *count).then_some(News::Asked(*count));
        }
        if name.len() <= LONGEST && self.names.len() < most {
            self.names.insert(name.to_owned(), 1);
            return Some(News::Asked(1));
        }
        if name.len() > LONGEST {
            return None;
        }
        self.others += 1;
        (self.others == 1).then_some(News::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(missing: &Missing, name: &str, now: Instant) -> Option<News> {
        missing.note(name, now).map(|notice| notice.news)
    }

    #[test]
    fn a_name_is_told_less_and_less_often() {
        let (missing, now) = (Missing::new(10), Instant::now());
        let told: Vec<_> = (0..1000).filter_map(|_| told(&missing, "a.css", now)).collect();
        assert_eq!(told, [1, 10, 100, 1000].map(News::Asked));
    }

    #[test]
    fn memory_has_a_bound() {
        let (missing, now) = (Missing::new(3), Instant::now());
        for name in ["a", "b", "c"] {
            assert_eq!(told(&missing, name, now), Some(News::Asked(1)));
        }
        assert_eq!(told(&missing, "d", now), Some(News::Full));
        for n in 0..1000 {
            assert_eq!(told(&missing, &n.to_string(), now), None);
        }
        let counts = missing.counts.lock().unwrap();
        assert_eq!((counts.names.len(), counts.others), (3, 1001));

        let missing = Missing::new(3);
        assert_eq!(told(&missing, &"x".repeat(LONGEST + 1), now), None);
        assert!(missing.counts.lock().unwrap().names.is_empty());
        assert_eq!(told(&Missing::new(0), "a", now), None);
    }

    #[test]
    fn the_log_has_a_bound_and_what_was_left_out_is_counted() {
        let (missing, now) = (Missing::new(1000), Instant::now());
        let names: Vec<_> = (0..100).map(|n| n.to_string()).collect();
        let told = names.iter().filter(|name| missing.note(name, now).is_some()).count();
        assert_eq!(told, TOLD as usize);
        assert_eq!(missing.note("later", now + PERIOD / 2), None);
        let notice = missing.note("much later", now + PERIOD).expect("a new period");
        assert_eq!(notice, Notice { news: News::Asked(1), untold: 91 });
        assert_eq!(missing.note("still later", now + PERIOD).expect("room").untold, 0);
    }
}
