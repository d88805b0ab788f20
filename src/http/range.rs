//! Which part of a representation a client asks for (RFC 9110, section 14).
//!
//! One range is honoured. Several at once are answered with the whole, which section 14.2 allows:
//! only PDF viewers ask so, they understand a whole answer, and many small ranges are an old attack.

use std::ops::Range;

use ::http::HeaderMap;
use ::http::header::RANGE;

/// One well-formed range, before it is known how long the representation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requested {
    /// From the first byte to the last, both counted from 0 and both included.
    Between(u64, u64),
    /// The last so many bytes.
    Last(u64),
}

/// What a range comes to in a representation of a known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// These bytes: 206.
    Part(Range<u64>),
    /// All, because an empty file has no part that could be named.
    Whole,
    /// Nothing: 416.
    Unsatisfiable,
}

/// The range that a request asks for. `None` when there is none, or none that must be honoured: not
/// in bytes, malformed, several at once.
pub fn requested(headers: &HeaderMap) -> Option<Requested> {
    let value = headers.get(RANGE)?;
    if headers.get_all(RANGE).iter().nth(1).is_some() {
        return None;
    }
    let (unit, ranges) = value.to_str().ok()?.split_once('=')?;
    if !unit.trim_ascii().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ranges = ranges.split(',').map(str::trim_ascii).filter(|range| !range.is_empty());
    match (ranges.next(), ranges.next()) {
        (Some(range), None) => parse(range),
        _ => None,
    }
}

fn parse(range: &str) -> Option<Requested> {
    match range.split_once('-')? {
        ("", last) => Some(Requested::Last(position(last)?)),
        (first, "") => Some(Requested::Between(position(first)?, u64::MAX)),
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then_some(Requested::Between(first, last))
        }
    }
}

/// Digits as a number. One too long for 64 bits lies beyond the end of every file, and so does the
/// largest that fits.
fn position(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

impl Requested {
    /// The bytes that are meant in a representation of `size` bytes.
    pub fn within(self, size: u64) -> Selected {
        match self {
            Self::Between(first, _) if first >= size => Selected::Unsatisfiable,
            Self::Between(first, last) => Selected::Part(first..last.saturating_add(1).min(size)),
            Self::Last(0) => Selected::Unsatisfiable,
            Self::Last(_) if size == 0 => Selected::Whole,
            Self::Last(length) => Selected::Part(size.saturating_sub(length)..size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;

    fn ask(value: &str) -> Option<Requested> {
        let value = HeaderValue::from_str(value).expect("a header value");
        requested(&[(RANGE, value)].into_iter().collect())
    }

    #[test]
    fn one_range_is_cut_to_the_file() {
        for (value, size, expected) in [
            ("bytes=0-9", 100, Selected::Part(0..10)),
            ("bytes=0-0", 100, Selected::Part(0..1)),
            ("bytes=99-99", 100, Selected::Part(99..100)),
            ("bytes=90-", 100, Selected::Part(90..100)),
            ("bytes=0-", 100, Selected::Part(0..100)),
            ("bytes=90-1000", 100, Selected::Part(90..100)),
            ("bytes=-1", 100, Selected::Part(99..100)),
            ("bytes=-10", 100, Selected::Part(90..100)),
            ("bytes=-1000", 100, Selected::Part(0..100)),
            ("Bytes=0-9", 100, Selected::Part(0..10)), // units are case-insensitive
            ("bytes=0-9,", 100, Selected::Part(0..10)),
            ("bytes= 0-9", 100, Selected::Part(0..10)),
            ("bytes=0-99999999999999999999999", 100, Selected::Part(0..100)),
            ("bytes=-99999999999999999999999", 100, Selected::Part(0..100)),
            ("bytes=100-", 100, Selected::Unsatisfiable),
            ("bytes=100-200", 100, Selected::Unsatisfiable),
            ("bytes=99999999999999999999999-", 100, Selected::Unsatisfiable),
            ("bytes=-0", 100, Selected::Unsatisfiable),
            ("bytes=0-", 0, Selected::Unsatisfiable),
            ("bytes=-1", 0, Selected::Whole),
        ] {
            assert_eq!(ask(value).expect(value).within(size), expected, "for {value:?} of {size}");
        }
    }

    #[test]
    fn what_need_not_be_honoured_is_ignored() {
        for value in [
            "bytes=5-2", // inverted
            "bytes=0-1,5-6",
            "bytes=0-1,x",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=1-2-3",
            "bytes=0x1-2",
            "bytes",
            "lines=0-9",
            "=0-9",
            "",
        ] {
            assert_eq!(ask(value), None, "for {value:?}");
        }
        let twice = [(RANGE, HeaderValue::from_static("bytes=0-1")), (RANGE, HeaderValue::from_static("bytes=0-1"))];
        assert_eq!(requested(&twice.into_iter().collect()), None);
        assert_eq!(requested(&HeaderMap::new()), None);
    }
}
