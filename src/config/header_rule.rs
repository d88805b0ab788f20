//! `[[headers]]`: what the operator sets and removes of the headers of answers.
//!
//! Some headers say what an answer is, or end at one connection. Whoever could set those could only make
//! answers that are false, so they are refused where they are written.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use ::http::{HeaderName, HeaderValue};
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// `[[headers]]`, an array of tables, for static files and for the application's answers alike.
///
/// Later rules win over earlier ones, header by header.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// The URL paths that it is for, as a glob. No default.
    ///
    /// An asterisk crosses slashes: "/static/fonts/*" is all below it, "*.woff2" every such file anywhere, "*"
    /// everything.
    pub path: PathGlob,
    /// Headers to set, in place of those that are there. `Vary` is added to what is there. Default: none.
    ///
    /// `{static:css/base.css}` in a value is the URL of that static file in the release that is served, as in
    /// `Link = "<{static:css/base.css}>; rel=preload; as=style"`. A release without the file is not taken over.
    ///
    /// `Cache-Control`, `Expires` and what describes the content go on answers with content (and the first two
    /// on 304), all others on every answer. A `Cache-Control` counts for files with a content hash too.
    #[serde(default)]
    pub set: SetHeaders,
    /// Headers to remove. Default: none.
    #[serde(default)]
    pub remove: Vec<RemovedHeader>,
}

/// A pattern for URL paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathGlob(Glob);

/// What begins the name of a static file in a value; a brace ends it.
pub const FILE: &str = "{static:";

/// Headers to set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SetHeaders(pub Vec<(HeaderName, HeaderValue)>);

/// The name of a header to remove.
#[derive(Debug, Clone, PartialEq)]
pub struct RemovedHeader(pub HeaderName);

/// The patterns of rules, each at the place of its rule.
///
/// # Errors
/// When they are too much together.
pub fn glob_set(rules: &[HeaderRule]) -> Result<GlobSet, globset::Error> {
    path_set(rules.iter().map(|rule| &rule.path))
}

/// Patterns as one.
///
/// # Errors
/// When they are too much together.
pub fn path_set<'g>(globs: impl IntoIterator<Item = &'g PathGlob>) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob.0.clone());
    }
    set.build()
}

impl HeaderRule {
    /// The headers that it sets, and those that it removes (`None`).
    pub fn edits(&self) -> Vec<(HeaderName, Option<HeaderValue>)> {
        let set = self.set.0.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
        set.chain(self.remove.iter().map(|removed| (removed.0.clone(), None))).collect()
    }

    /// Whether it names static files.
    pub(super) fn names_files(&self) -> bool {
        self.set.0.iter().any(|(_, value)| value.to_str().is_ok_and(|text| text.contains(FILE)))
    }

    /// Whether it names this static file.
    pub fn names_file(&self, name: &str) -> bool {
        let named = format!("{FILE}{name}}}");
        self.set.0.iter().any(|(_, value)| value.to_str().is_ok_and(|text| text.contains(&named)))
    }

    /// What is wrong with it as a whole: the key to blame, and what to write instead.
    pub(super) fn fault(&self) -> Option<(&'static str, String)> {
        if self.set.0.is_empty() && self.remove.is_empty() {
            return Some(("path", "the rule has no effect; give it `set` or `remove`".into()));
        }
        let mut seen = BTreeSet::new();
        let set = self.set.0.iter().map(|(name, _)| ("set", name));
        for (key, name) in set.chain(self.remove.iter().map(|removed| ("remove", &removed.0))) {
            if !seen.insert(name.as_str()) {
                return Some((key, format!("names {name} a second time; a header is set once or removed")));
            }
        }
        None
    }
}

impl FromStr for PathGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "write one as in \"/static/fonts/*\", \"*.woff2\" or \"*\"";
        if !text.starts_with(['/', '*']) {
            return Err(format!("{text:?} fits no URL path, since those begin with a slash; {EXAMPLE}"));
        }
        if text.contains(['#', '%']) {
            return Err(format!(
                "{text:?} fits no URL path: paths are compared decoded, without a fragment; {EXAMPLE}"
            ));
        }
        let glob = GlobBuilder::new(text).literal_separator(false).backslash_escape(false).build();
        glob.map(Self).map_err(|error| format!("{text:?} is not a pattern: {}; {EXAMPLE}", error.kind()))
    }
}

impl<'de> Deserialize<'de> for PathGlob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Read name by name, so that a mistake is told where it stands.
impl<'de> Deserialize<'de> for SetHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = SetHeaders;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers, as in { \"X-Frame-Options\" = \"DENY\" }")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<SetHeaders, M::Error> {
                let mut fields = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    let Text(value) = map.next_value()?;
                    fields.push((name, value));
                }
                Ok(SetHeaders(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

struct Name(HeaderName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        header_name(&String::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
    }
}

struct Text(HeaderValue);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_line = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if text.split(FILE).skip(1).any(|name| !name.contains('}') || name.starts_with('}')) {
            return Err(de::Error::custom(format!(
                "{text:?} names no static file; write it as in \"<{{static:css/base.css}}>; rel=preload; as=style\""
            )));
        }
        let value = HeaderValue::try_from(&text).ok().filter(|_| is_line && text.trim() == text);
        value.map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "{text:?} cannot be sent as a header's value; write one line of ASCII, or name the header under `remove`"
            ))
        })
    }
}

impl<'de> Deserialize<'de> for RemovedHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Name(name) = Name::deserialize(deserializer)?;
        match name.as_str() {
            "vary" => Err(de::Error::custom(
                "Vary cannot be removed: caches would give one client's answer to another; leave it out",
            )),
            _ => Ok(Self(name)),
        }
    }
}

/// A header that the operator may set or remove.
fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_str(text)
        .map_err(|_| format!("{text:?} is not the name of a header; write it as in \"X-Frame-Options\""))?;
    match reserved(name.as_str()) {
        Some(reason) => Err(format!("{text} cannot be set or removed here: {reason}")),
        None => Ok(name),
    }
}

/// Why a header is not the operator's to decide, and what to do.
fn reserved(name: &str) -> Option<&'static str> {
    Some(match name {
        "content-length" | "transfer-encoding" | "trailer" => {
            "it says where an answer ends, which only its sender knows; leave it out"
        }
        "content-encoding" | "content-range" | "accept-ranges" => {
            "it says what was done to the bytes, which only their sender knows; leave it out"
        }
        "etag" | "last-modified" => "browsers would keep old bytes for new ones; leave it out",
        "date" | "age" | "allow" => "it is different for each answer; leave it out",
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "upgrade"
        | "te"
        | "proxy-authenticate"
        | "proxy-authorization" => "it belongs to one connection and not to an answer; leave it out",
        "strict-transport-security" => "set [https] hsts_max_age instead, which sends it over TLS only",
        "set-cookie" => "one cookie for all would make them one visitor; let the application set it",
        "use-as-dictionary" | "available-dictionary" => {
            "it goes with the deltas that `collect` makes; [static] deltas = false turns them off"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        headers: Vec<HeaderRule>,
    }

    fn read(text: &str) -> Result<HeaderRule, String> {
        let file: File = toml::from_str(&format!("[[headers]]\n{text}")).map_err(|error| error.message().to_owned())?;
        Ok(file.headers.into_iter().next().expect("one rule"))
    }

    #[test]
    fn a_rule_is_read_whole() {
        let rule =
            read("path = \"*.woff2\"\nset = { \"X-A\" = \"1, 2\", vary = \"Origin\" }\nremove = [\"Server\"]").unwrap();
        let set = rule.set.0.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        assert_eq!(set.collect::<Vec<_>>(), ["x-a: 1, 2", "vary: Origin"]);
        assert_eq!(rule.remove, [RemovedHeader(::http::header::SERVER)]);
        assert_eq!(rule.fault(), None);
        assert!(glob_set(&[rule]).unwrap().is_match("/static/fonts/a.woff2"));
    }

    #[test]
    fn what_says_what_an_answer_is_cannot_be_set_nor_removed() {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "Content-Encoding",
            "Content-Range",
            "ETag",
            "Last-Modified",
            "Date",
            "Connection",
            "Keep-Alive",
            "Upgrade",
            "Strict-Transport-Security",
            "Set-Cookie",
            "Use-As-Dictionary",
        ] {
            for text in [format!("set = {{ \"{name}\" = \"x\" }}"), format!("remove = [\"{name}\"]")] {
                let refusal = read(&text).expect_err(&text);
                assert!(refusal.contains(&format!("{name} cannot be set or removed here")), "{refusal}");
            }
        }
        assert!(read("remove = [\"Vary\"]").unwrap_err().contains("cannot be removed"));
        assert!(read("set = { \"a b\" = \"x\" }").unwrap_err().contains("not the name of a header"));
        for value in ["", " x", "x\\ny", "é", "\\u0000"] {
            assert!(read(&format!("set = {{ a = \"{value}\" }}")).unwrap_err().contains("one line"), "for {value:?}");
        }
    }

    #[test]
    fn a_path_that_fits_nothing_is_refused() {
        for (path, part) in [
            ("static/*", "begin with a slash"),
            ("", "begin with a slash"),
            ("/caf%C3%A9/*", "compared decoded"),
            ("/a[b", "not a pattern"),
            ("/{a", "not a pattern"),
        ] {
            let refusal = path.parse::<PathGlob>().expect_err(path);
            assert!(refusal.contains(part) && refusal.contains("write one as in"), "{refusal}");
        }
        for path in ["/", "*", "/a/*.{js,css}", "*.[jt]s", "/café/*"] {
            assert!(path.parse::<PathGlob>().is_ok(), "for {path}");
        }
    }

    #[test]
    fn a_rule_as_a_whole_must_mean_something() {
        for (text, key, part) in [
            ("path = \"*\"", "path", "no effect"),
            ("path = \"*\"\nset = { a = \"1\" }\nremove = [\"A\"]", "remove", "names a a second time"),
            ("path = \"*\"\nset = { a = \"1\", A = \"2\" }", "set", "names a a second time"),
        ] {
            let (blamed, fault) = read(text).unwrap().fault().expect(text);
            assert!(blamed == key && fault.contains(part), "{blamed}: {fault}");
        }
    }
}
