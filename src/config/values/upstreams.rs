//! The application: where it listens, and by which name it is called.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use http::uri::PathAndQuery;
use serde::{Deserialize, Deserializer, de};

use super::network::{host_and_port, write_host_and_port};

super::deserialize_from_str!(UpstreamAddress, RouteTarget, ApplicationName, CheckTarget);

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
