//! Compresses what the application answers, on its way out. Static files are compressed beforehand, and files
//! that the application hands over are sent as they are, so that downloads can be resumed.
//!
//! This file decides, from heads alone; `stream` does the work, piece by piece.
//!
//! A length gives away what is in a compressed page that repeats what a visitor sent beside what must stay
//! secret (BREACH). As Django's `GZipMiddleware` does, each answer therefore gets a padding of random length.

mod encoder;
mod stream;

use std::sync::Arc;

use ::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, IF_NONE_MATCH, VARY,
};
use ::http::request::Parts;
use ::http::{HeaderMap, Method, StatusCode};
use http_body::Body as _;
use tokio::sync::Semaphore;

use self::encoder::Encoder;
use self::stream::Compressed;
use crate::config::CompressionConfig;
use crate::http::Response;
use crate::http::answers::Own;
use crate::http::body::Body;
use crate::http::conditional;
use crate::http::encoding::{Accepted, Coding, ContentCoding};

/// What of a request must be kept until its answer is there.
#[derive(Debug, Clone)]
pub struct Asked {
    accepted: Accepted,
    is_head: bool,
    /// Its `If-None-Match`.
    known: Option<HeaderValue>,
}

impl Asked {
    /// Reads it.
    pub fn of(head: &Parts) -> Self {
        let (accepted, known) = (Accepted::read(&head.headers), head.headers.get(IF_NONE_MATCH).cloned());
        Self { accepted, is_head: head.method == Method::HEAD, known }
    }
}

/// What is done with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// It goes on as it is, to whoever asks.
    Leave,
    /// It goes on as it is, and to another client it could have gone otherwise.
    Could,
    /// It is compressed.
    Compress(Coding),
}

/// Compresses an answer if that is wanted, possible and worth it.
///
/// An encoder holds up to two megabytes until its client has taken the last byte, so there are `encoders` at once and
/// no more; what finds none goes on as it is.
pub fn compress(
    mut response: Response,
    asked: &Asked,
    config: &CompressionConfig,
    encoders: &Arc<Semaphore>,
) -> Response {
    match plan(&response, asked, config) {
        Plan::Leave => {}
        Plan::Could => {
            if response.status() == StatusCode::NOT_MODIFIED && best_coding(asked).is_some() {
                keep_weak(response.headers_mut(), asked.known.as_ref());
            }
            vary(response.headers_mut());
        }
        Plan::Compress(coding) if asked.is_head => announce(response.headers_mut(), coding),
        Plan::Compress(coding) => match Arc::clone(encoders).try_acquire_owned() {
            Ok(permit) => {
                announce(response.headers_mut(), coding);
                let body = std::mem::take(response.body_mut());
                *response.body_mut() = Body::stream(Compressed::new(body, Encoder::new(coding, config), permit));
            }
            Err(_) => vary(response.headers_mut()),
        },
    }
    response
}

fn plan(response: &Response, asked: &Asked, config: &CompressionConfig) -> Plan {
    let (status, headers) = (response.status(), response.headers());
    // Our own small answers are no pages, and an operator's page may take their place.
    if !config.enabled || response.extensions().get::<Own>().is_some() {
        return Plan::Leave;
    }
    match status {
        // What it stands for may have been compressed; this head does not say.
        StatusCode::NOT_MODIFIED => return Plan::Could,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT => return Plan::Leave,
        status if status.is_informational() => return Plan::Leave,
        _ => {}
    }
    let is_settled = headers.contains_key(CONTENT_ENCODING) || headers.contains_key(CONTENT_RANGE);
    if is_settled || !is_listed(headers, &config.types) || may_not_be_changed(headers) {
        return Plan::Leave;
    }
    // The answer to HEAD has a length in its head only.
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let length: Option<u64> = announced.or(response.body().size_hint().exact().filter(|_| !asked.is_head));
    if length.is_some_and(|length| length < config.minimum_size.0.max(1)) {
        return Plan::Leave;
    }
    best_coding(asked).map_or(Plan::Could, Plan::Compress)
}

/// In which coding a page would go to this client, if in any.
fn best_coding(asked: &Asked) -> Option<Coding> {
    let candidates: [ContentCoding; 4] = [
        ContentCoding::Alone(Coding::Brotli),
        ContentCoding::Alone(Coding::Zstd),
        ContentCoding::Alone(Coding::Gzip),
        ContentCoding::Identity,
    ];
    match asked.accepted.best(candidates.into_iter()).map(|place| candidates[place]) {
        Some(ContentCoding::Alone(coding)) => Some(coding),
        _ => None,
    }
}

/// Whether the type is among those of the configuration.
fn is_listed(headers: &HeaderMap, types: &[String]) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    types.iter().any(|listed| listed.eq_ignore_ascii_case(essence))
}

/// Whether `Cache-Control` has `no-transform` (RFC 9110, section 7.7).
fn may_not_be_changed(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case("no-transform"))
}

fn announce(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
    // Those speak of other bytes.
    for name in [CONTENT_LENGTH, ACCEPT_RANGES] {
        headers.remove(name);
    }
    for name in ["content-md5", "digest", "content-digest", "repr-digest"] {
        headers.remove(HeaderName::from_static(name));
    }
    // The same page, and not the same bytes (RFC 9110, section 8.8.1).
    if let Some(weak) = weak_tag(headers) {
        headers.insert(ETAG, weak);
    }
    vary(headers);
}

/// The tag of an answer made weak, if it is a strong one.
fn weak_tag(headers: &HeaderMap) -> Option<HeaderValue> {
    let tag = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))?;
    HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok()
}

/// Who has the page compressed, as its weak tag tells, is told that tag again: the strong one is not that of its bytes
/// (RFC 9110, section 15.4.5).
fn keep_weak(headers: &mut HeaderMap, known: Option<&HeaderValue>) {
    let weak = weak_tag(headers).filter(|_| !may_not_be_changed(headers));
    if let Some(weak) = weak.filter(|weak| known.is_some_and(|known| conditional::lists(known, weak))) {
        headers.insert(ETAG, weak);
    }
}

/// Tells caches that `Accept-Encoding` makes a difference, unless that is told already.
fn vary(headers: &mut HeaderMap) {
    let lines = headers.get_all(VARY).into_iter().filter_map(|value| value.to_str().ok());
    let mut names = lines.flat_map(|line| line.split(',')).map(str::trim);
    if !names.any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding")) {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, fields: &[(&str, &'static str)]) -> Response {
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        for (name, value) in fields {
            let name: HeaderName = name.parse().expect("a name");
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        response
    }

    fn asked(method: &str, accept_encoding: &str) -> Asked {
        let head = ::http::Request::builder().method(method).header("accept-encoding", accept_encoding).body(());
        Asked::of(&head.expect("a request").into_parts().0)
    }

    const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
    const LONG: (&str, &str) = ("content-length", "5000");

    fn encoders(number: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(number))
    }

    #[test]
    fn who_has_a_page_compressed_is_told_its_weak_tag_again() {
        for (known, expected) in
            [("W/\"a\"", "W/\"a\""), ("\"a\"", "\"a\""), ("W/\"b\"", "\"a\""), ("W/\"b\", W/\"a\"", "W/\"a\"")]
        {
            let known = Some(HeaderValue::from_static(known));
            for (accepted, field, expected) in [
                ("gzip", ("age", "1"), expected),
                ("", ("age", "1"), "\"a\""), // to whom it would not be compressed
                ("gzip", ("cache-control", "no-transform"), "\"a\""),
            ] {
                let asked = Asked { known: known.clone(), ..asked("GET", accepted) };
                let fresh = response(304, &[("etag", "\"a\""), field]);
                let told = compress(fresh, &asked, &CompressionConfig::default(), &encoders(8));
                assert_eq!(told.headers()[ETAG], expected, "for {known:?} and {accepted:?}");
            }
        }
    }

    #[test]
    fn what_finds_no_encoder_goes_on_as_it_is() {
        let encoders = encoders(1);
        let asked = asked("GET", "br");
        let compressed = || compress(response(200, &[HTML, LONG]), &asked, &CompressionConfig::default(), &encoders);
        let (first, second) = (compressed(), compressed());
        assert_eq!(first.headers()[CONTENT_ENCODING], "br");
        assert!(!second.headers().contains_key(CONTENT_ENCODING));
        assert_eq!(second.headers()[VARY], "Accept-Encoding", "it could have been compressed");
        drop(first);
        assert!(compressed().headers().contains_key(CONTENT_ENCODING));
    }

    #[test]
    fn only_what_may_be_compressed_and_is_worth_it_is() {
        let brotli = Plan::Compress(Coding::Brotli);
        for (method, status, fields, expected) in [
            ("GET", 200, &[HTML, LONG][..], brotli),
            ("HEAD", 200, &[HTML, LONG], brotli), // the same head as for GET
            ("HEAD", 200, &[HTML], brotli),
            ("POST", 200, &[HTML, LONG], brotli),
            ("GET", 404, &[HTML, LONG], brotli),
            ("GET", 200, &[("content-type", "APPLICATION/JSON"), LONG], brotli),
            ("GET", 200, &[HTML, ("content-length", "1023")], Plan::Leave),
            ("GET", 200, &[HTML, ("content-length", "1024")], brotli),
            ("GET", 200, &[HTML, ("content-length", "0")], Plan::Leave),
            ("GET", 200, &[("content-type", "image/png"), LONG], Plan::Leave),
            ("GET", 200, &[("content-type", "text/event-stream")], Plan::Leave),
            ("GET", 200, &[LONG], Plan::Leave),
            ("GET", 200, &[HTML, LONG, ("content-encoding", "gzip")], Plan::Leave),
            ("GET", 200, &[HTML, LONG, ("cache-control", "private, No-Transform")], Plan::Leave),
            ("GET", 200, &[HTML, LONG, ("cache-control", "private")], brotli),
            ("GET", 206, &[HTML, LONG, ("content-range", "bytes 0-4999/9999")], Plan::Leave),
            ("GET", 204, &[HTML], Plan::Leave),
            ("GET", 304, &[], Plan::Could),
            ("GET", 101, &[], Plan::Leave),
        ] {
            let plan = plan(&response(status, fields), &asked(method, "gzip, br, zstd"), &CompressionConfig::default());
            assert_eq!(plan, expected, "for {method} {status} {fields:?}");
        }
        let mut own = response(404, &[HTML, LONG]);
        own.extensions_mut().insert(Own);
        assert_eq!(plan(&own, &asked("GET", "br"), &CompressionConfig::default()), Plan::Leave);
        let off = CompressionConfig { enabled: false, ..CompressionConfig::default() };
        assert_eq!(plan(&response(200, &[HTML, LONG]), &asked("GET", "br"), &off), Plan::Leave);
    }

    #[test]
    fn the_client_chooses_the_coding_and_may_have_none() {
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Plan::Compress(Coding::Brotli)),
            ("gzip, zstd", Plan::Compress(Coding::Zstd)),
            ("gzip", Plan::Compress(Coding::Gzip)),
            ("gzip, br;q=0.5", Plan::Compress(Coding::Gzip)),
            ("identity, br;q=0.5", Plan::Could),
            ("deflate", Plan::Could),
            ("br;q=0", Plan::Could),
            ("", Plan::Could),
        ] {
            let plan = plan(&response(200, &[HTML, LONG]), &asked("GET", accepted), &CompressionConfig::default());
            assert_eq!(plan, expected, "for {accepted:?}");
        }
    }

    #[test]
    fn the_head_says_what_became_of_the_body() {
        let fields = [
            HTML,
            LONG,
            ("etag", "\"a\""),
            ("accept-ranges", "bytes"),
            ("content-md5", "x"),
            ("vary", "Cookie"),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ];
        let all = |response: &Response| {
            let pair =
                |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("text"));
            let mut lines: Vec<_> = response.headers().iter().map(pair).collect();
            lines.sort();
            lines
        };
        let compressed =
            compress(response(200, &fields), &asked("HEAD", "gzip"), &CompressionConfig::default(), &encoders(8));
        let expected = [
            "content-encoding: gzip",
            "content-type: text/html; charset=utf-8",
            "etag: W/\"a\"",
            "last-modified: Sun, 06 Nov 1994 08:49:37 GMT",
            "vary: Accept-Encoding",
            "vary: Cookie",
        ];
        assert_eq!(all(&compressed), expected);
        let left = compress(response(200, &fields), &asked("GET", ""), &CompressionConfig::default(), &encoders(8));
        assert_eq!(left.headers()["etag"], "\"a\"");
        assert_eq!(left.headers().get_all(VARY).iter().count(), 2, "it could have been compressed");
        for told in ["*", "Cookie, accept-encoding"] {
            let told = compress(
                response(200, &[HTML, ("vary", told)]),
                &asked("GET", "br"),
                &CompressionConfig::default(),
                &encoders(8),
            );
            assert_eq!(told.headers().get_all(VARY).iter().count(), 1);
        }
    }
}
