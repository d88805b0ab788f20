//! Paths: of addresses, of files, and what is written for both.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

super::deserialize_from_str!(UrlPrefix, MountPath, FilePath, IndexName, UrlPath, Source, PathPattern, RedirectTarget);

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

fn is_plain_segment(segment: &str) -> bool {
    !segment.is_empty()
        && segment != "."
        && segment != ".."
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte))
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

#[cfg(test)]
mod tests {
    use super::*;

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
