//! Preconditions (RFC 9110, section 13): is the client's copy still good, and is the client's idea of
//! the file still true.
//!
//! Pure: no clock is read. A date in the future is compared like any other, as the RFC has it since
//! 2014.

use std::time::SystemTime;

use ::http::header::{HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use ::http::{HeaderMap, HeaderValue, Method};

/// What a representation is known by.
#[derive(Debug, Clone, Copy)]
pub struct Validators<'a> {
    /// Its entity tag: strong, with its quotes.
    pub tag: &'a HeaderValue,
    /// When it was last modified, in whole seconds.
    pub modified: Option<SystemTime>,
}

/// What the preconditions of a request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The client has it already: 304.
    Fresh,
    /// The client wants it: whatever would be answered without preconditions.
    Stale,
    /// The client expected something else: 412.
    Failed,
}

/// Evaluates the preconditions in the order of section 13.2.2. `If-Range`, its last step, is
/// [`range_may_continue`].
///
/// Ask only when the answer without preconditions would be a success.
pub fn evaluate(method: &Method, headers: &HeaderMap, current: Validators<'_>) -> Outcome {
    let is_expected = match matches(headers, &IF_MATCH, current.tag, Comparison::Strong) {
        None => unchanged_since(headers, &IF_UNMODIFIED_SINCE, current.modified),
        matched => matched,
    };
    if is_expected == Some(false) {
        return Outcome::Failed;
    }
    let reads = method == Method::GET || method == Method::HEAD;
    let is_known = match matches(headers, &IF_NONE_MATCH, current.tag, Comparison::Weak) {
        None if reads => unchanged_since(headers, &IF_MODIFIED_SINCE, current.modified),
        matched => matched,
    };
    match is_known {
        Some(true) if reads => Outcome::Fresh,
        Some(true) => Outcome::Failed,
        _ => Outcome::Stale,
    }
}

/// Whether a part may be sent: `None` without `If-Range`, else whether it names exactly what we have.
///
/// A weak tag never does, and a date only when it is the very one of `Last-Modified`.
pub fn range_may_continue(headers: &HeaderMap, current: Validators<'_>) -> Option<bool> {
    let condition = headers.get(IF_RANGE)?;
    Some(condition == current.tag || current.modified.is_some_and(|modified| parse_date(condition) == Some(modified)))
}

/// Which tags are equal (section 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// Two strong tags with the same text.
    Strong,
    /// The same text.
    Weak,
}

/// Whether a list of tags has ours; `None` when there is no list. `*` stands for any tag.
fn matches(headers: &HeaderMap, name: &HeaderName, tag: &HeaderValue, comparison: Comparison) -> Option<bool> {
    // Looked up before the iterator is made: most requests have no such field.
    headers.get(name)?;
    let mut lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    Some(lines.any(|line| {
        line.trim_ascii() == b"*"
            || tags(line)
                .any(|(is_weak, opaque)| opaque == tag.as_bytes() && !(is_weak && comparison == Comparison::Strong))
    }))
}

/// The well-formed tags of a list: whether each is weak, and its text with the quotes. A comma inside
/// quotes belongs to the tag.
fn tags(list: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let mut rest = list;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (member, after) = split_member(rest);
            rest = after;
            let member = member.trim_ascii();
            let (is_weak, opaque) = match member.strip_prefix(b"W/") {
                Some(opaque) => (true, opaque),
                None => (false, member),
            };
            if let [b'"', inner @ .., b'"'] = opaque
                && !inner.contains(&b'"')
            {
                return Some((is_weak, opaque));
            }
        }
        None
    })
}

/// Cuts a list at its first comma outside of quotes.
fn split_member(list: &[u8]) -> (&[u8], &[u8]) {
    let mut is_quoted = false;
    for (place, byte) in list.iter().enumerate() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => return (&list[..place], &list[place + 1..]),
            _ => {}
        }
    }
    (list, &[])
}

/// Whether nothing changed after the date of a field; `None` when the field must be ignored: it is
/// absent, no date, or there twice, or we know no date ourselves.
fn unchanged_since(headers: &HeaderMap, name: &HeaderName, modified: Option<SystemTime>) -> Option<bool> {
    headers.get(name)?;
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    Some(modified? <= parse_date(value)?)
}

/// A date in one of the three forms of section 5.6.7.
fn parse_date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    const TAG: HeaderValue = HeaderValue::from_static("\"abc\"");
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const EXACTLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"))
        };
        fields.iter().map(field).collect()
    }

    fn validators(tag: &HeaderValue) -> Validators<'_> {
        Validators { tag, modified: Some(UNIX_EPOCH + Duration::from_secs(784_111_777)) }
    }

    fn get(fields: &[(&str, &str)]) -> Outcome {
        evaluate(&Method::GET, &headers(fields), validators(&TAG))
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for (list, expected) in [
            ("\"abc\"", Outcome::Fresh),
            ("W/\"abc\"", Outcome::Fresh),
            ("*", Outcome::Fresh),
            (" * ", Outcome::Fresh),
            ("\"x\", \"abc\"", Outcome::Fresh),
            ("\"x\",W/\"abc\",\"y\"", Outcome::Fresh),
            (",, \"abc\",", Outcome::Fresh),
            ("\"x,y\", \"abc\"", Outcome::Fresh), // a comma may stand in a tag
            ("broken, \"abc\"", Outcome::Fresh),
            ("\"x\"", Outcome::Stale),
            ("\"x,\"abc\"", Outcome::Stale), // the quotes do not pair
            ("abc", Outcome::Stale),
            ("w/\"abc\"", Outcome::Stale), // "W/" is case-sensitive
            ("\"ABC\"", Outcome::Stale),
            ("\"abc", Outcome::Stale),
            ("\"abc\"x", Outcome::Stale),
            ("\"", Outcome::Stale),
            ("W/", Outcome::Stale),
            ("", Outcome::Stale),
        ] {
            assert_eq!(get(&[("if-none-match", list)]), expected, "for {list:?}");
        }
        assert_eq!(get(&[("if-none-match", "\"x\""), ("if-none-match", "\"abc\"")]), Outcome::Fresh);
    }

    #[test]
    fn if_match_compares_strongly() {
        for (list, expected) in [
            ("\"abc\"", Outcome::Stale),
            ("\"x\", \"abc\"", Outcome::Stale),
            ("*", Outcome::Stale),
            ("W/\"abc\"", Outcome::Failed),
            ("\"x\"", Outcome::Failed),
            ("abc", Outcome::Failed),
        ] {
            assert_eq!(get(&[("if-match", list)]), expected, "for {list:?}");
        }
    }

    #[test]
    fn dates_are_read_in_their_three_forms() {
        for (name, date, expected) in [
            ("if-modified-since", EXACTLY, Outcome::Fresh),
            ("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT", Outcome::Fresh),
            ("if-modified-since", "Sun Nov  6 08:49:37 1994", Outcome::Fresh),
            ("if-modified-since", AFTER, Outcome::Fresh),
            ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT", Outcome::Fresh),
            ("if-modified-since", BEFORE, Outcome::Stale),
            ("if-modified-since", "yesterday", Outcome::Stale),
            ("if-modified-since", "784111777", Outcome::Stale),
            ("if-modified-since", "Sun, 06 Nov 1994 08:49:37", Outcome::Stale),
            ("if-unmodified-since", EXACTLY, Outcome::Stale),
            ("if-unmodified-since", AFTER, Outcome::Stale),
            ("if-unmodified-since", BEFORE, Outcome::Failed),
            ("if-unmodified-since", "yesterday", Outcome::Stale),
        ] {
            assert_eq!(get(&[(name, date)]), expected, "for {name}: {date}");
        }
        assert_eq!(get(&[("if-modified-since", EXACTLY), ("if-modified-since", EXACTLY)]), Outcome::Stale);
    }

    #[test]
    fn a_tag_decides_alone_where_there_is_one() {
        let none_match = |tag| [("if-none-match", tag), ("if-modified-since", AFTER)];
        assert_eq!(get(&none_match("\"x\"")), Outcome::Stale);
        let matched = |tag| [("if-match", tag), ("if-unmodified-since", BEFORE)];
        assert_eq!(get(&matched("\"abc\"")), Outcome::Stale);
    }

    #[test]
    fn a_failed_expectation_comes_before_a_fresh_copy() {
        assert_eq!(get(&[("if-match", "\"x\""), ("if-none-match", "\"abc\"")]), Outcome::Failed);
        assert_eq!(get(&[("if-match", "\"abc\""), ("if-none-match", "\"abc\"")]), Outcome::Fresh);
        assert_eq!(get(&[("if-unmodified-since", BEFORE), ("if-modified-since", AFTER)]), Outcome::Failed);
    }

    #[test]
    fn other_methods_get_412_and_no_304() {
        let put = |fields: &[(&str, &str)]| evaluate(&Method::PUT, &headers(fields), validators(&TAG));
        assert_eq!(put(&[("if-none-match", "*")]), Outcome::Failed);
        assert_eq!(put(&[("if-modified-since", AFTER)]), Outcome::Stale);
    }

    #[test]
    fn without_a_date_of_ours_dates_are_ignored() {
        let undated = Validators { tag: &TAG, modified: None };
        for name in ["if-modified-since", "if-unmodified-since"] {
            assert_eq!(evaluate(&Method::GET, &headers(&[(name, BEFORE)]), undated), Outcome::Stale, "for {name}");
        }
        assert_eq!(range_may_continue(&headers(&[("if-range", EXACTLY)]), undated), Some(false));
    }

    #[test]
    fn a_range_continues_only_what_is_exactly_the_same() {
        for (condition, expected) in [
            ("\"abc\"", true),
            (EXACTLY, true),
            ("W/\"abc\"", false),
            ("\"x\"", false),
            ("*", false),
            ("\"abc\", \"x\"", false), // If-Range takes no list
            (BEFORE, false),
            (AFTER, false),
            ("", false),
        ] {
            let fields = headers(&[("if-range", condition)]);
            assert_eq!(range_may_continue(&fields, validators(&TAG)), Some(expected), "for {condition:?}");
        }
        assert_eq!(range_may_continue(&headers(&[]), validators(&TAG)), None);
    }
}
