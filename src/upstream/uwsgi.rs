//! The uwsgi protocol, as nginx's `uwsgi_pass` speaks it: a packet of CGI-like variables, the body,
//! and an ordinary HTTP answer.
//!
//! Pure: the packet takes the place of a request's head. A connection serves one request; the protocol has no
//! keep-alive that both uWSGI and gunicorn know, and no chunks, so the body's length must be known.

use ::http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, TRANSFER_ENCODING, UPGRADE,
};
use ::http::request::Parts;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use percent_encoding::percent_decode_str;

use super::failure::Failure;
use super::request::Told;
use crate::config::values::UwsgiPath;
use crate::http::{Client, Scheme, forwarded};

/// What to say when the application server takes such a packet and hangs up without a word, if the
/// packet's size may be the reason.
pub(super) fn hint(packet: &Bytes) -> Option<&'static str> {
    const DEFAULT_BUFFER_SIZE: usize = 4096;
    (packet.len() > DEFAULT_BUFFER_SIZE)
        .then_some(": the request's head is larger than uWSGI's default `buffer-size` of 4096; raise it there")
}

/// The packet for a request.
pub(super) fn packet(told: &Told<'_>, path: UwsgiPath) -> Result<Bytes, Failure> {
    let mut headers = HeaderMap::with_capacity(told.head.headers.len() + 9);
    told.write_fields(&mut headers);
    packet_with(told.head, &headers, told.client, path)
}

/// The packet for a request whose header fields are already those for the application.
fn packet_with(head: &Parts, headers: &HeaderMap, client: &Client, path: UwsgiPath) -> Result<Bytes, Failure> {
    let mut packet = Packet::new();
    add_request(&mut packet, head, headers, path);
    add_connection(&mut packet, headers, client);
    for name in headers.keys().filter(|name| becomes_variable(name)) {
        let mut key = String::with_capacity(5 + name.as_str().len());
        key.push_str("HTTP_");
        key.extend(name.as_str().chars().map(|c| if c == '-' { '_' } else { c.to_ascii_uppercase() }));
        packet.add(key.as_bytes(), &joined(headers, name));
    }
    packet.finish()
}

fn add_request(packet: &mut Packet, head: &Parts, headers: &HeaderMap, path: UwsgiPath) {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let field = |name: HeaderName| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    packet.add(b"REQUEST_METHOD", head.method.as_str().as_bytes());
    packet.add(b"REQUEST_URI", target.as_bytes());
    match path {
        UwsgiPath::Decoded => packet.add(b"PATH_INFO", &percent_decode_str(head.uri.path()).collect::<Vec<_>>()),
        UwsgiPath::Encoded => packet.add(b"PATH_INFO", head.uri.path().as_bytes()),
    }
    packet.add(b"QUERY_STRING", head.uri.query().unwrap_or_default().as_bytes());
    packet.add(b"CONTENT_TYPE", field(CONTENT_TYPE));
    packet.add(b"CONTENT_LENGTH", field(CONTENT_LENGTH));
    // nginx names here the folder of its files, also where it serves none. This server has many, or none.
    packet.add(b"DOCUMENT_ROOT", b"");
    // What the client speaks with us is no matter of the application's; its answer must be HTTP/1.1.
    packet.add(b"SERVER_PROTOCOL", b"HTTP/1.1");
}

fn add_connection(packet: &mut Packet, headers: &HeaderMap, client: &Client) {
    let address = client.address.map(|address| address.to_canonical().to_string()).unwrap_or_default();
    packet.add(b"REMOTE_ADDR", address.as_bytes());
    packet.add(b"REMOTE_PORT", client.port.to_string().as_bytes());
    packet.add(b"REQUEST_SCHEME", client.scheme.as_str().as_bytes());
    if client.scheme == Scheme::Https {
        packet.add(b"HTTPS", b"on");
    }
    if let Some(host) = headers.get(HOST) {
        let port = forwarded::public_port(host, client.scheme).to_string();
        packet.add(b"SERVER_NAME", without_port(host.as_bytes()));
        packet.add(b"SERVER_PORT", port.as_bytes());
    }
}

fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|&byte| byte == b':') {
        Some(colon) if host[colon..].iter().skip(1).all(u8::is_ascii_digit) => &host[..colon],
        _ => host,
    }
}

/// Whether a field goes into the packet as `HTTP_…`.
///
/// `Content-Type` and `Content-Length` have variables of their own and framing has none. A dash and an
/// underscore become the same letter, so a name with an underscore could pose as another field.
fn becomes_variable(name: &HeaderName) -> bool {
    !matches!(*name, CONNECTION | CONTENT_LENGTH | CONTENT_TYPE | TRANSFER_ENCODING | UPGRADE)
        && name.as_str() != "proxy"
        && name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// All lines of a field as one, as CGI has it.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let separator: &[u8] = if *name == COOKIE { b"; " } else { b", " };
    let lines: Vec<_> = headers.get_all(name).into_iter().map(|value| value.as_bytes()).collect();
    lines.join(separator)
}

/// A packet being written: four bytes of head, then length-prefixed names and values.
struct Packet {
    bytes: BytesMut,
    is_too_large: bool,
}

impl Packet {
    fn new() -> Self {
        let mut bytes = BytesMut::with_capacity(2048);
        bytes.put_u32(0); // filled in at the end
        Self { bytes, is_too_large: false }
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        for part in [name, value] {
            match u16::try_from(part.len()) {
                Ok(length) => self.bytes.put_u16_le(length),
                Err(_) => return self.is_too_large = true,
            }
            self.bytes.put_slice(part);
        }
    }

    /// The first and the last byte of the head are two modifiers, both 0 for WSGI.
    fn finish(mut self) -> Result<Bytes, Failure> {
        match u16::try_from(self.bytes.len() - 4) {
            Ok(length) if !self.is_too_large => {
                self.bytes[1..3].copy_from_slice(&length.to_le_bytes());
                Ok(self.bytes.freeze())
            }
            _ => Err(Failure::PacketTooLarge),
        }
    }
}

/// The name and the value of one variable.
pub type Variable = (Vec<u8>, Vec<u8>);

/// Reads a packet: its variables, and how many bytes it takes. `None` while it is not whole, or if it
/// is malformed. Application servers do this; it is here to keep the writer honest.
pub fn read_packet(bytes: &[u8]) -> Option<(Vec<Variable>, usize)> {
    let length = usize::from(u16::from_le_bytes([*bytes.get(1)?, *bytes.get(2)?]));
    let mut rest = bytes.get(4..4 + length)?;
    let mut variables = Vec::new();
    while !rest.is_empty() {
        variables.push((take_string(&mut rest)?, take_string(&mut rest)?));
    }
    Some((variables, 4 + length))
}

fn take_string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_le_bytes([*rest.first()?, *rest.get(1)?]));
    let string = rest.get(2..2 + length)?.to_vec();
    rest.advance(2 + length);
    Some(string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestId;
    use crate::upstream::request::More;
    use crate::upstream::sent::Length;
    use ::http::{HeaderValue, Request};
    use proptest::prelude::*;

    const CLIENT: Client = Client {
        address: Some(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
        port: 5,
        scheme: Scheme::Http,
        local_port: 0,
    };

    fn written(
        target: &str,
        fields: &[(&'static str, &'static str)],
        client: &Client,
        path: UwsgiPath,
    ) -> Vec<(String, String)> {
        let (head, ()) = Request::get(target).body(()).unwrap().into_parts();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let packet = packet_with(&head, &headers, client, path).unwrap();
        let (variables, length) = read_packet(&packet).unwrap();
        assert_eq!(length, packet.len());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        variables.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn variable<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut found = variables.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is there twice");
        value
    }

    #[test]
    fn a_request_becomes_the_variables_of_nginx() {
        let client = Client { scheme: Scheme::Https, ..CLIENT };
        let fields = [
            ("host", "example.com"),
            ("content-type", "text/plain"),
            ("content-length", "3"),
            ("x-requested-with", "fetch"),
            ("accept", "a"),
            ("accept", "b"),
            ("cookie", "c=1"),
            ("cookie", "d=2"),
        ];
        let variables = written("/a%20b?q=%41", &fields, &client, UwsgiPath::Decoded);
        for (name, expected) in [
            ("REQUEST_METHOD", Some("GET")),
            ("REQUEST_URI", Some("/a%20b?q=%41")),
            ("PATH_INFO", Some("/a b")),
            ("QUERY_STRING", Some("q=%41")),
            ("CONTENT_TYPE", Some("text/plain")),
            ("CONTENT_LENGTH", Some("3")),
            ("DOCUMENT_ROOT", Some("")),
            ("SERVER_PROTOCOL", Some("HTTP/1.1")),
            ("REMOTE_ADDR", Some("127.0.0.1")),
            ("REMOTE_PORT", Some("5")),
            ("REQUEST_SCHEME", Some("https")),
            ("HTTPS", Some("on")),
            ("SERVER_NAME", Some("example.com")),
            ("SERVER_PORT", Some("443")),
            ("HTTP_HOST", Some("example.com")),
            ("HTTP_X_REQUESTED_WITH", Some("fetch")),
            ("HTTP_ACCEPT", Some("a, b")),
            ("HTTP_COOKIE", Some("c=1; d=2")),
            ("HTTP_CONTENT_TYPE", None),
            ("HTTP_CONTENT_LENGTH", None),
        ] {
            assert_eq!(variable(&variables, name), expected, "for {name}");
        }
    }

    #[test]
    fn a_field_that_could_pose_as_another_variable_stays_out() {
        let fields = [
            ("proxy", "evil"),
            ("x_forwarded_for", "evil"),
            ("x.y", "evil"),
            ("transfer-encoding", "evil"),
            ("connection", "evil"),
            ("upgrade", "evil"),
        ];
        let variables = written("/", &fields, &CLIENT, UwsgiPath::Decoded);
        assert!(variables.iter().all(|(_, value)| value != "evil"), "{variables:?}");
        assert_eq!(variable(&variables, "HTTPS"), None);
    }

    #[test]
    fn the_path_goes_decoded_or_as_it_came() {
        for (path, expected) in [(UwsgiPath::Decoded, "/a%41"), (UwsgiPath::Encoded, "/a%2541")] {
            let variables = written("/a%2541", &[], &CLIENT, path);
            assert_eq!(variable(&variables, "PATH_INFO"), Some(expected));
        }
    }

    #[test]
    fn the_server_name_is_the_host_without_its_port() {
        for (host, name, port) in
            [("example.com:8443", "example.com", "8443"), ("[::1]", "[::1]", "80"), ("[::1]:81", "[::1]", "81")]
        {
            let variables = written("/", &[("host", host)], &CLIENT, UwsgiPath::Decoded);
            assert_eq!(variable(&variables, "SERVER_NAME"), Some(name));
            assert_eq!(variable(&variables, "SERVER_PORT"), Some(port));
        }
    }

    #[test]
    fn a_head_beyond_the_format_is_refused_and_not_cut() {
        let (head, ()) = Request::get("/").body(()).unwrap().into_parts();
        for (length, fits) in [(60_000, true), (65_535, false), (70_000, false)] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::try_from("x".repeat(length)).unwrap());
            let packet = packet_with(&head, &headers, &CLIENT, UwsgiPath::Decoded);
            assert_eq!(packet.is_ok(), fits, "for a cookie of {length} bytes");
        }
    }

    #[test]
    fn only_a_large_packet_is_suspected() {
        assert_eq!(hint(&Bytes::from(vec![0; 4000])), None);
        assert!(hint(&Bytes::from(vec![0; 5000])).is_some_and(|hint| hint.contains("buffer-size")));
    }

    /// Names that an application could take for what only we may say, and a few that it may not.
    const POSERS: [&str; 16] = [
        "remote-addr",
        "remote_addr",
        "Remote-User",
        "script-name",
        "path-info",
        "x-forwarded-for",
        "x_forwarded_for",
        "x.forwarded.for",
        "x-real-ip",
        "proxy",
        "http_proxy",
        "https",
        "request-uri",
        "content-type",
        "client-cert",
        "x-mine",
    ];

    proptest! {
        #[test]
        fn what_is_written_is_read(variables: Vec<(Vec<u8>, Vec<u8>)>) {
            let mut packet = Packet::new();
            for (name, value) in &variables {
                packet.add(name, value);
            }
            let bytes = packet.finish().unwrap();
            prop_assert_eq!(read_packet(&bytes), Some((variables, bytes.len())));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = read_packet(&bytes);
        }

        #[test]
        fn lengths_that_lie_make_the_reader_stop_and_not_read_beyond(
            variables: Vec<(Vec<u8>, Vec<u8>)>, place: prop::sample::Index, byte: u8, end: prop::sample::Index,
        ) {
            let mut packet = Packet::new();
            variables.iter().for_each(|(name, value)| packet.add(name, value));
            let mut bytes = packet.finish().unwrap().to_vec();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            bytes.truncate(end.index(bytes.len() + 1));
            if let Some((read, length)) = read_packet(&bytes) {
                let size: usize = read.iter().map(|(name, value)| 4 + name.len() + value.len()).sum();
                prop_assert_eq!((size + 4, length <= bytes.len()), (length, true));
            }
        }

        #[test]
        fn no_field_of_a_client_becomes_a_variable_of_ours(
            fields in prop::collection::vec((prop::sample::select(&POSERS), "mallory[ -~]{0,5}"), 0..12),
        ) {
            let mut request = Request::get("http://example.com/a?b").header("host", "example.com");
            for (name, value) in &fields {
                request = request.header(*name, value.trim());
            }
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            crate::http::request_rules::admit(&mut head).unwrap();
            let (client, more, length) = (&CLIENT, &More::default(), Length::None);
            let told = Told { head: &head, client, id: RequestId(1), more, length, upgrade: None };
            let packet = packet(&told, UwsgiPath::Decoded).unwrap();
            let (variables, _) = read_packet(&packet).unwrap();
            let variables: Vec<_> = variables.into_iter().map(|(name, value)| {
                (String::from_utf8(name).unwrap(), String::from_utf8(value).unwrap())
            }).collect();
            let names: std::collections::BTreeSet<_> = variables.iter().map(|(name, _)| name).collect();
            prop_assert_eq!(names.len(), variables.len(), "one variable came twice");
            for (name, value) in &variables {
                let may_be_the_clients = matches!(&**name, "HTTP_HTTPS" | "HTTP_X_MINE" | "HTTP_REQUEST_URI" | "CONTENT_TYPE");
                prop_assert!(may_be_the_clients || !value.contains("mallory"), "{} is {}", name, value);
            }
        }
    }
}
