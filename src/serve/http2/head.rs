//! What the head of an answer must be like in HTTP/2.

use ::http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderValue};
use http_body::Body as HttpBody;

use crate::http::hop_by_hop;

/// Leaves out what belongs to a connection of HTTP/1.1 (RFC 9113, section 8.2.2), and adds the date, and the length of
/// a body of which it is known.
pub(super) fn settle<B: HttpBody>(headers: &mut HeaderMap, body: &B, date: impl FnOnce() -> HeaderValue) {
    if headers.keys().any(hop_by_hop::ends_here) {
        hop_by_hop::remove(headers);
    }
    headers.entry(DATE).or_insert_with(date);
    if !body.is_end_stream()
        && let Some(length) = body.size_hint().exact()
    {
        headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::Body;

    fn settled(fields: &[(&'static str, &'static str)], body: &Body) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        settle(&mut headers, body, || HeaderValue::from_static("now"));
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII"))).collect();
        lines.sort();
        lines
    }

    #[test]
    fn the_length_is_told_where_it_is_known_and_the_answer_does_not_tell_it() {
        assert_eq!(settled(&[], &Body::from("four")), ["content-length: 4", "date: now"]);
        assert_eq!(settled(&[("content-length", "4")], &Body::from("four")), ["content-length: 4", "date: now"]);
        // As the answer to HEAD.
        assert_eq!(settled(&[("content-length", "9")], &Body::Empty), ["content-length: 9", "date: now"]);
        assert_eq!(settled(&[], &Body::Empty), ["date: now"]);
    }

    #[test]
    fn the_date_of_the_answer_stays() {
        assert_eq!(settled(&[("date", "then")], &Body::Empty), ["date: then"]);
    }

    #[test]
    fn what_belongs_to_the_connection_is_left_out() {
        let fields = [("connection", "close, x-hop"), ("x-hop", "1"), ("keep-alive", "1"), ("x-end", "1")];
        assert_eq!(settled(&fields, &Body::Empty), ["date: now", "x-end: 1"]);
        assert_eq!(settled(&[("transfer-encoding", "chunked"), ("upgrade", "x")], &Body::Empty), ["date: now"]);
    }
}
