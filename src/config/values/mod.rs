//! Values that parse themselves, so that a wrong one is refused where it is written.

mod network;
mod paths;
mod quantities;
mod upstreams;
mod words;

pub use self::network::*;
pub use self::paths::*;
pub use self::quantities::*;
pub use self::upstreams::*;
pub use self::words::*;

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
