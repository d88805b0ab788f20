//! What of a request the application gets to see: from one head to another.
//!
//! The target goes on byte for byte, as does `Host`; how the body is framed is decided anew.

use std::time::SystemTime;

use ::http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use ::http::request::Parts;
use ::http::{Method, Version};
use bytes::Bytes;

use super::sent::Length;
use crate::config::UpstreamConfig;
use crate::http::forwarded::RequestStart;
use crate::http::{Client, RequestId, forwarded, hop_by_hop};

/// The head as HTTP/1.1 writes it (RFC 9112, sections 3 to 5). Nothing of it can end a line early: hyper, `h2` and `http` let
/// no such byte into a target, a name or a value.
pub(super) fn text(head: &Parts, headers: &HeaderMap) -> Bytes {
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    let (path, query) = (head.uri.path(), head.uri.query());
    let mut text =
        Vec::with_capacity(head.method.as_str().len() + path.len() + query.map_or(0, str::len) + 16 + fields);
    text.extend_from_slice(head.method.as_str().as_bytes());
    text.push(b' ');
    // The path and the query, no scheme, no host: what an application server expects.
    text.extend_from_slice(path.as_bytes());
    if let Some(query) = query {
        text.push(b'?');
        text.extend_from_slice(query.as_bytes());
    }
    text.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text.into()
}

/// What else the application is told, if the operator wants it.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// Who the client is, in `Forwarded`.
    forwarded: bool,
    /// When the request was here.
    start: Option<RequestStart>,
}

impl Told {
    /// Of a request that is whole now: its body has been gathered, and what it waits for from here on is a worker.
    pub(super) fn now(config: &UpstreamConfig, head: &Parts) -> Self {
        let start = || head.extensions.get().cloned().unwrap_or_else(|| start(SystemTime::now()));
        Self { forwarded: config.forwarded, start: config.request_start.then(start) }
    }
}

fn start(now: SystemTime) -> RequestStart {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let value = HeaderValue::try_from(format!("t={}", since.as_millis()));
    RequestStart(value.expect("letters and digits are a header value"))
}

/// The header fields for the application: the client's, without what ends at this hop and without
/// what only a proxy may say, and then what this proxy says.
///
/// What the client's `Connection` names is left out while the client's own fields are copied, so it
/// cannot reach the fields that are added afterwards.
pub(super) fn headers(
    head: &Parts,
    client: &Client,
    id: RequestId,
    told: &Told,
    length: Length,
    upgrade: Option<&HeaderValue>,
) -> HeaderMap {
    let named = hop_by_hop::named_by_connection(&head.headers);
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 9);
    for (name, value) in &head.headers {
        let is_ours = hop_by_hop::ends_here(name) || *name == EXPECT || *name == CONTENT_LENGTH;
        if !is_ours && !named.contains(name) && !forwarded::is_claim(name) {
            headers.append(name, value.clone());
        }
    }
    forwarded::write(&mut headers, client, id);
    if told.forwarded {
        forwarded::write_forwarded(&mut headers, client);
    }
    if let Some(start) = &told.start {
        forwarded::write_start(&mut headers, start.clone());
    }
    match length {
        Length::None => {}
        Length::Known(length) => _ = headers.insert(CONTENT_LENGTH, HeaderValue::from(length)),
        Length::Chunked => _ = headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
    }
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    headers
}

/// The protocol that a client wants to go on with, if it asks in the way of WebSockets. Only a GET
/// without a body can: an upgrade with one would leave open where the body ends.
pub(super) fn wanted_upgrade(head: &Parts) -> Option<HeaderValue> {
    let may_ask = head.version == Version::HTTP_11
        && head.method == Method::GET
        && head.headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0")
        && !head.headers.contains_key(TRANSFER_ENCODING)
        && hop_by_hop::connection_has(&head.headers, "upgrade");
    let mut wanted = head.headers.get_all(UPGRADE).into_iter();
    let protocol = wanted.next().filter(|_| may_ask)?;
    // HTTP by another name, or hidden in TLS, would let a client speak past all that is decided here.
    let is_http = protocol.to_str().map_or(true, |protocol| {
        let protocol = protocol.to_ascii_lowercase();
        ["h2c", "http/", "tls/"].iter().any(|name| protocol.contains(name))
    });
    (wanted.next().is_none() && !is_http).then(|| protocol.clone())
}

/// Whether sending the request twice does no harm (RFC 9110, section 9.2.2).
pub(super) fn can_repeat(method: &Method, length: Length) -> bool {
    method.is_idempotent() && matches!(length, Length::None | Length::Known(0))
}

/// The announced length of a body; `None` if there is none or it is no number.
pub(super) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}
