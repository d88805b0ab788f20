//! The two heads of an exchange: the request's, read from its bytes, and the answer's, written to them.

use std::mem::MaybeUninit;

use ::http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use ::http::request::Parts;
use ::http::{Method, Request, StatusCode, Uri, Version};
use bytes::{Bytes, BytesMut};
use httparse::Status;

use crate::config::LimitsConfig;

/// With more fields than these a request is hyper's, and perhaps too much.
const MOST_FIELDS: usize = 64;

/// From where to where something goes in a head.
type Place = (usize, usize);

/// Takes a request off the front of what was read, if it is whole, and a head and nothing more, and nothing about it is
/// odd. All else stays for hyper to read from its first byte: what has a body or wants to become another protocol,
/// HTTP/1.0, what is malformed or too large, and what has not come to its end.
pub(super) fn take(buffer: &mut BytesMut, limits: &LimitsConfig) -> Option<Parts> {
    let mut places = [(Place::default(), Place::default()); MOST_FIELDS];
    let (length, method, target, count) = {
        let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let Ok(Status::Complete(length)) = request.parse_with_uninit_headers(buffer, &mut fields) else { return None };
        let method = Method::from_bytes(request.method?.as_bytes()).ok()?;
        let is_usual = request.version == Some(1)
            && method != Method::CONNECT
            && length <= limits.header_size.as_usize()
            && request.headers.len() <= limits.header_count.get();
        if !is_usual || request.headers.iter().any(|field| is_hypers(field.name)) {
            return None;
        }
        let place = |part: &[u8]| {
            let begin = part.as_ptr() as usize - buffer.as_ptr() as usize;
            (begin, begin + part.len())
        };
        for (slot, field) in places.iter_mut().zip(&*request.headers) {
            *slot = (place(field.name.as_bytes()), place(field.value));
        }
        (length, method, place(request.path?.as_bytes()), request.headers.len())
    };
    let head = buffer.split_to(length).freeze();
    let parts = parts(method, target, &places[..count], &head);
    if parts.is_none() {
        let mut whole = BytesMut::from(head);
        whole.unsplit(std::mem::take(buffer));
        *buffer = whole;
    }
    parts
}

/// Whether a field is a sign of something that hyper shall deal with.
fn is_hypers(name: &str) -> bool {
    // Few fields have a name as long as one of these.
    match name.len() {
        6 => name.eq_ignore_ascii_case(EXPECT.as_str()),
        7 => name.eq_ignore_ascii_case(UPGRADE.as_str()),
        14 => name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str()),
        17 => name.eq_ignore_ascii_case(TRANSFER_ENCODING.as_str()),
        _ => false,
    }
}

/// The parts of a head, all of which go on using its bytes.
fn parts(method: Method, target: Place, places: &[(Place, Place)], head: &Bytes) -> Option<Parts> {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.version = Version::HTTP_11;
    parts.uri = Uri::from_maybe_shared(head.slice(target.0..target.1)).ok()?;
    parts.headers.reserve(places.len());
    for (name, value) in places {
        let name = HeaderName::from_bytes(&head[name.0..name.1]).ok()?;
        parts.headers.append(name, HeaderValue::from_maybe_shared(head.slice(value.0..value.1)).ok()?);
    }
    Some(parts)
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
/// request may follow, and the date.
pub(super) fn write(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    framing: Framing,
    is_last: bool,
    date: impl FnOnce() -> HeaderValue,
) {
    let mut line = |parts: [&[u8]; 4]| parts.into_iter().for_each(|part| out.extend_from_slice(part));
    match status {
        StatusCode::OK => line([b"HTTP/1.1 200 OK\r\n", b"", b"", b""]),
        _ => {
            let reason = status.canonical_reason().unwrap_or_default();
            line([b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason.as_bytes()]);
            line([b"\r\n", b"", b"", b""]);
        }
    }
    let (mut has_length, mut has_date) = (framing == Framing::Nothing, false);
    for (name, value) in headers {
        match *name {
            CONNECTION | TRANSFER_ENCODING => continue,
            CONTENT_LENGTH if has_length || framing == Framing::Chunked => continue,
            CONTENT_LENGTH => has_length = true,
            DATE => has_date = true,
            _ => {}
        }
        line([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    match framing {
        Framing::Length(length) if !has_length => {
            line([b"content-length: ", length.to_string().as_bytes(), b"\r\n", b""]);
        }
        Framing::Chunked => line([b"transfer-encoding: chunked\r\n", b"", b"", b""]),
        _ => {}
    }
    if is_last {
        line([b"connection: close\r\n", b"", b"", b""]);
    }
    if !has_date {
        line([b"date: ", date().as_bytes(), b"\r\n", b""]);
    }
    line([b"\r\n", b"", b"", b""]);
}
