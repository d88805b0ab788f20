//! Whether Django finds a name, as its `ManifestFilesMixin` looks it up for `{% static %}`. Pure.
//!
//! The name is taken for a URL: its fragment goes, what ends in a slash is a folder and not looked up, the
//! rest is decoded, and its path is looked up in `paths`. This is Python's idea of a URL, oddities included:
//! an encoded `#` ends the path as well, because it is decoded first.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// What Django does with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has one.
    InManifest,
    /// It does not look: the name is a folder's.
    Folder,
    /// It raises `ValueError`.
    Missing {
        /// What it looked up.
        path: String,
    },
}

pub(super) fn answer(name: &str, paths: &BTreeMap<String, String>) -> Answer {
    let clean = name.split_once('#').map_or(name, |(before, _)| before);
    if path_of(clean).ends_with('/') {
        return Answer::Folder;
    }
    let decoded = percent_decode_str(clean).decode_utf8_lossy();
    let path = path_of(&decoded).trim().to_owned();
    if paths.contains_key(&path) { Answer::InManifest } else { Answer::Missing { path } }
}

/// The path of Python's `urlsplit`.
fn path_of(url: &str) -> String {
    let url = url.trim_start_matches(|c: char| c <= ' ').replace(['\t', '\r', '\n'], "");
    let mut rest = url.as_str();
    if let Some((scheme, after)) = rest.split_once(':') {
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        rest = if is_scheme { after } else { rest };
    }
    if let Some(host) = rest.strip_prefix("//") {
        rest = host.find(['/', '?', '#']).map_or("", |end| &host[end..]);
    }
    rest[..rest.find(['?', '#']).unwrap_or(rest.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same table goes through Django itself in `tests/audit.rs`.
    #[test]
    fn names_are_looked_up_as_django_does() {
        let paths: BTreeMap<String, String> =
            ["css/a.css", "my file.png", "é.png", "a"].map(|name| (name.to_owned(), "x".to_owned())).into();
        let missing = |path: &str| Answer::Missing { path: path.to_owned() };
        for (name, expected) in [
            ("css/a.css", Answer::InManifest),
            ("css/a.css?v=1", Answer::InManifest),
            ("css/a.css#f", Answer::InManifest),
            ("css/a.css?#iefix", Answer::InManifest),
            (" css/a.css ", Answer::InManifest),
            ("my file.png", Answer::InManifest),
            ("my%20file.png", Answer::InManifest),
            ("%C3%A9.png", Answer::InManifest),
            ("a%23b", Answer::InManifest), // it is decoded before it is split
            ("css/", Answer::Folder),
            ("nowhere/?x", Answer::Folder),
            ("/", Answer::Folder),
            ("css", missing("css")),
            ("/css/a.css", missing("/css/a.css")),
            ("./css/a.css", missing("./css/a.css")),
            ("CSS/a.css", missing("CSS/a.css")),
            ("", missing("")),
            ("https://example.com/css/a.css", missing("/css/a.css")),
            ("x:css/a.css", Answer::InManifest), // a scheme, which goes
            ("//example.com", missing("")),
        ] {
            assert_eq!(answer(name, &paths), expected, "for {name:?}");
        }
    }
}
