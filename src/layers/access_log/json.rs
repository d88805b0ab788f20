//! The line as JSON. Its keys and most of its values need no escaping, so it is put together from pieces; what does
//! need it, serde_json writes.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ::http::Version;
use serde::Serialize;

use super::entry::{Text, Told, encoded};

/// Writes the line of a request that ended at `ended`.
pub(super) fn write(told: &Told<'_>, ended: SystemTime, out: &mut Vec<u8>) -> io::Result<()> {
    let facts = &told.facts;
    out.extend_from_slice(b"{\"time\":\"");
    time(ended, out);
    out.extend_from_slice(b"\",\"client\":");
    match facts.client {
        Some(address) => client(address, out)?,
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"scheme\":\"");
    out.extend_from_slice(facts.scheme.as_str().as_bytes());
    out.extend_from_slice(b"\",\"method\":\"");
    out.extend_from_slice(told.get(Text::Method).unwrap_or_default());
    out.push(b'"');
    header(b",\"host\":", told.get(Text::Host), out)?;
    out.extend_from_slice(b",\"target\":");
    target(told, out)?;
    out.extend_from_slice(b",\"protocol\":\"");
    out.extend_from_slice(protocol(facts.version).as_bytes());
    out.extend_from_slice(b"\",\"status\":");
    out.extend_from_slice(facts.status.as_str().as_bytes());
    out.extend_from_slice(b",\"bytes\":");
    value(&facts.bytes, out)?;
    out.extend_from_slice(b",\"duration\":");
    value(&seconds(facts.duration), out)?;
    if let Some(time) = facts.upstream {
        out.extend_from_slice(b",\"upstream\":");
        value(&seconds(time), out)?;
    }
    if let Some(server) = told.text(Text::Server) {
        out.extend_from_slice(b",\"server\":");
        value(&*server, out)?;
    }
    header(b",\"encoding\":", told.get(Text::Encoding), out)?;
    out.extend_from_slice(b",\"request_id\":\"");
    out.extend_from_slice(&facts.id.digits());
    out.push(b'"');
    header(b",\"user_agent\":", told.get(Text::UserAgent), out)?;
    header(b",\"referer\":", told.get(Text::Referer), out)?;
    if !facts.complete {
        out.extend_from_slice(b",\"aborted\":true");
    }
    if let Some(error) = told.text(Text::Error) {
        out.extend_from_slice(b",\"error\":");
        value(&*error, out)?;
    }
    out.extend_from_slice(b"}\n");
    Ok(())
}

/// A number, or a text whatever is in it.
fn value<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> io::Result<()> {
    Ok(serde_json::to_writer(out, value)?)
}

/// The value of a header field, if there is one, behind its key; what is not UTF-8 in it is marked.
fn header(key: &[u8], field: Option<&[u8]>, out: &mut Vec<u8>) -> io::Result<()> {
    let Some(field) = field else { return Ok(()) };
    out.extend_from_slice(key);
    if is_plain(field) {
        quote(field, out);
        return Ok(());
    }
    let text = String::from_utf8_lossy(field);
    let ends_a_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    value(&text.replace(ends_a_line, "\u{fffd}"), out)
}

/// The target, encoded as by [`encoded`].
fn target(told: &Told<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    let target = told.get(Text::Target).unwrap_or_default();
    if is_plain(target) {
        quote(target, out);
        return Ok(());
    }
    value(&encoded(&String::from_utf8_lossy(target)).to_string(), out)
}

/// Whether a text is nothing but what a typewriter has and JSON has no other use for, which nearly all are. All of it is
/// looked at, so that many bytes are at once.
fn is_plain(bytes: &[u8]) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    bytes.iter().fold(true, |so_far, byte| so_far & is_plain(*byte))
}

fn quote(plain: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(plain);
    out.push(b'"');
}

/// An address needs no escaping, but a display.
fn client(address: IpAddr, out: &mut Vec<u8>) -> io::Result<()> {
    match address {
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            out.push(b'"');
            value(&first, out)?;
            for octet in rest {
                out.push(b'.');
                value(&octet, out)?;
            }
            out.push(b'"');
            Ok(())
        }
        IpAddr::V6(address) => write!(out, "\"{address}\""),
    }
}

fn seconds(time: Duration) -> f64 {
    // Microseconds are enough, and a short number is easier to read.
    (time.as_secs_f64() * 1e6).round() / 1e6
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

thread_local! {
    /// The last second and its text up to the point: many lines of a busy site have the same.
    static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// A time in UTC to the millisecond.
fn time(time: SystemTime, out: &mut Vec<u8>) {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    LAST.with_borrow_mut(|(last, text)| {
        if *last != since.as_secs() {
            let second = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
            *text = humantime::format_rfc3339_seconds(second).to_string();
            text.truncate(text.len() - 1);
            *last = since.as_secs();
        }
        out.extend_from_slice(text.as_bytes());
    });
    let millis = since.subsec_millis();
    let digit = |power: u32| b'0' + u8::try_from(millis / power % 10).unwrap_or_default();
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::http::{HeaderValue, Method, StatusCode, Uri};
    use proptest::prelude::*;

    use super::super::entry::Entry;
    use super::*;
    use crate::http::{Client, RequestId, Scheme};

    /// The line as a serializer writes it.
    #[derive(Serialize)]
    struct Derived {
        time: String,
        client: Option<IpAddr>,
        scheme: &'static str,
        method: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        target: String,
        protocol: &'static str,
        status: u16,
        bytes: u64,
        duration: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        upstream: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        server: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encoding: Option<String>,
        request_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_agent: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        referer: Option<String>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        aborted: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    }

    impl Derived {
        fn of(entry: &Entry, now: SystemTime, duration: Duration) -> Self {
            let text = |field: &Option<HeaderValue>| {
                let mark = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
                field.as_ref().map(|field| String::from_utf8_lossy(field.as_bytes()).replace(mark, "\u{fffd}"))
            };
            Self {
                time: humantime::format_rfc3339_millis(now).to_string(),
                client: entry.client,
                scheme: entry.scheme.as_str(),
                method: entry.method.to_string(),
                host: text(&entry.host),
                target: encoded(entry.uri.path_and_query().map_or("*", |target| target.as_str())).to_string(),
                protocol: protocol(entry.version),
                status: entry.status.as_u16(),
                bytes: entry.bytes,
                duration: seconds(duration),
                upstream: entry.upstream.map(seconds),
                server: entry.server.as_deref().map(str::to_owned),
                encoding: text(&entry.encoding),
                request_id: entry.id.to_string(),
                user_agent: text(&entry.user_agent),
                referer: text(&entry.referer),
                aborted: !entry.complete,
                error: entry.error.clone(),
            }
        }
    }

    fn field() -> impl Strategy<Value = Option<HeaderValue>> {
        let bytes = prop_oneof![
            "[ -~]{0,60}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..20),
            Just("a\u{2028}b\u{85}\u{7f}\\\"".as_bytes().to_vec()),
        ];
        prop::option::of(bytes.prop_map(|bytes| HeaderValue::from_bytes(&bytes).ok())).prop_map(Option::flatten)
    }

    fn target() -> impl Strategy<Value = Uri> {
        prop_oneof!["/[!-~é€\u{85}]{0,40}", Just("*".to_owned()), Just("https://example.com/a".to_owned())]
            .prop_map(|target| target.parse().unwrap_or_else(|_| Uri::from_static("/")))
    }

    proptest! {
        #[test]
        fn a_line_is_what_a_serializer_writes(
            (millis, micros, upstream) in (0u64..4_102_444_800_000, 0u64..100_000_000_000, prop::option::of(0u64..20)),
            (address, id, bytes) in (any::<Option<IpAddr>>(), any::<u128>(), any::<u64>()),
            (host, user_agent, referer, encoding) in (field(), field(), field(), field()),
            (uri, method) in (target(), "[A-Z]{1,9}"),
            (status, is_secure, complete) in (100u16..1000, any::<bool>(), any::<bool>()),
            (server, error) in (prop::option::of("\\PC{0,20}"), prop::option::of(".{0,20}")),
        ) {
            let scheme = if is_secure { Scheme::Https } else { Scheme::Http };
            let client = Client { address, port: 1, scheme, local_port: 1 };
            let entry = Entry {
                method: Method::from_bytes(method.as_bytes()).unwrap(),
                uri,
                version: if is_secure { Version::HTTP_2 } else { Version::HTTP_11 },
                host,
                user_agent,
                referer,
                encoding,
                id: RequestId(id),
                status: StatusCode::from_u16(status).unwrap(),
                upstream: upstream.map(Duration::from_micros),
                server: server.map(Arc::from),
                bytes,
                complete,
                error,
                ..Entry::malformed(&client, 400, "")
            };
            let now = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            // From microseconds to a day, each as likely.
            let duration = Duration::from_micros(micros >> (micros % 37));
            let mut told = entry.told();
            told.facts.duration = duration;
            let mut line = Vec::new();
            write(&told, now, &mut line).unwrap();
            let expected = serde_json::to_string(&Derived::of(&entry, now, duration)).unwrap();
            prop_assert_eq!(String::from_utf8(line).unwrap(), expected + "\n");
        }
    }
}
