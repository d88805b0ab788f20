//! What a request must be like before anything else is decided about it.
//!
//! A parser lets through what two readers can understand in two ways: two hosts, a length and a chunked
//! body, a path that climbs. The application must never see another request than the one that the
//! rules of this program were applied to, so such requests end here. Which hosts are allowed is asked later.
//!
//! A body is allowed with every method, unless [`check_strictly`] is asked first. RFC 9110 gives one on a GET no meaning, but Elasticsearch and
//! others use it, and it is framed anew towards the application, so it cannot hide a second request.

use std::borrow::Cow;

use ::http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, Entry,
    HOST, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, ORIGIN, RANGE, REFERER,
    TRANSFER_ENCODING, UPGRADE_INSECURE_REQUESTS, USER_AGENT,
};
use ::http::request::Parts;
use ::http::{Method, StatusCode, Uri, Version};
use percent_encoding::percent_decode_str;

/// Why a request goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    status: StatusCode,
    reason: &'static str,
}

impl Refusal {
    /// What the client is told.
    pub fn status(self) -> StatusCode {
        self.status
    }
}

/// What a request lacks that names no host, where one must be named.
pub const NO_HOST: Refusal = Refusal { status: StatusCode::BAD_REQUEST, reason: "no Host" };

/// A rule that was broken: 400, and the reason for the log.
fn bad<T>(reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status: StatusCode::BAD_REQUEST, reason })
}

/// Checks a request's head and brings it into one shape for all versions of HTTP: the target is a path
/// with a query, there is at most one `Host`, and at most one `Cookie`. Returns it with the host in lower case,
/// without its port; `None` if the request names none: HTTP/1.0 has none, and the field may be empty.
///
/// Fields with an underscore or a dot in their name are dropped, as nginx does: to an application `X_Forwarded_For` and `X-Forwarded-For` are one and the same variable.
///
/// # Errors
/// The rule that is broken.
pub fn admit(head: &mut Parts) -> Result<(&Parts, Option<Cow<'_, str>>), Refusal> {
    check_method(&head.method)?;
    let present = Present::among(&head.headers);
    check_framing(head, present)?;
    check_values(head)?;
    check_target(&head.uri)?;
    settle_host(head, present)?;
    if present.has_ambiguous_names {
        drop_ambiguous_names(&mut head.headers);
    }
    if present.has_cookies && present.has_repeated_names {
        join_cookies(&mut head.headers);
    }
    let host = named_host(&head.headers)?;
    Ok((head, host))
}

/// What [`admit`] makes safe in its own way is refused: a name with an underscore or a dot, and a body of GET or HEAD, which
/// has no meaning that all agree on (RFC 9110, section 9.3.1). To be asked before `admit`, which drops such names.
///
/// # Errors
/// The rule that is broken.
pub fn check_strictly(head: &Parts, has_body: bool) -> Result<(), Refusal> {
    if head.headers.keys().any(is_ambiguous) {
        return bad("a name with an underscore or a dot ([limits] refuse_ambiguous)");
    }
    if has_body && (head.method == Method::GET || head.method == Method::HEAD) {
        return bad("a body of GET or HEAD ([limits] refuse_ambiguous)");
    }
    Ok(())
}

/// Which fields there are. To look for each that is absent would cost more than one walk over those that are not.
#[derive(Clone, Copy, Default)]
struct Present {
    has_host: bool,
    has_framing: bool,
    has_cookies: bool,
    has_ambiguous_names: bool,
    has_repeated_names: bool,
}

impl Present {
    fn among(headers: &HeaderMap) -> Self {
        let has_repeated_names = headers.len() > headers.keys_len();
        let mut present = Self { has_repeated_names, ..Self::default() };
        for name in headers.keys() {
            match *name {
                HOST => present.has_host = true,
                CONTENT_LENGTH | TRANSFER_ENCODING => present.has_framing = true,
                COOKIE => present.has_cookies = true,
                // Most fields are one of these, which need no look at every letter.
                ACCEPT
                | ACCEPT_ENCODING
                | ACCEPT_LANGUAGE
                | CACHE_CONTROL
                | CONNECTION
                | CONTENT_TYPE
                | IF_MODIFIED_SINCE
                | IF_NONE_MATCH
                | ORIGIN
                | RANGE
                | REFERER
                | UPGRADE_INSECURE_REQUESTS
                | USER_AGENT => {}
                _ => present.has_ambiguous_names |= is_ambiguous(name),
            }
        }
        present
    }
}

/// gunicorn refuses methods with lower-case letters; others might take `get` for `GET`.
fn check_method(method: &Method) -> Result<(), Refusal> {
    if *method == Method::TRACE || *method == Method::CONNECT {
        return Err(Refusal { status: StatusCode::METHOD_NOT_ALLOWED, reason: "TRACE and CONNECT are not for a site" });
    }
    if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return bad("a method in lower case");
    }
    Ok(())
}

fn check_framing(head: &Parts, present: Present) -> Result<(), Refusal> {
    if !present.has_framing {
        return Ok(());
    }
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).into_iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return bad("more than one Content-Length");
    }
    if length.is_some_and(|length| length.is_empty() || !length.as_bytes().iter().all(u8::is_ascii_digit)) {
        return bad("a Content-Length that is no number");
    }
    let mut encodings = head.headers.get_all(TRANSFER_ENCODING).into_iter();
    let Some(encoding) = encodings.next() else { return Ok(()) };
    if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return bad("a Transfer-Encoding other than chunked");
    }
    if length.is_some() {
        return bad("both Content-Length and Transfer-Encoding");
    }
    if head.version != Version::HTTP_11 {
        return bad("a Transfer-Encoding outside HTTP/1.1");
    }
    Ok(())
}

/// Gives a head of HTTP/1.1 back the lengths that hyper took away, so that the rules see them: beside `Transfer-Encoding`
/// each, and of several that are equal all but one. RFC 9112, section 6.3, allows that, and allows to refuse them, as
/// nginx does: nobody sends these but who wants two programs to differ. `written` has the head as it came, perhaps behind
/// others. Where it is not found there, as one that came, or began to come, while the request before it was under way,
/// hyper's reading stands: the chunks count, and the connection ends.
pub fn restore_lengths(head: &mut Parts, written: &[u8]) {
    let begins = |at: &usize| *at == 0 || written[at - 1] == b'\n';
    let texts = (0..written.len()).filter(begins).map(|at| &written[at..]).filter(|text| has_target(head, text));
    let Some(text) = texts.take(MOST_ALIKE).find(|text| is_written(head, text)) else { return };
    let known = head.headers.get_all(CONTENT_LENGTH).iter().count();
    let lengths = fields(text).filter(is_length).skip(known);
    for length in lengths.filter_map(|(_, length)| HeaderValue::from_bytes(length).ok()) {
        head.headers.append(CONTENT_LENGTH, length);
    }
}

/// How many heads with the same method and target are looked at. A body may be full of what looks like one.
const MOST_ALIKE: usize = 16;

/// Whether a text begins with the method and the target of this head.
fn has_target(head: &Parts, text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(head.method.as_str().as_bytes()).and_then(|rest| rest.strip_prefix(b" ")) else {
        return false;
    };
    let target = rest.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    Uri::try_from(target).is_ok_and(|target| target == head.uri)
}

/// Whether the fields of a text are those of this very head. It is one that hyper could parse, if it is, so a simple
/// reading will do.
fn is_written(head: &Parts, text: &[u8]) -> bool {
    let mut others = fields(text).filter(|field| !is_length(field));
    let is_known = |(name, value): (&[u8], &[u8])| {
        let Ok(name) = HeaderName::from_bytes(name) else { return false };
        head.headers.get_all(name).iter().any(|known| known == value)
    };
    others.clone().count() == head.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH).count()
        && others.all(is_known)
}

/// The names and values of a head's fields.
fn fields(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).skip(1);
    lines.take_while(|line| !line.is_empty()).map(|line| {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        (&line[..colon], line.get(colon + 1..).unwrap_or_default().trim_ascii())
    })
}

fn is_length((name, _): &(&[u8], &[u8])) -> bool {
    name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str().as_bytes())
}

/// A parser of HTTP/1.1 takes the white space off a value. Over HTTP/2 it comes as it was sent, where it is
/// forbidden (RFC 9113, section 8.2.1): an application would see another value over uwsgi than over HTTP.
fn check_values(head: &Parts) -> Result<(), Refusal> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let has_space = |value: &HeaderValue| is_space(value.as_bytes().first()) || is_space(value.as_bytes().last());
    if head.version == Version::HTTP_2 && head.headers.values().any(has_space) {
        return bad("a value that begins or ends in white space");
    }
    Ok(())
}

fn check_target(uri: &Uri) -> Result<(), Refusal> {
    // Which of the two does not matter: a proxy before us may have come by another than its client.
    if uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return bad("a target of another scheme");
    }
    let path = uri.path();
    if !path.starts_with('/') {
        return bad("a target that is no path");
    }
    if uri.query().is_some_and(|query| !query.is_ascii()) {
        return bad("a target with bytes that are not ASCII");
    }
    // Most paths end here: without one of these and a dot at a segment's begin, nothing is hidden. All of the path is
    // looked at, which needs no decision for each byte.
    let (has_odd, _) = path.bytes().fold((false, 0), |(so_far, before), byte| {
        let is_odd = (byte >= 0x80) | (byte == b'\\') | (byte == b'%');
        (so_far | is_odd | ((before == b'/') & (byte == b'.')), byte)
    });
    if !has_odd {
        return Ok(());
    }
    if !path.is_ascii() {
        return bad("a target with bytes that are not ASCII");
    }
    // Browsers leave a backslash in a query as it is, but never send one in a path.
    if path.contains('\\') {
        return bad("a path with a backslash");
    }
    if !is_well_encoded(path) {
        return bad("a path with a broken percent-encoding");
    }
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    if decoded.contains(&0) {
        return bad("a path with NUL");
    }
    // Browsers resolve these before they send, the encoded ones too; who still sends them wants one
    // program to take the path for another than the next does.
    if decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| matches!(segment, b"." | b"..")) {
        return bad("a path with dot segments");
    }
    Ok(())
}

fn is_well_encoded(path: &str) -> bool {
    path.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

/// Finds the one host that the request is meant for, and makes it the `Host` field.
///
/// HTTP/2 names it in `:authority`, which the target holds; an absolute target of HTTP/1.1 holds one
/// as well. Where both are given they must agree.
fn settle_host(head: &mut Parts, present: Present) -> Result<(), Refusal> {
    let headers = &head.headers;
    if present.has_repeated_names && headers.get_all(HOST).into_iter().nth(1).is_some() {
        return bad("more than one Host");
    }
    if !present.has_host && head.version == Version::HTTP_11 {
        return Err(NO_HOST);
    }
    let Some(authority) = head.uri.authority() else { return Ok(()) };
    match headers.get(HOST) {
        Some(field) if !same_authority(field.as_bytes(), authority.as_str().as_bytes(), head.uri.scheme_str()) => {
            return bad("a Host that differs from the target's");
        }
        Some(_) => {}
        None => {
            let Ok(value) = HeaderValue::try_from(authority.as_str()) else { return bad("a Host that is no host") };
            head.headers.insert(HOST, value);
        }
    }
    head.uri = without_authority(&head.uri)?;
    Ok(())
}

/// The host in lower case, without its port; `None` if there is none.
fn named_host(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, Refusal> {
    let Some(field) = headers.get(HOST).filter(|field| !field.is_empty()) else { return Ok(None) };
    let written = field.to_str().or_else(|_| bad("a Host that is not ASCII"))?;
    if let Some(host) = plain_host(written) {
        return Ok(Some(host.into()));
    }
    let Some(host) = host_of(written) else { return bad("a Host that is no host") };
    Ok(Some(host.to_ascii_lowercase().into()))
}

/// The host of a request that was admitted: lower case, without its port.
pub fn host(headers: &HeaderMap) -> Option<String> {
    named_host(headers).ok().flatten().map(Cow::into_owned)
}

/// The path and the query. Behind an authority the path may be missing, and means `/` (RFC 9110, section
/// 4.2.3); standing alone it would be empty, and no rule for a path would find it.
fn without_authority(uri: &Uri) -> Result<Uri, Refusal> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    match uri.path_and_query().filter(|_| target.starts_with('/') && target != "/") {
        Some(target) => Ok(Uri::from(target.clone())),
        None if target == "/" => Ok(Uri::from_static("/")),
        None => Uri::try_from(format!("/{target}")).or_else(|_| bad("a target that is no path")),
    }
}

/// Whether two authorities are one: `example.com` is `example.com:80` to who speaks http (RFC 9110,
/// section 4.2.3).
fn same_authority(a: &[u8], b: &[u8], scheme: Option<&str>) -> bool {
    let port: &[u8] = if scheme == Some("https") { b":443" } else { b":80" };
    let without = |authority| <[u8]>::strip_suffix(authority, port).unwrap_or(authority).to_ascii_lowercase();
    without(a) == without(b)
}

/// The host without its port, and without the dot that may end a complete name; `None` if it is
/// neither a name nor an address. Django knows the same shapes, and the underscore besides, which
/// names of containers have.
fn host_of(written: &str) -> Option<&str> {
    let end = match written.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => written.find(':').unwrap_or(written.len()),
    };
    let (host, port) = written.split_at(end);
    let port_is_sound = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    let host_is_sound = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let has_gap = host.split('.').any(str::is_empty);
    (port_is_sound && host_is_sound && !has_gap).then_some(host)
}

/// The host of what nearly every request has: a name in lower case, or an address of IPv4, and perhaps a port.
fn plain_host(written: &str) -> Option<&str> {
    let end = written.bytes().position(|byte| byte == b':').unwrap_or(written.len());
    let host = &written[..end];
    // All of it is looked at, which needs no decision for each byte.
    let (is_usual, last) = host.bytes().fold((true, b'.'), |(so_far, before), byte| {
        let is_gap = (before == b'.') & (byte == b'.');
        (so_far & IN_A_HOST[usize::from(byte)] & !is_gap, byte)
    });
    let port_is_sound = end == written.len() || is_port(&written[end + 1..]);
    (is_usual && last != b'.' && port_is_sound).then_some(host)
}

/// Whether a byte is usual in a host. A look into a table costs a third of the comparisons.
static IN_A_HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = matches!(byte as u8, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        byte += 1;
    }
    table
};

fn is_port(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
}

fn is_ambiguous(name: &HeaderName) -> bool {
    name.as_str().bytes().any(|byte| matches!(byte, b'_' | b'.'))
}

fn drop_ambiguous_names(headers: &mut HeaderMap) {
    let ambiguous = headers.keys().filter(|name| is_ambiguous(name));
    for name in ambiguous.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}

/// HTTP/2 may cut the cookies into several fields (RFC 9113, section 8.2.3); application servers
/// would join them with commas. One that is empty says nothing, and would leave a semicolon behind.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).into_iter().nth(1).is_none() {
        return;
    }
    let crumbs = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes);
    let crumbs: Vec<&[u8]> = crumbs.filter(|crumb| !crumb.is_empty()).collect();
    let whole = crumbs.join(&b"; "[..]);
    if let Entry::Occupied(mut entry) = headers.entry(COOKIE) {
        entry.insert(HeaderValue::try_from(whole).expect("values joined with a semicolon are a value"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::Request;
    use proptest::prelude::*;

    fn head(version: Version, method: &str, target: &str, fields: &[(&'static str, &'static str)]) -> Parts {
        let mut head = Request::builder().version(version).method(method).uri(target).body(()).unwrap().into_parts().0;
        for (name, value) in fields {
            head.headers.append(*name, HeaderValue::from_static(value));
        }
        head
    }

    /// A request over HTTP/1.1 whose target is an ordinary one.
    fn with(fields: &[(&'static str, &'static str)]) -> Result<Option<String>, Refusal> {
        admitted(&mut head(Version::HTTP_11, "GET", "/", fields))
    }

    /// The host of a request, if it is admitted.
    fn admitted(head: &mut Parts) -> Result<Option<String>, Refusal> {
        admit(head).map(|(_, host)| host.map(Cow::into_owned))
    }

    #[test]
    fn what_is_made_safe_is_refused_where_that_is_wanted() {
        for (method, name, has_body, is_refused) in [
            ("GET", "x-a", false, false),
            ("GET", "x-a", true, true),
            ("HEAD", "x-a", true, true),
            ("POST", "x-a", true, false),
            ("DELETE", "x-a", true, false),
            ("GET", "x_a", false, true),
            ("POST", "x.a", true, true),
        ] {
            let mut head = head(Version::HTTP_11, method, "/", &[("host", "a"), (name, "1")]);
            assert_eq!(check_strictly(&head, has_body).is_err(), is_refused, "for {method} with {name}");
            assert!(admitted(&mut head).is_ok(), "for {method} with {name}");
        }
    }

    #[test]
    fn the_host_comes_back_in_lower_case_and_without_its_port() {
        for (written, expected) in [
            ("example.com", Some("example.com")),
            ("Example.COM:8000", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("web_1", Some("web_1")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("[::1]", Some("[::1]")),
            ("[2001:DB8::1]:443", Some("[2001:db8::1]")),
            ("", None),
            (".", None),
            ("..", None),
            (".example.com", None),
            ("example..com", None),
            ("example.com..", None),
            (":80", None),
            ("example.com:", None),
            ("example.com:http", None),
            ("example.com:+80", None),
            ("example.com:99999", None),
            ("user@example.com", None),
            ("a b", None),
            ("a/b", None),
            ("a,b", None),
            ("a%2eb", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[example.com]", None),
        ] {
            assert_eq!(with(&[("host", written)]).ok().flatten().as_deref(), expected, "for {written:?}");
        }
    }

    #[test]
    fn there_is_exactly_one_host() {
        let (v10, v11, v2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        for (version, target, fields, expected) in [
            (v11, "/", &[][..], None),
            (v11, "/", &[("host", "a"), ("host", "a")], None),
            (v11, "http://a/", &[("host", "a")], Some("a")),
            (v11, "http://a:80/", &[("host", "a")], Some("a")),
            (v11, "https://a/", &[("host", "a:443")], Some("a")),
            (v11, "https://a/", &[("host", "a:80")], None),
            (v11, "http://A:80/", &[("host", "a:80")], Some("a")),
            (v11, "http://a/", &[("host", "b")], None),
            (v11, "ftp://a/", &[("host", "a")], None),
            (v11, "http://a/", &[], None),
            (v11, "http://u@a/", &[("host", "u@a")], None),
            (v10, "/", &[], None),
            (v10, "/", &[("host", "a")], Some("a")),
            (v2, "https://a/", &[], Some("a")),
            (v2, "https://a/", &[("host", "a")], Some("a")),
            (v2, "https://a/", &[("host", "b")], None),
            (v2, "https://a/", &[("host", "a"), ("host", "a")], None),
            (v2, "/", &[("host", "a")], Some("a")),
        ] {
            let mut head = head(version, "GET", target, fields);
            let admitted = admitted(&mut head).ok().flatten();
            assert_eq!(admitted.as_deref(), expected, "for {version:?} {target} {fields:?}");
            if admitted.is_some() {
                assert_eq!(head.uri, "/", "for {version:?} {target} {fields:?}");
                assert_eq!(head.headers.get_all(HOST).iter().count(), 1, "for {version:?} {target} {fields:?}");
            }
        }
    }

    #[test]
    fn a_sound_request_may_name_no_host() {
        for (version, fields) in
            [(Version::HTTP_10, &[][..]), (Version::HTTP_10, &[("host", "")]), (Version::HTTP_11, &[("host", "")])]
        {
            assert_eq!(admitted(&mut head(version, "GET", "/", fields)), Ok(None), "for {version:?} {fields:?}");
        }
        assert_eq!(with(&[]), Err(NO_HOST));
    }

    #[test]
    fn a_path_that_is_missing_behind_the_host_is_the_root() {
        for (target, expected) in
            [("http://a", "/"), ("http://a/", "/"), ("http://a?b", "/?b"), ("http://a/?b", "/?b"), ("http://a/b", "/b")]
        {
            let mut head = head(Version::HTTP_11, "GET", target, &[("host", "a")]);
            admit(&mut head).unwrap();
            assert_eq!(head.uri.path_and_query().unwrap().as_str(), expected, "for {target}");
            assert!(head.uri.path().starts_with('/'), "for {target}");
        }
    }

    #[test]
    fn a_body_has_one_end() {
        for (fields, is_sound) in [
            (&[("content-length", "5")][..], true),
            (&[("transfer-encoding", "chunked")], true),
            (&[("transfer-encoding", "Chunked")], true),
            (&[("content-length", "5"), ("content-length", "5")], false),
            (&[("content-length", "+5")], false),
            (&[("content-length", "5, 5")], false),
            (&[("content-length", "")], false),
            (&[("content-length", "5"), ("transfer-encoding", "chunked")], false),
            (&[("transfer-encoding", "gzip, chunked")], false),
            (&[("transfer-encoding", "chunked, chunked")], false),
            (&[("transfer-encoding", "identity")], false),
            (&[("transfer-encoding", "xchunked")], false),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
        ] {
            let mut fields = fields.to_vec();
            fields.push(("host", "a"));
            assert_eq!(with(&fields).is_ok(), is_sound, "for {fields:?}");
        }
        let mut old = head(Version::HTTP_10, "POST", "/", &[("host", "a"), ("transfer-encoding", "chunked")]);
        assert!(admit(&mut old).is_err());
    }

    /// The lengths of a head after they were restored, if hyper left `known` of it.
    fn restored(known: &[(&'static str, &'static str)], written: &str) -> Vec<String> {
        let mut head = head(Version::HTTP_11, "POST", "/a?b", known);
        restore_lengths(&mut head, written.as_bytes());
        let lengths = head.headers.get_all(CONTENT_LENGTH).into_iter();
        lengths.map(|length| length.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_lengths_that_hyper_takes_away_come_back() {
        const CHUNKED: &[(&str, &str)] = &[("host", "a"), ("transfer-encoding", "chunked")];
        const SIZED: &[(&str, &str)] = &[("host", "a"), ("content-length", "5")];
        for (known, fields, expected) in [
            (CHUNKED, "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nContent-Length: 1\r\n", &[][..]),
            (CHUNKED, "Host: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", &["4"]),
            (CHUNKED, "Host: a\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH:4 \t\r\n\r\n", &["4"]),
            (CHUNKED, "Host:a\nContent-Length: 4\nTransfer-Encoding: chunked\nContent-Length: x\n\n", &["4", "x"]),
            (SIZED, "Host: a\r\nContent-Length: 5\r\n\r\nhello", &["5"]),
            (SIZED, "Content-Length: 5\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", &["5", "5"]),
            // Another head, or less than all of it.
            (CHUNKED, "Host: b\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", &[]),
            (CHUNKED, "Host: a\r\nX: y\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", &[]),
            (CHUNKED, "Host: a\r\nContent-Length: 4\r\nTransfer-Enc", &[]),
        ] {
            assert_eq!(restored(known, &format!("POST /a?b HTTP/1.1\r\n{fields}")), expected, "for {fields:?}");
        }
        let fields = "Host: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (begin, expected) in [
            ("POST /a?b#c HTTP/1.1", &["4"][..]), // hyper drops what follows a number sign
            ("\r\n\nPOST /a?b HTTP/1.1", &["4"]),
            ("GET /c HTTP/1.1\r\nHost: a\r\n\r\nPOST /a?b HTTP/1.1", &["4"]), // behind another request
            ("POST /a?c HTTP/1.1", &[]),
            ("PUT /a?b HTTP/1.1", &[]),
            ("xPOST /a?b HTTP/1.1", &[]),
            ("POST", &[]),
            ("", &[]),
        ] {
            assert_eq!(restored(CHUNKED, &format!("{begin}\r\n{fields}")), expected, "for {begin:?}");
        }
        assert_eq!(restored(CHUNKED, ""), [""; 0]);
    }

    #[test]
    fn a_body_full_of_heads_is_not_searched_to_its_end() {
        let decoys = "POST /a?b HTTP/1.1\r\n".repeat(MOST_ALIKE - 1);
        let bad = "POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
        let known = &[("host", "a"), ("transfer-encoding", "chunked")];
        assert_eq!(restored(known, &format!("{decoys}\r\n{bad}")), ["4"]);
        assert_eq!(restored(known, &format!("{decoys}{decoys}\r\n{bad}")), [""; 0]);
    }

    #[test]
    fn a_value_has_no_white_space_around_it() {
        for (value, is_sound) in [("a b", true), ("", true), (" a", false), ("a\t", false)] {
            let mut head = head(Version::HTTP_2, "GET", "https://a/", &[("x", value)]);
            assert_eq!(admit(&mut head).is_ok(), is_sound, "for {value:?}");
        }
    }

    #[test]
    fn a_path_says_plainly_where_it_leads() {
        for (target, is_sound) in [
            ("/", true),
            ("/a/b.c?d=../e", true),
            ("/.well-known/x", true),
            ("/a/..b/.c/d..", true),
            ("/a%2Fb%20c", true),
            ("//a", true), // another page than /a, for us as for Django
            ("/?q=\\d%", true),
            ("/%252e%252e%252f", true), // decoded once it is a plain name, and nobody decodes twice
            ("/..", false),
            ("/a/../b", false),
            ("/static/../admin", false),
            ("/./a", false),
            ("/%2e%2e/a", false),
            ("/%2E./a", false),
            ("/a/%2e%2e%2fb", false),
            ("/a%2f..%2fb", false),
            ("/a%5c..%5cb", false),
            ("/a\\b", false),
            ("/a%00b", false),
            ("/a%", false),
            ("/a%2", false),
            ("/a%zz", false),
            ("*", false),
            ("/\u{e9}", false),
            ("/?q=\u{e9}", false),
        ] {
            let mut head = head(Version::HTTP_11, "GET", target, &[("host", "a")]);
            let before = head.uri.clone();
            assert_eq!(admit(&mut head).is_ok(), is_sound, "for {target}");
            assert_eq!(head.uri, before, "the target goes on as it came");
        }
    }

    #[test]
    fn a_method_is_one_that_a_site_can_have() {
        for (method, expected) in [
            ("GET", None),
            ("POST", None),
            ("PROPFIND", None),
            ("TRACE", Some(405)),
            ("CONNECT", Some(405)),
            ("get", Some(400)),
        ] {
            let mut head = head(Version::HTTP_11, method, "/", &[("host", "a")]);
            let refused = admit(&mut head).err().map(|refusal| refusal.status().as_u16());
            assert_eq!(refused, expected, "for {method}");
        }
    }

    #[test]
    fn a_field_whose_name_could_pose_as_another_is_dropped() {
        let fields = [("host", "a"), ("x_forwarded_for", "1"), ("x.y", "1"), ("x-y", "1")];
        let mut head = head(Version::HTTP_11, "GET", "/", &fields);
        admit(&mut head).unwrap();
        assert_eq!(head.headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["host", "x-y"]);
    }

    #[test]
    fn the_crumbs_of_a_cookie_become_one() {
        for (crumbs, whole) in [(["a=1", "b=2", "c=3"], "a=1; b=2; c=3"), (["", "a=1", ""], "a=1"), (["", "", ""], "")]
        {
            let mut head = head(Version::HTTP_2, "GET", "https://a/", &crumbs.map(|crumb| ("cookie", crumb)));
            admit(&mut head).unwrap();
            assert_eq!(head.headers.get_all(COOKIE).iter().collect::<Vec<_>>(), [whole]);
        }
    }

    /// Heads of the parts from which trouble is made, in any order and number.
    fn troubled_head() -> impl Strategy<Value = Parts> {
        let pieces = |pieces: &'static [&'static str], most| {
            prop::collection::vec(prop::sample::select(pieces), 0..most).prop_map(|pieces| pieces.concat())
        };
        let target = pieces(
            &["/", "//", ".", "..", "%2e", "%2F", "%5C", "%00", "%", "\\", "?", "#", "a", "*", "b:80", "http://b"],
            8,
        );
        let value = pieces(&["a", "b", ".", ":", "80", "5", ",", " ", "\t", "chunked", "[::1]", "@", "\u{e9}", "+"], 4);
        const NAMES: [&str; 8] =
            ["host", "content-length", "transfer-encoding", "cookie", "x", "x_y", "x.y", "connection"];
        let fields = prop::collection::vec((prop::sample::select(&NAMES), value), 0..6);
        let version = prop::sample::select(vec![Version::HTTP_10, Version::HTTP_11, Version::HTTP_2]);
        let method = prop::sample::select(vec!["GET", "POST", "get", "TRACE", "CONNECT", "A-b"]);
        (version, method, target, fields).prop_filter_map(
            "no parser lets it through",
            |(version, method, target, fields)| {
                let mut request = Request::builder().version(version).method(method).uri(target);
                for (name, value) in fields {
                    request = request.header(name, value);
                }
                Some(request.body(()).ok()?.into_parts().0)
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_admitted_can_be_understood_in_one_way_only(mut head in troubled_head()) {
            let Ok(Some(host)) = admitted(&mut head) else { return Ok(()) };
            let values = |name: &str| {
                let values = head.headers.get_all(name).into_iter();
                values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect::<Vec<_>>()
            };
            let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
            prop_assert!(lengths.len() + codings.len() <= 1);
            prop_assert!(lengths.iter().all(|length| length.parse::<u128>().is_ok() && !length.starts_with('+')));
            prop_assert!(codings.iter().all(|coding| coding == "chunked" && head.version == Version::HTTP_11));
            prop_assert_eq!(values("host").len(), 1);
            prop_assert!(values("host")[0].to_ascii_lowercase().starts_with(&host) && !host.is_empty());
            prop_assert!(values("cookie").len() <= 1);
            prop_assert!(head.headers.keys().all(|name| !name.as_str().contains(['_', '.'])));
            prop_assert!(head.uri.authority().is_none() && head.uri.path().starts_with('/'));
            let path = percent_decode_str(head.uri.path()).decode_utf8_lossy().replace('\\', "/");
            prop_assert!(!path.contains('\0') && path.split('/').all(|segment| segment != "." && segment != ".."));
            prop_assert!(!head.method.as_str().contains(|c: char| c.is_ascii_lowercase()));
            prop_assert_eq!(admitted(&mut head), Ok(Some(host)), "admitted once, admitted again");
        }
    }
}
