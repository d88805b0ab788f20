//! Values that parse themselves, so that a wrong one is refused where it is written.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::uri::PathAndQuery;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

/// Lets a type that implements `FromStr` be read from a TOML string.
macro_rules! deserialize_from_str {
    ($($type:ty),+ $(,)?) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

deserialize_from_str!(
    ListenAddress,
    UnixMode,
    TrustedPeer,
    TrustedHeader,
    UrlPrefix,
    MountPath,
    FilePath,
    IndexName,
    UrlPath,
    HostPattern,
    UpstreamAddress,
    RouteTarget,
    ApplicationName,
    CheckTarget,
    Source,
    PathPattern,
    RedirectTarget,
    HostName,
    Realm,
);

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

fn host_and_port(text: &str) -> Option<(String, u16)> {
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

fn write_host_and_port(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
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
    pub(super) fn usual() -> Vec<Self> {
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

/// A URL path that begins and ends with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPrefix(String);

impl UrlPrefix {
    /// The prefix, with both slashes; "/" for the whole site.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a folder appears: "/", or a [`UrlPrefix`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPath(pub UrlPrefix);

impl Default for MountPath {
    fn default() -> Self {
        Self(UrlPrefix("/".into()))
    }
}

impl FromStr for MountPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "/" { Ok(Self::default()) } else { text.parse().map(Self) }
    }
}

/// The name of a file in a folder, with forward slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath(pub String);

impl FromStr for FilePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
        if text.split('/').all(is_part) {
            Ok(Self(text.into()))
        } else {
            Err(format!("{text:?} is not the name of a file in the folder; write one as in \"index.html\""))
        }
    }
}

/// The name of the file that answers for its folder, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexName(pub Option<String>);

impl FromStr for IndexName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text.is_empty() => Ok(Self(None)),
            Ok(FilePath(name)) if !name.contains('/') => Ok(Self(Some(name))),
            _ => Err(format!("{text:?} is not a file name; write one as in \"index.html\", or \"\" for none")),
        }
    }
}

/// What becomes of a request under a mount for which there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Missing {
    /// It goes on: to a mount with a shorter path, and then to the application.
    #[serde(rename = "next")]
    Next,
    /// It is answered with 404.
    #[serde(rename = "404")]
    NotFound,
}

impl Default for UrlPrefix {
    fn default() -> Self {
        Self("/static/".into())
    }
}

impl FromStr for UrlPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        match inner {
            Some(inner) if inner.split('/').all(is_plain_segment) => Ok(Self(text.into())),
            _ => Err(format!(
                "{text:?} is not a URL prefix; write a path that begins and ends with a slash, as in \"/static/\""
            )),
        }
    }
}

/// A URL path that begins with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPath(pub String);

impl FromStr for UrlPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('/').map(|inner| inner.strip_suffix('/').unwrap_or(inner)) {
            Some(inner) if inner.split('/').all(is_plain_segment) => Ok(Self(text.into())),
            _ => Err(format!("{text:?} is not a URL path; write one that begins with a slash, as in \"/-/live\"")),
        }
    }
}

/// A URL path, or all that begin with it: "/old/", "/old/*".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    /// The path without the *.
    pub path: String,
    /// Whether what is below is meant too.
    pub is_prefix: bool,
}

impl FromStr for PathPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, is_prefix) = text.strip_suffix('*').map_or((text, false), |path| (path, true));
        let is_sound = |letter: char| !letter.is_control() && !"*?#%\\".contains(letter);
        if path.starts_with('/') && path.chars().all(is_sound) && !path.contains("//") {
            return Ok(Self { path: path.into(), is_prefix });
        }
        Err(format!("{text:?} is not a path; write one, decoded, as in \"/old/\", or \"/old/*\" for all below it"))
    }
}

impl PathPattern {
    /// Whether a path is meant.
    pub fn covers(&self, path: &str) -> bool {
        if self.is_prefix { path.starts_with(&self.path) } else { path == self.path }
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

/// What browsers say when they ask for a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm(pub String);

impl Default for Realm {
    fn default() -> Self {
        Self("restricted".into())
    }
}

impl FromStr for Realm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && !b"\"\\".contains(&byte);
        match text.bytes().all(is_plain) {
            true => Ok(Self(text.into())),
            false => Err(format!("{text:?} is not a realm; write letters, digits and spaces")),
        }
    }
}

/// What a rate limit counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Every request.
    #[default]
    Requests,
    /// POST requests that are not answered with a redirect.
    FailedLogins,
}

/// Where a redirect leads: a path, or a URL with http or https.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectTarget {
    /// The target without the *.
    pub location: String,
    /// Whether the rest of the path is put behind it.
    pub takes_rest: bool,
}

impl FromStr for RedirectTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (location, takes_rest) = text.strip_suffix('*').map_or((text, false), |location| (location, true));
        let is_url =
            |scheme| location.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
        // Two slashes would lead to another host.
        let is_path = location.starts_with('/') && !location.starts_with("//");
        let is_sound = location.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}*".contains(&byte));
        if is_sound && (is_path || is_url("https://") || is_url("http://")) {
            return Ok(Self { location: location.into(), takes_rest });
        }
        Err(format!("{text:?} leads nowhere; write a path, or a URL as in \"https://example.com/new/*\""))
    }
}

/// The status of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedirectStatus(pub u16);

impl Default for RedirectStatus {
    fn default() -> Self {
        Self(308)
    }
}

impl<'de> Deserialize<'de> for RedirectStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u16::deserialize(deserializer)? {
            status @ (301 | 302 | 303 | 307 | 308) => Ok(Self(status)),
            status => Err(de::Error::custom(format!("{status} is no redirect; write 301, 302, 303, 307 or 308"))),
        }
    }
}

fn is_plain_segment(segment: &str) -> bool {
    !segment.is_empty()
        && segment != "."
        && segment != ".."
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte))
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

/// Where and how the application is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamAddress {
    /// What is spoken there.
    pub protocol: UpstreamProtocol,
    /// Where it is.
    pub endpoint: Endpoint,
}

/// What is spoken to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http,
    /// The uwsgi protocol, as nginx's `uwsgi_pass`.
    Uwsgi,
}

/// The other end of a connection to the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A host, as a name or an address, and a port.
    Tcp {
        /// An IP address or a name; without the brackets of an IPv6 address.
        host: String,
        /// The port.
        port: u16,
    },
}

impl FromStr for UpstreamAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unix = |protocol, path: &str| match path {
            "" => Err(format!("{text:?} names no socket; write a path behind the colon, as in \"unix:/run/app.sock\"")),
            path => Ok(Self { protocol, endpoint: Endpoint::Unix(path.into()) }),
        };
        let tcp = |protocol, rest: &str| {
            let (host, port) =
                host_and_port(rest.strip_suffix('/').unwrap_or(rest)).filter(|(_, port)| *port != 0).ok_or_else(
                    || format!("{text:?} names no host and port; write them as in \"http://127.0.0.1:8000\""),
                )?;
            Ok(Self { protocol, endpoint: Endpoint::Tcp { host, port } })
        };
        if let Some(path) = text.strip_prefix("unix:") {
            unix(UpstreamProtocol::Http, path)
        } else if let Some(path) = text.strip_prefix("uwsgi+unix:") {
            unix(UpstreamProtocol::Uwsgi, path)
        } else if let Some(rest) = text.strip_prefix("http://") {
            tcp(UpstreamProtocol::Http, rest)
        } else if let Some(rest) = text.strip_prefix("uwsgi://") {
            tcp(UpstreamProtocol::Uwsgi, rest)
        } else {
            Err(format!(
                "{text:?} is not an upstream address; write \"unix:PATH\", \"http://HOST:PORT\", \"uwsgi+unix:PATH\" or \"uwsgi://HOST:PORT\""
            ))
        }
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.protocol, &self.endpoint) {
            (UpstreamProtocol::Http, Endpoint::Unix(_)) => "unix:",
            (UpstreamProtocol::Http, Endpoint::Tcp { .. }) => "http://",
            (UpstreamProtocol::Uwsgi, Endpoint::Unix(_)) => "uwsgi+unix:",
            (UpstreamProtocol::Uwsgi, Endpoint::Tcp { .. }) => "uwsgi://",
        })?;
        match &self.endpoint {
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
            Endpoint::Tcp { host, port } => write_host_and_port(f, host, *port),
        }
    }
}

/// One server of an application: its address alone, or a table with what else there is to say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where and how it is reached.
    pub address: UpstreamAddress,
    /// How much it gets beside the others.
    pub weight: u32,
    /// Whether it gets any.
    pub state: ServerState,
}

/// Which requests a server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Its share.
    #[default]
    Active,
    /// Those for which no active one is there.
    Backup,
    /// None that is new; those that it has go on.
    Drain,
}

impl From<UpstreamAddress> for ServerConfig {
    fn from(address: UpstreamAddress) -> Self {
        Self { address, weight: 1, state: ServerState::Active }
    }
}

impl fmt::Display for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        match self.state {
            ServerState::Active => Ok(()),
            ServerState::Backup => f.write_str(" (backup)"),
            ServerState::Drain => f.write_str(" (drains)"),
        }
    }
}

impl<'de> Deserialize<'de> for ServerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            address: UpstreamAddress,
            #[serde(default = "one")]
            weight: u32,
            #[serde(default)]
            state: ServerState,
        }
        fn one() -> u32 {
            1
        }

        /// serde's own way to read one of two forms does not tell what is wrong with either.
        struct TextOrTable;
        impl<'de> de::Visitor<'de> for TextOrTable {
            type Value = ServerConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, or a table with `address`, `weight` and `state`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ServerConfig, E> {
                text.parse::<UpstreamAddress>().map(ServerConfig::from).map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ServerConfig, A::Error> {
                let Table { address, weight, state } = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(ServerConfig { address, weight, state })
            }
        }
        deserializer.deserialize_any(TextOrTable)
    }
}

/// How requests are spread over the servers of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// To the one that has the fewest.
    LeastConnections,
    /// To the same for the same client.
    ClientAddress,
}

/// What a route leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// An application with one server, and all else as `[upstream]` has it.
    Address(UpstreamAddress),
    /// One of `[[applications]]`.
    Application(ApplicationName),
}

impl FromStr for RouteTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.contains(':') {
            true => text.parse().map(Self::Address),
            false => text.parse().map(Self::Application),
        }
    }
}

/// The name of one of `[[applications]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationName(pub String);

impl FromStr for ApplicationName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        match !text.is_empty() && text.bytes().all(is_plain) {
            true => Ok(Self(text.into())),
            false => {
                Err(format!("{text:?} is not the name of an application; write letters and digits, as in \"chat\""))
            }
        }
    }
}

/// What a health check asks for: a path, and perhaps a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckTarget(pub PathAndQuery);

impl FromStr for CheckTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let target = text.starts_with('/').then(|| text.parse().ok()).flatten();
        target.map(Self).ok_or_else(|| format!("{text:?} is not a path; write one as in \"/health/\""))
    }
}

/// One source tree of `collect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The folder in the output under which its files appear; empty for the top.
    pub prefix: String,
    /// Where the files are.
    pub directory: PathBuf,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (prefix, directory) = match text.split_once('=') {
            // A folder whose name has an equals sign is still reachable as "./a=b".
            Some((prefix, directory)) if !prefix.contains('/') || !prefix.starts_with(['.', '/']) => {
                (prefix, directory)
            }
            _ => ("", text),
        };
        if directory.is_empty() {
            return Err(format!("{text:?} names no folder; write \"DIR\" or \"PREFIX=DIR\""));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !prefix.is_empty() && !prefix.split('/').all(|part| !matches!(part, "" | "." | "..")) {
            return Err(format!(
                "the prefix in {text:?} must be a plain relative path, as in \"vendor=node_modules/x/dist\""
            ));
        }
        Ok(Self { prefix: prefix.into(), directory: directory.into() })
    }
}

/// As it is read. A folder with an equals sign in its name gets the `./` that says that it is one.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, directory } = self;
        let needs_dot = prefix.is_empty()
            && directory.to_string_lossy().contains('=')
            && !directory.is_absolute()
            && !directory.starts_with(".")
            && !directory.starts_with("..");
        let equals = if prefix.is_empty() { "" } else { "=" };
        write!(f, "{prefix}{equals}{}{}", if needs_dot { "./" } else { "" }, directory.display())
    }
}

/// A number of bytes: `4096`, `"64 KiB"`, `"10 MiB"`, `"1 GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Units of 1,024 bytes.
    pub const fn kibibytes(n: u64) -> Self {
        Self(n << 10)
    }

    /// Units of 1,048,576 bytes.
    pub const fn mebibytes(n: u64) -> Self {
        Self(n << 20)
    }

    /// The number as a length in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => Some(0),
            "k" | "kb" | "kib" => Some(10),
            "m" | "mb" | "mib" => Some(20),
            "g" | "gb" | "gib" => Some(30),
            _ => None,
        };
        shift
            .and_then(|shift| number.parse::<u64>().ok()?.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a size; write it as in \"64 KiB\", \"10 MiB\" or 4096"))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(bytes) => Ok(Self(bytes)),
            NumberOrText::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// A span of time: `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"1h 30m"`, `"365d"`, or a number of seconds; ten
/// years at most, so that it can be added to any moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// A whole number of seconds.
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    fn not_too_long(self) -> Result<Self, String> {
        const LONGEST: Duration = Duration::from_secs(3650 * 86400);
        if self.0 <= LONGEST { Ok(self) } else { Err("too long a time; write \"3650d\" or less".to_owned()) }
    }
}

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span = parse_duration(text).ok_or_else(|| {
            format!("{text:?} is not a span of time; write it as in \"250ms\", \"30s\", \"5m\" or \"1h 30m\"")
        })?;
        Self(span).not_too_long()
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    match text.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).ok(),
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(seconds) => Self::seconds(seconds).not_too_long().map_err(de::Error::custom),
            NumberOrText::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number or a string")]
enum NumberOrText {
    Number(u64),
    Text(String),
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

/// How `PATH_INFO` goes into a uwsgi packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UwsgiPath {
    /// Percent-decoded, as CGI has it and uWSGI wants it.
    Decoded,
    /// As the client sent it: gunicorn decodes it itself.
    Encoded,
}

/// The form of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLog {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
    /// None.
    Off,
}

/// The form of the program's own messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How much the program tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what looks wrong.
    Warn,
    /// Also what was done.
    Info,
    /// Also why.
    Debug,
    /// Everything.
    Trace,
}

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It stops the run.
    Error,
    /// It is told.
    Warn,
    /// It is not told.
    Ignore,
}

/// How serious a kind of finding is, by the files it is about: `"error"`, or `["vendor/*=ignore", "error"]`.
///
/// The first pattern that fits decides; the last entry, which has none, decides for all others. A `*`
/// crosses slashes, as under `[collect] ignore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Severities {
    /// Patterns and what they mean, in order.
    pub rules: Vec<(String, Severity)>,
    /// For all that no pattern fits.
    pub otherwise: Severity,
}

impl From<Severity> for Severities {
    fn from(otherwise: Severity) -> Self {
        Self { rules: Vec::new(), otherwise }
    }
}

impl Severities {
    fn of_entries(entries: &[String]) -> Result<Self, String> {
        let mut rules = Vec::new();
        let mut otherwise = None;
        for (place, entry) in entries.iter().enumerate() {
            match entry.rsplit_once('=') {
                Some((glob, severity)) if !glob.is_empty() => rules.push((glob.to_owned(), severity.parse()?)),
                _ if place + 1 == entries.len() => otherwise = Some(entry.parse()?),
                _ => return Err(format!("{entry:?} decides for all files, so what follows it has no effect")),
            }
        }
        let otherwise =
            otherwise.ok_or("the last entry must be \"error\", \"warn\" or \"ignore\" for all other files")?;
        Ok(Self { rules, otherwise })
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "ignore" => Ok(Self::Ignore),
            _ => Err(format!(
                "{text:?} is not \"error\", \"warn\" or \"ignore\", nor a pattern with one of them, as in \"vendor/*=warn\""
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Severities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = match TextOrList::deserialize(deserializer)? {
            TextOrList::Text(text) => vec![text],
            TextOrList::List(entries) => entries,
        };
        Self::of_entries(&entries).map_err(de::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum TextOrList {
    Text(String),
    List(Vec<String>),
}

/// What a stylesheet loads that can be announced before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preload {
    /// The stylesheets that it imports.
    Styles,
    /// Its fonts.
    Fonts,
}

/// A compressed copy that `collect` can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// `.gz`
    Gzip,
    /// `.br`
    Brotli,
    /// `.zst`
    Zstd,
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
        assert_eq!(names, ["cloudflare", "fastly"]);
        for (name, address, is_covered) in [
            ("cloudflare", Some("173.245.48.1"), true),
            ("cloudflare", Some("::ffff:173.245.48.1"), true),
            ("cloudflare", Some("2606:4700::1"), true),
            ("cloudflare", Some("151.101.1.1"), false),
            ("cloudflare", None, false),
            ("fastly", Some("151.101.1.1"), true),
            ("fastly", Some("192.0.2.1"), false),
        ] {
            let peer: TrustedPeer = name.parse().unwrap();
            assert_eq!(peer.covers(address.map(|text| text.parse().unwrap())), is_covered, "for {name}, {address:?}");
        }
        let error = "cloudfront".parse::<TrustedPeer>().unwrap_err();
        assert!(error.ends_with("as in \"10.0.0.0/8\", \"cloudflare\", \"fastly\", or \"unix\""), "{error}");
    }

    #[test]
    fn severities_go_by_pattern_and_end_with_one_for_all_others() {
        #[derive(Deserialize)]
        struct One {
            value: Severities,
        }
        let read = |text: &str| toml::from_str::<One>(&format!("value = {text}")).map(|one| one.value);
        assert_eq!(read("\"warn\"").unwrap(), Severity::Warn.into());
        let rules = vec![("vendor/*".to_owned(), Severity::Ignore), ("a=b.css".to_owned(), Severity::Warn)];
        let expected = Severities { rules, otherwise: Severity::Error };
        assert_eq!(read(r#"["vendor/*=ignore", "a=b.css=warn", "error"]"#).unwrap(), expected);
        for (text, message) in [
            ("\"loud\"", "is not \"error\""),
            ("[]", "the last entry must be"),
            (r#"["vendor/*=warn"]"#, "the last entry must be"),
            (r#"["warn", "error"]"#, "no effect"),
            (r#"["vendor/*=loud", "warn"]"#, "\"loud\" is not"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(message), "for {text}: {error}");
        }
    }

    #[test]
    fn a_size_is_read_with_and_without_its_unit() {
        for (text, expected) in [
            ("4096", Some(4096)),
            ("64 KiB", Some(65536)),
            ("1m", Some(1 << 20)),
            ("2GiB", Some(2 << 30)),
            ("", None),
            ("MiB", None),
            ("1.5 MiB", None),
            ("-1", None),
            ("99999999999 GiB", None), // more than 64 bits
        ] {
            assert_eq!(text.parse::<ByteSize>().ok().map(|size| size.0), expected, "for {text:?}");
        }
    }

    #[test]
    fn a_span_of_time_is_read_in_the_usual_units() {
        for (text, expected) in [
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("30 s", Some(30_000)),
            ("1h 30m", Some(5_400_000)),
            ("365d", Some(31_536_000_000)),
            ("3650d", Some(315_360_000_000)),
            ("3650d 1s", None), // more than ten years
            ("18446744073709551615", None),
            ("60", Some(60_000)),
            ("", None),
            ("5 parsecs", None),
            ("s", None),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(text.parse::<HumanDuration>().ok().map(|time| time.0), expected, "for {text:?}");
        }
    }

    #[test]
    fn an_upstream_address_prints_as_it_is_written() {
        for text in ["unix:/run/app.sock", "http://127.0.0.1:8000", "uwsgi+unix:/run/a", "uwsgi://[::1]:3031"] {
            assert_eq!(text.parse::<UpstreamAddress>().expect(text).to_string(), text);
        }
        for text in ["", "/run/app.sock", "unix:", "http://localhost", "https://a:1", "http://::1:80", "uwsgi://a:0"] {
            assert!(text.parse::<UpstreamAddress>().is_err(), "for {text:?}");
        }
    }

    #[test]
    fn a_server_is_an_address_or_a_table_with_one() {
        #[derive(Deserialize)]
        struct One {
            value: ServerConfig,
        }
        let read = |text: &str| toml::from_str::<One>(&format!("value = {text}")).map(|one| one.value);
        let plain = read("\"unix:/a\"").unwrap();
        assert_eq!((plain.weight, plain.state, plain.to_string()), (1, ServerState::Active, "unix:/a".into()));
        let full = read("{ address = \"http://a:1\", weight = 3, state = \"backup\" }").unwrap();
        assert_eq!((full.weight, full.to_string()), (3, "http://a:1 (backup)".into()));
        for (text, message) in [
            ("\"/a\"", "is not an upstream address"),
            ("{ weight = 3 }", "missing field `address`"),
            ("{ address = \"unix:/a\", wieght = 3 }", "unknown field `wieght`, expected one of `address`, `weight`"),
            (
                "{ address = \"unix:/a\", state = \"down\" }",
                "unknown variant `down`, expected one of `active`, `backup`",
            ),
            ("1", "expected an address, or a table"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(message), "for {text}: {error}");
        }
    }

    #[test]
    fn a_route_leads_to_an_address_or_to_a_name() {
        for (text, is_name, is_sound) in [
            ("unix:/run/chat.sock", false, true),
            ("chat", true, true),
            ("http://chat", false, false),
            ("", false, false),
            ("the chat", false, false),
        ] {
            let target = text.parse::<RouteTarget>();
            assert_eq!(target.is_ok(), is_sound, "for {text:?}");
            assert_eq!(matches!(target, Ok(RouteTarget::Application(_))), is_name, "for {text:?}");
        }
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

    #[test]
    fn a_path_may_end_with_a_slash() {
        for (text, is_path) in [
            ("/-/live", true),
            ("/healthz/", true),
            ("/", false),
            ("//", false),
            ("/a//", false),
            ("healthz", false),
            ("/a/../b", false),
            ("/a?b", false),
        ] {
            assert_eq!(text.parse::<UrlPath>().is_ok(), is_path, "for {text:?}");
        }
    }

    #[test]
    fn a_mount_may_be_the_whole_site_and_its_files_lie_inside() {
        for (text, is_path) in [("/", true), ("/docs/", true), ("/.well-known/", true), ("", false), ("/docs", false)] {
            assert_eq!(text.parse::<MountPath>().is_ok(), is_path, "for {text:?}");
        }
        for (text, is_index, is_path) in [
            ("index.html", true, true),
            ("", true, false), // no index
            ("app/index.html", false, true),
            ("../index.html", false, false),
            ("/index.html", false, false),
            ("..", false, false),
            ("a\\b", false, false),
        ] {
            assert_eq!(text.parse::<IndexName>().is_ok(), is_index, "for {text:?}");
            assert_eq!(text.parse::<FilePath>().is_ok(), is_path, "for {text:?}");
        }
    }

    #[test]
    fn a_source_may_have_a_prefix() {
        let source = |prefix: &str, directory: &str| Source { prefix: prefix.into(), directory: directory.into() };
        for (text, expected) in [
            ("assets", Some(source("", "assets"))),
            ("vendor=node_modules/x", Some(source("vendor", "node_modules/x"))),
            ("a/b/=dir", Some(source("a/b", "dir"))),
            ("./a=b", Some(source("", "./a=b"))),
            ("../up=dir", Some(source("", "../up=dir"))),
            ("x/../y=dir", None),
            ("vendor=", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "for {text:?}");
            if let Some(source) = expected {
                assert_eq!(source.to_string().parse(), Ok(source), "written again, for {text:?}");
            }
        }
        assert_eq!(source("", "a=b").to_string(), "./a=b");
    }
}
