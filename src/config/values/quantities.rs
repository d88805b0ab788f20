//! How much, and for how long.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
