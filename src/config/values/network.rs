//! Who is listened to, and who may speak: addresses, networks and names of hosts.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

super::deserialize_from_str!(ListenAddress, UnixMode, TrustedPeer, TrustedHeader, HostPattern, HostName);

/// Where to listen: `HOST:PORT` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A host, as a name or an address, and a port; port 0 means any free one.
    Tcp {
        /// An IP address or a name; without the brackets of an IPv6 address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket that vestibule makes.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("\"unix:\" needs a path behind it, as in \"unix:/run/vestibule.sock\"".into()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let (host, port) = host_and_port(text).ok_or_else(|| {
            format!(
                "{text:?} is not an address to listen on; write \"HOST:PORT\", as in \"0.0.0.0:443\", or \"unix:PATH\""
            )
        })?;
        Ok(Self::Tcp { host, port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write_host_and_port(f, host, *port),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

pub(super) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        // A bare IPv6 address cannot be told from its last group.
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty() && !host.contains(['/', ' '])).then_some(())?;
    Some((host.to_owned(), port.parse().ok()?))
}

pub(super) fn write_host_and_port(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
}

/// The access rights of a unix socket, in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixMode(pub u32);

impl FromStr for UnixMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Self(mode)),
            _ => Err(format!("{text:?} is not an access mode; write it in octal, as in \"0660\"")),
        }
    }
}

/// A peer whose word on the client's address is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedPeer {
    /// Every address of this network.
    Network(IpNet),
    /// Every address of the networks that are known by a name.
    Named(&'static str, Arc<[IpNet]>),
    /// Whoever connects over a unix socket.
    Unix,
}

impl TrustedPeer {
    /// Whether a peer at `address` (`None` for a unix socket) is meant.
    pub fn covers(&self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::Network(network), Some(address)) => network.contains(&address.to_canonical()),
            (Self::Named(_, networks), Some(address)) => {
                let address = address.to_canonical();
                networks.iter().any(|network| network.contains(&address))
            }
            (Self::Unix, None) => true,
            _ => false,
        }
    }
}

/// The networks that are known by a name.
const NAMED_NETWORKS: &str = include_str!("networks.txt");

/// The names, each with its networks as text.
fn named_networks() -> impl Iterator<Item = (&'static str, impl Iterator<Item = &'static str>)> {
    NAMED_NETWORKS.split("\n[").skip(1).filter_map(|set| {
        let (name, networks) = set.split_once("]\n")?;
        Some((name, networks.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))))
    })
}

impl FromStr for TrustedPeer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        if let Some((name, networks)) = named_networks().find(|(name, _)| *name == text) {
            let networks = networks.map(|network| network.parse().expect("a test has read them all"));
            return Ok(Self::Named(name, networks.collect()));
        }
        text.parse::<IpNet>().map(Self::Network).map_err(|_| {
            let names = named_networks().map(|(name, _)| format!("{name:?}, ")).collect::<String>();
            format!("{text:?} is not a network; write an address, a CIDR as in \"10.0.0.0/8\", {names}or \"unix\"")
        })
    }
}

/// A field in which a trusted proxy says something of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedHeader(pub HeaderName);

impl TrustedHeader {
    /// Those that are believed unless something else is said. `Forwarded` is none of them: most proxies do not write it,
    /// and then it is the client's.
    pub(in crate::config) fn usual() -> Vec<Self> {
        let names = ["x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-request-start"];
        names.map(|name| Self(HeaderName::from_static(name))).to_vec()
    }
}

impl FromStr for TrustedHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let forwarded = Self(HeaderName::from_static("forwarded"));
        let mut known = Self::usual().into_iter().chain([forwarded]);
        known.find(|header| text.eq_ignore_ascii_case(header.0.as_str())).ok_or_else(|| {
            format!(
                "{text:?} is not read; write those that the proxy sets of \"x-forwarded-for\", \"x-forwarded-proto\", \
                 \"forwarded\", \"x-request-id\" and \"x-request-start\""
            )
        })
    }
}

/// One name of a site, without a port: `example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(pub String);

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_sound = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        match text.split('.').all(is_sound) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err(format!("{text:?} is not a name; write one without scheme and port, as in \"example.com\"")),
        }
    }
}

/// One name of Django's `ALLOWED_HOSTS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`
    Any,
    /// `example.com`
    Exactly(String),
    /// `.example.com`: the name and everything below it. Held without the dot.
    WithSubdomains(String),
}

impl HostPattern {
    /// Whether `host` (lower case, without its port) is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(name) => host == name,
            Self::WithSubdomains(name) => {
                host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        }
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (name, subdomains) = match text.strip_prefix('.') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let is_address = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if !is_address && !is_name {
            return Err(format!(
                "{text:?} is not a host name; write it without scheme and port, as in \"example.com\" or \".example.com\""
            ));
        }
        let name = name.to_ascii_lowercase();
        Ok(if subdomains { Self::WithSubdomains(name) } else { Self::Exactly(name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_known_by_name() {
        for (name, networks) in named_networks() {
            let read: Vec<IpNet> = networks.map(|text| text.parse().expect(text)).collect();
            assert!(read.len() > 10, "for {name}");
            for (at, network) in read.iter().enumerate() {
                let is_true = network.trunc() == *network && !network.addr().is_loopback();
                let is_new = !read[..at].iter().any(|other| other.contains(network) || network.contains(other));
                assert!(is_true && is_new, "{network} of {name}");
            }
        }
        let names: Vec<_> = named_networks().map(|(name, _)| name).collect();
        assert_eq!(names, ["cloudflare", "fastly", "cloudfront"]);
        for (name, address, is_covered) in [
            ("cloudflare", Some("173.245.48.1"), true),
            ("cloudflare", Some("::ffff:173.245.48.1"), true),
            ("cloudflare", Some("2606:4700::1"), true),
            ("cloudflare", Some("151.101.1.1"), false),
            ("cloudflare", None, false),
            ("fastly", Some("151.101.1.1"), true),
            ("fastly", Some("192.0.2.1"), false),
            ("cloudfront", Some("15.158.27.206"), true),
            ("cloudfront", Some("2600:9000:1000::1"), true),
            ("cloudfront", Some("54.230.62.29"), false), // where browsers ask
        ] {
            let peer: TrustedPeer = name.parse().unwrap();
            assert_eq!(peer.covers(address.map(|text| text.parse().unwrap())), is_covered, "for {name}, {address:?}");
        }
        let error = "akamai".parse::<TrustedPeer>().unwrap_err();
        let names = "\"cloudflare\", \"fastly\", \"cloudfront\", or \"unix\"";
        assert!(error.ends_with(&format!("as in \"10.0.0.0/8\", {names}")), "{error}");
    }

    #[test]
    fn a_host_pattern_follows_django() {
        for (pattern, host, expected) in [
            ("example.com", "example.com", true),
            ("Example.com", "example.com", true),
            ("example.com", "www.example.com", false),
            (".example.com", "example.com", true),
            (".example.com", "www.example.com", true),
            (".example.com", "badexample.com", false),
            ("*", "anything", true),
            ("[::1]", "[::1]", true),
        ] {
            let pattern = pattern.parse::<HostPattern>().expect(pattern);
            assert_eq!(pattern.matches(host), expected, "{pattern:?} for {host:?}");
        }
        for text in ["https://example.com", "example.com:443", "a b", ""] {
            assert!(text.parse::<HostPattern>().is_err(), "for {text:?}");
        }
    }
}
