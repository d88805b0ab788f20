//! Sends a client on when what it asks for has moved. How many redirects there are costs a request next to nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ::http::header::{HOST, HeaderValue, LOCATION};
use ::http::request::Parts;
use ::http::{StatusCode, Uri};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rustc_hash::FxHashMap;

use crate::config::RedirectConfig;
use crate::http::{Response, Scheme, answers, path};

/// What stands in a path only encoded (RFC 3986, section 3.3).
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Every redirect, ready to be looked up.
#[derive(Debug, Default)]
pub struct Redirects {
    exact: FxHashMap<String, RedirectConfig>,
    /// In the order of their paths.
    prefixes: Vec<Prefix>,
}

/// A redirect for all paths that begin so.
#[derive(Debug)]
struct Prefix {
    redirect: RedirectConfig,
    /// The longest of the other prefixes with which this one begins.
    outer: Option<usize>,
}

impl Redirects {
    /// Of several for the same path, the last one counts.
    pub fn new(config: &[RedirectConfig]) -> Self {
        let (prefixes, exact): (Vec<_>, Vec<_>) = config.iter().cloned().partition(|redirect| redirect.from.is_prefix);
        let prefixes: BTreeMap<String, RedirectConfig> = by_path(prefixes);
        let mut sorted: Vec<Prefix> = Vec::with_capacity(prefixes.len());
        for (path, redirect) in prefixes {
            // What it begins with is the one before, or what that begins with, and so on.
            let mut outer = sorted.len().checked_sub(1);
            while let Some(n) = outer.filter(|n| !path.starts_with(&sorted[*n].redirect.from.path)) {
                outer = sorted[n].outer;
            }
            sorted.push(Prefix { redirect, outer });
        }
        Self { exact: by_path(exact), prefixes: sorted }
    }

    /// The redirect with the longest prefix of a path. Whatever stands between that prefix and the path in their order
    /// begins with it too, so it is the last one before the path, or one around that.
    fn longest_prefix(&self, path: &str) -> Option<&RedirectConfig> {
        let mut candidate = self.prefixes.partition_point(|prefix| *prefix.redirect.from.path <= *path).checked_sub(1);
        while let Some(Prefix { redirect, outer }) = candidate.map(|n| &self.prefixes[n]) {
            if path.starts_with(&redirect.from.path) {
                return Some(redirect);
            }
            candidate = *outer;
        }
        None
    }

    /// The answer for a path that has moved.
    pub fn redirect(&self, target: &Uri) -> Option<Response> {
        if self.exact.is_empty() && self.prefixes.is_empty() {
            return None;
        }
        let path = path::decided(target.path());
        let redirect = self.exact.get(&*path).or_else(|| self.longest_prefix(&path))?;
        let rest = path.strip_prefix(&redirect.from.path).unwrap_or_default();
        // What was decoded must be encoded again.
        let rest: Cow<'_, str> =
            if matches!(path, Cow::Borrowed(_)) { rest.into() } else { utf8_percent_encode(rest, PATH).into() };
        let location = location(redirect, &rest, target.query());
        let status = StatusCode::from_u16(redirect.status.0).expect("the configuration takes redirects only");
        let mut response = answers::plain(status, "It has moved.\n");
        response.headers_mut().insert(LOCATION, HeaderValue::try_from(location).ok()?);
        Some(response)
    }
}

fn by_path<M: FromIterator<(String, RedirectConfig)>>(redirects: Vec<RedirectConfig>) -> M {
    redirects.into_iter().map(|redirect| (redirect.from.path.clone(), redirect)).collect()
}

/// The answer that names the same target under another host, on the port that the client wrote.
pub fn to_host(host: &str, scheme: Scheme, head: &Parts) -> Option<Response> {
    let written = head.headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let port = written.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let location = HeaderValue::try_from(format!("{}://{host}{port}{target}", scheme.as_str())).ok()?;
    let mut response = answers::plain(StatusCode::PERMANENT_REDIRECT, "This site has another name.\n");
    response.headers_mut().insert(LOCATION, location);
    Some(response)
}

fn location(redirect: &RedirectConfig, rest: &str, query: Option<&str>) -> String {
    let mut location = redirect.to.location.clone();
    if redirect.to.takes_rest {
        // "/*" to "/*" with "//evil.example" behind it would lead to another host.
        location.push_str(if location.ends_with('/') { rest.trim_start_matches('/') } else { rest });
    }
    if let Some(query) = query.filter(|_| !location.contains('?')) {
        location.push('?');
        location.push_str(query);
    }
    location
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    use proptest::{prop_assert_eq, proptest};

    fn redirects(text: &str) -> Redirects {
        let config: Config = toml::from_str(text).expect("a configuration");
        Redirects::new(&config.redirects)
    }

    #[test]
    fn the_longest_path_wins_and_the_rest_goes_along() {
        let redirects = redirects(
            r#"
            [[redirects]]
            from = "/blog/*"
            to = "/articles/*"
            [[redirects]]
            from = "/blog/2019/*"
            to = "https://old.example.com/*"
            status = 302
            [[redirects]]
            from = "/blog/feed"
            to = "/feed.xml?kind=all"
            status = 301
            [[redirects]]
            from = "/café/*"
            to = "/bar/*"
            [[redirects]]
            from = "/gone/*"
            to = "/"
            [[redirects]]
            from = "/twice"
            to = "/first"
            [[redirects]]
            from = "/twice"
            to = "/second"
            "#,
        );
        for (target, expected) in [
            ("/blog/a/b?page=2", Some((308, "/articles/a/b?page=2"))),
            ("/blog/", Some((308, "/articles/"))),
            ("/blog/2019/x", Some((302, "https://old.example.com/x"))),
            ("/blog/feed?kind=new", Some((301, "/feed.xml?kind=all"))),
            ("/blog/feed/", Some((308, "/articles/feed/"))),
            ("/gone/for/good", Some((308, "/"))),
            ("/twice", Some((308, "/second"))),
            ("/blog//evil.example", Some((308, "/articles/evil.example"))),
            ("//blog//x", Some((308, "/articles/x"))),
            ("/%62log/x%20y%2525?a%20b", Some((308, "/articles/x%20y%2525?a%20b"))),
            ("/caf%C3%A9/cr%C3%A8me", Some((308, "/bar/cr%C3%A8me"))),
            ("/blog", None),
            ("/", None),
        ] {
            let found = redirects.redirect(&target.parse().expect("a target"));
            let found = found
                .as_ref()
                .map(|response| (response.status().as_u16(), response.headers()[LOCATION].to_str().expect("a text")));
            assert_eq!(found, expected, "for {target}");
        }
    }

    proptest! {
        #[test]
        fn the_longest_prefix_is_found_whatever_the_others(
            paths in proptest::collection::vec("/[ab/]{0,5}", 0..12),
            path in "/[abc/]{0,8}",
        ) {
            let paths: Vec<String> = paths.into_iter().filter(|path| !path.contains("//")).collect();
            let rule = |(n, path): (usize, &String)| format!("[[redirects]]\nfrom = \"{path}*\"\nto = \"/{n}\"\n");
            let redirects = redirects(&paths.iter().enumerate().map(rule).collect::<String>());
            // Of equal ones the last.
            let longest = paths.iter().enumerate().filter(|(_, prefix)| path.starts_with(*prefix));
            let expected = longest.max_by_key(|(_, prefix)| prefix.len()).map(|(n, _)| format!("/{n}"));
            prop_assert_eq!(redirects.longest_prefix(&path).map(|redirect| redirect.to.location.clone()), expected);
        }
    }

    #[test]
    fn another_name_of_the_site_leads_to_its_own() {
        for (host, expected) in [
            ("www.example.com", "https://example.com/a?b"),
            ("www.example.com:8443", "https://example.com:8443/a?b"),
            ("[::1]", "https://example.com/a?b"),
            ("[::1]:8443", "https://example.com:8443/a?b"),
        ] {
            let request = ::http::Request::builder().uri("/a?b").header(HOST, host).body(()).expect("a request");
            let response = to_host("example.com", Scheme::Https, &request.into_parts().0).expect("a redirect");
            assert_eq!(response.headers()[LOCATION], expected, "for {host}");
        }
    }

    #[test]
    fn no_redirect_leads_to_a_host_that_the_client_names() {
        let redirects = redirects("[[redirects]]\nfrom = \"/old/*\"\nto = \"/*\"");
        let response = redirects.redirect(&"/old//evil.example/%2E".parse().expect("a target")).expect("a redirect");
        assert_eq!(response.headers()[LOCATION], "/evil.example/.");
    }
}
