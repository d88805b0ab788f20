//! Who the client is: what a proxy before us says of it, and what we tell the application.
//!
//! An application server believes what comes over its socket: gunicorn takes the scheme from
//! `X-Forwarded-Proto` or `X-Forwarded-Ssl` and the script name from `SCRIPT_NAME`, Django can be told
//! to believe more. So the application gets each of these facts from us, once, and no copy that a
//! client made up. Nothing here knows which networks are trusted, nor which fields they write; the caller tells with
//! closures.
//!
//! Proxies say the same in `Forwarded` (RFC 7239), or in the older fields whose names begin with `X-Forwarded-`. A proxy
//! that writes one kind may hand on what a client wrote of the other, and nothing in a request tells which of the two it
//! is. Where both are believed, the older ones are read first.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use ::http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use bytes::BufMut as _;

use super::{Client, RequestId, Scheme};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");

/// What is known of a client when the word of trusted proxies is taken into account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The nearest address that is not a trusted proxy's own.
    pub address: Option<IpAddr>,
    /// How the client came, if a trusted proxy says so.
    pub scheme: Option<Scheme>,
    /// The name that a trusted proxy gave the request.
    pub id: Option<RequestId>,
    /// When the request came to a trusted proxy, as it says.
    pub start: Option<RequestStart>,
}

/// When a request came to the first proxy that says so, as the value of `X-Request-Start`. It is kept in the extensions
/// of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestStart(pub HeaderValue);

/// Reads what the peer says of the client, and believes it only of a trusted peer, in the fields that it writes.
///
/// `X-Forwarded-For` is read from its end, because every proxy adds the address it saw there: each
/// trusted address hands on to the one before it, and the first that is not trusted is the client.
/// An entry that is no address ends the search, as nobody vouches for what stands before it.
pub fn origin(
    peer: Option<IpAddr>,
    is_trusted: impl Fn(Option<IpAddr>) -> bool,
    is_written: impl Fn(&HeaderName) -> bool,
    headers: &HeaderMap,
) -> Origin {
    let peer = peer.map(|address| address.to_canonical());
    if !is_trusted(peer) {
        return Origin { address: peer, scheme: None, id: None, start: None };
    }
    let [addresses, schemes, elements] = [X_FORWARDED_FOR, X_FORWARDED_PROTO, FORWARDED]
        .map(|name| if is_written(&name) { lines(headers, &name) } else { Vec::new() });
    let (address, scheme) = if addresses.is_empty() && schemes.is_empty() {
        let hops = elements.iter().rev().flat_map(|line| outside_quotes(line, b',')).map(parse_hop);
        let mut hops = hops.peekable();
        let scheme = hops.peek().and_then(|nearest| nearest.scheme);
        (nearest_stranger(peer, is_trusted, hops.map(|hop| hop.address)), scheme)
    } else {
        let nearest = entries(&schemes).next();
        let address = nearest_stranger(peer, is_trusted, entries(&addresses).map(parse_address));
        (address, nearest.and_then(parse_scheme))
    };
    // The last is the proxy's, if it adds one and leaves the client's.
    let last = |name: &HeaderName| headers.get_all(name).into_iter().next_back().filter(|_| is_written(name));
    let id = last(&X_REQUEST_ID).and_then(|value| parse_request_id(value.as_bytes()));
    let start = last(&X_REQUEST_START).filter(|value| is_time(value.as_bytes()));
    Origin { address, scheme, id, start: start.cloned().map(RequestStart) }
}

/// The first address, from the peer's on, that is not a trusted proxy's own. An entry without one ends the search.
fn nearest_stranger(
    peer: Option<IpAddr>,
    is_trusted: impl Fn(Option<IpAddr>) -> bool,
    entries: impl Iterator<Item = Option<IpAddr>>,
) -> Option<IpAddr> {
    let mut address = peer;
    for named in entries {
        if named.is_none() {
            break;
        }
        address = named;
        if !is_trusted(address) {
            break;
        }
    }
    address
}

/// The lines of a field. What is no text in one is the client's, and spoils only the entry in which it stands: a proxy
/// has put its own behind it.
fn lines<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<Cow<'h, str>> {
    headers.get_all(name).into_iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect()
}

/// What stands between the commas, from the end.
fn entries<'l>(lines: &'l [Cow<'_, str>]) -> impl Iterator<Item = &'l str> {
    lines.iter().rev().flat_map(|line| line.rsplit(',')).map(str::trim)
}

/// Takes out all that [`origin`] would believe of a trusted peer: this one hands through what others say.
pub fn forget(headers: &mut HeaderMap) {
    for name in [X_FORWARDED_FOR, X_FORWARDED_PROTO, FORWARDED, X_REQUEST_ID, X_REQUEST_START] {
        headers.remove(name);
    }
}

/// The parts of a text between separators that stand in no quoted string, from its end. What a client has begun to
/// quote, and not ended, does not reach what a proxy has put behind it.
fn outside_quotes(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let (mut parts, mut end, mut is_quoted) = (Vec::new(), text.len(), false);
    for at in (0..text.len()).rev() {
        let escapes = || bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        if bytes[at] == b'"' && escapes() % 2 == 0 {
            is_quoted = !is_quoted;
        } else if bytes[at] == separator && !is_quoted {
            parts.push(&text[at + 1..end]);
            end = at;
        }
    }
    parts.push(&text[..end]);
    parts.into_iter().map(str::trim)
}

/// What one proxy says in `Forwarded` of who asked it.
#[derive(Debug, Default)]
struct Hop {
    address: Option<IpAddr>,
    scheme: Option<Scheme>,
}

/// Reads one element of `Forwarded`. Of one that is not as it should be, nothing is believed.
fn parse_hop(element: &str) -> Hop {
    let (mut node, mut scheme) = (None, None);
    for pair in outside_quotes(element, b';').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=').and_then(|(name, value)| Some((name, unquoted(value)?))) else {
            return Hop::default();
        };
        let place = match () {
            () if name.eq_ignore_ascii_case("for") => &mut node,
            () if name.eq_ignore_ascii_case("proto") => &mut scheme,
            () => continue,
        };
        if place.replace(value).is_some() {
            return Hop::default();
        }
    }
    Hop { address: node.as_deref().and_then(parse_node), scheme: scheme.as_deref().and_then(parse_scheme) }
}

/// A token as it is, and what is in a quoted string (RFC 9110, section 5.6.4).
fn unquoted(value: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = value.strip_prefix('"') else { return (!value.contains('"')).then_some(Cow::Borrowed(value)) };
    let inner = rest.strip_suffix('"')?;
    let (mut text, mut letters) = (String::with_capacity(inner.len()), inner.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return None,
            '\\' => text.push(letters.next()?),
            letter => text.push(letter),
        }
    }
    Some(Cow::Owned(text))
}

/// `192.0.2.1`, `[2001:db8::1]`, and each with a port, which may be obfuscated. `unknown` and `_hidden` are no address.
fn parse_node(text: &str) -> Option<IpAddr> {
    let without_port = text.rsplit_once(":_").map_or(text, |(node, _)| node);
    // RFC 7239, section 6: an IPv6 address stands in brackets.
    parse_address(without_port).filter(|address| address.is_ipv4() || without_port.starts_with('['))
}

/// A time as `X-Request-Start` has it: a number of seconds, milliseconds or microseconds, with `t=` or without.
fn is_time(value: &[u8]) -> bool {
    let number = value.strip_prefix(b"t=").unwrap_or(value);
    let mut parts = number.splitn(2, |byte| *byte == b'.');
    value.len() <= 32 && parts.all(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit))
}

/// An address, with a port or without; some proxies write `192.0.2.1:4711` or `[2001:db8::1]:4711`.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()));
    address.map(|address| address.to_canonical())
}

fn parse_scheme(text: &str) -> Option<Scheme> {
    [Scheme::Http, Scheme::Https].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme.as_str()))
}

/// 32 hexadecimal digits, or a UUID; any other name is replaced by one of ours.
fn parse_request_id(text: &[u8]) -> Option<RequestId> {
    let digits: Vec<u8> = match text.len() {
        32 => text.to_vec(),
        36 if [8, 13, 18, 23].iter().all(|&at| text[at] == b'-') => {
            text.iter().copied().filter(|&byte| byte != b'-').collect()
        }
        _ => return None,
    };
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok().map(RequestId)
}

/// What takes the header fields of a request to the application, one line after the other.
pub trait Lines {
    /// Takes one line. The value is that of another field, or visible ASCII.
    fn add(&mut self, name: &HeaderName, value: &[u8]);
}

/// As HTTP/1.1 writes them (RFC 9112, section 5).
impl Lines for Vec<u8> {
    fn add(&mut self, name: &HeaderName, value: &[u8]) {
        self.extend_from_slice(name.as_str().as_bytes());
        self.extend_from_slice(b": ");
        self.extend_from_slice(value);
        self.extend_from_slice(b"\r\n");
    }
}

impl Lines for HeaderMap {
    fn add(&mut self, name: &HeaderName, value: &[u8]) {
        self.append(name, HeaderValue::from_bytes(value).expect("the value of a field is that of another"));
    }
}

/// Tells the application who the client is, in one field each. Only to be called for fields of which
/// [`is_claim`] is false. `host` is what the request names.
///
/// `X-Forwarded-For` holds the client alone, not the way it took: the trusted proxies between have
/// been weighed in [`origin`], and every reader of the list who counts from either end finds the same.
pub fn write(lines: &mut impl Lines, host: Option<&HeaderValue>, client: &Client, id: RequestId) {
    if let Some(address) = client.address {
        let mut room = [0; LONGEST_ADDRESS];
        let address = written(address.to_canonical(), &mut room);
        lines.add(&X_REAL_IP, address);
        lines.add(&X_FORWARDED_FOR, address);
    }
    lines.add(&X_FORWARDED_PROTO, client.scheme.as_str().as_bytes());
    if let Some(host) = host {
        let port = public_port(host, client.scheme);
        lines.add(&X_FORWARDED_PORT, itoa::Buffer::new().format(port).as_bytes());
        lines.add(&X_FORWARDED_HOST, host.as_bytes());
    }
    lines.add(&X_REQUEST_ID, &id.digits());
}

/// The longest there is: `255.255.255.255`, or an IPv6 address of eight groups.
const LONGEST_ADDRESS: usize = 39;

/// An address as text. `core::fmt` takes long for one of IPv4, which nearly every request has.
fn written(address: IpAddr, room: &mut [u8; LONGEST_ADDRESS]) -> &[u8] {
    let mut left = &mut room[..];
    match address {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                left.put_slice(if place > 0 { b"." } else { b"" });
                left.put_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        IpAddr::V6(address) => write!(left, "{address}").expect("there is room for the longest"),
    }
    let length = LONGEST_ADDRESS - left.len();
    &room[..length]
}

/// Tells the application the same in `Forwarded`, as one element.
pub fn write_forwarded(lines: &mut impl Lines, host: Option<&HeaderValue>, client: &Client) {
    let node = match client.address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => format!("\"[{address}]\""),
        None => "unknown".to_owned(),
    };
    let host = host.and_then(|host| host.to_str().ok()).map(|host| format!(";host={}", quoted(host)));
    let (host, scheme) = (host.unwrap_or_default(), client.scheme.as_str());
    lines.add(&FORWARDED, format!("for={node}{host};proto={scheme}").as_bytes());
}

/// A token as it is, and anything else as a quoted string.
fn quoted(text: &str) -> Cow<'_, str> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_token) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))),
    }
}

/// Tells the application when the request was here.
pub fn write_start(lines: &mut impl Lines, start: &[u8]) {
    lines.add(&X_REQUEST_START, start);
}

/// The port that the client has in its address bar. Our own local port is another one behind a
/// balancer or in a container, and Django compares the port when it checks the origin of a form.
pub fn public_port(host: &HeaderValue, scheme: Scheme) -> u16 {
    let host = host.as_bytes();
    let behind = host.iter().rposition(|byte| *byte == b':').and_then(|colon| str::from_utf8(&host[colon + 1..]).ok());
    behind.and_then(|port| port.parse().ok()).unwrap_or(match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    })
}

/// Whether a client's field claims something that an application can be told to believe of a proxy
/// only. Such a field never reaches the application as the client wrote it.
pub fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str();
    if let [first, second, ..] = name.as_bytes()
        && BEGINNINGS[usize::from(*first)] & letter(*second) == 0
    {
        return false;
    }
    // No prefix begins another one, so that only the last that is not behind the name can begin it.
    let behind = PREFIXES.partition_point(|(prefix, _)| *prefix <= name);
    PREFIXES[..behind].last().is_some_and(|(prefix, _)| name.starts_with(prefix))
        || CLAIMS.binary_search_by_key(&name, |(claim, _)| claim).is_ok()
}

/// The letters that follow a first one in what may be a claim, as bits: that tells nearly every field that is none.
static BEGINNINGS: [u32; 256] = {
    let mut beginnings = [0; 256];
    let mut place = 0;
    while place < PREFIXES.len() + CLAIMS.len() {
        let (name, _) = if place < PREFIXES.len() { PREFIXES[place] } else { CLAIMS[place - PREFIXES.len()] };
        let name = name.as_bytes();
        beginnings[name[0] as usize] |= letter(name[1]);
        place += 1;
    }
    beginnings
};

/// The bit of a letter, or of a few other bytes.
const fn letter(byte: u8) -> u32 {
    1 << (byte & 31)
}

/// Beginnings of claims, with the reason for each; sorted, because they are searched by halves.
const PREFIXES: [(&str, &str); 28] = [
    ("cf-connecting-ip", "address, as Cloudflare names it, also its -v6 form"),
    ("client-cert", "certificate of the client (RFC 9440, which asks for just this)"),
    ("cloudfront-viewer-", "address and connection of the client, as Amazon names them"),
    ("forwarded-", "address, read by django-ipware and others"),
    ("mellon-", "user, as Apache's SAML module names it"),
    ("oidc-", "user and tokens, as Apache's OpenID module names them"),
    (
        "remote-",
        "user, its groups and its address: CGI variables, and Authelia; Django's RemoteUserBackend believes one",
    ),
    ("shib-", "user and session, as Shibboleth names them"),
    ("ssl-client-", "result of a client certificate check, as nginx and Apache hand it on"),
    ("tailscale-", "user, as Tailscale names it"),
    ("x-accel-", "answers of an application to nginx; in a request they can only confuse"),
    ("x-amzn-mtls-", "result of a client certificate check, as Amazon hands it on"),
    ("x-appengine-", "user, address and task, as App Engine names them"),
    ("x-arr-", "scheme and certificate, as Azure names them"),
    ("x-auth-request-", "user and its groups, as oauth2-proxy names them"),
    ("x-authenticated-", "user and its rights, as Kong and others name them"),
    ("x-authentik-", "user and its groups, as authentik names them"),
    ("x-consumer-", "user and its groups, as Kong names them"),
    ("x-envoy-", "address and path, as Envoy names them; it takes none from a client either"),
    (
        "x-forwarded-",
        "address, scheme, host, port, prefix and user of the client; gunicorn believes -Proto, -Protocol and -Ssl",
    ),
    ("x-goog-authenticated-user-", "user, as Google names it"),
    ("x-ms-client-principal", "user, as Azure names it"),
    ("x-pomerium-claim-", "user and its groups, as Pomerium names them"),
    ("x-remote-", "user, its groups and its address, as authenticating proxies name them"),
    ("x-ssl-", "result of a client certificate check, as HAProxy hands it on"),
    ("x-tls-", "result of a client certificate check"),
    ("x-vouch-", "user, as Vouch names it"),
    ("x-webauth-", "user, as Grafana and Gitea know it"),
];

/// Claims, with the reason for each; sorted, because they are searched by halves.
///
/// Tokens that a proxy signs (`Cf-Access-Jwt-Assertion`, `X-Goog-IAP-JWT-Assertion`) are none: an application that
/// reads one checks it.
const CLAIMS: [(&str, &str); 72] = [
    ("auth-user", "user, as CGI variable AUTH_USER spelt with a dash"),
    ("cas-user", "user, as Apache's CAS module names it"),
    (
        "cf-access-authenticated-user-email",
        "user, as Cloudflare names it; its signed token may pass, since nobody can make one up",
    ),
    ("cf-pseudo-ipv4", "address, as Cloudflare names it"),
    ("cf-visitor", "scheme, as Cloudflare names it"),
    ("client-ip", "address, read by django-ipware and others"),
    ("cloudfront-forwarded-proto", "scheme, as Amazon names it"),
    ("do-connecting-ip", "address, as DigitalOcean names it"),
    ("eppn", "user, as Shibboleth names it"),
    ("fastly-client-ip", "address, as Fastly names it"),
    ("fly-client-ip", "address, as Fly names it"),
    ("forwarded", "RFC 7239: address, scheme and host; ours is sent in its place, where one is wanted"),
    ("front-end-https", "scheme, as Microsoft names it"),
    ("incap-client-ip", "address, as Imperva names it"),
    ("iv-user", "user, as IBM's access manager names it"),
    ("path-info", "the path, as CGI variable PATH_INFO; gunicorn believes it of a proxy"),
    ("proxy", "becomes HTTP_PROXY in the environment of child processes (\"httpoxy\")"),
    ("script-name", "what of the path belongs to the site; gunicorn believes it and takes it from the path"),
    ("sm-user", "user, as SiteMinder names it"),
    ("true-client-ip", "address, as Akamai and Cloudflare name it"),
    ("wl-proxy-client-ip", "address, as WebLogic names it"),
    ("wl-proxy-ssl", "scheme, as WebLogic names it"),
    ("x-amzn-oidc-identity", "user, as Amazon names it; its signed token may pass, since nobody can make one up"),
    ("x-apigateway-api-userinfo", "user, as Google's API Gateway names it"),
    ("x-auth-email", "user, as authenticating proxies name it"),
    ("x-auth-groups", "user's groups, as authenticating proxies name them"),
    ("x-auth-name", "user, as authenticating proxies name it"),
    ("x-auth-roles", "user's rights, as authenticating proxies name them"),
    ("x-auth-user", "user, as authenticating proxies name it"),
    ("x-auth-username", "user, as authenticating proxies name it"),
    ("x-azure-clientip", "address, as Azure names it"),
    ("x-azure-socketip", "address, as Azure names it"),
    ("x-client-cert", "certificate of the client"),
    ("x-client-certificate", "certificate of the client"),
    ("x-client-cn", "subject of the client's certificate"),
    ("x-client-dn", "subject of the client's certificate"),
    ("x-client-ip", "address, read by django-ipware and others"),
    ("x-client-s-dn", "subject of the client's certificate"),
    ("x-client-verified", "result of a client certificate check"),
    ("x-client-verify", "result of a client certificate check"),
    ("x-cluster-client-ip", "address, read by django-ipware and others"),
    ("x-credential-identifier", "user, as Kong names it"),
    ("x-endpoint-api-userinfo", "user, as Google's Cloud Endpoints names it"),
    ("x-forwarded", "address, read by django-ipware and others"),
    ("x-host", "host, read by some frameworks"),
    ("x-http-forwarded-for", "address, read by some frameworks"),
    ("x-https", "scheme, read by some frameworks"),
    ("x-nf-client-connection-ip", "address, as Netlify names it"),
    ("x-original-forwarded-for", "address, as ingress controllers name it"),
    ("x-original-host", "host, as Azure names it"),
    ("x-original-method", "method, as recipes for nginx's auth_request name it"),
    ("x-original-proto", "scheme, as ASP.NET names it"),
    ("x-original-uri", "path, as recipes for nginx's auth_request name it"),
    ("x-original-url", "path, as IIS hands it on; some frameworks take it for the real one"),
    ("x-originating-ip", "address, as mail gateways name it"),
    ("x-proxyuser-ip", "address, as Google names it"),
    ("x-queue-start", "time at which the request came, as New Relic and Scout read it"),
    ("x-real-ip", "address, as nginx recipes name it"),
    ("x-real-port", "port, as nginx recipes name it"),
    ("x-real-proto", "scheme, as nginx recipes name it"),
    ("x-request-id", "name of the request in logs; ours is sent in its place"),
    ("x-request-start", "time at which the request came, as New Relic and Scout read it; ours is sent in its place"),
    ("x-rewrite-url", "path, as IIS hands it on; some frameworks take it for the real one"),
    ("x-scheme", "scheme, read by some recipes for Django's SECURE_PROXY_SSL_HEADER"),
    ("x-script-name", "what of the path belongs to the site, as recipes for nginx name it"),
    ("x-sendfile", "answer of an application; in a request it can only confuse"),
    ("x-sendfile-type", "tells Rack which way of sending files to use; a client must not choose"),
    ("x-ssl", "scheme, read by some recipes for Django's SECURE_PROXY_SSL_HEADER"),
    ("x-sucuri-clientip", "address, as Sucuri names it"),
    ("x-url-scheme", "scheme, read by some recipes for Django's SECURE_PROXY_SSL_HEADER"),
    ("x-userinfo", "user, as Kong names it"),
    ("x-vercel-forwarded-for", "address, as Vercel names it"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn all(_: &HeaderName) -> bool {
        true
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    /// Trusts 10.0.0.0/8 and unix sockets.
    fn ours(address: Option<IpAddr>) -> bool {
        match address {
            Some(IpAddr::V4(address)) => address.octets()[0] == 10,
            Some(IpAddr::V6(_)) => false,
            None => true,
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_proxy_has() {
        for (peer, forwarded, expected) in [
            ("192.0.2.9", "198.51.100.1", address("192.0.2.9")), // not trusted, not believed
            ("10.0.0.1", "198.51.100.1", address("198.51.100.1")),
            ("10.0.0.1", "203.0.113.5, 198.51.100.1", address("198.51.100.1")), // the first is made up
            ("10.0.0.1", "198.51.100.1, 10.0.0.2", address("198.51.100.1")),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", address("10.0.0.3")),
            ("10.0.0.1", "198.51.100.1, unknown, 10.0.0.2", address("10.0.0.2")),
            ("10.0.0.1", "unknown", address("10.0.0.1")),
            ("10.0.0.1", "", address("10.0.0.1")),
            ("10.0.0.1", "198.51.100.1:4711", address("198.51.100.1")),
            ("10.0.0.1", "[2001:db8::1]:4711", address("2001:db8::1")),
            ("10.0.0.1", "[2001:db8::1]", address("2001:db8::1")),
            ("10.0.0.1", "2001:db8::1", address("2001:db8::1")),
            ("::ffff:10.0.0.1", "::ffff:198.51.100.1", address("198.51.100.1")),
        ] {
            let found = origin(address(peer), ours, all, &headers(&[("x-forwarded-for", forwarded)]));
            assert_eq!(found.address, expected, "for {peer} saying {forwarded:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_spoil_nothing_that_a_proxy_has_put_behind_them() {
        for name in ["x-forwarded-for", "forwarded"] {
            let (own, others): (&[u8], &[&[u8]]) = match name {
                "forwarded" => (b"for=198.51.100.1", &[b"for=\xff, ", b"for=10.0.0.9;host=\xc2\xa0, "]),
                _ => (b"198.51.100.1", &[b"\xff, ", b"10.0.0.9\xc2\xa0, "]),
            };
            for before in others {
                let value = HeaderValue::from_bytes(&[before, own].concat()).expect("a value");
                let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
                let found = origin(address("10.0.0.1"), ours, all, &headers).address;
                assert_eq!(found, address("198.51.100.1"), "for {name} {before:?}");
            }
        }
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in ["0.0.0.0", "10.0.0.7", "192.0.2.110", "255.255.255.255", "::", "2001:db8::1"] {
            let written = written(text.parse().unwrap(), &mut [0; LONGEST_ADDRESS]).to_vec();
            assert_eq!(written, text.as_bytes(), "for {text}");
        }
        let longest = "2001:db80:1111:2222:3333:4444:5555:6666";
        assert_eq!(written(longest.parse().unwrap(), &mut [0; LONGEST_ADDRESS]), longest.as_bytes());
    }

    #[test]
    fn the_client_is_found_in_forwarded_too() {
        let here = address("10.0.0.1");
        for (forwarded, expected, scheme) in [
            ("for=198.51.100.1", address("198.51.100.1"), None),
            ("For=198.51.100.1;Proto=HTTPS", address("198.51.100.1"), Some(Scheme::Https)),
            ("proto=http;by=10.0.0.1;for=\"198.51.100.1:4711\"", address("198.51.100.1"), Some(Scheme::Http)),
            ("for=\"[2001:db8::1]\"", address("2001:db8::1"), None),
            ("for=\"[2001:db8::1]:4711\"", address("2001:db8::1"), None),
            ("for=\"[2001:db8::1]:_port\"", address("2001:db8::1"), None),
            ("for=198.51.100.1:4711", address("198.51.100.1"), None), // not as it should be, but written
            ("for=\"\\1\\98.51.100.1\"", address("198.51.100.1"), None),
            ("for=203.0.113.5, for=198.51.100.1;proto=https", address("198.51.100.1"), Some(Scheme::Https)),
            ("for=198.51.100.1;proto=https, for=10.0.0.2;proto=http", address("198.51.100.1"), Some(Scheme::Http)),
            ("for=198.51.100.1, for=unknown, for=10.0.0.2", address("10.0.0.2"), None),
            ("for=198.51.100.1,for=_hidden", here, None),
            ("for=198.51.100.1, proto=https", here, Some(Scheme::Https)),
            ("for=198.51.100.1;for=203.0.113.5", here, None),
            ("for=203.0.113.5;for=\"x, for=198.51.100.1", address("198.51.100.1"), None),
            ("for=\"203.0.113.5, for=\"[2001:db8::1]\"", address("2001:db8::1"), None),
            ("for=198.51.100.1, for=\"203.0.113.5", here, None),
            ("for=2001:db8::1", here, None),
            ("for=db8::1", here, None),
            ("host=\"a,b;for=203.0.113.5\";for=198.51.100.1", address("198.51.100.1"), None),
            ("host=\"a\\\",for=203.0.113.5\";for=198.51.100.1", address("198.51.100.1"), None),
            ("", here, None),
            (";=,", here, None),
        ] {
            let found = origin(here, ours, all, &headers(&[("forwarded", forwarded)]));
            assert_eq!((found.address, found.scheme), (expected, scheme), "for {forwarded:?}");
        }
        let lines = headers(&[("forwarded", "for=203.0.113.5"), ("forwarded", "for=198.51.100.1, for=10.1.1.1")]);
        assert_eq!(origin(None, ours, all, &lines).address, address("198.51.100.1"));
        assert_eq!(origin(address("192.0.2.9"), ours, all, &lines).address, address("192.0.2.9"));
    }

    #[test]
    fn what_a_proxy_does_not_write_is_the_clients() {
        let fields = headers(&[
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=203.0.113.5;proto=http"),
            ("x-request-id", "0123456789abcdef0123456789abcdef"),
            ("x-request-start", "t=1"),
        ]);
        let (here, https, http) = ("10.0.0.1", Some(Scheme::Https), Some(Scheme::Http));
        for (written, expected, scheme, has_id, has_start) in [
            (&["x-forwarded-for", "x-forwarded-proto"][..], "198.51.100.1", https, false, false),
            (&["x-forwarded-for"], "198.51.100.1", None, false, false),
            (&["x-forwarded-proto", "forwarded"], here, https, false, false),
            (&["forwarded", "x-request-id"], "203.0.113.5", http, true, false),
            (&["x-request-start"], here, None, false, true),
            (&[], here, None, false, false),
        ] {
            let found = origin(address(here), ours, |name: &HeaderName| written.contains(&name.as_str()), &fields);
            assert_eq!((found.address, found.scheme), (address(expected), scheme), "for {written:?}");
            assert_eq!((found.id.is_some(), found.start.is_some()), (has_id, has_start), "for {written:?}");
        }
    }

    #[test]
    fn where_both_are_believed_the_older_fields_are_read_first() {
        let claims = ("forwarded", "for=203.0.113.5;proto=https");
        let found = origin(address("10.0.0.1"), ours, all, &headers(&[claims, ("x-forwarded-for", "198.51.100.1")]));
        assert_eq!((found.address, found.scheme), (address("198.51.100.1"), None));
        let found = origin(address("10.0.0.1"), ours, all, &headers(&[claims, ("x-forwarded-proto", "http")]));
        assert_eq!((found.address, found.scheme), (address("10.0.0.1"), Some(Scheme::Http)));
    }

    #[test]
    fn only_a_trusted_peer_can_say_when_a_request_came() {
        for (peer, start, is_believed) in [
            ("10.0.0.1", "t=1512345678901", true),
            ("10.0.0.1", "1512345678.901", true),
            ("10.0.0.1", "t=1512345678901.5", true),
            ("192.0.2.9", "t=1512345678901", false),
            ("10.0.0.1", "t=", false),
            ("10.0.0.1", "t=1.", false),
            ("10.0.0.1", "t=1.2.3", false),
            ("10.0.0.1", "t=-1", false),
            ("10.0.0.1", "t=1512345678901, t=1", false),
            ("10.0.0.1", "111111111111111111111111111111111", false),
        ] {
            let found = origin(address(peer), ours, all, &headers(&[("x-request-start", start)])).start;
            assert_eq!(found.is_some(), is_believed, "for {peer} saying {start}");
            assert!(found.is_none_or(|found| found.0 == start));
        }
    }

    #[test]
    fn forwarded_says_the_same_in_one_element() {
        for (client, host, expected) in [
            (address("192.0.2.1"), "example.com", "for=192.0.2.1;host=example.com;proto=https"),
            (address("::ffff:192.0.2.1"), "example.com", "for=192.0.2.1;host=example.com;proto=https"),
            (address("2001:db8::1"), "[::1]:81", "for=\"[2001:db8::1]\";host=\"[::1]:81\";proto=https"),
            (None, "a\"b\\", "for=unknown;host=\"a\\\"b\\\\\";proto=https"),
        ] {
            let (mut fields, host) = (HeaderMap::new(), HeaderValue::from_static(host));
            let client = Client { address: client, port: 5, scheme: Scheme::Https, local_port: 9 };
            write_forwarded(&mut fields, Some(&host), &client);
            assert_eq!(fields.get_all("forwarded").iter().collect::<Vec<_>>(), [expected]);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_client_wrote_before_the_element_of_a_trusted_proxy_is_the_one_that_counts(claim in "[ -~]{0,40}") {
            for nearest in ["for=198.51.100.1", "for=\"[2001:db8::1]:4711\";proto=https"] {
                let line = HeaderValue::try_from(format!("{claim}, {nearest}")).expect("visible ASCII");
                let found = origin(address("10.0.0.1"), ours, all, &HeaderMap::from_iter([(FORWARDED, line)]));
                let expected = if nearest.contains("db8") { "2001:db8::1" } else { "198.51.100.1" };
                proptest::prop_assert_eq!(found.address, address(expected));
            }
        }
    }

    #[test]
    fn a_list_over_several_lines_is_one_list() {
        let fields = headers(&[("x-forwarded-for", "203.0.113.5"), ("x-forwarded-for", "198.51.100.1, 10.1.1.1")]);
        assert_eq!(origin(None, ours, all, &fields).address, address("198.51.100.1"));
    }

    #[test]
    fn only_a_trusted_peer_can_say_the_scheme() {
        for (peer, proto, expected) in [
            ("10.0.0.1", "https", Some(Scheme::Https)),
            ("10.0.0.1", "HTTP", Some(Scheme::Http)),
            ("10.0.0.1", "http, https", Some(Scheme::Https)), // the nearest proxy is the last
            ("10.0.0.1", "gopher", None),
            ("192.0.2.9", "https", None),
        ] {
            let found = origin(address(peer), ours, all, &headers(&[("x-forwarded-proto", proto)]));
            assert_eq!(found.scheme, expected, "for {peer} saying {proto:?}");
        }
    }

    #[test]
    fn a_request_id_is_taken_over_only_in_the_two_known_shapes() {
        let id = Some(RequestId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        for (peer, text, expected) in [
            ("10.0.0.1", "0123456789abcdef0123456789abcdef", id),
            ("10.0.0.1", "01234567-89ab-cdef-0123-456789ABCDEF", id),
            ("10.0.0.1", "+123456789abcdef0123456789abcdef", None),
            ("10.0.0.1", "0123456789abcdef", None),
            ("10.0.0.1", "0123-4567-89ab-cdef-0123-456789abcdef", None),
            ("192.0.2.9", "0123456789abcdef0123456789abcdef", None),
        ] {
            let found = origin(address(peer), ours, all, &headers(&[("x-request-id", text)]));
            assert_eq!(found.id, expected, "for {peer} saying {text:?}");
        }
    }

    #[test]
    fn the_application_is_told_each_fact_once() {
        let (mut fields, host) = (HeaderMap::new(), HeaderValue::from_static("example.com:8443"));
        let client = Client { address: address("::ffff:192.0.2.1"), port: 5, scheme: Scheme::Https, local_port: 99 };
        write(&mut fields, Some(&host), &client, RequestId(15));
        for (name, expected) in [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-real-ip", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "example.com:8443"),
            ("x-forwarded-port", "8443"),
            ("x-request-id", "0000000000000000000000000000000f"),
        ] {
            assert_eq!(fields.get_all(name).iter().collect::<Vec<_>>(), [expected], "for {name}");
        }
    }

    #[test]
    fn an_unknown_address_is_not_made_up() {
        let mut fields = HeaderMap::new();
        let client = Client { address: None, port: 0, scheme: Scheme::Http, local_port: 0 };
        write(&mut fields, None, &client, RequestId(0));
        assert!(!fields.contains_key("x-forwarded-for") && !fields.contains_key("x-real-ip"));
    }

    #[test]
    fn the_public_port_is_the_written_one_or_that_of_the_scheme() {
        for (host, scheme, expected) in [
            ("example.com", Scheme::Http, 80),
            ("example.com", Scheme::Https, 443),
            ("example.com:8443", Scheme::Https, 8443),
            ("[::1]", Scheme::Https, 443),
            ("[::1]:81", Scheme::Http, 81),
        ] {
            assert_eq!(public_port(&HeaderValue::from_static(host), scheme), expected, "for {host}");
        }
    }

    #[test]
    fn every_claim_in_the_tables_is_known_as_one() {
        assert!(CLAIMS.is_sorted(), "the claims are searched by halves");
        for (name, _) in CLAIMS {
            assert!(is_claim(&HeaderName::from_static(name)), "for {name}");
        }
        assert!(PREFIXES.is_sorted(), "the beginnings are searched by halves");
        for pair in PREFIXES.windows(2) {
            assert!(!pair[1].0.starts_with(pair[0].0), "{} is said by {}", pair[1].0, pair[0].0);
        }
        for (prefix, _) in PREFIXES {
            let name = format!("{prefix}0");
            assert!(is_claim(&HeaderName::try_from(name).expect("a name")), "for {prefix}");
        }
        for name in
            ["x-forwarded-ssl", "remote-user", "x-remote-user", "remote-addr", "ssl-client-verify", "client-cert"]
        {
            assert!(is_claim(&HeaderName::from_static(name)), "for {name}");
        }
        for name in
            ["host", "cookie", "x-csrftoken", "x-auth-token", "x-client-version", "x-original-filename", "proxy-x"]
        {
            assert!(!is_claim(&HeaderName::from_static(name)), "for {name}");
        }
    }
}
