//! What the operator wants of the headers of answers, by URL path: `[[headers]]`.
//!
//! Both kinds of answer obey the same rules. For a static file they are looked up once, when its answers are
//! made ready; for an answer of the application, per request. Which headers may be set at all is the
//! configuration's business.

use std::sync::Arc;

use ::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE, EXPIRES, PRAGMA, VARY,
};
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use globset::GlobSet;

use super::path;

/// What one rule does: the headers that it sets, and those that it removes (`None`).
pub type Edit = (HeaderName, Option<HeaderValue>);

/// Every rule, in the operator's order.
#[derive(Debug, Default)]
pub struct HeaderRules {
    paths: GlobSet,
    edits: Vec<Vec<Edit>>,
}

/// What all rules together come to for one path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Edits(Vec<Edit>);

/// On which answers a header makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Those that carry what was asked for: an error page has a type of its own.
    Content,
    /// Those, and the word that a cache may go on using what it has. An error must not be kept for as long as
    /// what it stands for.
    Kept,
    /// All.
    Every,
}

impl Reach {
    fn of(name: &HeaderName) -> Self {
        if [CONTENT_TYPE, CONTENT_LANGUAGE, CONTENT_DISPOSITION].contains(name) {
            Self::Content
        } else if [CACHE_CONTROL, EXPIRES, PRAGMA, CONTENT_LOCATION].contains(name)
            || matches!(name.as_str(), "cdn-cache-control" | "surrogate-control")
        {
            Self::Kept
        } else {
            Self::Every
        }
    }

    fn covers(self, status: StatusCode) -> bool {
        match self {
            Self::Content => status.is_success(),
            Self::Kept => status.is_success() || status == StatusCode::NOT_MODIFIED,
            Self::Every => true,
        }
    }
}

impl HeaderRules {
    /// Rules of which the path of each is in `paths`, at its place.
    pub fn new(paths: GlobSet, edits: Vec<Vec<Edit>>) -> Self {
        Self { paths, edits }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The same with the URL of each file that is named in a value, behind `opening` and before a brace.
    ///
    /// # Errors
    /// The first error of `url`.
    pub fn with_names<E>(
        self: &Arc<Self>,
        opening: &str,
        url: impl Fn(&str) -> Result<String, E>,
    ) -> Result<Arc<Self>, E> {
        let names_file = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains(opening));
        if !self.edits.iter().flatten().filter_map(|(_, value)| value.as_ref()).any(names_file) {
            return Ok(Arc::clone(self));
        }
        let mut edits = self.edits.clone();
        for value in edits.iter_mut().flatten().filter_map(|(_, value)| value.as_mut()) {
            let text = value.to_str().unwrap_or_default();
            let mut parts = text.split(opening);
            let mut named = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let (name, rest) = part.split_once('}').unwrap_or((part, ""));
                named.push_str(&url(name)?);
                named.push_str(rest);
            }
            if let Ok(named) = HeaderValue::try_from(named) {
                *value = named;
            }
        }
        Ok(Arc::new(Self { paths: self.paths.clone(), edits }))
    }

    /// What is to be done for a path as it stands in a request.
    pub fn for_raw_path(&self, path: &str) -> Edits {
        if self.edits.is_empty() {
            return Edits::default();
        }
        self.for_path(&path::decided(path))
    }

    /// What is to be done for a decoded path: of all rules for a header the last.
    pub fn for_path(&self, path: &str) -> Edits {
        let mut edits: Vec<Edit> = Vec::new();
        // In ascending order.
        for place in self.paths.matches(path) {
            for (name, value) in &self.edits[place] {
                match edits.iter_mut().find(|(other, _)| other == name) {
                    Some((_, before)) => before.clone_from(value),
                    None => edits.push((name.clone(), value.clone())),
                }
            }
        }
        Edits(edits)
    }
}

impl Edits {
    /// Applies them to the headers of an answer. Done twice they change no more than once.
    pub fn apply(&self, status: StatusCode, headers: &mut HeaderMap) {
        for (name, value) in self.0.iter().filter(|(name, _)| Reach::of(name).covers(status)) {
            match value {
                None => {
                    headers.remove(name);
                }
                Some(value) if name == VARY => add_to_vary(headers, value),
                // Its boundary must stay with the body.
                Some(_) if name == CONTENT_TYPE && is_multipart(headers) => {}
                Some(value) => {
                    headers.insert(name, value.clone());
                }
            }
        }
    }
}

fn is_multipart(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"multipart/byteranges"))
}

/// An answer that depends on a header must go on saying so, so nothing is taken from `Vary`.
fn add_to_vary(headers: &mut HeaderMap, value: &HeaderValue) {
    let lines: Vec<_> = headers.get_all(VARY).iter().filter_map(|line| line.to_str().ok()).collect();
    let mut all = lines.join(", ");
    for name in value.to_str().unwrap_or_default().split(',').map(str::trim_ascii).filter(|name| !name.is_empty()) {
        if !all.split(',').any(|other| other.trim_ascii().eq_ignore_ascii_case(name)) {
            all.push_str(if all.is_empty() { "" } else { ", " });
            all.push_str(name);
        }
    }
    if let Ok(all) = HeaderValue::try_from(all) {
        headers.insert(VARY, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use globset::{Glob, GlobSetBuilder};

    /// Rules as `(path, "name: value" or "-name")`.
    fn rules(rules: &[(&str, &[&str])]) -> HeaderRules {
        let mut paths = GlobSetBuilder::new();
        let mut edits = Vec::new();
        for (path, lines) in rules {
            paths.add(Glob::new(path).expect("a glob"));
            let edit = |line: &&str| match line.split_once(": ") {
                Some((name, value)) => (name.parse().expect("a name"), Some(value.parse().expect("a value"))),
                None => (line.trim_start_matches('-').parse().expect("a name"), None),
            };
            edits.push(lines.iter().map(edit).collect());
        }
        HeaderRules::new(paths.build().expect("globs"), edits)
    }

    /// The headers that are left of `lines`, sorted.
    fn edited(edits: &Edits, status: u16, lines: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            headers.append(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        edits.apply(status, &mut headers);
        let once = headers.clone();
        edits.apply(status, &mut headers);
        assert_eq!(headers, once, "a second time changes nothing");
        let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("text"));
        let mut lines: Vec<_> = headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn the_last_rule_for_a_header_wins() {
        let rules = rules(&[
            ("/static/*", &["a: 1", "b: 1", "c: 1"]),
            ("*.woff2", &["a: 2", "-b"]),
            ("/static/fonts/*", &["b: 3"]),
            ("/elsewhere/*", &["a: 4"]),
        ]);
        for (path, expected) in [
            ("/static/app.css", &["a: 1", "b: 1", "c: 1"][..]),
            ("/static/x.woff2", &["a: 2", "c: 1"]),
            ("/static/fonts/deep/x.woff2", &["a: 2", "b: 3", "c: 1"]), // an asterisk crosses slashes
            ("/x.woff2", &["a: 2"]),
            ("/", &["b: 0"]),
        ] {
            assert_eq!(edited(&rules.for_path(path), 200, &["b: 0"]), expected, "for {path}");
        }
        assert_eq!(rules.for_raw_path("/st%61tic/%66onts/x"), rules.for_path("/static/fonts/x"));
        assert_eq!(HeaderRules::default().for_raw_path("/static/x"), Edits::default());
    }

    #[test]
    fn the_name_of_a_file_becomes_its_url() {
        let of = |lines: &[(&str, &[&str])]| Arc::new(rules(lines));
        let rules = of(&[
            ("/x", &["link: <{static:a.css}>; rel=preload, <{static:b.css}>; rel=preload", "x-a: {static}"]),
            ("/y", &["-link"]),
        ]);
        let url = |name: &str| if name == "gone.css" { Err(name.to_owned()) } else { Ok(format!("/s/{name}?1")) };
        let named = rules.with_names("{static:", url).expect("known names");
        let expected = ["link: </s/a.css?1>; rel=preload, </s/b.css?1>; rel=preload", "x-a: {static}"];
        assert_eq!(edited(&named.for_path("/x"), 200, &[]), expected);
        assert!(edited(&named.for_path("/y"), 200, &["link: z"]).is_empty());
        let rules = of(&[("*", &["link: <{static:gone.css}>"])]);
        assert_eq!(rules.with_names("{static:", url).expect_err("no such file"), "gone.css");
        let rules = of(&[("*", &["a: 1"])]);
        assert!(Arc::ptr_eq(&rules, &rules.with_names("{static:", url).expect("nothing to name")));
    }

    #[test]
    fn what_is_said_of_the_content_and_of_caching_does_not_reach_errors() {
        let rules = rules(&[("*", &["cache-control: max-age=9", "content-type: text/x", "x-a: 1", "-x-b"])]);
        let before = ["cache-control: no-store", "content-type: text/plain", "x-b: 1"];
        for (status, expected) in [
            (200, ["cache-control: max-age=9", "content-type: text/x", "x-a: 1"]),
            (206, ["cache-control: max-age=9", "content-type: text/x", "x-a: 1"]),
            (304, ["cache-control: max-age=9", "content-type: text/plain", "x-a: 1"]),
            (302, ["cache-control: no-store", "content-type: text/plain", "x-a: 1"]),
            (404, ["cache-control: no-store", "content-type: text/plain", "x-a: 1"]),
            (500, ["cache-control: no-store", "content-type: text/plain", "x-a: 1"]),
        ] {
            assert_eq!(edited(&rules.for_path("/x"), status, &before), expected, "for {status}");
        }
    }

    #[test]
    fn a_rule_adds_to_vary_and_takes_nothing_away() {
        let rules = rules(&[("*", &["vary: Origin, accept-encoding"])]);
        for (before, expected) in [
            (&[][..], "vary: Origin, accept-encoding"),
            (&["vary: Accept-Encoding"], "vary: Accept-Encoding, Origin"),
            (&["vary: Cookie", "vary: ORIGIN"], "vary: Cookie, ORIGIN, accept-encoding"),
        ] {
            assert_eq!(edited(&rules.for_path("/x"), 200, before), [expected], "for {before:?}");
        }
    }

    #[test]
    fn a_type_does_not_take_the_boundary_away() {
        let rules = rules(&[("*", &["content-type: text/x"])]);
        let parts = "content-type: multipart/byteranges; boundary=x";
        assert_eq!(edited(&rules.for_path("/x"), 206, &[parts]), [parts]);
    }
}
