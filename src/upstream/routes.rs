//! Which application a request is for.
//!
//! With one application there is nothing to look at. Applications whose configuration has not changed stay through a
//! reload, with their connections; of others, what is known of their servers stays.

use std::sync::Arc;

use ::http::HeaderMap;
use ::http::request::Parts;

use super::background::Background;
use super::servers::Server;
use super::{Buffers, Upstream};
use crate::config::values::{HostPattern, RouteTarget};
use crate::config::{Config, RouteConfig, UpstreamConfig};
use crate::http::{path, request_rules};

/// All applications of a site.
#[derive(Debug)]
pub struct Applications {
    main: Option<Arc<Upstream>>,
    /// The first that covers a request has it.
    routes: Vec<Route>,
    buffers: Buffers,
    buffers_of: UpstreamConfig,
}

/// The requests that are for another application than the main one.
#[derive(Debug)]
struct Route {
    host: Option<HostPattern>,
    /// Begins and ends with a slash.
    prefix: String,
    application: Arc<Upstream>,
}

impl Route {
    fn covers(&self, host: Option<&str>, path: &str) -> bool {
        let is_below = path.starts_with(&self.prefix) || self.prefix.strip_suffix('/').is_some_and(|own| path == own);
        is_below && self.host.as_ref().is_none_or(|pattern| host.is_some_and(|host| pattern.matches(host)))
    }
}

/// The order in which routes are looked at: exact hosts, then the longest of those with subdomains, then any; and of
/// each the longest path.
fn precedence(route: &RouteConfig) -> impl Ord + use<> {
    let host = match &route.host {
        Some(HostPattern::Exactly(_)) => (2, 0),
        Some(HostPattern::WithSubdomains(name)) => (1, name.len()),
        Some(HostPattern::Any) | None => (0, 0),
    };
    std::cmp::Reverse((host, route.path.0.as_str().len()))
}

impl Applications {
    /// Prepares all of them; nothing is opened yet. `before` are those that these are going to follow.
    pub fn new(config: &Config, before: Option<&Self>, background: &Background) -> Self {
        let kept = before.filter(|before| has_same_buffers(&before.buffers_of, &config.upstream));
        let buffers = kept.map_or_else(|| Buffers::new(&config.upstream), |before| before.buffers.clone());
        let candidates: Vec<_> = kept.into_iter().flat_map(Self::iter).collect();
        let known: Vec<&Server> = before
            .into_iter()
            .flat_map(Self::iter)
            .flat_map(|before| before.servers.iter())
            .map(|one| &**one)
            .collect();
        let mut made: Vec<Arc<Upstream>> = Vec::new();
        let mut make = |mut wanted: UpstreamConfig| {
            wanted.check_host = wanted.check_host.or_else(|| config.check_host());
            let same = made.iter().chain(candidates.iter().copied()).find(|other| other.config == wanted).cloned();
            let one = same.unwrap_or_else(|| Arc::new(Upstream::build(wanted, buffers.clone(), &known, background)));
            made.push(Arc::clone(&one));
            one
        };
        let main = config.upstream.is_given().then(|| make(config.upstream.clone()));
        let mut routes: Vec<_> =
            config.routes.iter().filter_map(|route| Some((route, target(config, route)?))).collect();
        routes.sort_by_key(|(route, _)| precedence(route));
        let routes = routes.into_iter().map(|(route, wanted)| Route {
            host: route.host.clone(),
            prefix: route.path.0.as_str().to_owned(),
            application: make(wanted),
        });
        let routes = routes.collect();
        Self { main, routes, buffers, buffers_of: config.upstream.clone() }
    }

    /// The one that a request is for, if there is one.
    pub fn find(&self, head: &Parts) -> Option<&Upstream> {
        if self.routes.is_empty() {
            return self.main.as_deref();
        }
        let host = self.host(&head.headers);
        let path = path::decided(head.uri.path());
        let route = self.routes.iter().find(|route| route.covers(host.as_deref(), &path));
        route.map(|route| &*route.application).or(self.main.as_deref())
    }

    /// The host that is asked for, if any route depends on it.
    fn host(&self, headers: &HeaderMap) -> Option<String> {
        self.routes.iter().any(|route| route.host.is_some()).then(|| request_rules::host(headers)).flatten()
    }

    /// The one that all requests are for that no route covers.
    pub fn main(&self) -> Option<&Upstream> {
        self.main.as_deref()
    }

    /// Where each route leads, in the order in which they are looked at.
    pub fn routes(&self) -> impl Iterator<Item = (String, &Upstream)> {
        self.routes.iter().map(|route| {
            let host = match &route.host {
                Some(HostPattern::Exactly(name)) => name.clone(),
                Some(HostPattern::WithSubdomains(name)) => format!(".{name}"),
                Some(HostPattern::Any) | None => String::new(),
            };
            (host + &route.prefix, &*route.application)
        })
    }

    /// Begins to check their servers, if that is wanted and has not begun.
    pub fn begin_checks(&self) {
        self.iter().for_each(Upstream::begin_checks);
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.main.iter().chain(self.routes.iter().map(|route| &route.application))
    }
}

/// The application that a route leads to. The configuration is refused if there is none; `check` looks at the rest of
/// such a one too.
fn target(config: &Config, route: &RouteConfig) -> Option<UpstreamConfig> {
    match &route.upstream {
        RouteTarget::Address(address) => {
            let (address, base) = (Some(address.clone()), config.upstream.clone());
            Some(UpstreamConfig { address, servers: Vec::new(), check_path: None, ..base })
        }
        RouteTarget::Application(name) => {
            let application = config.applications.iter().find(|application| application.name == *name)?;
            Some(application.over(&config.upstream))
        }
    }
}

/// Whether the room for bodies is the same.
fn has_same_buffers(one: &UpstreamConfig, other: &UpstreamConfig) -> bool {
    let room = |config: &UpstreamConfig| {
        let requests = (config.request_buffer, config.request_buffer_memory);
        let for_all = (config.request_buffer_share, config.request_buffer_reserve);
        let answers = (config.response_buffer, config.response_buffer_memory);
        (requests, for_all, answers, config.buffer_disk, config.buffer_directory.clone())
    };
    room(one) == room(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applications(text: &str, before: Option<&Applications>) -> Applications {
        Applications::new(&toml::from_str(text).unwrap(), before, &Background::default())
    }

    fn found(applications: &Applications, host: &str, path: &str) -> String {
        let request = ::http::Request::get(path).header("host", host).body(()).unwrap();
        applications.find(&request.into_parts().0).map_or_else(|| "none".to_owned(), Upstream::to_string)
    }

    const ROUTES: &str = r#"
        [upstream]
        address = "unix:main"
        [[routes]]
        path = "/ws/"
        upstream = "unix:ws"
        [[routes]]
        path = "/ws/admin/"
        upstream = "unix:admin"
        [[routes]]
        host = ".api.example.com"
        upstream = "api"
        [[routes]]
        host = "v1.api.example.com"
        upstream = "unix:v1"
        [[routes]]
        host = "v1.api.example.com"
        path = "/ws/"
        upstream = "unix:ws"
        [[applications]]
        name = "api"
        servers = ["unix:a", "unix:b"]
    "#;

    #[test]
    fn a_host_comes_first_and_then_the_longest_path() {
        let applications = applications(ROUTES, None);
        for (host, path, expected) in [
            ("example.com", "/", "unix:main"),
            ("example.com", "/wsx/", "unix:main"),
            ("example.com", "/ws/", "unix:ws"),
            ("example.com", "/ws", "unix:ws"),
            ("example.com", "/ws/a", "unix:ws"),
            ("example.com", "/ws/admin/", "unix:admin"),
            ("example.com", "/ws/admin", "unix:admin"),
            ("example.com", "//ws//%61dmin/x", "unix:admin"), // as an application would read it
            ("api.example.com", "/ws/", "unix:a, unix:b"),
            ("V1.API.example.com:8080", "/x", "unix:v1"),
            ("v1.api.example.com", "/ws/x", "unix:ws"),
            ("v2.api.example.com", "/", "unix:a, unix:b"),
        ] {
            assert_eq!(found(&applications, host, path), expected, "for {host} and {path}");
        }
    }

    #[test]
    fn without_a_main_application_the_rest_is_nobodys() {
        let applications = applications("[[routes]]\npath = \"/api/\"\nupstream = \"unix:api\"", None);
        assert_eq!(found(&applications, "a", "/api/x"), "unix:api");
        assert_eq!(found(&applications, "a", "/"), "none");
    }

    #[test]
    fn an_application_that_does_not_change_stays_through_a_reload() {
        let before = applications(ROUTES, None);
        let after =
            applications(&ROUTES.replace("unix:admin", "unix:boss").replace("\"unix:b\"", "\"unix:c\""), Some(&before));
        let is_kept = |path: &str| {
            let request = ::http::Request::get(path).header("host", "example.com").body(()).unwrap().into_parts().0;
            std::ptr::eq(before.find(&request).unwrap(), after.find(&request).unwrap())
        };
        assert!(is_kept("/") && is_kept("/ws/") && !is_kept("/ws/admin/"));
        assert_eq!(found(&after, "api.example.com", "/"), "unix:a, unix:c");
        assert!(Arc::ptr_eq(&before.buffers.answers, &after.buffers.answers), "one bound for all, old and new");
        let larger = applications(&ROUTES.replace("\"unix:main\"", "\"unix:main\"\nbuffer_disk = 0"), Some(&after));
        assert!(!Arc::ptr_eq(&after.buffers.answers, &larger.buffers.answers));
    }

    #[test]
    fn routes_to_the_same_application_share_it() {
        let applications = applications(ROUTES, None);
        let ws: Vec<_> =
            applications.routes().filter(|(_, to)| to.to_string() == "unix:ws").map(|(_, to)| to).collect();
        assert!(ws.len() == 2 && std::ptr::eq(ws[0], ws[1]));
    }
}
