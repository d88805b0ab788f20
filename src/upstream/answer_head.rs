//! Reads the head of an answer (RFC 9112, sections 2 to 5). Pure: from a buffer to a value.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode, Version};
use httparse::{ParserConfig, Status};

use super::failure::Failure;
use super::response;
use crate::http::hop_by_hop;

/// The most header fields that an answer may have.
const MOST_FIELDS: usize = 100;

/// Of more than this, read at once, only the head's own bytes are kept for its fields.
const MUCH: usize = 16 * 1024;

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    /// With the fields that may go on to the client.
    pub(super) parts: Parts,
    pub(super) ours: Ours,
}

/// The fields that end here: those of the connection, and words between an application and its proxy. There are few.
#[derive(Debug, Default)]
pub(super) struct Ours(Vec<(HeaderName, HeaderValue)>);

impl Ours {
    /// The values of a field.
    pub(super) fn all(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value)
    }

    /// The first value of a field.
    pub(super) fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.all(name).next()
    }
}

/// Takes a head from the buffer if it is there whole. One that is longer than `limit` bytes is refused.
pub(super) fn take(buffer: &mut BytesMut, limit: usize) -> Result<Option<Head>, Failure> {
    if buffer.is_empty() {
        return Ok(None);
    }
    let mut places = [FieldAt::default(); MOST_FIELDS];
    let Some(Found { length, status, version, fields }) = find(buffer, limit, &mut places)? else { return Ok(None) };
    let mut parts = Response::new(()).into_parts().0;
    parts.status = StatusCode::from_u16(status).map_err(|_| malformed("the status is no number of three digits"))?;
    parts.version = version;
    let ours;
    // A field may be held for long, and with it all that was read together with the head.
    let text = match buffer.len() > MUCH {
        true => Bytes::copy_from_slice(&buffer.split_to(length)),
        false => buffer.split_to(length).freeze(),
    };
    (parts.headers, ours) = headers(&text, &places[..fields])?;
    Ok(Some(Head { parts, ours }))
}

/// Whether the connection stays open after this answer, as far as its head says (RFC 9112, section 9.3).
pub(super) fn keeps_alive(head: &Head) -> bool {
    let says = |word| hop_by_hop::has_token(head.ours.all(&CONNECTION), word);
    if head.parts.version == Version::HTTP_11 { !says("close") } else { says("keep-alive") }
}

/// Where a field stands in the head.
#[derive(Debug, Clone, Copy, Default)]
struct FieldAt {
    name: (u32, u32),
    value: (u32, u32),
}

/// What is known of a head that is whole.
struct Found {
    length: usize,
    status: u16,
    version: Version,
    /// How many fields there are.
    fields: usize,
}

fn find(buffer: &[u8], limit: usize, places: &mut [FieldAt; MOST_FIELDS]) -> Result<Option<Found>, Failure> {
    let mut space = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, buffer, &mut space);
    let length = match parsed {
        Ok(Status::Complete(length)) if length <= limit => length,
        Ok(Status::Partial) if buffer.len() < limit => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Failure::HeadTooLarge),
        Err(error) => return Err(malformed(&error.to_string())),
    };
    let start = buffer.as_ptr() as usize;
    let place = |text: &[u8]| {
        let from = text.as_ptr() as usize - start;
        let place = |at: usize| u32::try_from(at).expect("a head is no longer than its limit");
        (place(from), place(from + text.len()))
    };
    for (field, found) in response.headers.iter().zip(places) {
        *found = FieldAt { name: place(field.name.as_bytes()), value: place(field.value) };
    }
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    Ok(Some(Found { length, status: response.code.unwrap_or_default(), version, fields: response.headers.len() }))
}

/// The fields for the client and those that end here; their values are parts of what was read. `Server` is none of them:
/// nobody here asks for it, and it tells no client anything good.
fn headers(bytes: &Bytes, places: &[FieldAt]) -> Result<(HeaderMap, Ours), Failure> {
    // There is room for those that are added on the way to the client.
    let (mut headers, mut ours) = (HeaderMap::with_capacity(places.len() + 8), Ours::default());
    let range = |(from, to): (u32, u32)| -> Range<usize> { from as usize..to as usize };
    for place in places {
        let name = &bytes[range(place.name)];
        if name.eq_ignore_ascii_case(b"server") {
            continue;
        }
        let name = HeaderName::from_bytes(name).map_err(|error| malformed(&error.to_string()))?;
        let value = HeaderValue::from_maybe_shared(bytes.slice(range(place.value)));
        let value = value.map_err(|error| malformed(&error.to_string()))?;
        if hop_by_hop::ends_here(&name) || response::is_for_a_proxy(&name) {
            ours.0.push((name, value));
        } else {
            headers.append(name, value);
        }
    }
    for name in hop_by_hop::named_by(ours.all(&CONNECTION), &headers) {
        headers.remove(name);
    }
    Ok((headers, ours))
}

fn malformed(what: &str) -> Failure {
    Failure::Malformed(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1000;

    fn read(text: &[u8]) -> Result<Option<(Head, Vec<u8>)>, Failure> {
        let mut buffer = BytesMut::from(text);
        take(&mut buffer, LIMIT).map(|head| head.map(|head| (head, buffer.to_vec())))
    }

    fn head(text: &str) -> Head {
        read(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn a_head_is_taken_when_it_is_whole_and_nothing_behind_it() {
        let text =
            b"HTTP/1.1 404 Not Found\r\nServer: x\r\nSet-Cookie: a\r\nset-cookie:  b \r\nX-Caf\x65: \xe9\r\n\r\nbody";
        for end in 1..text.len() - 4 {
            assert!(read(&text[..end]).unwrap().is_none(), "after {end} bytes");
        }
        let (Head { parts: head, .. }, left) = read(text).unwrap().unwrap();
        assert_eq!((head.status, head.version, &*left), (StatusCode::NOT_FOUND, Version::HTTP_11, &b"body"[..]));
        let fields: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(_, &[u8]); 3] = [("set-cookie", b"a"), ("set-cookie", b"b"), ("x-cafe", b"\xe9")];
        assert_eq!(fields, expected);
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 no\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno field\r\n\r\n",
            "HTTP/1.1 200 OK\r\nname : value\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: value\r\n\r\n",
            "HTTP/1.1 200 OK\r\nname: a\0b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nname: a\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nna(me: value\r\n\r\n",
        ] {
            assert!(matches!(read(text.as_bytes()), Err(Failure::Malformed(_))), "for {text:?}");
        }
    }

    #[test]
    fn a_head_has_a_limit_whole_or_not() {
        let of_length = |length: usize| {
            let text = "HTTP/1.1 200 OK\r\nx: \r\n\r\n";
            text.replace("x: ", &format!("x: {}", "y".repeat(length - text.len())))
        };
        assert!(read(of_length(LIMIT).as_bytes()).unwrap().is_some());
        assert!(matches!(read(of_length(LIMIT + 1).as_bytes()), Err(Failure::HeadTooLarge)));
        assert!(matches!(read(&of_length(LIMIT + 1).as_bytes()[..LIMIT]), Err(Failure::HeadTooLarge)));
        assert!(read(&of_length(LIMIT).as_bytes()[..LIMIT - 1]).unwrap().is_none());
        let fields = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a:b\r\n".repeat(count));
        assert!(read(fields(MOST_FIELDS).as_bytes()).unwrap().is_some());
        assert!(matches!(read(fields(MOST_FIELDS + 1).as_bytes()), Err(Failure::HeadTooLarge)));
    }

    #[test]
    fn the_head_says_whether_the_connection_stays() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\n\r\n", true),
        ] {
            assert_eq!(keeps_alive(&head(text)), expected, "for {text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(begins: bool, bytes: Vec<u8>) {
            let start: &[u8] = if begins { b"HTTP/1.1 200 OK\r\n" } else { b"" };
            let _ = read(&[start, &bytes].concat());
        }
    }
}
