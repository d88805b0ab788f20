//! The header fields that belong to one connection only (RFC 9110, section 7.6.1).
//!
//! Both directions use it, so it knows nothing of client or application. It never adds a field;
//! `forwarded` and the two sides of `upstream` do that.

use ::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName,
    HeaderValue, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, VARY,
};

/// Whether a field ends at this hop whatever `Connection` says.
///
/// `Keep-Alive` and `Proxy-Connection` are no standard fields, but old clients send them. `HTTP2-Settings` belongs
/// to an upgrade to h2c, which is never handed on (RFC 7540, section 3.2.1).
/// `Proxy-Authenticate` and `Proxy-Authorization` are meant for the nearest proxy, which is us, and
/// an application has no business with either.
pub fn ends_here(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | PROXY_AUTHENTICATE | PROXY_AUTHORIZATION | TE | TRAILER | TRANSFER_ENCODING | UPGRADE)
        || matches!(name.as_str(), "http2-settings" | "keep-alive" | "proxy-connection")
}

/// The further fields that the `Connection` fields of a message name.
///
/// A sender must not name fields that are meant for every recipient, and one who does, does it to
/// make a proxy lose them between itself and the application. Those stay.
pub fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    named_by(headers.get_all(CONNECTION), headers)
}

/// The same where the `Connection` fields are apart from the others.
pub fn named_by<'h>(connection: impl IntoIterator<Item = &'h HeaderValue>, headers: &HeaderMap) -> Vec<HeaderName> {
    // Nearly all there are, and no names.
    let is_usual = |text: &[u8]| [&b"close"[..], b"keep-alive"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let mut named = Vec::new();
    let lines = connection.into_iter().filter(|line| !is_usual(line.as_bytes()));
    let tokens = tokens(lines)
        .filter(|token| !is_usual(token.as_bytes()))
        // Those that are there: who names thousands of others shall not make us look for each.
        .filter(|token| headers.contains_key(*token))
        .filter_map(|token| token.parse().ok())
        .filter(|name| !ends_here(name) && !is_for_everybody(name));
    for name in tokens {
        // Each is compared with every field, so one that is named a thousand times counts once.
        if !named.contains(&name) {
            named.push(name);
        }
    }
    named
}

fn is_for_everybody(name: &HeaderName) -> bool {
    matches!(
        *name,
        AUTHORIZATION | CONTENT_ENCODING | CONTENT_LENGTH | CONTENT_TYPE | COOKIE | HOST | LOCATION | SET_COOKIE | VARY
    ) || matches!(name.as_str(), "cache-control" | "origin" | "referer" | "x-csrftoken")
}

/// Removes from a message all that ends at this hop.
pub fn remove(headers: &mut HeaderMap) {
    let mut gone = named_by_connection(headers);
    gone.extend(headers.keys().filter(|name| ends_here(name)).cloned());
    for name in gone {
        headers.remove(name);
    }
}

/// Whether one of these `Connection` fields has this token.
pub fn has_token<'h>(connection: impl IntoIterator<Item = &'h HeaderValue>, token: &str) -> bool {
    // Most often there is just one.
    let has = |line| tokens([line]).any(|part| part.eq_ignore_ascii_case(token));
    connection.into_iter().any(|line| line.as_bytes().eq_ignore_ascii_case(token.as_bytes()) || has(line))
}

fn tokens<'h>(lines: impl IntoIterator<Item = &'h HeaderValue>) -> impl Iterator<Item = &'h str> {
    lines.into_iter().filter_map(|value| value.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn left(fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = headers(fields);
        remove(&mut headers);
        let mut left: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        left.sort();
        left
    }

    #[test]
    fn what_belongs_to_the_connection_ends_with_it() {
        for name in [
            "connection",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ] {
            assert_eq!(left(&[(name, "x"), ("accept", "*/*")]), ["accept"], "for {name}");
        }
    }

    #[test]
    fn a_field_that_connection_names_ends_too() {
        for connection in ["x-hop", "close, X-Hop", "keep-alive ,x-hop", " , x-hop,"] {
            assert_eq!(left(&[("connection", connection), ("x-hop", "1"), ("x-end", "1")]), ["x-end"]);
        }
        assert_eq!(left(&[("connection", "close"), ("connection", "x-hop"), ("x-hop", "1")]), [""; 0]);
    }

    #[test]
    fn a_field_that_is_named_again_and_again_counts_once() {
        let headers = headers(&[("connection", "x-hop,x-hop,X-Hop,close"), ("connection", "x-hop"), ("x-hop", "1")]);
        assert_eq!(named_by_connection(&headers), ["x-hop"]);
    }

    #[test]
    fn connection_cannot_take_away_what_everybody_needs() {
        let kept = left(&[
            ("connection", "host, cookie, content-length"),
            ("host", "a"),
            ("cookie", "b"),
            ("content-length", "1"),
        ]);
        assert_eq!(kept, ["content-length", "cookie", "host"]);
    }

    #[test]
    fn a_token_of_connection_is_found_in_any_case_and_line() {
        let headers = headers(&[("connection", "keep-alive, Upgrade"), ("connection", "X")]);
        for (token, expected) in [("upgrade", true), ("x", true), ("close", false), ("keep", false)] {
            assert_eq!(has_token(headers.get_all(CONNECTION), token), expected, "for {token}");
        }
    }
}
