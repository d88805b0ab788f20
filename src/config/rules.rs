//! What the types of the options do not say by themselves: how small or large a value may be, and which
//! options go together.
//!
//! It looks at a finished configuration and reads nothing. An option that was left out because it is
//! wrong has been told already, so no rule that looks at it speaks.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::load::{Doubts, Problem};
use super::values::{HostPattern, RouteTarget, ServerConfig, ServerState};
use super::{Config, ListenConfig, header_rule};

/// A table and a key.
type Key = (&'static str, &'static str);

/// Something that breaks a rule, without its place.
pub(super) struct Broken {
    pub(super) table: &'static str,
    pub(super) key: &'static str,
    /// Which table of a list.
    pub(super) number: Option<usize>,
    pub(super) problem: Problem,
}

/// Everything that breaks a rule.
pub(super) fn broken(config: &Config, doubts: &Doubts) -> Vec<Broken> {
    let mut rules = Rules { doubts, broken: Vec::new() };
    rules.proxy_protocol(config);
    rules.trusted_headers(&config.listen);
    rules.certificate(config);
    rules.hsts(config);
    rules.health(config);
    rules.spans(config);
    rules.numbers(config);
    rules.redirects(config);
    rules.gate(config);
    rules.headers(config);
    rules.files(config);
    rules.buffers(config);
    rules.mounts(config);
    rules.servers(config);
    rules.routes(config);
    rules.collect(config);
    rules.broken
}

/// The form of a mistake that makes every request fail.
const NO_TIME: &str = "must be longer than nothing, or no request could ever pass";

struct Rules<'d> {
    doubts: &'d Doubts,
    broken: Vec<Broken>,
}

impl Rules<'_> {
    /// The first key is the one to blame; `message` says what to write instead.
    fn refuse(&mut self, is_wrong: bool, keys: &[Key], message: &str) {
        // A default breaks no rule by itself, so a value that does alone was written and read.
        let is_certain = keys.len() == 1 || !keys.iter().any(|(table, key)| self.doubts.covers(table, key));
        if is_wrong && is_certain {
            let (table, key) = keys[0];
            let message = format!("[{table}] {key}: {message}");
            self.broken.push(Broken { table, key, number: None, problem: Problem { origin: None, message } });
        }
    }

    /// The same for a key of the table `number` of a list.
    fn refuse_in_list(&mut self, is_wrong: bool, (table, key): Key, number: usize, message: &str) {
        if is_wrong {
            let problem = Problem { origin: None, message: format!("[[{table}]] {key}: {message}") };
            self.broken.push(Broken { table, key, number: Some(number), problem });
        }
    }

    fn proxy_protocol(&mut self, config: &Config) {
        const KEY: Key = ("listen", "proxy_protocol");
        let listen = &config.listen;
        let addresses = listen.http.iter().chain(&listen.https);
        self.refuse(
            listen.proxy_protocol.iter().any(|address| !addresses.clone().any(|other| other == address)),
            &[KEY, ("listen", "http"), ("listen", "https")],
            "names an address that is neither in http nor in https; write it there, too, in the same way",
        );
        self.refuse(
            !listen.proxy_protocol.is_empty() && listen.trusted_proxies.is_empty(),
            &[KEY, ("listen", "trusted_proxies")],
            "needs trusted_proxies; name the balancer that sends the header, as in [\"10.0.0.0/8\"]",
        );
    }

    fn trusted_headers(&mut self, listen: &ListenConfig) {
        let is_written = listen.trusted_headers != ListenConfig::default().trusted_headers;
        self.refuse(
            is_written && listen.trusted_proxies.is_empty(),
            &[("listen", "trusted_headers"), ("listen", "trusted_proxies")],
            "has no effect without trusted_proxies; name the proxy that writes them, as in [\"10.0.0.0/8\"]",
        );
    }

    fn certificate(&mut self, config: &Config) {
        const CERTIFICATE: Key = ("tls", "certificate");
        const KEY: Key = ("tls", "key");
        const SELF_SIGNED: Key = ("tls", "self_signed");
        let (certificate, key) = (config.tls.certificate.is_some(), config.tls.key.is_some());
        let self_signed = config.tls.self_signed;
        self.refuse(
            !config.listen.https.is_empty() && !certificate && !key && !self_signed,
            &[("listen", "https"), CERTIFICATE, KEY, SELF_SIGNED],
            "needs a certificate; give --cert and --key ([tls] certificate and key), or --self-signed for development",
        );
        self.refuse(certificate && !key, &[CERTIFICATE, KEY], "needs its private key; give --key ([tls] key)");
        self.refuse(key && !certificate, &[KEY, CERTIFICATE], "needs its certificate; give --cert ([tls] certificate)");
        self.refuse(
            self_signed && (certificate || key),
            &[SELF_SIGNED, CERTIFICATE, KEY],
            "contradicts certificate and key; leave one of the two out",
        );
    }

    fn hsts(&mut self, config: &Config) {
        const MAX_AGE: Key = ("https", "hsts_max_age");
        const SUBDOMAINS: Key = ("https", "hsts_include_subdomains");
        const YEAR: u64 = 31_536_000;
        let (https, max_age) = (&config.https, config.https.hsts_max_age.0);
        self.refuse(
            config.tls.self_signed && !max_age.is_zero(),
            &[MAX_AGE, ("tls", "self_signed")],
            "would make browsers refuse a self-signed certificate for good; leave it out in development",
        );
        self.refuse(
            https.hsts_preload && (max_age.as_secs() < YEAR || !https.hsts_include_subdomains),
            &[("https", "hsts_preload"), MAX_AGE, SUBDOMAINS],
            "browsers take a name only with hsts_max_age = \"365d\" or more and hsts_include_subdomains = true",
        );
        self.refuse(
            https.hsts_include_subdomains && max_age.is_zero(),
            &[SUBDOMAINS, MAX_AGE],
            "has no effect without hsts_max_age",
        );
        self.refuse(https.port == Some(0), &[("https", "port")], "is the port that clients use, and 0 is none");
    }

    fn health(&mut self, config: &Config) {
        let keys = [("health", "ready"), ("health", "live")];
        self.refuse(config.health.live == config.health.ready, &keys, "must differ from live");
    }

    fn spans(&mut self, config: &Config) {
        let Config { timeouts, upstream, .. } = config;
        for (key, value) in [
            (("timeouts", "handshake"), timeouts.handshake),
            (("timeouts", "header"), timeouts.header),
            (("timeouts", "password_check"), timeouts.password_check),
            (("timeouts", "idle"), timeouts.idle),
            (("timeouts", "body"), timeouts.body),
            (("timeouts", "send"), timeouts.send),
            (("upstream", "connect_timeout"), upstream.connect_timeout),
            (("upstream", "response_timeout"), upstream.response_timeout),
            (("upstream", "idle_timeout"), upstream.idle_timeout),
            (("upstream", "tunnel_idle_timeout"), upstream.tunnel_idle_timeout),
            (("upstream", "fail_timeout"), upstream.fail_timeout),
            (("upstream", "check_interval"), upstream.check_interval),
            (("upstream", "check_timeout"), upstream.check_timeout),
        ] {
            self.refuse(value.0.is_zero(), &[key], NO_TIME);
        }
        let reload = config.assets.reload.0;
        let is_hasty = !reload.is_zero() && reload < Duration::from_millis(100);
        self.refuse(is_hasty, &[("static", "reload")], "must be 0, for never, or \"100ms\" or more");
    }

    fn numbers(&mut self, config: &Config) {
        let Config { limits, upstream, .. } = config;
        self.within(("limits", "connections"), limits.connections.get(), 1..=1_000_000);
        self.within(("limits", "header_count"), limits.header_count.get(), 1..=10_000);
        self.within(("limits", "http2_streams"), limits.http2_streams, 1..=1_000_000);
        self.within(("limits", "threads"), limits.threads, 0..=1024);
        self.within(("upstream", "connections"), upstream.connections.get(), 1..=1_000_000);
        self.within(("static", "max_ranges"), config.assets.max_ranges.get(), 1..=1000);
        self.within(("static", "max_preloads"), config.assets.max_preloads.get(), 1..=100);
        let is_long = config.assets.max_preload_size.0 > 64 << 10;
        self.refuse(is_long, &[("static", "max_preload_size")], "must be \"64 KiB\" or less");
        self.refuse(
            header_rule::path_set(&config.assets.image_twins).is_err(),
            &[("static", "image_twins")],
            "has patterns that are too large together; write simpler ones",
        );
        self.within(("static", "missing_names"), config.assets.missing_names, 0..=100_000);
        self.within(("compression", "gzip_level"), config.compression.gzip_level, 1..=9);
        self.within(("compression", "brotli_level"), config.compression.brotli_level, 0..=11);
        self.within(("compression", "concurrency"), config.compression.concurrency.get(), 1..=100_000);
        self.within(("compression", "zstd_level"), config.compression.zstd_level, 1..=22);
        // Less than this hyper does not read at a time, so less could not be kept.
        const HEADS: RangeInclusive<u64> = 8 << 10..=16 << 20;
        let message = "must lie between \"8 KiB\" and \"16 MiB\"";
        self.refuse(!HEADS.contains(&limits.header_size.0), &[("limits", "header_size")], message);
        let key = ("upstream", "response_header_size");
        self.refuse(!HEADS.contains(&upstream.response_header_size.0), &[key], message);
    }

    fn gate(&mut self, config: &Config) {
        self.within(("limits", "rate_limit_clients"), config.limits.rate_limit_clients.get(), 1..=10_000_000);
        self.within(("limits", "password_checks"), config.limits.password_checks, 1..=10_000);
        for (number, limit) in config.rate_limits.iter().enumerate() {
            // More often than that the schedule would have no steps.
            let too_often = limit.per.0 / limit.requests.get() < Duration::from_micros(1);
            self.refuse_in_list(too_often, ("rate_limits", "per"), number, "must be longer for so many requests");
        }
        for (number, rule) in config.access.iter().enumerate() {
            let says_nothing = rule.allow.is_empty() && rule.deny.is_empty() && rule.password_file.is_none();
            self.refuse_in_list(says_nothing, ("access", "path"), number, "needs allow, deny or password_file with it");
        }
        self.refuse(
            config.staging.enabled && config.staging.password_file.is_none(),
            &[("staging", "enabled"), ("staging", "password_file")],
            "needs password_file; make one with `htpasswd -cB FILE NAME`",
        );
        let canonical = config.hosts.canonical.as_ref();
        let is_allowed = |name: &str| {
            config.hosts.allowed.is_empty() || config.hosts.allowed.iter().any(|pattern| pattern.matches(name))
        };
        self.refuse(
            canonical.is_some_and(|name| !is_allowed(&name.0)),
            &[("hosts", "canonical"), ("hosts", "allowed")],
            "is not in [hosts] allowed, so nobody could go there",
        );
    }

    fn headers(&mut self, config: &Config) {
        let has_files = config.assets.directory.is_some() || self.doubts.covers("static", "directory");
        for (number, rule) in config.headers.iter().enumerate() {
            self.refuse_in_list(
                !has_files && rule.names_files(),
                ("headers", "set"),
                number,
                "names a static file, and there are none; set [static] directory",
            );
            if let Some((key, fault)) = rule.fault() {
                self.refuse_in_list(true, ("headers", key), number, &fault);
            }
        }
        let message = "all patterns together are too much; write fewer or shorter ones";
        self.refuse_in_list(header_rule::glob_set(&config.headers).is_err(), ("headers", "path"), 0, message);
    }

    fn redirects(&mut self, config: &Config) {
        for (number, redirect) in config.redirects.iter().enumerate() {
            self.refuse_in_list(
                redirect.to.takes_rest && !redirect.from.is_prefix,
                ("redirects", "to"),
                number,
                "ends with *, and `from` does not: there is nothing that it could stand for",
            );
            let authority = redirect.to.location.split_once("://").map(|(_, rest)| rest);
            self.refuse_in_list(
                redirect.to.takes_rest && authority.is_some_and(|rest| !rest.contains('/')),
                ("redirects", "to"),
                number,
                "needs a slash before the *, or what is behind `from` would become part of the host's name",
            );
            self.refuse_in_list(
                redirect.to.location == redirect.from.path && redirect.to.takes_rest == redirect.from.is_prefix,
                ("redirects", "to"),
                number,
                "leads to itself",
            );
        }
    }

    /// Uploads, and files that the application hands over.
    fn files(&mut self, config: &Config) {
        let (assets, media) = (&config.assets, &config.media);
        let (taken, prefix) = (assets.prefix.as_str(), media.prefix.as_str());
        let is_nested = prefix.starts_with(taken) || taken.starts_with(prefix);
        self.refuse(
            assets.directory.is_some() && media.directory.is_some() && is_nested,
            &[("media", "prefix"), ("static", "prefix")],
            "must not lie within the prefix of [static], nor the other way round",
        );
        let is_extension = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        self.refuse(
            !media.inline.iter().all(is_extension),
            &[("media", "inline")],
            "write extensions without a dot, as in [\"svg\"]",
        );
        for (number, folder) in config.send_file.iter().enumerate() {
            let before = &config.send_file[..number];
            self.refuse_in_list(
                folder.path.is_some() && before.iter().any(|other| other.path == folder.path),
                ("send_file", "path"),
                number,
                "another [[send_file]] has the same; give each a path of its own",
            );
        }
    }

    fn buffers(&mut self, config: &Config) {
        let Config { limits, upstream, .. } = config;
        let is_part = upstream.request_buffer_share > 0.0 && upstream.request_buffer_share <= 1.0;
        self.refuse(!is_part, &[("upstream", "request_buffer_share")], "must be more than 0, and 1 at most");
        self.refuse(
            header_rule::path_set(&upstream.stream_requests).is_err(),
            &[("upstream", "stream_requests")],
            "has patterns that are too large together; write simpler ones",
        );
        self.refuse(
            upstream.buffer_disk.0 > 0
                && upstream.stream_requests.is_empty()
                && limits.body_size.0 > upstream.buffer_disk.0.max(upstream.request_buffer.0),
            &[("limits", "body_size"), ("upstream", "buffer_disk"), ("upstream", "stream_requests")],
            "is more than [upstream] buffer_disk, where bodies wait until they are whole; raise that, or name the \
             paths of such uploads in [upstream] stream_requests",
        );
    }

    fn mounts(&mut self, config: &Config) {
        let assets = config.assets.directory.as_ref().filter(|_| !self.doubts.covers("static", "prefix"));
        let assets = assets.map(|_| config.assets.prefix.as_str());
        for (number, mount) in config.mounts.iter().enumerate() {
            let path = mount.path.0.as_str();
            let mut refuse =
                |is_wrong, key, message: &str| self.refuse_in_list(is_wrong, ("mounts", key), number, message);
            refuse(mount.directory.is_none(), "directory", "is needed; name the folder with the files");
            let is_taken = config.mounts[..number].iter().any(|other| other.path == mount.path);
            refuse(is_taken, "path", &format!("another mount has {path:?}; give each a path of its own"));
            refuse(
                assets.is_some_and(|prefix| path.starts_with(prefix)),
                "path",
                "[static] answers for all below its prefix; take a path outside of it",
            );
            for except in mount.except.iter().map(|except| except.as_str()) {
                let is_outside = !except.starts_with(path) || except == path;
                let message = format!("{except:?} is not below {path:?}; leave it out, or correct one of the two");
                refuse(is_outside, "except", &message);
                let is_mount = !is_outside && config.mounts.iter().any(|other| other.path.0.as_str() == except);
                refuse(is_mount, "except", &format!("{except:?} has a mount of its own; leave one of the two out"));
            }
        }
    }

    fn servers(&mut self, config: &Config) {
        const CHECK: [Key; 4] =
            [("upstream", "check_path"), ("upstream", "check_host"), ("hosts", "allowed"), ("hosts", "canonical")];
        const NEEDS_HOST: &str = "needs check_host, a name from Django's ALLOWED_HOSTS, since [hosts] allowed has none; or Django answers 400";
        const BOTH: &str = "contradicts `servers`; write it among them";
        let upstream = &config.upstream;
        let keys = [("upstream", "address"), ("upstream", "servers")];
        self.refuse(upstream.address.is_some() && !upstream.servers.is_empty(), &keys, BOTH);
        let fault = fault_of_servers(&upstream.servers);
        self.refuse(fault.is_some(), &[("upstream", "servers")], &fault.unwrap_or_default());
        let lacks_host = |own: bool, path: bool| path && !own && config.check_host().is_none();
        self.refuse(lacks_host(upstream.check_host.is_some(), upstream.check_path.is_some()), &CHECK, NEEDS_HOST);
        let is_status = |status: &u16| (200..=599).contains(status);
        self.refuse(
            upstream.check_status.is_empty() || !upstream.check_status.iter().all(is_status),
            &[("upstream", "check_status")],
            "must be a list of statuses between 200 and 599, as in [200, 204]",
        );
        for (number, application) in config.applications.iter().enumerate() {
            let mut refuse =
                |is_wrong, key, message: &str| self.refuse_in_list(is_wrong, ("applications", key), number, message);
            let (has_one, has_several) = (application.address.is_some(), !application.servers.is_empty());
            refuse(has_one && has_several, "address", BOTH);
            refuse(!has_one && !has_several, "name", "needs address or servers with it");
            let fault = fault_of_servers(&application.servers);
            refuse(fault.is_some(), "servers", &fault.unwrap_or_default());
            let own = application.check_host.is_some() || upstream.check_host.is_some();
            refuse(lacks_host(own, application.check_path.is_some()), "check_path", NEEDS_HOST);
            let is_taken = config.applications[..number].iter().any(|other| other.name == application.name);
            refuse(is_taken, "name", "another of [[applications]] has it; give each a name of its own");
            for (key, value) in
                [("response_timeout", application.response_timeout), ("idle_timeout", application.idle_timeout)]
            {
                refuse(value.is_some_and(|value| value.0.is_zero()), key, NO_TIME);
            }
            let is_too_many = application.connections.is_some_and(|connections| connections.get() > 1_000_000);
            refuse(is_too_many, "connections", "must lie between 1 and 1000000");
        }
    }

    fn routes(&mut self, config: &Config) {
        for (number, route) in config.routes.iter().enumerate() {
            let mut refuse =
                |is_wrong, key, message: &str| self.refuse_in_list(is_wrong, ("routes", key), number, message);
            let is_taken =
                config.routes[..number].iter().any(|other| (&other.path, &other.host) == (&route.path, &route.host));
            refuse(is_taken, "path", "another route has the same path and host; leave one of the two out");
            refuse(
                config.upstream.is_given() && route.path.0.as_str() == "/" && route.host.is_none(),
                "upstream",
                "covers every request, so [upstream] would never be asked; write it there, or give the route a path",
            );
            refuse(route.host == Some(HostPattern::Any), "host", "\"*\" is any host; leave it out");
            if let RouteTarget::Application(name) = &route.upstream {
                let is_known = config.applications.iter().any(|application| application.name == *name);
                // One that is wrong was left out, and told.
                let is_doubtful = self.doubts.covers("applications", "");
                let message = format!(
                    "{:?} is none of [[applications]]; correct the name, or write an address as in \"unix:/run/app.sock\"",
                    name.0
                );
                self.refuse_in_list(!is_known && !is_doubtful, ("routes", "upstream"), number, &message);
            }
        }
    }

    fn collect(&mut self, config: &Config) {
        let collect = &config.collect;
        self.within(("collect", "gzip_level"), collect.gzip_level, 1..=12);
        self.within(("collect", "brotli_level"), collect.brotli_level, 0..=11);
        self.within(("collect", "zstd_level"), collect.zstd_level, 1..=22);
        self.within(("collect", "threads"), collect.threads, 0..=1024);
        self.within(("collect", "keep_releases"), collect.keep_releases, 0..=1000);
        self.within(("collect", "delta_versions"), collect.delta_versions, 1..=16);
        let is_delta_ratio = collect.delta_ratio > 0.0 && collect.delta_ratio <= 1.0;
        self.refuse(!is_delta_ratio, &[("collect", "delta_ratio")], "must lie between 0 and 1");
        let is_ratio = collect.keep_ratio > 0.0 && collect.keep_ratio <= 1.0;
        self.refuse(!is_ratio, &[("collect", "keep_ratio")], "must lie between 0 and 1");
    }

    fn within<N: Copy + PartialOrd + std::fmt::Display>(&mut self, key: Key, value: N, range: RangeInclusive<N>) {
        let message = format!("must lie between {} and {}", range.start(), range.end());
        self.refuse(!range.contains(&value), &[key], &message);
    }
}

/// The most servers of one application.
const MOST_SERVERS: usize = 64;

/// What is wrong with the servers of one application as a whole.
fn fault_of_servers(servers: &[ServerConfig]) -> Option<String> {
    let first = servers.first()?;
    if servers.len() > MOST_SERVERS {
        return Some(format!("has {} servers; {MOST_SERVERS} at most are possible", servers.len()));
    }
    if let Some(server) = servers.iter().find(|server| !(1..=1000).contains(&server.weight)) {
        return Some(format!("the weight of {} must lie between 1 and 1000", server.address));
    }
    if let Some(other) = servers.iter().find(|server| server.address.protocol != first.address.protocol) {
        let (one, other) = (&first.address, &other.address);
        return Some(format!("{one} and {other} speak different protocols; let all speak HTTP, or all uwsgi"));
    }
    let mut numbered = servers.iter().enumerate();
    if let Some((_, twice)) = numbered.find(|(n, server)| servers[..*n].iter().any(|one| one.address == server.address))
    {
        return Some(format!("{} stands there twice; give it a weight of 2 instead", twice.address));
    }
    let drains = |server: &ServerConfig| server.state == ServerState::Drain;
    servers.iter().all(drains).then(|| "all servers drain, so none is left; let one be active".to_owned())
}
