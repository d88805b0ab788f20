//! Values that parse themselves, so that a wrong one is refused where it is written.

mod network;
mod paths;
mod quantities;
mod upstreams;
mod words;

pub use self::network::{HostName, HostPattern, ListenAddress, TrustedHeader, TrustedPeer, UnixMode};
pub use self::paths::{FilePath, IndexName, MountPath, PathPattern, RedirectTarget, Source, UrlPath, UrlPrefix};
pub use self::quantities::{ByteSize, HumanDuration};
pub use self::upstreams::{
    ApplicationName, Balance, CheckTarget, Endpoint, RouteTarget, ServerConfig, ServerState, UpstreamAddress,
    UpstreamProtocol,
};
pub use self::words::{
    AccessLog, Counted, Encoding, LogFormat, LogLevel, Missing, Preload, Realm, RedirectStatus, Severities, Severity,
    TlsVersion, UnknownHostStatus, UwsgiPath,
};

/// Lets a type that implements `FromStr` be read from a TOML string.
macro_rules! deserialize_from_str {
    ($($type:ty),+ $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

use deserialize_from_str;
