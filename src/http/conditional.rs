//! Preconditions (RFC 9110, section 13): is the client's copy still good, and is the client's idea of
//! the file still true.
//!
//! Pure: no clock is read. A date in the future is compared like any other, as the RFC has it since
//! 2014.

use std::time::{Duration, SystemTime};

use ::http::header::{HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use ::http::{HeaderMap, HeaderValue, Method};

/// What a representation is known by.
#[derive(Debug, Clone, Copy)]
pub struct Validators<'a> {
    /// Its entity tag, with its quotes; a weak one with its `W/`.
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

/// Whether a field is a precondition, `If-Range` apart.
pub fn is_precondition(name: &HeaderName) -> bool {
    matches!(*name, IF_MATCH | IF_MODIFIED_SINCE | IF_NONE_MATCH | IF_UNMODIFIED_SINCE)
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

/// Whether a list of tags has this one, weak or strong as it is.
pub fn lists(list: &HeaderValue, tag: &HeaderValue) -> bool {
    tags(list.as_bytes()).any(|listed| listed == strength(tag.as_bytes()))
}

/// Whether `If-Match` names exactly what we have, by its strong tag; `None` without one, or with `*`.
pub fn is_named(headers: &HeaderMap, current: Validators<'_>) -> Option<bool> {
    let names_any = headers.get_all(IF_MATCH).iter().any(|line| line.as_bytes().trim_ascii() == b"*");
    matches(headers, &IF_MATCH, current.tag, Comparison::Strong).filter(|_| !names_any)
}

/// Whether a part may be sent: `None` without `If-Range`, else whether it names exactly what we have, by its
/// strong tag.
///
/// A date never does. One counts only if the file cannot have changed twice within its second (section
/// 8.8.2.2), and nobody knows that of a file: reproducible builds and archives give the same date to the files
/// of every release. A client loses nothing by it, since it may send no date where it was given a tag (section
/// 13.1.5).
pub fn range_may_continue(headers: &HeaderMap, current: Validators<'_>) -> Option<bool> {
    let condition = headers.get(IF_RANGE)?;
    let is_alone = headers.get_all(IF_RANGE).iter().nth(1).is_none();
    // One tag, and no list of two that looks like one.
    let inner = condition.as_bytes().strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let is_strong_tag = inner.is_some_and(|inner| !inner.contains(&b'"'));
    Some(is_alone && condition == current.tag && is_strong_tag)
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
    let first = headers.get(name)?;
    let (ours_is_weak, ours) = strength(tag.as_bytes());
    let may_be_weak = comparison == Comparison::Weak;
    // Most clients send back the one tag that they were given.
    if first == tag && (may_be_weak || !ours_is_weak) {
        return Some(true);
    }
    let is_ours = |(is_weak, opaque): (bool, &[u8])| opaque == ours && (may_be_weak || !(is_weak || ours_is_weak));
    let mut lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    Some(lines.any(|line| line.trim_ascii() == b"*" || tags(line).any(is_ours)))
}

/// Whether a tag is weak, and its text with the quotes.
fn strength(tag: &[u8]) -> (bool, &[u8]) {
    match tag.strip_prefix(b"W/") {
        Some(opaque) => (true, opaque),
        None => (false, tag),
    }
}

/// The well-formed tags of a list: whether each is weak, and its text with the quotes. A comma inside
/// quotes belongs to the tag.
fn tags(list: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let mut rest = list;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (member, after) = split_member(rest);
            rest = after;
            let (is_weak, opaque) = strength(member.trim_ascii());
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
    let text = value.to_str().ok()?.trim_ascii();
    httpdate::parse_http_date(text).ok().or_else(|| parse_rare_date(text))
}

/// The dates that the grammar allows and `httpdate` does not know: within a leap second, and before 1970.
fn parse_rare_date(text: &str) -> Option<SystemTime> {
    /// The calendar repeats itself with its weekdays after 400 years.
    const YEARS_2000: Duration = Duration::from_hours(24 * 5 * 146_097);
    let is_leap_second = text.contains("23:59:60");
    let mut text = text.replace("23:59:60", "23:59:59");
    let leap_second = Duration::from_secs(is_leap_second.into());
    if let Ok(date) = httpdate::parse_http_date(&text) {
        return date.checked_add(leap_second);
    }
    // A year of two digits is never one of those.
    let year = match text.len() {
        29 => 12,
        24 => 20,
        _ => return None,
    };
    let later = match text.get(year..=year)? {
        "0" => "2",
        "1" => "3",
        _ => return None,
    };
    text.replace_range(year..=year, later);
    httpdate::parse_http_date(&text).ok()?.checked_add(leap_second)?.checked_sub(YEARS_2000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::{Just, Strategy, any, prop};
    use proptest::{option, prop_assert, prop_assert_eq, prop_oneof, proptest};

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
    fn a_weak_tag_of_ours_is_enough_to_know_a_copy_by_and_nothing_else() {
        const WEAK: HeaderValue = HeaderValue::from_static("W/\"abc\"");
        for (name, list, expected) in [
            ("if-none-match", "\"abc\"", Outcome::Fresh),
            ("if-none-match", "W/\"abc\"", Outcome::Fresh),
            ("if-none-match", "*", Outcome::Fresh),
            ("if-none-match", "\"x\"", Outcome::Stale),
            ("if-match", "\"abc\"", Outcome::Failed),
            ("if-match", "W/\"abc\"", Outcome::Failed),
            ("if-match", "*", Outcome::Stale),
        ] {
            let found = evaluate(&Method::GET, &headers(&[(name, list)]), validators(&WEAK));
            assert_eq!(found, expected, "for {name}: {list}");
        }
        for condition in ["\"abc\"", "W/\"abc\""] {
            let found = range_may_continue(&headers(&[("if-range", condition)]), validators(&WEAK));
            assert_eq!(found, Some(false), "for {condition}");
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
    fn a_date_before_1970_and_one_within_a_leap_second_are_dates_as_well() {
        let since = |seconds: i64| {
            let distance = Duration::from_secs(seconds.unsigned_abs());
            Some(if seconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance })
        };
        for (text, expected) in [
            ("Sat, 31 Dec 2016 23:59:60 GMT", since(1_483_228_800)), // as one second later
            ("Saturday, 31-Dec-16 23:59:60 GMT", since(1_483_228_800)),
            ("Sat Dec 31 23:59:60 2016", since(1_483_228_800)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", since(-1)),
            ("Wed, 31 Dec 1969 23:59:60 GMT", since(0)),
            ("Wed Dec 31 23:59:59 1969", since(-1)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", since(0)),
            ("Mon, 29 Feb 1904 12:00:00 GMT", since(-2_077_704_000)),
            ("Sat, 01 Jan 0001 00:00:00 GMT", None), // it was a Monday
            ("Mon, 01 Jan 0001 00:00:00 GMT", since(-62_135_596_800)),
            ("Wed, 29 Feb 1900 12:00:00 GMT", None), // no leap year
            ("Sat, 31 Dec 2016 22:59:60 GMT", None), // leap seconds end a day
            ("Sat, 31 Dec 2016 23:59:61 GMT", None),
            ("Fri, 31 Dec 2016 23:59:60 GMT", None),
            ("1", None),
        ] {
            assert_eq!(parse_date(&HeaderValue::from_static(text)), expected, "for {text}");
        }
        // The file is newer than that, so this is an expectation that fails, and not a field to be ignored.
        let early = "Sun, 06 Nov 1960 08:49:37 GMT";
        assert_eq!(get(&[("if-unmodified-since", early)]), Outcome::Failed);
        assert_eq!(get(&[("if-modified-since", early)]), Outcome::Stale);
    }

    /// Two digits are to be read as a year that is at most 50 years ahead, and what those are only a clock knows. From
    /// "70" on they are read as those before 2000 all the same, in all of 2026 and later: no file has a date that is
    /// ahead, so nobody was ever given the other one. Should somebody mean it, that costs a whole answer in place of a
    /// 304, and never gives old bytes for new ones.
    #[test]
    fn two_digits_of_a_year_are_read_without_a_clock_and_on_the_safe_side() {
        for (text, expected) in [
            ("Thursday, 01-Jan-70 00:00:00 GMT", Outcome::Stale),
            ("Wednesday, 01-Dec-76 00:00:00 GMT", Outcome::Stale),
            ("Tuesday, 01-Dec-76 00:00:00 GMT", Outcome::Stale), // the weekday of 2076, and so no date
            ("Sunday, 01-Dec-69 00:00:00 GMT", Outcome::Fresh),  // 2069
        ] {
            assert_eq!(get(&[("if-modified-since", text)]), expected, "for {text}");
        }
        assert_eq!(get(&[("if-unmodified-since", "Tuesday, 01-Dec-76 00:00:00 GMT")]), Outcome::Stale);
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
    }

    #[test]
    fn a_range_continues_only_what_is_exactly_the_same() {
        for (condition, expected) in [
            ("\"abc\"", true),
            (EXACTLY, false), // weak, as every date of a file is
            ("Sunday, 06-Nov-94 08:49:37 GMT", false),
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
        let twice = headers(&[("if-range", "\"abc\""), ("if-range", "\"abc\"")]);
        assert_eq!(range_may_continue(&twice, validators(&TAG)), Some(false));
        // Should a tag of ours ever be weak, it continues nothing, not even itself.
        let weak = HeaderValue::from_static("W/\"abc\"");
        let fields = headers(&[("if-range", "W/\"abc\"")]);
        assert_eq!(range_may_continue(&fields, validators(&weak)), Some(false));
    }

    /// Section 13.2.2 step by step, and section 5.6.7 with a calendar that is counted day by day.
    mod reference {
        use super::{Method, Outcome};

        /// A list of tags, or the asterisk.
        #[derive(Debug, Clone)]
        pub(super) enum Tags {
            Any,
            List(Vec<(bool, &'static str)>),
        }

        /// The fields of a request: a date that is none is `None` inside.
        #[derive(Debug, Clone)]
        pub(super) struct Fields {
            pub(super) if_match: Option<Tags>,
            pub(super) if_unmodified_since: Option<Option<u64>>,
            pub(super) if_none_match: Option<Tags>,
            pub(super) if_modified_since: Option<Option<u64>>,
        }

        pub(super) fn evaluate(method: &Method, fields: &Fields, tag: &str, modified: Option<u64>) -> Outcome {
            let reads = ["GET", "HEAD"].contains(&method.as_str());
            // Step 1: true if the strong comparison finds one.
            if let Some(tags) = &fields.if_match {
                let is_true = match tags {
                    Tags::Any => true,
                    Tags::List(tags) => tags.contains(&(false, tag)),
                };
                if !is_true {
                    return Outcome::Failed;
                }
            // Step 2: only without If-Match; false if modified after the date.
            } else if let (Some(Some(date)), Some(modified)) = (fields.if_unmodified_since, modified)
                && modified > date
            {
                return Outcome::Failed;
            }
            // Step 3: false if the weak comparison finds one.
            if let Some(tags) = &fields.if_none_match {
                let is_false = match tags {
                    Tags::Any => true,
                    Tags::List(tags) => tags.iter().any(|(_, other)| *other == tag),
                };
                if is_false {
                    return if reads { Outcome::Fresh } else { Outcome::Failed };
                }
            // Step 4: only without If-None-Match, for GET and HEAD; false if not modified after the date.
            } else if let (true, Some(Some(date)), Some(modified)) = (reads, fields.if_modified_since, modified)
                && modified <= date
            {
                return Outcome::Fresh;
            }
            Outcome::Stale
        }

        const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

        /// A moment in the three forms. The second has two digits for the year, and is `None` where they mean
        /// another one.
        pub(super) fn forms(seconds: u64) -> (String, Option<String>, String) {
            let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
            let weekday = DAYS[(seconds / 86_400 % 7) as usize];
            let (mut day, mut month, mut year) = (1, 0, 1970);
            for _ in 0..seconds / 86_400 {
                let length = match month {
                    1 if is_leap(year) => 29,
                    1 => 28,
                    3 | 5 | 8 | 10 => 30,
                    _ => 31,
                };
                day += 1;
                if day > length {
                    (day, month) = (1, month + 1);
                }
                if month == 12 {
                    (month, year) = (0, year + 1);
                }
            }
            let time = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
            let (short, month) = (&weekday[..3], MONTHS[month]);
            (
                format!("{short}, {day:02} {month} {year} {time} GMT"),
                (year < 2070).then(|| format!("{weekday}, {day:02}-{month}-{:02} {time} GMT", year % 100)),
                format!("{short} {month} {day:2} {time} {year}"),
            )
        }
    }

    use reference::{Fields, Tags};

    const CURRENT: u64 = 784_111_777;

    fn tag_list() -> impl Strategy<Value = Tags> {
        let opaque = prop::sample::select(vec!["abc", "x", "", "a,bc", "ABC", "abc-br", "*", "W/"]);
        prop_oneof![1 => Just(Tags::Any), 4 => prop::collection::vec((any::<bool>(), opaque), 0..5).prop_map(Tags::List)]
    }

    fn date() -> impl Strategy<Value = Option<u64>> {
        let near = prop::sample::select(vec![CURRENT - 1, CURRENT, CURRENT + 1]);
        prop_oneof![4 => near.prop_map(Some), 1 => (0..4_102_444_800u64).prop_map(Some), 1 => Just(None)]
    }

    fn write_tags(tags: &Tags, comma: &str) -> String {
        match tags {
            Tags::Any => "*".into(),
            Tags::List(tags) => {
                let tag =
                    |(is_weak, opaque): &(bool, &str)| format!("{}\"{opaque}\"", if *is_weak { "W/" } else { "" });
                tags.iter().map(tag).collect::<Vec<_>>().join(comma)
            }
        }
    }

    fn write_date(date: Option<u64>, form: usize) -> String {
        let Some(seconds) = date else { return "Sun, 06 Nov 1994 08:49:37 CET".into() };
        let (preferred, two_digits, asctime) = reference::forms(seconds);
        [Some(&preferred), two_digits.as_ref(), Some(&asctime)][form].unwrap_or(&preferred).clone()
    }

    proptest! {
        #[test]
        fn preconditions_are_evaluated_in_the_order_of_the_rfc(
            fields in (option::of(tag_list()), option::of(date()), option::of(tag_list()), option::of(date())),
            comma in prop::sample::select(vec![",", ", ", " ,\t", ",,", ", , "]),
            form in 0..3usize,
            method in prop::sample::select(vec![Method::GET, Method::HEAD, Method::PUT]),
            is_dated in any::<bool>(),
        ) {
            let (if_match, if_unmodified_since, if_none_match, if_modified_since) = fields;
            let fields = Fields { if_match, if_unmodified_since, if_none_match, if_modified_since };
            let mut written = HeaderMap::new();
            let mut write = |name: HeaderName, text: Option<String>| {
                if let Some(text) = text {
                    written.insert(name, HeaderValue::from_str(&text).expect("a header value"));
                }
            };
            write(IF_MATCH, fields.if_match.as_ref().map(|tags| write_tags(tags, comma)));
            write(IF_NONE_MATCH, fields.if_none_match.as_ref().map(|tags| write_tags(tags, comma)));
            write(IF_UNMODIFIED_SINCE, fields.if_unmodified_since.map(|date| write_date(date, form)));
            write(IF_MODIFIED_SINCE, fields.if_modified_since.map(|date| write_date(date, form)));
            let modified = is_dated.then(|| UNIX_EPOCH + Duration::from_secs(CURRENT));
            let outcome = evaluate(&method, &written, Validators { tag: &TAG, modified });
            let expected = reference::evaluate(&method, &fields, "abc", is_dated.then_some(CURRENT));
            prop_assert_eq!(outcome, expected, "for {} {:?}", method, written);
        }

        #[test]
        fn every_second_is_read_in_every_form(seconds in 0..13_569_465_600u64, recent in 0..3_155_760_000u64) {
            for seconds in [seconds, recent] {
                let (preferred, two_digits, asctime) = reference::forms(seconds);
                for text in [Some(preferred), two_digits, Some(asctime)].into_iter().flatten() {
                    let value = HeaderValue::from_str(&text).expect("a header value");
                    prop_assert_eq!(parse_date(&value), Some(UNIX_EPOCH + Duration::from_secs(seconds)), "for {}", text);
                }
            }
        }

        #[test]
        fn a_date_with_a_wrong_letter_is_another_date_or_none(
            seconds in 0..3_155_760_000u64,
            form in 0..3usize,
            place in any::<prop::sample::Index>(),
            letter in prop::char::range(' ', '~'),
        ) {
            let mut text: Vec<char> = write_date(Some(seconds), form).chars().collect();
            let place = place.index(text.len());
            text[place] = letter;
            let text: String = text.into_iter().collect();
            let value = HeaderValue::from_str(&text).expect("a header value");
            // The reference knows neither what was before 1970 nor leap seconds.
            let date = parse_date(&value).filter(|_| !text.contains("23:59:60"));
            if let Some(since) = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) {
                let seconds = since.as_secs();
                let (preferred, two_digits, asctime) = reference::forms(seconds);
                // What stands between the parts of a date is not looked at; every letter and digit is.
                let is_form = |form: &String| {
                    form.len() == text.len()
                        && form.bytes().zip(text.bytes()).all(|(a, b)| a == b || !a.is_ascii_alphanumeric())
                };
                let is_one = [Some(preferred), two_digits, Some(asctime)].iter().flatten().any(is_form);
                prop_assert!(is_one, "{:?} was read as {}", text, seconds);
            }
        }
    }
}
