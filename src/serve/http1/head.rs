//! The two heads of an exchange: the request's, read from its bytes, and the answer's, written to them.

use std::mem::MaybeUninit;

use ::http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use ::http::request::Parts;
use ::http::{Method, Request, StatusCode, Uri, Version};
use bytes::{Buf as _, Bytes};
use httparse::Status;

use crate::config::LimitsConfig;
use crate::http::lines;

/// With more fields than these a request is hyper's, and perhaps too much.
const MOST_FIELDS: usize = 64;

/// What the bytes are that were read.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and is taken apart at once")]
pub(super) enum Seen {
    /// A request.
    Request(Taken),
    /// The beginning of a head, and sound so far.
    Beginning,
    /// Something else, which stays as it is.
    Other,
}

/// A request that was taken off what was read.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) head: Parts,
    /// What has come of its body.
    pub(super) body: Bytes,
    /// How much of it is still to come.
    pub(super) missing: u64,
    /// Its client wants no further answer on this connection.
    pub(super) is_last: bool,
}

/// What is to be known of a head before it is taken.
#[derive(Default)]
struct Signs {
    /// What hyper shall deal with.
    is_odd: bool,
    /// The length of the body.
    length: Option<u64>,
    is_last: bool,
}

impl Signs {
    fn see(&mut self, name: &str, value: &[u8]) {
        // Few fields have a name as long as one of these.
        match name.len() {
            6 => self.is_odd |= name.eq_ignore_ascii_case(EXPECT.as_str()),
            7 => self.is_odd |= name.eq_ignore_ascii_case(UPGRADE.as_str()),
            10 if name.eq_ignore_ascii_case(CONNECTION.as_str()) => self.is_last |= says_close(value),
            14 if name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str()) => {
                let length = plain_number(value);
                self.is_odd |= length.is_none() || self.length.is_some();
                self.length = length;
            }
            17 => self.is_odd |= name.eq_ignore_ascii_case(TRANSFER_ENCODING.as_str()),
            _ => {}
        }
    }
}

/// A number of digits alone, few enough that it cannot be too large a number.
fn plain_number(value: &[u8]) -> Option<u64> {
    let is_plain = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_plain)?.parse().ok()
}

/// Whether a `Connection` field says that no further message comes (RFC 9112, section 9.6).
fn says_close(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Takes a request off the front of what was read, if its head is there to its end and nothing about it is odd. All else
/// stays for hyper to read from its first byte: a body in chunks, what wants to become another protocol, HTTP/1.0, what
/// is malformed or too large.
pub(super) fn take(unread: &mut Bytes, limits: &LimitsConfig) -> Seen {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let fields = &mut fields[..MOST_FIELDS.min(limits.header_count.get())];
    let most = limits.header_size.as_usize();
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(unread, fields) {
        Ok(Status::Complete(length)) if length <= most => length,
        Ok(Status::Partial) if unread.len() <= most => return Seen::Beginning,
        _ => return Seen::Other,
    };
    let Some((head, signs)) = read(&request, unread).filter(|(_, signs)| !signs.is_odd) else { return Seen::Other };
    unread.advance(length);
    let (announced, come) = (signs.length.unwrap_or(0), unread.len());
    let body = unread.split_to(usize::try_from(announced).map_or(come, |length| length.min(come)));
    Seen::Request(Taken { head, missing: announced - body.len() as u64, body, is_last: signs.is_last })
}

/// The head that was found in these bytes, unless it is none that can be taken.
fn read(request: &httparse::Request<'_, '_>, bytes: &Bytes) -> Option<(Parts, Signs)> {
    if request.version != Some(1) {
        return None;
    }
    let (mut head, ()) = Request::new(()).into_parts();
    head.version = Version::HTTP_11;
    head.method = Method::from_bytes(request.method?.as_bytes()).ok().filter(|method| *method != Method::CONNECT)?;
    head.uri = Uri::from_maybe_shared(bytes.slice_ref(request.path?.as_bytes())).ok()?;
    head.headers.reserve(request.headers.len());
    let mut signs = Signs::default();
    for field in &*request.headers {
        signs.see(field.name, field.value);
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?;
        head.headers.append(HeaderName::from_bytes(field.name.as_bytes()).ok()?, value);
    }
    Some((head, signs))
}

/// How an answer's body is framed (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its length.
    Length(u64),
    /// In chunks, because its length is not known.
    Chunked,
    /// `HEAD` has none, whatever length the head tells.
    Untold,
    /// With this status there is none, and nothing to be told of a length.
    Nothing,
}

impl Framing {
    /// `length` is that of the body, if that is known; otherwise what the head says of it counts.
    pub(super) fn of(is_head: bool, status: StatusCode, headers: &HeaderMap, length: Option<u64>) -> Self {
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Self::Nothing;
        }
        if is_head {
            return Self::Untold;
        }
        let said = || headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        length.or_else(said).map_or(Self::Chunked, Self::Length)
    }
}

/// Writes the head of an answer, with what belongs to this connection: how the body is framed, whether a further
/// request may follow, and the date. Some of it may be written already, the length among that. Returns whether none may:
/// because `is_last` says so, or the answer.
pub(super) fn write(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    framing: Framing,
    mut is_last: bool,
    date: impl FnOnce() -> HeaderValue,
) -> bool {
    // Room for all of it most often, so that it need not be moved while it grows.
    out.reserve(64 * (headers.len() + 3));
    let is_begun = !out.is_empty();
    if !is_begun {
        lines::status(status, out);
    }
    let (mut has_length, mut has_date) = (is_begun || framing == Framing::Nothing, false);
    for (name, value) in headers {
        match *name {
            CONNECTION => {
                is_last |= says_close(value.as_bytes());
                continue;
            }
            TRANSFER_ENCODING => continue,
            CONTENT_LENGTH if has_length || framing == Framing::Chunked => continue,
            CONTENT_LENGTH => has_length = true,
            DATE => has_date = true,
            _ => {}
        }
        lines::field(name.as_str(), value.as_bytes(), out);
    }
    match framing {
        Framing::Length(length) if !has_length => {
            lines::field(CONTENT_LENGTH.as_str(), length.to_string().as_bytes(), out);
        }
        Framing::Chunked => lines::field(TRANSFER_ENCODING.as_str(), b"chunked", out),
        _ => {}
    }
    if is_last {
        lines::field(CONNECTION.as_str(), b"close", out);
    }
    if !has_date {
        lines::field(DATE.as_str(), date().as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
    is_last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What some bytes are, and what of them stays.
    fn seen(bytes: &str) -> (Seen, String) {
        let mut unread = Bytes::copy_from_slice(bytes.as_bytes());
        let seen = take(&mut unread, &LimitsConfig::default());
        (seen, String::from_utf8(unread.to_vec()).expect("ASCII"))
    }

    /// The request that they are, and what of them stays.
    fn taken(bytes: &str) -> (Taken, String) {
        match seen(bytes) {
            (Seen::Request(taken), rest) => (taken, rest),
            (other, _) => panic!("{bytes:?} is {other:?}"),
        }
    }

    #[test]
    fn a_request_that_is_whole_is_taken_and_what_follows_stays() {
        let (taken, rest) =
            taken("GET /a?b=c HTTP/1.1\r\nHost: a.test\r\nX-Two: 1\r\nX-Two:  2 \r\nX-None:\r\n\r\nGET /");
        let Taken { head: parts, body, is_last, .. } = taken;
        assert_eq!(
            (parts.method, parts.version, parts.uri.to_string()),
            (Method::GET, Version::HTTP_11, "/a?b=c".into())
        );
        let fields: Vec<_> = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(_, &[u8]); 4] = [("host", b"a.test"), ("x-two", b"1"), ("x-two", b"2"), ("x-none", b"")];
        assert_eq!(fields, expected);
        assert_eq!((body.len(), is_last, &*rest), (0, false, "GET /"));
    }

    #[test]
    fn what_is_anything_else_stays_as_it_is() {
        let field = |field: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\nrest");
        let many: String = (0..70).map(|n| format!("X-{n}: 1\r\n")).collect();
        for bytes in [
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET http:// HTTP/1.1\r\nHost: a\r\n\r\nrest",
            &field("content-LENGTH: +4"),
            &field("Content-Length: 4, 4"),
            &field("Content-Length: 4\r\nContent-Length: 4"),
            &field("Content-Length: 0\r\nTransfer-Encoding: chunked"),
            &field("Content-Length:"),
            &field("Content-Length: 1000000000000000000"),
            &field("Transfer-Encoding: chunked"),
            &field("transfer-encoding:"),
            &field("Upgrade: websocket"),
            &field("Expect: 100-continue"),
            &field(" folded"),
            &field("X: a\0b"),
            &field(&many),
            &field(&format!("X-Long: {}", "a".repeat(40_000))),
        ] {
            let (seen, rest) = seen(bytes);
            assert_eq!(rest, bytes);
            assert!(matches!(seen, Seen::Other), "{bytes:?} is {seen:?}");
        }
    }

    #[test]
    fn a_head_that_has_not_come_to_its_end_is_a_beginning_unless_it_is_wrong_already() {
        let many: String = (0..70).map(|n| format!("X-{n}: 1\r\n")).collect();
        for (bytes, is_sound) in [
            ("G", true),
            ("GET / HTTP/1.1\r\nHost: a\r\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chu", true),
            ("GET / HTTP/1.1\r\nHost : a\r\n", false),
            ("\x16\x03", false),
            (&format!("GET / HTTP/1.1\r\n{many}"), false),
            (&format!("GET /{}", "a".repeat(40_000)), false),
        ] {
            let (seen, rest) = seen(bytes);
            assert_eq!((matches!(seen, Seen::Beginning), &*rest), (is_sound, bytes));
        }
    }

    #[test]
    fn a_body_that_has_come_with_its_head_is_taken_along() {
        for (length, expected, missing, left) in [
            (0, "", 0, "bodynext"),
            (4, "body", 0, "next"),
            (8, "bodynext", 0, ""),
            (9, "bodynext", 1, ""),
            (10_u64.pow(17), "bodynext", 10_u64.pow(17) - 8, ""),
        ] {
            let (taken, rest) = taken(&format!("POST / HTTP/1.1\r\nContent-length: {length}\r\n\r\nbodynext"));
            assert_eq!((&*taken.body, taken.missing, &*rest), (expected.as_bytes(), missing, left));
            assert_eq!(taken.head.headers[CONTENT_LENGTH], *length.to_string());
        }
    }

    #[test]
    fn a_client_that_wants_no_further_answer_says_so() {
        for (value, expected) in
            [("close", true), ("keep-alive", false), ("x, Close ,y", true), ("closed", false), ("", false)]
        {
            let (taken, _) = taken(&format!("GET / HTTP/1.1\r\nHost: a\r\nconnection: {value}\r\n\r\n"));
            assert_eq!(taken.is_last, expected, "for {value:?}");
        }
    }

    fn written(
        status: u16,
        fields: &[(&'static str, &'static str)],
        framing: Framing,
        is_last: bool,
    ) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        let mut out = Vec::new();
        let is_last = write(&mut out, status, &headers, framing, is_last, || HeaderValue::from_static("now"));
        (String::from_utf8(out).expect("ASCII").replace("\r\n", "|"), is_last)
    }

    #[test]
    fn a_head_says_how_its_body_is_framed() {
        let length = [("content-length", "4")];
        for (status, fields, framing, expected) in [
            (200, &length[..], Framing::Length(4), "HTTP/1.1 200 OK|content-length: 4|date: now||"),
            (404, &[], Framing::Length(4), "HTTP/1.1 404 Not Found|content-length: 4|date: now||"),
            (200, &[], Framing::Length(0), "HTTP/1.1 200 OK|content-length: 0|date: now||"),
            (200, &[], Framing::Chunked, "HTTP/1.1 200 OK|transfer-encoding: chunked|date: now||"),
            (200, &length, Framing::Untold, "HTTP/1.1 200 OK|content-length: 4|date: now||"),
            (200, &[], Framing::Untold, "HTTP/1.1 200 OK|date: now||"),
            (304, &length, Framing::Nothing, "HTTP/1.1 304 Not Modified|date: now||"),
            (599, &[], Framing::Nothing, "HTTP/1.1 599 |date: now||"),
            (200, &[("date", "then")], Framing::Nothing, "HTTP/1.1 200 OK|date: then||"),
            (200, &[("transfer-encoding", "gzip")], Framing::Nothing, "HTTP/1.1 200 OK|date: now||"),
        ] {
            assert_eq!(written(status, fields, framing, false), (expected.to_owned(), false));
        }
    }

    #[test]
    fn the_last_answer_says_that_it_is() {
        let expected = ("HTTP/1.1 200 OK|connection: close|date: now||".to_owned(), true);
        assert_eq!(written(200, &[], Framing::Nothing, true), expected);
        for value in ["close", "x, CLOSE"] {
            assert_eq!(written(200, &[("connection", value)], Framing::Nothing, false), expected);
        }
        assert!(!written(200, &[("connection", "keep-alive")], Framing::Nothing, false).1);
    }

    #[test]
    fn a_body_has_the_length_that_is_known_or_else_the_one_that_is_said() {
        let said = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("7"))]);
        let none = HeaderMap::new();
        for (is_head, status, headers, length, expected) in [
            (false, StatusCode::OK, &none, Some(4), Framing::Length(4)),
            (false, StatusCode::OK, &said, None, Framing::Length(7)),
            (false, StatusCode::OK, &none, None, Framing::Chunked),
            (true, StatusCode::OK, &said, Some(0), Framing::Untold),
            (true, StatusCode::NOT_MODIFIED, &said, Some(0), Framing::Nothing),
            (false, StatusCode::NO_CONTENT, &none, None, Framing::Nothing),
        ] {
            assert_eq!(Framing::of(is_head, status, headers, length), expected);
        }
    }

    #[test]
    fn a_head_that_is_begun_is_ended() {
        let mut out = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n".to_vec();
        let headers = HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static("close"))]);
        let date = || HeaderValue::from_static("now");
        assert!(write(&mut out, StatusCode::OK, &headers, Framing::Length(4), false, date));
        let expected = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\ndate: now\r\n\r\n";
        assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
    }
}
