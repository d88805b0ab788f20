//! What of a file is sent, decided from its validators and the request's head alone.

use std::ops::Range;

use ::http::{HeaderMap, Method};

use crate::http::conditional::{self, Outcome, Validators};
use crate::http::range::{self, Selected};

/// What to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// All of the file.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// These several parts.
    Parts(Vec<Range<u64>>),
    /// The client has it already.
    NotModified,
    /// The file is not what the client expects.
    PreconditionFailed,
    /// The client asks for bytes beyond the end.
    Unsatisfiable,
}

/// Chooses the answer to `GET` or `HEAD`. `most_ranges` is how many parts of the file one request may ask for; 0 where
/// the application has said that there are none.
pub(super) fn choose(
    method: &Method,
    headers: &HeaderMap,
    size: u64,
    current: Validators<'_>,
    most_ranges: usize,
) -> Choice {
    match conditional::evaluate(method, headers, current) {
        Outcome::Failed => return Choice::PreconditionFailed,
        Outcome::Fresh => return Choice::NotModified,
        Outcome::Stale => {}
    }
    // A range is defined for GET only (RFC 9110, section 14.2).
    let range = if method == Method::GET { range::requested(headers, most_ranges) } else { None };
    let range = range.filter(|_| conditional::range_may_continue(headers, current).unwrap_or(true));
    match range.map(|range| range.within(size)) {
        None | Some(Selected::Whole) => Choice::Whole,
        Some(Selected::Part(part)) => Choice::Part(part),
        Some(Selected::Parts(parts)) => Choice::Parts(parts),
        Some(Selected::Unsatisfiable) => Choice::Unsatisfiable,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use ::http::HeaderValue;
    use ::http::header::HeaderName;

    use super::*;

    #[test]
    fn preconditions_come_before_ranges_and_ranges_before_the_whole() {
        const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        let tag = HeaderValue::from_static("\"a\"");
        let current = Validators { tag: &tag, modified: Some(UNIX_EPOCH + Duration::from_secs(784_111_777)) };
        for (method, fields, expected) in [
            ("GET", &[][..], Choice::Whole),
            ("HEAD", &[("range", "bytes=0-1")], Choice::Whole),
            ("GET", &[("range", "bytes=0-1")], Choice::Part(0..2)),
            ("GET", &[("range", "bytes=8-")], Choice::Part(8..10)),
            ("GET", &[("range", "bytes=-3")], Choice::Part(7..10)),
            ("GET", &[("range", "bytes=4-5,0-1")], Choice::Parts(vec![4..6, 0..2])),
            ("GET", &[("range", "bytes=0-1,1-5")], Choice::Part(0..6)),
            ("GET", &[("range", "bytes=0-1,20-")], Choice::Part(0..2)),
            ("GET", &[("range", "bytes=0-1,3-4,6-7")], Choice::Whole), // more than there may be
            ("GET", &[("range", "bytes=10-,20-")], Choice::Unsatisfiable),
            ("HEAD", &[("range", "bytes=4-5,0-1")], Choice::Whole),
            ("GET", &[("range", "bytes=0-1,4-5"), ("if-range", "\"b\"")], Choice::Whole),
            ("GET", &[("range", "bytes=10-")], Choice::Unsatisfiable),
            ("GET", &[("range", "lines=0-1")], Choice::Whole),
            ("GET", &[("range", "bytes=0-1"), ("if-range", "\"a\"")], Choice::Part(0..2)),
            ("GET", &[("range", "bytes=0-1"), ("if-range", DATE)], Choice::Whole), // a date is no strong validator
            ("GET", &[("range", "bytes=0-1"), ("if-range", "\"b\"")], Choice::Whole),
            ("GET", &[("range", "bytes=0-1"), ("if-range", "W/\"a\"")], Choice::Whole),
            ("GET", &[("if-none-match", "\"b\", W/\"a\"")], Choice::NotModified),
            ("GET", &[("if-none-match", "\"a\""), ("range", "bytes=0-1")], Choice::NotModified),
            ("GET", &[("if-none-match", "\"b\""), ("if-modified-since", DATE)], Choice::Whole),
            ("GET", &[("if-modified-since", DATE)], Choice::NotModified),
            ("HEAD", &[("if-modified-since", DATE)], Choice::NotModified),
            ("GET", &[("if-match", "\"b\""), ("range", "bytes=0-1")], Choice::PreconditionFailed),
        ] {
            let pairs =
                fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let chosen = choose(&method.parse().expect("a method"), &pairs.collect(), 10, current, 2);
            assert_eq!(chosen, expected, "for {method} {fields:?}");
        }
        let range = HeaderMap::from_iter([(::http::header::RANGE, HeaderValue::from_static("bytes=0-1"))]);
        assert_eq!(choose(&Method::GET, &range, 10, current, 0), Choice::Whole);
    }
}
