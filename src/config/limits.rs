//! How much, how long, and what is refused; and the log.

use std::num::NonZeroUsize;

use serde::Deserialize;

use super::values::{AccessLog, ByteSize, HumanDuration, LogFormat, LogLevel};

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Client connections open at once. Default: 10000; 1,000,000 at most. Further ones wait in the
    /// kernel's queue. Changes at a restart only.
    ///
    /// Each takes one of the files that the system lets be open (`LimitNOFILE`), and one more while the application is
    /// asked.
    pub connections: NonZeroUsize,
    /// Largest request head in bytes: request line and all header fields. Default: 32 KiB; 8 KiB to
    /// 16 MiB. Then 431.
    pub header_size: ByteSize,
    /// Most header fields in one request. Default: 100; 10,000 at most. Then 431.
    pub header_count: NonZeroUsize,
    /// Refuse requests (400) with a field name that has an underscore or a dot, and GET and HEAD with a body, be it empty
    /// chunks; those for `[health]` too. Default: false.
    ///
    /// Otherwise such a field is dropped, as nginx does, and such a body is passed on with a `Content-Length` of our own, as
    /// Elasticsearch is queried.
    pub refuse_ambiguous: bool,
    /// Largest request body. Default: 100 MiB. Then 413. 0 means no limit.
    ///
    /// It is the outermost bound for uploads; Django's `DATA_UPLOAD_MAX_MEMORY_SIZE` still holds
    /// for all but files.
    pub body_size: ByteSize,
    /// The least that must come of a request's body, in bytes per second, on average over `timeouts.body`.
    /// Default: 100; 0 for no such bound. Then 408. Each body is counted by itself, also where several share a link.
    ///
    /// So a client may send as many slow bodies as it has connections, and `http2_streams` on each over HTTP/2. What came
    /// of them is bounded all together, and for one client by `upstream.request_buffer_share`; a worker waits for none of
    /// them, but for those in `upstream.stream_requests`, of which there are `upstream.connections` at most. Besides, each
    /// costs some 9 KiB for as long as it may last, and over HTTP/1.1 up to twice as much again as came of it fast, 256 KiB at
    /// most: lower `http2_streams` or `connections` where memory is short.
    pub body_rate: ByteSize,
    /// Requests at once on one HTTP/2 connection. Default: 100; at least 1.
    ///
    /// Each costs some 9 KiB while it waits, for its application or its client, and up to 16 KiB more where a file is
    /// sent that the client's window holds up. With what a connection costs by itself that is 0.9 MiB for one that sends
    /// all of them slowly, and 2.5 MiB for one that takes nothing of files; 9 and 25 GiB if as many as the default of
    /// `connections` do so. While its socket takes nothing, each stream of a file may hold 128 KiB. What waits of the
    /// application's answers is bounded by `upstream.response_buffer_memory`, and by `compression.concurrency`.
    pub http2_streams: u32,
    /// Of how many clients each of the `rate_limits` keeps count; who came longest ago is forgotten first.
    /// Default: 100,000; 10,000,000 at most.
    pub rate_limit_clients: NonZeroUsize,
    /// How many passwords of one file may be checked or wait for it. Default: 64. Then 503. How long they may wait is
    /// `timeouts.password_check`.
    pub password_checks: usize,
    /// Threads that serve connections. Default: 0, one for each core that the program may use.
    ///
    /// Lower it to leave cores to the application. For each, glibc keeps some 16 MiB of what was freed, and more where
    /// something in use lies behind it; with `MALLOC_TRIM_THRESHOLD_=131072` in the environment it gives that back. A
    /// change needs a restart.
    pub threads: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: NonZeroUsize::new(10_000).expect("10,000 is not zero"),
            header_size: ByteSize::kibibytes(32),
            header_count: NonZeroUsize::new(100).expect("100 is not zero"),
            refuse_ambiguous: false,
            body_size: ByteSize::mebibytes(100),
            body_rate: ByteSize(100),
            http2_streams: 100,
            rate_limit_clients: NonZeroUsize::new(100_000).expect("100,000 is not zero"),
            password_checks: 64,
            threads: 0,
        }
    }
}

/// `[timeouts]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutsConfig {
    /// How long a TLS handshake may take, and a PROXY protocol header before it. Default: 10 seconds.
    pub handshake: HumanDuration,
    /// How long an HTTP/1.1 client may take to send a request's head, once begun. Default: 15 seconds.
    ///
    /// It is also the time in which a fresh connection must say its first word, in either protocol.
    pub header: HumanDuration,
    /// How long a password may wait for its turn to be checked (`limits.password_checks`). Default: 10 seconds.
    /// Then 503.
    pub password_check: HumanDuration,
    /// How long a connection without a request stays open. Default: 75 seconds, as in nginx.
    ///
    /// Raise it above the idle timeout of a load balancer that stands before vestibule.
    pub idle: HumanDuration,
    /// How long a client may pause within a request body. Default: 60 seconds. Then 408.
    pub body: HumanDuration,
    /// How long a client may take nothing of an answer. Default: 60 seconds. Then it is cut off.
    pub send: HumanDuration,
    /// How long to go on reading a body after its request was answered, and an HTTP/2 connection that has ended with
    /// answers under way, so that the client hears the answer. Default: 10 seconds; no longer than `header`.
    pub linger: HumanDuration,
    /// How long running requests get to finish after SIGTERM. Default: 30 seconds.
    pub shutdown: HumanDuration,
}

impl Default for TimeoutsConfig {
    fn default() -> Self {
        Self {
            handshake: HumanDuration::seconds(10),
            header: HumanDuration::seconds(15),
            password_check: HumanDuration::seconds(10),
            idle: HumanDuration::seconds(75),
            body: HumanDuration::seconds(60),
            send: HumanDuration::seconds(60),
            linger: HumanDuration::seconds(10),
            shutdown: HumanDuration::seconds(30),
        }
    }
}

/// `[log]`, which changes at a restart only
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// One line per request on standard output: "text", "json", "off", or "auto", which is text on a
    /// terminal and JSON otherwise. Default: "auto".
    pub access: AccessLog,
    /// What else is told, on standard error: "error", "warn", "info", "debug" or "trace".
    /// Default: "info".
    pub level: LogLevel,
    /// The form of what is told on standard error, as for `access`. Default: "auto".
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { access: AccessLog::Auto, level: LogLevel::Info, format: LogFormat::Auto }
    }
}
