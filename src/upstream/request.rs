//! What of a request the application gets to see: from one head to another.
//!
//! The target goes on byte for byte, as does `Host`; how the body is framed is decided anew.

use std::time::SystemTime;

use ::http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use ::http::request::Parts;
use ::http::{Method, Version};
use bytes::Bytes;

use super::sent::Length;
use crate::config::UpstreamConfig;
use crate::http::forwarded::{Lines, RequestStart};
use crate::http::{Client, RequestId, forwarded, hop_by_hop};

/// A request as the application gets to see it, before it is written as the application's protocol has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'r> {
    pub(super) head: &'r Parts,
    pub(super) client: &'r Client,
    pub(super) id: RequestId,
    pub(super) more: &'r More,
    pub(super) length: Length,
    /// The protocol that the client wants to go on with.
    pub(super) upgrade: Option<&'r HeaderValue>,
}

impl Told<'_> {
    /// The head as HTTP/1.1 writes it (RFC 9112, sections 3 to 5). Nothing of it can end a line early: hyper, `h2` and
    /// `http` let no such byte into a target, a name or a value.
    pub(super) fn text(&self) -> Bytes {
        let head = self.head;
        let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
        let (path, query) = (head.uri.path(), head.uri.query());
        let mut text = Vec::with_capacity(path.len() + query.map_or(0, str::len) + fields + OWN_FIELDS);
        text.extend_from_slice(head.method.as_str().as_bytes());
        text.push(b' ');
        // The path and the query, no scheme, no host: what an application server expects.
        text.extend_from_slice(path.as_bytes());
        if let Some(query) = query {
            text.push(b'?');
            text.extend_from_slice(query.as_bytes());
        }
        text.extend_from_slice(b" HTTP/1.1\r\n");
        self.write_fields(&mut text);
        text.extend_from_slice(b"\r\n");
        text.into()
    }

    /// The header fields for the application: the client's, without what ends at this hop and without what only a proxy
    /// may say, and then what this proxy says.
    ///
    /// What the client's `Connection` names is left out while the client's own fields are copied, so it cannot reach the
    /// fields that are added afterwards. `Host` is none that it can name.
    pub(super) fn write_fields(&self, lines: &mut impl Lines) {
        let Self { client, length, .. } = *self;
        let fields = &self.head.headers;
        let named = hop_by_hop::named_by_connection(fields);
        for (name, value) in fields {
            let is_ours = hop_by_hop::ends_here(name) || *name == EXPECT || *name == CONTENT_LENGTH;
            if !is_ours && !named.contains(name) && !forwarded::is_claim(name) {
                lines.add(name, value.as_bytes());
            }
        }
        let host = fields.get(HOST);
        forwarded::write(lines, host, client, self.id);
        if self.more.forwarded {
            forwarded::write_forwarded(lines, host, client);
        }
        if let Some(start) = &self.more.start {
            forwarded::write_start(lines, start);
        }
        match length {
            Length::None => {}
            Length::Known(length) => lines.add(&CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes()),
            Length::Chunked => lines.add(&TRANSFER_ENCODING, b"chunked"),
        }
        if let Some(upgrade) = self.upgrade {
            lines.add(&UPGRADE, upgrade.as_bytes());
            lines.add(&CONNECTION, b"upgrade");
        }
    }
}

/// About how many bytes the fields take that this proxy adds, with the method and the version.
const OWN_FIELDS: usize = 512;

/// What else the application is told, if the operator wants it.
#[derive(Debug, Clone, Default)]
pub(super) struct More {
    /// Who the client is, in `Forwarded`.
    forwarded: bool,
    /// When the request was here.
    start: Option<Vec<u8>>,
}

impl More {
    /// Of a request that is whole now: its body has been gathered, and what it waits for from here on is a worker.
    pub(super) fn now(config: &UpstreamConfig, head: &Parts) -> Self {
        let start = || match head.extensions.get() {
            Some(RequestStart(told)) => told.as_bytes().to_vec(),
            None => start(SystemTime::now()),
        };
        Self { forwarded: config.forwarded, start: config.request_start.then(start) }
    }
}

fn start(now: SystemTime) -> Vec<u8> {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // 64 bits last for half a billion years.
    let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    [b"t=", itoa::Buffer::new().format(milliseconds).as_bytes()].concat()
}

/// The protocol that a client wants to go on with, if it asks in the way of WebSockets. Only a GET
/// without a body can: an upgrade with one would leave open where the body ends.
pub(super) fn wanted_upgrade(head: &Parts) -> Option<HeaderValue> {
    let mut wanted = head.headers.get_all(UPGRADE).into_iter();
    let protocol = wanted.next()?;
    let may_ask = head.version == Version::HTTP_11
        && head.method == Method::GET
        && head.headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0")
        && !head.headers.contains_key(TRANSFER_ENCODING)
        && hop_by_hop::has_token(head.headers.get_all(CONNECTION), "upgrade");
    // HTTP by another name, or hidden in TLS, would let a client speak past all that is decided here.
    let is_http = protocol.to_str().map_or(true, |protocol| {
        let protocol = protocol.to_ascii_lowercase();
        ["h2c", "http/", "tls/"].iter().any(|name| protocol.contains(name))
    });
    (may_ask && wanted.next().is_none() && !is_http).then(|| protocol.clone())
}

/// The announced length of a body; `None` if there is none or it is no number.
pub(super) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}
