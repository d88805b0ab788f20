//! A word out of a few; also what is neither a path, an address nor a quantity.

use std::str::FromStr;

use http::StatusCode;
use serde::{Deserialize, Deserializer, de};

super::deserialize_from_str!(Realm);

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

/// The status for a host that is not this site's: 400, as Django answers, or 421 (RFC 9110, section 15.5.20).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownHostStatus(pub StatusCode);

impl Default for UnknownHostStatus {
    fn default() -> Self {
        Self(StatusCode::BAD_REQUEST)
    }
}

impl<'de> Deserialize<'de> for UnknownHostStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u16::deserialize(deserializer)? {
            400 => Ok(Self(StatusCode::BAD_REQUEST)),
            421 => Ok(Self(StatusCode::MISDIRECTED_REQUEST)),
            status => Err(de::Error::custom(format!("{status} is no status for an unknown host; write 400 or 421"))),
        }
    }
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
}
