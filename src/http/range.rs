//! Which parts of a representation a client asks for (RFC 9110, section 14).
//!
//! A header that is malformed, in another unit than bytes, or that asks for more ranges than the operator
//! allows is passed over, which section 14.2 permits: the client gets the whole, which it understands in any
//! case. A 416 would tell it that the file is shorter than it is.

use std::ops::Range;

use ::http::header::RANGE;
use ::http::{HeaderMap, HeaderValue};

/// The ranges of a request, well-formed, before it is known how long the representation is.
///
/// It borrows the header's text and reads it again when the length is known, so that the usual case of one
/// range costs no allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requested<'h> {
    set: &'h str,
    count: usize,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// From the first byte to the last, both counted from 0 and both included.
    Between(u64, u64),
    /// The last so many bytes.
    Last(u64),
}

/// What the ranges come to in a representation of a known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// These bytes: 206.
    Part(Range<u64>),
    /// These, which do not touch each other, in the order in which they were asked for: 206 in several parts.
    Parts(Vec<Range<u64>>),
    /// All, because an empty file has no part that could be named.
    Whole,
    /// Nothing: 416.
    Unsatisfiable,
}

/// The ranges that a request asks for, `most` of them at most. `None` when there are none, or none that must
/// be honoured.
///
/// Reading ends with the first range too many, so that a request with a thousand costs no more than one that
/// may have as many as there may be.
pub fn requested(headers: &HeaderMap, most: usize) -> Option<Requested<'_>> {
    let value = headers.get(RANGE)?;
    if headers.get_all(RANGE).iter().nth(1).is_some() {
        return None;
    }
    let (unit, set) = value.to_str().ok()?.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut count = 0;
    for spec in specs(set) {
        spec?;
        count += 1;
        if count > most {
            return None;
        }
    }
    (count > 0).then_some(Requested { set, count })
}

/// The `Content-Range` of an answer with one part, or, without one, of the refusal of parts that are not there.
pub fn content_range(part: Option<&Range<u64>>, size: u64) -> HeaderValue {
    let text = match part {
        Some(Range { start, end }) => format!("bytes {start}-{}/{size}", end - 1),
        None => format!("bytes */{size}"),
    };
    HeaderValue::try_from(text).expect("digits are a header value")
}

/// Every range of a list; `None` for a malformed one. Empty members are passed over (section 5.6.1.2).
fn specs(set: &str) -> impl Iterator<Item = Option<Spec>> {
    set.split(',').map(str::trim_ascii).filter(|spec| !spec.is_empty()).map(parse)
}

fn parse(spec: &str) -> Option<Spec> {
    match spec.split_once('-')? {
        ("", last) => Some(Spec::Last(position(last)?)),
        (first, "") => Some(Spec::Between(position(first)?, u64::MAX)),
        (first, last) => {
            let spec = Spec::Between(position(first)?, position(last)?);
            (magnitude(first) <= magnitude(last)).then_some(spec)
        }
    }
}

/// Digits as a number. One too long for 64 bits lies beyond the end of every file, and so does the
/// largest that fits.
fn position(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// By which numbers are compared that may be too long for 64 bits.
fn magnitude(digits: &str) -> (usize, &str) {
    let digits = digits.trim_start_matches('0');
    (digits.len(), digits)
}

impl Requested<'_> {
    /// Whether there is more than one.
    pub fn has_several(self) -> bool {
        self.count > 1
    }

    /// The bytes that are meant in a representation of `size` bytes.
    pub fn within(self, size: u64) -> Selected {
        let mut specs = specs(self.set).flatten();
        if !self.has_several() {
            return specs.next().map_or(Selected::Whole, |spec| spec.within(size));
        }
        let mut parts = Vec::with_capacity(self.count);
        for spec in specs {
            match spec.within(size) {
                Selected::Part(part) => parts.push(part),
                Selected::Whole => return Selected::Whole,
                Selected::Parts(_) | Selected::Unsatisfiable => {}
            }
        }
        let mut parts = coalesce(&parts);
        match parts.len() {
            0 => Selected::Unsatisfiable,
            // One that is left is sent like one that was asked for alone (section 15.3.7.2).
            1 => Selected::Part(parts.swap_remove(0)),
            _ => Selected::Parts(parts),
        }
    }
}

impl Spec {
    fn within(self, size: u64) -> Selected {
        match self {
            Self::Between(first, _) if first >= size => Selected::Unsatisfiable,
            Self::Between(first, last) => Selected::Part(first..last.saturating_add(1).min(size)),
            Self::Last(0) => Selected::Unsatisfiable,
            Self::Last(_) if size == 0 => Selected::Whole,
            Self::Last(length) => Selected::Part(size.saturating_sub(length)..size),
        }
    }
}

/// Makes one of those that overlap or touch, each in the place of its first. So no byte is sent twice,
/// whatever is asked for, and what is sent is never longer than the whole but for what is said of each part.
fn coalesce(parts: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = parts.iter().cloned().enumerate().collect();
    sorted.sort_by_key(|(_, part)| part.start);
    let mut joined: Vec<(usize, Range<u64>)> = Vec::with_capacity(sorted.len());
    for (place, part) in sorted {
        match joined.last_mut() {
            Some((first, before)) if part.start <= before.end => {
                before.end = before.end.max(part.end);
                *first = place.min(*first);
            }
            _ => joined.push((place, part)),
        }
    }
    joined.sort_by_key(|(place, _)| *place);
    joined.into_iter().map(|(_, part)| part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop};
    use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

    fn within(value: &str, most: usize, size: u64) -> Option<Selected> {
        let value = HeaderValue::from_str(value).expect("a header value");
        let headers = [(RANGE, value)].into_iter().collect();
        requested(&headers, most).map(|ranges| ranges.within(size))
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
            assert_eq!(within(value, 1, size), Some(expected), "for {value:?} of {size}");
        }
    }

    #[test]
    fn several_ranges_keep_their_order_and_those_that_touch_become_one() {
        let parts = |parts: &[Range<u64>]| Selected::Parts(parts.to_vec());
        for (value, size, expected) in [
            ("bytes=0-1,5-6", 100, parts(&[0..2, 5..7])),
            ("bytes=5-6,0-1", 100, parts(&[5..7, 0..2])),
            ("bytes=0-0,-1", 100, parts(&[0..1, 99..100])),
            ("bytes= 0-1 ,\t5-6 , ,", 100, parts(&[0..2, 5..7])),
            ("bytes=0-9,5-14,20-29", 100, parts(&[0..15, 20..30])),
            ("bytes=20-29,5-14,0-9", 100, parts(&[20..30, 0..15])),
            ("bytes=5-14,20-29,0-9", 100, parts(&[0..15, 20..30])), // in the place of its first
            ("bytes=0-0,2-2,4-4,0-4", 100, Selected::Part(0..5)),
            ("bytes=0-9,10-19", 100, Selected::Part(0..20)), // adjacent
            ("bytes=0-9,11-19", 100, parts(&[0..10, 11..20])),
            ("bytes=0-9,0-9,0-9", 100, Selected::Part(0..10)),
            ("bytes=0-,0-,0-", 100, Selected::Part(0..100)),
            ("bytes=0-49,50-", 100, Selected::Part(0..100)),
            ("bytes=0-1,100-", 100, Selected::Part(0..2)), // the other is unsatisfiable
            ("bytes=100-,-0,0-1,5-6", 100, parts(&[0..2, 5..7])),
            ("bytes=100-,200-", 100, Selected::Unsatisfiable),
            ("bytes=0-,-0", 0, Selected::Unsatisfiable),
            ("bytes=0-,-1", 0, Selected::Whole),
        ] {
            assert_eq!(within(value, 10, size), Some(expected), "for {value:?} of {size}");
        }
    }

    #[test]
    fn more_ranges_than_there_may_be_are_none() {
        let three = Selected::Parts(vec![0..1, 2..3, 4..5]);
        assert_eq!(within("bytes=0-0,2-2,4-4", 3, 100), Some(three));
        assert_eq!(within("bytes=0-0,2-2,4-4", 2, 100), None);
        assert_eq!(within("bytes=0-0,2-2", 1, 100), None);
        assert_eq!(within(&format!("bytes={}", "0-0,".repeat(1000)), 100, 100), None);
        assert_eq!(within(&format!("bytes={}0-0", ",".repeat(1000)), 1, 100), Some(Selected::Part(0..1)));
    }

    #[test]
    fn what_need_not_be_honoured_is_ignored() {
        for value in [
            "bytes=5-2", // inverted
            "bytes=0-1,5-2",
            "bytes=0-1,x",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=1-2-3",
            "bytes=1 -2",
            "bytes=0x1-2",
            "bytes =0-9",
            "bytes",
            "lines=0-9",
            "=0-9",
            "",
        ] {
            assert_eq!(within(value, 10, 100), None, "for {value:?}");
        }
        let twice = [(RANGE, HeaderValue::from_static("bytes=0-1")), (RANGE, HeaderValue::from_static("bytes=0-1"))];
        assert_eq!(requested(&twice.into_iter().collect(), 10), None);
        assert_eq!(requested(&HeaderMap::new(), 10), None);
    }

    /// Sections 14.1.1 and 14.1.2 said slowly: the grammar is read letter by letter, and each byte of the file
    /// is asked whether it is meant.
    mod reference {
        use std::iter::Peekable;
        use std::str::Chars;

        type Text<'t> = Peekable<Chars<'t>>;

        fn digits(text: &mut Text<'_>) -> Option<u128> {
            let mut number: Option<u128> = None;
            while let Some(digit) = text.peek().and_then(|c| c.to_digit(10)) {
                number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit.into()));
                text.next();
            }
            number
        }

        fn blanks(text: &mut Text<'_>) {
            while text.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        }

        /// `int-range = first-pos "-" [ last-pos ]`, `suffix-range = "-" suffix-length`, in bytes of a file of so many.
        fn range(text: &mut Text<'_>, size: u128) -> Option<Vec<bool>> {
            let first = digits(text);
            text.next_if_eq(&'-')?;
            let last = digits(text);
            let is_meant = |byte: u128| match (first, last) {
                (Some(first), Some(last)) => first <= byte && byte <= last,
                (Some(first), None) => first <= byte,
                (None, Some(length)) => byte + length >= size,
                (None, None) => false,
            };
            let is_valid = match (first, last) {
                (Some(first), Some(last)) => first <= last,
                (None, None) => false,
                _ => true,
            };
            is_valid.then(|| (0..size).map(is_meant).collect())
        }

        /// The bytes that each range means, if the header must be honoured at all.
        pub(super) fn meant(value: &str, most: usize, size: u64) -> Option<Vec<Vec<bool>>> {
            let mut text = value.chars().peekable();
            let unit: String = std::iter::from_fn(|| text.next_if(|c| *c != '=')).collect();
            text.next_if_eq(&'=')?;
            let mut ranges = Vec::new();
            loop {
                blanks(&mut text);
                match text.peek() {
                    Some(',') | None => {}
                    Some(_) => ranges.push(range(&mut text, size.into())?),
                }
                blanks(&mut text);
                match text.next() {
                    None => break,
                    Some(',') => {}
                    Some(_) => return None,
                }
            }
            (unit.to_lowercase() == "bytes" && (1..=most).contains(&ranges.len())).then_some(ranges)
        }
    }

    fn value() -> impl Strategy<Value = String> {
        let number = prop_oneof![
            (0..40u64).prop_map(|n| n.to_string()),
            any::<u64>().prop_map(|n| n.to_string()),
            prop::sample::select(vec!["", "00", "007", "18446744073709551616", "99999999999999999999999999"])
                .prop_map(str::to_owned),
        ];
        let small = (0..40u64, 0..12u64).prop_map(|(first, more)| format!("{first}-{}", first + more));
        let any_two = (number.clone(), number).prop_map(|(first, last)| format!("{first}-{last}"));
        let open = (0..40u64).prop_map(|first| format!("{first}-"));
        let suffix = (0..40u64).prop_map(|length| format!("-{length}"));
        let spec = prop_oneof![6 => small, 1 => open, 1 => suffix, 1 => any_two, 1 => "[-0-9 ,x+]{0,4}"];
        let comma = prop::sample::select(vec![",", ",", ", ", " ,", ",,", "\t,\t"]);
        let set = prop::collection::vec((spec, comma), 0..8)
            .prop_map(|specs| specs.into_iter().map(|(spec, comma)| spec + comma).collect::<String>());
        let unit = prop::sample::select(vec!["bytes=", "bytes=", "bytes=", "BYTES=", "bytes= ", "bytes", "byte=", "="]);
        let end = prop::bool::ANY;
        (unit, set, end).prop_map(|(unit, set, keep)| {
            let set = if keep { set.as_str() } else { set.trim_end_matches([',', ' ', '\t']) };
            format!("{unit}{set}")
        })
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_rfc(value in value(), most in 1..8usize, size in 0..50u64) {
            let found = within(&value, most, size);
            let Some(meant) = reference::meant(&value, most, size) else {
                prop_assert_eq!(found, None, "for {:?}", value);
                return Ok(());
            };
            let is_meant = |byte: u64| meant.iter().any(|bytes| bytes[usize::try_from(byte).expect("small")]);
            let parts = match found.expect("it must be honoured") {
                Selected::Part(part) => vec![part],
                Selected::Parts(parts) => {
                    prop_assert!(parts.len() > 1);
                    parts
                }
                Selected::Unsatisfiable => Vec::new(),
                Selected::Whole => {
                    prop_assert_eq!(size, 0);
                    return Ok(());
                }
            };
            for byte in 0..size {
                let times = parts.iter().filter(|part| part.contains(&byte)).count();
                prop_assert_eq!(times, usize::from(is_meant(byte)), "byte {} of {} for {:?}", byte, size, value);
            }
            for (place, part) in parts.iter().enumerate() {
                prop_assert!(part.start < part.end && part.end <= size);
                // Between two parts lies something that nobody asked for.
                prop_assert!(parts.iter().all(|other| other == part || other.end < part.start || part.end < other.start));
                // The first that asks for any of its bytes comes before those of the next part.
                let asks = |part: &Range<u64>| {
                    let first = usize::try_from(part.start).expect("small")..usize::try_from(part.end).expect("small");
                    meant.iter().position(|bytes| bytes[first.clone()].contains(&true))
                };
                if let Some(next) = parts.get(place + 1) {
                    prop_assert!(asks(part) < asks(next), "for {:?}: {:?}", value, parts);
                }
            }
        }
    }
}
