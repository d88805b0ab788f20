//! The application, and how its answers are passed on.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::Deserialize;

use super::header_rule::PathGlob;
use super::values::{
    ApplicationName, Balance, ByteSize, CheckTarget, HostName, HostPattern, HumanDuration, MountPath, RouteTarget,
    ServerConfig, UpstreamAddress, UwsgiPath,
};

/// `[upstream]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Where the application listens: `unix:PATH`, `http://HOST:PORT`, `uwsgi+unix:PATH` or
    /// `uwsgi://HOST:PORT`. No default; without it only static files are served.
    ///
    /// A name is resolved for each connection, and all its addresses take turns.
    pub address: Option<UpstreamAddress>,
    /// Several servers of the same application, in place of `address`: an address for each, or a table with `address`,
    /// `weight` (1 to 1000, how much it gets beside the others) and `state`. Default: none; 64 at most.
    ///
    /// A server with the state "backup" gets requests while no other can be had. One with "drain" gets none, while those
    /// that it has go on: set it and reload, before a server is stopped.
    pub servers: Vec<ServerConfig>,
    /// How requests are spread over them: "round_robin", in turn; "least_connections", to the one with the fewest
    /// for its weight; "client_address", always to the same for one client, an IPv4 address or an IPv6 /64.
    /// Default: "round_robin".
    ///
    /// When a server goes, "client_address" leaves the clients of all others where they are.
    pub balance: Balance,
    /// After how many failures within `fail_timeout` a server is left out, for as long. Default: 1; 0 for never.
    ///
    /// As with nginx: to refuse a connection, to close one without an answer and to exceed a deadline is a failure, an
    /// answer of 500 is none. After that time one request tries it. While no server is left, all are asked. It counts
    /// for `servers` only.
    pub max_fails: u32,
    /// See `max_fails`. Default: 10 seconds.
    pub fail_timeout: HumanDuration,
    /// What to ask each server for, again and again, to know whether it is well: "/health/". Default: none.
    ///
    /// One that fails gets requests only while no other can be had. The log tells when that changes, and `health.ready`
    /// depends on it.
    pub check_path: Option<CheckTarget>,
    /// The name to ask with, which must be one of Django's `ALLOWED_HOSTS`. Default: `hosts.canonical`, or the first
    /// name in `hosts.allowed`.
    pub check_host: Option<HostName>,
    /// How often. Default: 5 seconds.
    pub check_interval: HumanDuration,
    /// How long it may take until the answer begins. Default: 2 seconds.
    pub check_timeout: HumanDuration,
    /// The statuses that mean that it is well. Default: 200.
    pub check_status: Vec<u16>,
    /// How long a connection to a server of the application may take to come about. Default: 5 seconds.
    pub connect_timeout: HumanDuration,
    /// Tell the application who the client is in `Forwarded` (RFC 7239), too. Default: false.
    ///
    /// It says what `X-Forwarded-For`, `-Proto` and `-Host` say, which Django and gunicorn read.
    pub forwarded: bool,
    /// Tell the application in `X-Request-Start` when the request was here, as `t=` and milliseconds since 1970, so that
    /// New Relic, Scout and others see how long requests wait for a worker. Default: true.
    ///
    /// A trusted proxy's is handed on as it is.
    pub request_start: bool,
    /// Hand on the `103 Early Hints` that the application sends before its answer, to clients of HTTP/2. Default:
    /// true.
    ///
    /// Browsers then fetch what their `Link` fields name while the page is still being made. At most four for an
    /// answer, of 16 KiB together. Over HTTP/1.1 there are none: old clients take them for the answer.
    pub early_hints: bool,
    /// How long requests wait for an application that is not there, as while it restarts. Default: 10
    /// seconds, from the first that found nobody. Then 503; with 0, 502 at once.
    pub hold: HumanDuration,
    /// How long the application may take until the first byte of its answer. Default: 60 seconds.
    ///
    /// Counted from the moment when the request was sent whole; so long, too, it may not begin to read one. Then 504.
    pub response_timeout: HumanDuration,
    /// How long the application may pause within an answer, or not read on in a request. Default: 60 seconds.
    ///
    /// Raise it for server-sent events that are silent for longer.
    pub idle_timeout: HumanDuration,
    /// How long neither side of a WebSocket or another upgraded connection may say anything.
    /// Default: 1 hour.
    pub tunnel_idle_timeout: HumanDuration,
    /// How many connections to the application may be open at once, to all its servers together. Default: 256;
    /// 1,000,000 at most.
    pub connections: NonZeroUsize,
    /// How many requests may wait for one of them. Default: 1024. The next one gets 503.
    pub queue: usize,
    /// How long a request may wait for one. Default: 30 seconds. Then 503.
    pub queue_timeout: HumanDuration,
    /// How many idle connections to keep for later requests. Default: 32.
    ///
    /// A request whose body streams or lies in a file takes a fresh one, and over TCP whatever is not idempotent, as a POST,
    /// since an idle one may just be closing and it could not be sent again.
    pub keepalive_connections: usize,
    /// How long to keep one. Default: 1 second.
    ///
    /// It must be shorter than the application's own (gunicorn's `keepalive`, 2 seconds), or a
    /// request meets a connection that is just being closed.
    pub keepalive_timeout: HumanDuration,
    /// How much of a request's body to gather in memory. Default: 1 MiB.
    ///
    /// A body is read whole before the application is asked, so that a client that sends slowly holds no
    /// worker; and it arrives with a `Content-Length`, without which Django reads none under WSGI. A longer
    /// one goes to a file meanwhile (`buffer_disk`).
    pub request_buffer: ByteSize,
    /// How much to hold in memory of such bodies at once, of all requests together. Default: 64 MiB. What comes
    /// then goes to a file, however short. What comes fast over HTTP/1.1 counts as shared memory of the
    /// system, of which it takes 128 MiB at most.
    pub request_buffer_memory: ByteSize,
    /// How much of that memory, of `request_buffer_reserve` and of `buffer_disk` the bodies of one client may take, an
    /// IPv4 address or an IPv6 /64, as a part of the whole. Default: 0.5; more than 0, and 1 at most.
    ///
    /// A further body of that client gets 503, and those of all others come through. A single body may be larger. Raise
    /// it where many people come from one address, and name a balancer that stands before vestibule in
    /// `listen.trusted_proxies`: otherwise all people are one client.
    pub request_buffer_share: f64,
    /// How much further memory to keep for bodies of 16 KiB at most, as logins are, when all other is taken.
    /// Default: 8 MiB.
    pub request_buffer_reserve: ByteSize,
    /// How much of an answer to hold in memory for a client that takes it slowly. Default: 1 MiB.
    ///
    /// The application gives its answer as fast as it can and is free for the next request, while the client still
    /// reads. What is longer goes to a file. Nothing is delayed: what has come goes on at once. With 0, and always
    /// for `text/event-stream` and for answers with `X-Accel-Buffering: no`, the application waits for the client.
    pub response_buffer: ByteSize,
    /// How much to hold in memory of all answers together. Default: 64 MiB. What comes then goes to files.
    pub response_buffer_memory: ByteSize,
    /// How much of the disk the files for bodies may take, all together. Default: 1 GiB.
    ///
    /// An upload that finds it full gets 503, and one that is larger gets 413. Answers take half of it at most; then
    /// the application waits for the client. With 0 nothing is written to disk:
    /// a body that is longer than `request_buffer` then streams through and holds a worker for as long as it takes;
    /// if its length is unknown, it goes on chunked over HTTP, and is refused with 411 over the uwsgi protocol.
    pub buffer_disk: ByteSize,
    /// The folder for these files, which have no name and vanish with their request or answer. Default: the system's for
    /// temporary files (`TMPDIR`, or /tmp).
    ///
    /// Name another one where that is kept in memory, as in many containers.
    pub buffer_directory: Option<PathBuf>,
    /// Paths of requests whose bodies stream through instead, as patterns: "/upload/*". A `*` crosses slashes.
    /// Default: none.
    ///
    /// For uploads that are too large for the disk, or that the application wants to see as they come. Each holds
    /// one of its workers. Over the uwsgi protocol they need a `Content-Length`; without one they get 411.
    pub stream_requests: Vec<PathGlob>,
    /// How `PATH_INFO` is written in the uwsgi protocol: "decoded" as uWSGI wants it, or "encoded"
    /// as gunicorn wants it. Default: "decoded". It matters only for paths with an encoded `%`.
    pub uwsgi_path: UwsgiPath,
    /// Largest head of an answer, in bytes. Default: 64 KiB; 8 KiB to 16 MiB. Then 502.
    pub response_header_size: ByteSize,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            address: None,
            servers: Vec::new(),
            balance: Balance::RoundRobin,
            max_fails: 1,
            fail_timeout: HumanDuration::seconds(10),
            check_path: None,
            check_host: None,
            check_interval: HumanDuration::seconds(5),
            check_timeout: HumanDuration::seconds(2),
            check_status: vec![200],
            connect_timeout: HumanDuration::seconds(5),
            forwarded: false,
            request_start: true,
            early_hints: true,
            hold: HumanDuration::seconds(10),
            response_timeout: HumanDuration::seconds(60),
            idle_timeout: HumanDuration::seconds(60),
            tunnel_idle_timeout: HumanDuration::seconds(3600),
            connections: NonZeroUsize::new(256).expect("256 is not zero"),
            queue: 1024,
            queue_timeout: HumanDuration::seconds(30),
            keepalive_connections: 32,
            keepalive_timeout: HumanDuration::seconds(1),
            request_buffer: ByteSize::mebibytes(1),
            request_buffer_memory: ByteSize::mebibytes(64),
            request_buffer_share: 0.5,
            request_buffer_reserve: ByteSize::mebibytes(8),
            response_buffer: ByteSize::mebibytes(1),
            response_buffer_memory: ByteSize::mebibytes(64),
            buffer_disk: ByteSize::mebibytes(1024),
            buffer_directory: None,
            stream_requests: Vec::new(),
            uwsgi_path: UwsgiPath::Decoded,
            response_header_size: ByteSize::kibibytes(64),
        }
    }
}

impl UpstreamConfig {
    /// Whether there is an application at all.
    pub fn is_given(&self) -> bool {
        self.address.is_some() || !self.servers.is_empty()
    }

    /// Its servers, however they are written.
    pub fn all_servers(&self) -> Vec<ServerConfig> {
        self.address.iter().cloned().map(ServerConfig::from).chain(self.servers.iter().cloned()).collect()
    }
}

/// `[[routes]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// What the paths begin with: "/ws/", which covers "/ws" too. Default: "/". It is compared with the decoded path,
    /// with runs of slashes as one.
    #[serde(default)]
    pub path: MountPath,
    /// The host that is asked for: "chat.example.com", or ".example.com" for it and its subdomains. Default: any.
    #[serde(default)]
    pub host: Option<HostPattern>,
    /// The application: the address of a server, or the name of one of `[[applications]]`.
    ///
    /// A route with a host comes before those without, and then the longest path. What no route covers is for
    /// `[upstream]`. Files come before all.
    pub upstream: RouteTarget,
}

/// `[[applications]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationConfig {
    /// What `[[routes]]` call it.
    pub name: ApplicationName,
    /// As in `[upstream]`; this or `servers` is needed.
    #[serde(default)]
    pub address: Option<UpstreamAddress>,
    /// As in `[upstream]`.
    #[serde(default)]
    pub servers: Vec<ServerConfig>,
    /// As in `[upstream]`, and as there unless given, as with all that follow but `check_path`.
    #[serde(default)]
    pub balance: Option<Balance>,
    /// As in `[upstream]`.
    #[serde(default)]
    pub hold: Option<HumanDuration>,
    /// As in `[upstream]`.
    #[serde(default)]
    pub response_timeout: Option<HumanDuration>,
    /// As in `[upstream]`.
    #[serde(default)]
    pub idle_timeout: Option<HumanDuration>,
    /// As in `[upstream]`.
    #[serde(default)]
    pub connections: Option<NonZeroUsize>,
    /// As in `[upstream]`.
    #[serde(default)]
    pub uwsgi_path: Option<UwsgiPath>,
    /// As in `[upstream]`. Default: none.
    #[serde(default)]
    pub check_path: Option<CheckTarget>,
    /// As in `[upstream]`.
    #[serde(default)]
    pub check_host: Option<HostName>,
}

impl ApplicationConfig {
    /// The whole of it: what is not said is as `[upstream]` has it.
    pub fn over(&self, upstream: &UpstreamConfig) -> UpstreamConfig {
        let base = upstream.clone();
        UpstreamConfig {
            address: self.address.clone(),
            servers: self.servers.clone(),
            balance: self.balance.unwrap_or(base.balance),
            hold: self.hold.unwrap_or(base.hold),
            response_timeout: self.response_timeout.unwrap_or(base.response_timeout),
            idle_timeout: self.idle_timeout.unwrap_or(base.idle_timeout),
            connections: self.connections.unwrap_or(base.connections),
            uwsgi_path: self.uwsgi_path.unwrap_or(base.uwsgi_path),
            check_path: self.check_path.clone(),
            check_host: self.check_host.clone().or(base.check_host),
            ..base
        }
    }
}

/// `[compression]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompressionConfig {
    /// Compress what the application answers, as `Accept-Encoding` asks: brotli, zstd or gzip. Default: true.
    ///
    /// What the application has compressed itself stays as it is, and so do files that it hands over, so that
    /// downloads can be resumed. Static files are compressed beforehand.
    pub enabled: bool,
    /// The shortest answer to compress, where the length is known. Default: 1 KiB.
    pub minimum_size: ByteSize,
    /// How hard gzip tries, 1 to 9. Default: 6.
    pub gzip_level: u32,
    /// How hard brotli tries, 0 to 11. Default: 4, which is about as small as gzip's 6, and no slower.
    pub brotli_level: u32,
    /// How hard zstd tries, 1 to 22. Default: 3.
    pub zstd_level: i32,
    /// Up to how many bytes, a random number for each answer, to make it longer. Default: 100; 0 for none, 255 at
    /// most.
    ///
    /// Without it, the length of a page that repeats what a visitor sent can give away a secret that is on the
    /// page too (BREACH). Django's own `GZipMiddleware` does the same.
    pub padding: u8,
    /// How many answers may be compressed at once, each with up to 2 MiB of memory for as long as its client reads.
    /// Default: 128; 100,000 at most. Further ones go out as they are.
    pub concurrency: NonZeroUsize,
    /// The media types to compress. Default: those of text.
    pub types: Vec<String>,
}

impl Default for CompressionConfig {
    fn default() -> Self {
        // Not text/event-stream: each open stream would hold a codec's memory for as long as it is open.
        const TYPES: [&str; 20] = [
            "text/html",
            "text/css",
            "text/plain",
            "text/xml",
            "text/csv",
            "text/javascript",
            "text/markdown",
            "text/calendar",
            "text/vcard",
            "application/json",
            "application/ld+json",
            "application/geo+json",
            "application/problem+json",
            "application/manifest+json",
            "application/javascript",
            "application/xml",
            "application/xhtml+xml",
            "application/rss+xml",
            "application/atom+xml",
            "image/svg+xml",
        ];
        Self {
            enabled: true,
            minimum_size: ByteSize::kibibytes(1),
            gzip_level: 6,
            brotli_level: 4,
            zstd_level: 3,
            padding: 100,
            concurrency: NonZeroUsize::new(128).expect("128 is not zero"),
            types: TYPES.map(str::to_owned).to_vec(),
        }
    }
}
