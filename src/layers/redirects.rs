//! Sends a client on when what it asks for has moved.

use std::collections::HashMap;

use ::http::header::{HeaderValue, LOCATION};
use ::http::{StatusCode, Uri};

use crate::config::RedirectConfig;
use crate::http::{Response, answers};

/// Every redirect, ready to be looked up.
#[derive(Debug, Default)]
pub struct Redirects {
    exact: HashMap<String, RedirectConfig>,
    /// The longest first.
    prefixes: Vec<RedirectConfig>,
}

impl Redirects {
    /// Of several for the same path, the last one counts.
    pub fn new(config: &[RedirectConfig]) -> Self {
        let (prefixes, exact): (Vec<_>, Vec<_>) = config.iter().cloned().partition(|redirect| redirect.from.is_prefix);
        let mut prefixes: Vec<_> = prefixes.into_iter().rev().collect();
        prefixes.sort_by_key(|redirect| std::cmp::Reverse(redirect.from.path.len()));
        Self { exact: exact.into_iter().map(|redirect| (redirect.from.path.clone(), redirect)).collect(), prefixes }
    }

    /// The answer for a path that has moved.
    pub fn redirect(&self, target: &Uri) -> Option<Response> {
        let path = target.path();
        let redirect = self
            .exact
            .get(path)
            .or_else(|| self.prefixes.iter().find(|redirect| path.starts_with(&redirect.from.path)))?;
        let location = location(redirect, target);
        let status = StatusCode::from_u16(redirect.status.0).expect("the configuration takes redirects only");
        let mut response = answers::plain(status, "It has moved.\n");
        response.headers_mut().insert(LOCATION, HeaderValue::try_from(location).ok()?);
        Some(response)
    }
}

fn location(redirect: &RedirectConfig, target: &Uri) -> String {
    let mut location = redirect.to.location.clone();
    if redirect.to.takes_rest {
        let rest = target.path().strip_prefix(&redirect.from.path).unwrap_or_default();
        // "/*" to "/*" with "//evil.example" behind it would lead to another host.
        let rest = if location.ends_with('/') { rest.trim_start_matches('/') } else { rest };
        location.push_str(rest);
    }
    if let Some(query) = target.query().filter(|_| !location.contains('?')) {
        location.push('?');
        location.push_str(query);
    }
    location
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

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

    #[test]
    fn no_redirect_leads_to_a_host_that_the_client_names() {
        let redirects = redirects("[[redirects]]\nfrom = \"/old/*\"\nto = \"/*\"");
        let response = redirects.redirect(&"/old//evil.example/%2e".parse().expect("a target")).expect("a redirect");
        assert_eq!(response.headers()[LOCATION], "/evil.example/%2e");
    }
}
