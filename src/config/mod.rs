//! What the operator asked for, finished and valid.
//!
//! One struct per TOML table, one field per option. A field's doc comment is its manual entry, its
//! default stands once, in the struct's `Default`, and `config/vestibule.toml` shows it; a test keeps
//! the two equal. [`load`] lays the file, the environment and the flags over the defaults, once.

pub mod header_rule;
pub mod load;
mod rules;
pub mod values;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use self::header_rule::HeaderRule;
use self::values::{
    ByteSize, HostPattern, HumanDuration, ListenAddress, ServerConfig, Source, UnixMode, UpstreamAddress, UrlPath,
    UrlPrefix,
};

/// The whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where `serve` listens.
    pub listen: ListenConfig,
    /// The certificate, and which versions of TLS are spoken.
    pub tls: TlsConfig,
    /// What a client that came over plain HTTP is told about HTTPS.
    pub https: HttpsConfig,
    /// Which names this site answers to.
    pub hosts: HostsConfig,
    /// The static files.
    #[serde(rename = "static")]
    pub assets: AssetsConfig,
    /// Further folders of files, each with a place of its own.
    pub mounts: Vec<MountConfig>,
    /// The uploads.
    pub media: MediaConfig,
    /// The folders from which the application may have files sent. Default: none.
    pub send_file: Vec<SendFileConfig>,
    /// The application: gunicorn, uWSGI or another.
    pub upstream: UpstreamConfig,
    /// Paths and hosts that are further applications'. Default: none.
    pub routes: Vec<RouteConfig>,
    /// Further applications, where an address alone does not say enough. Default: none.
    pub applications: Vec<ApplicationConfig>,
    /// How the application's answers are compressed.
    pub compression: CompressionConfig,
    /// How large and how many.
    pub limits: LimitsConfig,
    /// How long to wait for a client.
    pub timeouts: TimeoutsConfig,
    /// The answers for load balancers and orchestrators.
    pub health: HealthConfig,
    /// What is written down.
    pub log: LogConfig,
    /// Paths that are not for everybody.
    pub access: Vec<AccessConfig>,
    /// How often a client may come.
    pub rate_limits: Vec<RateLimitConfig>,
    /// The whole site as a preview behind a password.
    pub staging: StagingConfig,
    /// While the application rests.
    pub maintenance: MaintenanceConfig,
    /// What is put on pages.
    pub pages: PagesConfig,
    /// Paths that have moved.
    pub redirects: Vec<RedirectConfig>,
    /// What is set and removed of the headers of answers.
    pub headers: Vec<HeaderRule>,
    /// How `collect` builds the folder of static files.
    pub collect: CollectConfig,
}

/// `[listen]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// Addresses for HTTP/1.1 and HTTP/2 in the clear: `HOST:PORT`, or `unix:PATH`. Default: none;
    /// with none here and none in `https`, 127.0.0.1:8080, or 0.0.0.0:$PORT where `PORT` is set.
    /// Changes at a restart only.
    pub http: Vec<ListenAddress>,
    /// Addresses for HTTP/1.1 and HTTP/2 over TLS: `HOST:PORT`, or `unix:PATH`. Default: none.
    /// Changes at a restart only.
    pub https: Vec<ListenAddress>,
    /// Those of these addresses whose connections begin with a header of the PROXY protocol, version 1 or 2, by which a
    /// balancer that hands connections through says whose they are. Default: none. Changes at a restart only.
    ///
    /// The balancer must be in `trusted_proxies`; every other connection to these addresses is closed, and so is one
    /// that has no such header. The header must come within `timeouts.handshake`.
    pub proxy_protocol: Vec<ListenAddress>,
    /// Access rights of unix sockets that vestibule makes. Default: "0660". Changes at a restart only.
    pub unix_mode: UnixMode,
    /// Networks whose word on the client is believed, in the fields of `trusted_headers`. Default: none.
    ///
    /// Name here the load balancer that stands before vestibule, and nothing else: whoever connects
    /// from one of these networks can claim any address. A peer on a unix socket counts as trusted
    /// only with `"unix"` in the list. "cloudflare" and "fastly" stand for the networks that these name as theirs, from
    /// which everybody who has an account there can send, too.
    pub trusted_proxies: Vec<values::TrustedPeer>,
    /// The fields that these proxies write, each of them in every request. Default: "x-forwarded-for",
    /// "x-forwarded-proto", "x-request-id" and "x-request-start"; "forwarded" (RFC 7239) is read where it is named.
    ///
    /// A proxy hands on as it came what it does not write, and then it is the word of any client: leave out what yours
    /// does not set. One that writes `Forwarded` alone needs `["forwarded"]`. With both kinds the older fields are read
    /// first, and `Forwarded` where there are none.
    pub trusted_headers: Vec<values::TrustedHeader>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            http: Vec::new(),
            https: Vec::new(),
            proxy_protocol: Vec::new(),
            unix_mode: UnixMode(0o660),
            trusted_proxies: Vec::new(),
            trusted_headers: values::TrustedHeader::usual(),
        }
    }
}

/// `[tls]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and its chain, in one PEM file. No default; needed for `listen.https`.
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, as PEM. No default; needed for `listen.https`.
    pub key: Option<PathBuf>,
    /// Make a certificate in memory at each start, for development. Default: false.
    ///
    /// Browsers warn of it. Cannot be set together with `certificate`.
    pub self_signed: bool,
    /// The oldest version of TLS to speak, "1.2" or "1.3". Default: "1.2".
    pub minimum_version: values::TlsVersion,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { certificate: None, key: None, self_signed: false, minimum_version: values::TlsVersion::Tls12 }
    }
}

/// `[https]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpsConfig {
    /// Send plain HTTP requests to the same address under https, where vestibule listens for TLS.
    /// Default: true.
    ///
    /// The answer is 308. Health answers are never redirected.
    pub redirect: bool,
    /// The port that clients use for HTTPS. Default: the port of the first `listen.https` address.
    ///
    /// Set it where a container or a firewall maps another port to that one.
    pub port: Option<u16>,
    /// How long browsers shall insist on HTTPS (`Strict-Transport-Security`). Default: 0, no header.
    ///
    /// Start with a few minutes, and go to a year when all works: browsers do not forget it.
    pub hsts_max_age: HumanDuration,
    /// Extend it to every subdomain. Default: false.
    pub hsts_include_subdomains: bool,
    /// Ask for the name to be built into browsers. Default: false. Needs a year and the subdomains.
    pub hsts_preload: bool,
}

impl Default for HttpsConfig {
    fn default() -> Self {
        Self {
            redirect: true,
            port: None,
            hsts_max_age: HumanDuration(Duration::ZERO),
            hsts_include_subdomains: false,
            hsts_preload: false,
        }
    }
}

/// `[hosts]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostsConfig {
    /// The names this site answers to, as in Django's `ALLOWED_HOSTS`: `example.com`,
    /// `.example.com` for it and its subdomains, `*` for any. Default: none, which means any.
    ///
    /// Another name gets 400 without waking the application.
    pub allowed: Vec<HostPattern>,
    /// The one name under which people shall find the site: what is asked for under another allowed one is redirected
    /// there (308). Default: none.
    ///
    /// As from www.example.com to example.com, or the other way round. Health answers stay.
    pub canonical: Option<values::HostName>,
}

/// `[[access]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessConfig {
    /// The path, or all below it: "/admin/*". It is compared with the decoded path, with runs of slashes as one.
    pub path: values::PathPattern,
    /// The networks that may come; all others get 403. Default: none, which means all.
    #[serde(default)]
    pub allow: Vec<values::TrustedPeer>,
    /// The networks that may not. Default: none.
    #[serde(default)]
    pub deny: Vec<values::TrustedPeer>,
    /// A file of names and bcrypt hashes, as `htpasswd -B` writes it; who knows none gets 401. Default: none.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// What browsers say when they ask for the password. Default: "restricted".
    #[serde(default)]
    pub realm: values::Realm,
}

/// `[[rate_limits]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// The path, or all below it: "/accounts/login/", "/api/*".
    pub path: values::PathPattern,
    /// How many requests of one client, an IPv4 address or an IPv6 /64, ...
    pub requests: NonZeroU32,
    /// ... in which time, evenly. Who comes more often gets 429 with `Retry-After`.
    pub per: HumanDuration,
    /// How many of them may come at once. Default: as many as `requests`.
    #[serde(default)]
    pub burst: Option<NonZeroU32>,
    /// "requests", or "failed_logins": POST requests that are not answered with a redirect, as Django's login
    /// views do when it worked. Default: "requests".
    #[serde(default)]
    pub count: values::Counted,
}

/// `[staging]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StagingConfig {
    /// Serve the site as a preview: behind a password, not to be indexed (`X-Robots-Tag` and robots.txt), kept by no
    /// shared cache, without `Strict-Transport-Security`. Default: false. Health answers stay open.
    pub enabled: bool,
    /// The names and bcrypt hashes of those who may see it, as `htpasswd -B` writes them. No default; needed.
    pub password_file: Option<PathBuf>,
    /// Paths that need no password, as for the webhooks of a payment service. Default: none.
    pub open: Vec<values::PathPattern>,
}

/// `[maintenance]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaintenanceConfig {
    /// While this file exists, every request for the application gets 503; static files are answered. What is in it
    /// is the page, as HTML. No default. It is noticed within a second.
    pub file: Option<PathBuf>,
    /// Networks that see the site nevertheless. Default: none.
    pub allow: Vec<values::TrustedPeer>,
    /// When to come again (`Retry-After`). Default: 5 minutes.
    pub retry_after: HumanDuration,
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self { file: None, allow: Vec::new(), retry_after: HumanDuration::seconds(300) }
    }
}

/// `[pages]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagesConfig {
    /// A folder with pages for the errors that vestibule answers with: 502.html, 429.html, or 5xx.html for all that have
    /// none. No default. The application's own error pages stay.
    pub errors: Option<PathBuf>,
    /// Put the headers of Django's SecurityMiddleware and XFrameOptionsMiddleware on all answers that do not have them:
    /// `X-Content-Type-Options`, `Referrer-Policy`, `X-Frame-Options`, `Cross-Origin-Opener-Policy`. Default: false.
    pub security_headers: bool,
}

/// `[[redirects]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedirectConfig {
    /// The path that has moved, or all below it: "/old/", "/blog/*".
    pub from: values::PathPattern,
    /// Where it is now: a path or a whole URL; a * at its end stands for what the * of `from` stood for. The query goes
    /// along, unless there is one here.
    pub to: values::RedirectTarget,
    /// 301, 302, 303, 307 or 308. Default: 308, which is kept, and leaves a POST a POST.
    #[serde(default)]
    pub status: values::RedirectStatus,
}

/// `[static]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AssetsConfig {
    /// The folder that `collect` wrote: Django's `STATIC_ROOT`. No default; without it vestibule
    /// serves no static files.
    pub directory: Option<PathBuf>,
    /// The URL path under which the files appear: the path of Django's `STATIC_URL`. Default: "/static/".
    pub prefix: UrlPrefix,
    /// How long a browser may keep a file without a content hash in its name. Default: 60 seconds.
    ///
    /// Files with a hash are kept for ten years, as WhiteNoise has it.
    pub max_age: HumanDuration,
    /// Send `Access-Control-Allow-Origin: *` with static files, and with those of mounts. Default: true.
    ///
    /// Fonts and modules loaded from a CDN under another name need it. The files are public anyway.
    pub allow_all_origins: bool,
    /// Answer with deltas from versions that a browser has (RFC 9842), where `collect` made some. Default: true.
    pub deltas: bool,
    /// URL paths of images in folders without a manifest of `collect`, mounts too, as patterns. Default: none.
    ///
    /// A smaller `photo.jpg.avif` or `photo.avif` beside such a `photo.jpg`, or `.webp`, is sent in its place to browsers
    /// that name its type in `Accept`. Where there is such a manifest, `[collect] image_twins` decides.
    pub image_twins: Vec<header_rule::PathGlob>,
    /// What to announce with a page that preloads a stylesheet in a `Link` header: the "styles" that this imports, its
    /// "fonts", or both. Default: nothing.
    ///
    /// Browsers then load them at once, and not when they have read the stylesheet. `collect` has found out which they
    /// are; a font counts if it is WOFF2, without `local()`, and for all characters (no `unicode-range`).
    pub preload: Vec<values::Preload>,
    /// How many of them one page may be given. Default: 8; 1 to 100.
    pub max_preloads: NonZeroUsize,
    /// How long the header with them may become. Default: 2 KiB; 64 KiB at most.
    ///
    /// Proxies before vestibule have bounds for all headers together, 4 or 8 KiB often.
    pub max_preload_size: ByteSize,
    /// How many bytes of files, compressed copies included, to hold in memory, those of all mounts together.
    /// Default: 64 MiB.
    ///
    /// The smallest files come first; the rest is read from disk when asked for.
    pub memory: ByteSize,
    /// How many ranges of a file one request may ask for, as PDF readers do; also of uploads, and of files that the
    /// application hands over. Default: 32; 1 to 1000.
    ///
    /// Who asks for more gets the whole file.
    pub max_ranges: NonZeroUsize,
    /// How many different names of missing files to count, and to tell in the log. Default: 1000; 0 tells none.
    ///
    /// A name is told when it is asked for the first, the tenth, the hundredth time and so on, at most ten
    /// times a minute.
    pub missing_names: usize,
    /// How often to look whether there is a new release: another `staticfiles.json`, or a folder whose link
    /// leads elsewhere, of mounts too. Default: 2 seconds; 0 for never; otherwise at least 100 milliseconds.
    ///
    /// It is then read beside the old one, and replaces it if it is sound. The configuration is not read again.
    pub reload: HumanDuration,
    /// Look into the folders, those of mounts too, before each answer, for development. Default: false.
    ///
    /// A file that has come, gone or changed is then so for the next request. Files without a content hash in their
    /// names are sent with `Cache-Control: no-cache`, and texts that have no compressed copy get one in memory.
    pub watch: bool,
}

impl Default for AssetsConfig {
    fn default() -> Self {
        Self {
            directory: None,
            prefix: UrlPrefix::default(),
            max_age: HumanDuration::seconds(60),
            allow_all_origins: true,
            deltas: true,
            image_twins: Vec::new(),
            preload: Vec::new(),
            max_preloads: NonZeroUsize::new(8).expect("8 is not zero"),
            max_preload_size: ByteSize(2 << 10),
            memory: ByteSize::mebibytes(64),
            max_ranges: NonZeroUsize::new(32).expect("32 is not zero"),
            missing_names: 1000,
            reload: HumanDuration::seconds(2),
            watch: false,
        }
    }
}

/// `[[mounts]]`, one for each folder
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MountConfig {
    /// The URL path under which the folder's files appear, as "/" or "/docs/". Default: "/".
    ///
    /// Where several fit, the longest comes first. `static.prefix` comes before all of them.
    pub path: values::MountPath,
    /// The folder. No default, and needed.
    ///
    /// With a `staticfiles.json` from `collect` its hashed names are kept for ten years, as under `[static]`.
    pub directory: Option<PathBuf>,
    /// How long a browser may keep a file without a content hash in its name. Default: 60 seconds.
    pub max_age: HumanDuration,
    /// The file that answers for the folder that it lies in. Default: "index.html"; "" for none.
    ///
    /// `/docs/` is then `docs/index.html`, and `/docs` is redirected to it.
    pub index: values::IndexName,
    /// The page that answers when a browser opens any other address below `path`, for a single-page
    /// application. Default: none.
    ///
    /// To open a page, browsers ask with `Accept: text/html`; what a page loads by itself they do not.
    pub fallback: Option<values::FilePath>,
    /// Prefixes below `path` that are the application's, as ["/admin/", "/api/"]. Default: none.
    ///
    /// Needed where `fallback`, or `missing = "404"`, would stand before it.
    pub except: Vec<UrlPrefix>,
    /// What becomes of a request for which there is no file: "next", it goes on to the mount with the next
    /// shorter path, and then to the application; or "404". Default: "next".
    pub missing: values::Missing,
}

impl Default for MountConfig {
    fn default() -> Self {
        Self {
            path: values::MountPath::default(),
            directory: None,
            max_age: HumanDuration::seconds(60),
            index: values::IndexName(Some("index.html".into())),
            fallback: None,
            except: Vec::new(),
            missing: values::Missing::Next,
        }
    }
}

/// `[media]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MediaConfig {
    /// The folder of uploads: Django's `MEDIA_ROOT`. No default; without it the application is asked for
    /// them, as for any page.
    ///
    /// Everybody may read what is in it. Files may come and go at any time; hidden ones, and links that lead
    /// out of the folder, are not served.
    pub directory: Option<PathBuf>,
    /// The URL path under which they appear: the path of Django's `MEDIA_URL`. Default: "/media/".
    pub prefix: UrlPrefix,
    /// How long a browser may keep a file before it asks again. Default: 1 hour.
    ///
    /// Lower it if files are replaced under the same name; Django's own storage never does that.
    pub max_age: HumanDuration,
    /// Extensions of files to show in the browser although their type could be a page or a script of the
    /// site: ["svg", "html"]. Default: none; they are sent for saving.
    ///
    /// They are shown in a sandbox, without scripts. A script or a stylesheet that is named here can be
    /// loaded by pages of the site.
    pub inline: Vec<String>,
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            directory: None,
            prefix: "/media/".parse().expect("it begins and ends with a slash"),
            max_age: HumanDuration::seconds(3600),
            inline: Vec::new(),
        }
    }
}

/// `[[send_file]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendFileConfig {
    /// What the application's `X-Accel-Redirect` begins with, as nginx's `internal` location: "/protected/".
    /// Default: none; then only `X-Sendfile` leads here.
    ///
    /// No client can ask for it: it is no address of the site.
    #[serde(default)]
    pub path: Option<UrlPrefix>,
    /// The folder of these files. It must be given.
    ///
    /// Hidden files, and links that lead out of the folder, are not sent. Of nginx's further words to these files
    /// `X-Accel-Charset` is heeded, for texts; `X-Accel-Limit-Rate` and `X-Accel-Expires` have no effect.
    pub directory: PathBuf,
}

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
    pub balance: values::Balance,
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
    pub check_path: Option<values::CheckTarget>,
    /// The name to ask with, which must be one of Django's `ALLOWED_HOSTS`. Default: `hosts.canonical`, or the first
    /// name in `hosts.allowed`.
    pub check_host: Option<values::HostName>,
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
    /// Counted from the moment when the request was sent whole. Then 504.
    pub response_timeout: HumanDuration,
    /// How long the application may pause within an answer, or not read a request. Default: 60 seconds.
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
    /// then goes to a file, however short.
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
    /// one of its workers.
    pub stream_requests: Vec<header_rule::PathGlob>,
    /// How `PATH_INFO` is written in the uwsgi protocol: "decoded" as uWSGI wants it, or "encoded"
    /// as gunicorn wants it. Default: "decoded". It matters only for paths with an encoded `%`.
    pub uwsgi_path: values::UwsgiPath,
    /// Largest head of an answer, in bytes. Default: 64 KiB; 8 KiB to 16 MiB. Then 502.
    pub response_header_size: ByteSize,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            address: None,
            servers: Vec::new(),
            balance: values::Balance::RoundRobin,
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
            uwsgi_path: values::UwsgiPath::Decoded,
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
    pub path: values::MountPath,
    /// The host that is asked for: "chat.example.com", or ".example.com" for it and its subdomains. Default: any.
    #[serde(default)]
    pub host: Option<HostPattern>,
    /// The application: the address of a server, or the name of one of `[[applications]]`.
    ///
    /// A route with a host comes before those without, and then the longest path. What no route covers is for
    /// `[upstream]`. Files come before all.
    pub upstream: values::RouteTarget,
}

/// `[[applications]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationConfig {
    /// What `[[routes]]` call it.
    pub name: values::ApplicationName,
    /// As in `[upstream]`; this or `servers` is needed.
    #[serde(default)]
    pub address: Option<UpstreamAddress>,
    /// As in `[upstream]`.
    #[serde(default)]
    pub servers: Vec<ServerConfig>,
    /// As in `[upstream]`, and as there unless given, as with all that follow but `check_path`.
    #[serde(default)]
    pub balance: Option<values::Balance>,
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
    pub uwsgi_path: Option<values::UwsgiPath>,
    /// As in `[upstream]`. Default: none.
    #[serde(default)]
    pub check_path: Option<values::CheckTarget>,
    /// As in `[upstream]`.
    #[serde(default)]
    pub check_host: Option<values::HostName>,
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

impl Config {
    /// The name that health checks ask with, unless the application has one of its own.
    pub fn check_host(&self) -> Option<values::HostName> {
        let plain = self.hosts.allowed.iter().find_map(|pattern| match pattern {
            HostPattern::Exactly(name) | HostPattern::WithSubdomains(name) => Some(values::HostName(name.clone())),
            HostPattern::Any => None,
        });
        self.hosts.canonical.clone().or(plain)
    }

    /// Whether there is any application.
    pub fn has_application(&self) -> bool {
        self.upstream.is_given() || !self.routes.is_empty()
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

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Client connections open at once. Default: 10000; 1,000,000 at most. Further ones wait in the
    /// kernel's queue. Changes at a restart only.
    pub connections: NonZeroUsize,
    /// Largest request head in bytes: request line and all header fields. Default: 32 KiB; 8 KiB to
    /// 16 MiB. Then 431.
    pub header_size: ByteSize,
    /// Most header fields in one request. Default: 100; 10,000 at most. Then 431.
    pub header_count: NonZeroUsize,
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
    /// costs some 9 KiB for as long as it may last, and up to 64 KiB while it comes fast: lower `http2_streams` or
    /// `connections` where memory is short.
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
    /// Lower it to leave cores to the application. A change needs a restart.
    pub threads: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: NonZeroUsize::new(10_000).expect("10,000 is not zero"),
            header_size: ByteSize::kibibytes(32),
            header_count: NonZeroUsize::new(100).expect("100 is not zero"),
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
    /// How long to go on reading a body after its request was answered, so that the client hears the
    /// answer. Default: 10 seconds; no longer than `header`.
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

/// `[health]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// Answers 200 as long as the process runs. Default: "/-/live".
    pub live: UrlPath,
    /// Answers 200 when the application can be reached, or, with `upstream.check_path`, when a server of it is well;
    /// else 503. Default: "/-/ready".
    pub ready: UrlPath,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { live: UrlPath("/-/live".into()), ready: UrlPath("/-/ready".into()) }
    }
}

/// `[log]`, which changes at a restart only
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// One line per request on standard output: "text", "json", "off", or "auto", which is text on a
    /// terminal and JSON otherwise. Default: "auto".
    pub access: values::AccessLog,
    /// What else is told, on standard error: "error", "warn", "info", "debug" or "trace".
    /// Default: "info".
    pub level: values::LogLevel,
    /// The form of what is told on standard error, as for `access`. Default: "auto".
    pub format: values::LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { access: values::AccessLog::Auto, level: values::LogLevel::Info, format: values::LogFormat::Auto }
    }
}

/// `[collect]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectConfig {
    /// The source trees, as Django's `STATICFILES_DIRS`: `DIR`, or `PREFIX=DIR`. No default.
    ///
    /// The first one that has a path wins, as with Django's finders.
    pub sources: Vec<Source>,
    /// Django apps whose `static` folders are further sources, by module name, as "django.contrib.admin".
    /// Default: none.
    ///
    /// They are looked for here, beside the configuration file, in a folder right below with a `manage.py`,
    /// and in the virtual environment with what its `.pth` files add; nothing is imported. They come after
    /// `sources`, as `AppDirectoriesFinder` comes after `FileSystemFinder`.
    pub apps: Vec<String>,
    /// The virtual environment with those apps, and whose Python `--django` asks. Default: `VIRTUAL_ENV`, else
    /// `.venv` or `venv` here, else where `python3` is installed.
    ///
    /// Any folder with `lib/python3.X/site-packages` in it will do for the apps, as `/usr/local` in an image.
    pub virtual_env: Option<PathBuf>,
    /// The output folder. Default: `static.directory`.
    ///
    /// Whatever the umask, published files get mode 0644, as with Django's `FILE_UPLOAD_PERMISSIONS`, and
    /// folders that are made 0755.
    pub output: Option<PathBuf>,
    /// The output of the release before, if it is not the output folder itself. Default: the output folder.
    ///
    /// Its files with content hashes are carried over, so that pages of the release before find them.
    pub previous: Option<PathBuf>,
    /// For how many further releases to keep a file with a content hash that is no longer in use.
    /// Default: 10; 0 carries nothing over.
    pub keep_releases: u32,
    /// For how long to keep it at most. Default: 30 days.
    ///
    /// With `SOURCE_DATE_EPOCH` in the environment, time goes by from one such date to the next. A release by the
    /// other clock begins the count anew, so that no file goes early; `keep_releases` still ends it.
    pub keep_for: HumanDuration,
    /// Publish files under their plain names too. Default: true.
    ///
    /// Without them the output is half the size, and a URL that was not made by `{% static %}` is a 404.
    /// What imports name that are not rewritten (see `javascript_modules`) keeps its plain name.
    pub keep_originals: bool,
    /// File and folder names to leave out, as globs. Default: "CVS", ".*" and "*~", as in Django.
    pub ignore: Vec<String>,
    /// Give files content-hash names and rewrite the references between them. Default: true.
    pub hash: bool,
    /// Also rewrite `import`, `export … from` and `import()` in JavaScript. Default: false, as
    /// Django's `support_js_module_import_aggregation`.
    ///
    /// With them come `import.meta.resolve("…")` and `new URL("…", import.meta.url)`, as for workers, and the
    /// inline scripts and import maps of the pages under `html`.
    pub javascript_modules: bool,
    /// HTML files in which references are rewritten, as globs. Default: none.
    ///
    /// For pages that are static themselves. Links for people (`<a href>`, forms) stay as they are, and so
    /// do elements with `integrity`, and what has a template's placeholder in it.
    pub html: Vec<String>,
    /// Web app manifests in which references are rewritten, as globs. Default: "*.webmanifest".
    ///
    /// Only their images are files; `start_url` and other pages of the site stay as they are.
    pub web_manifests: Vec<String>,
    /// Manifests of bundlers (Vite, webpack, esbuild, Parcel, Rollup) inside the sources. Default: none.
    ///
    /// A file that one of them lists has its hash already: it keeps its name and its bytes, and is cached for
    /// ever. A listed file that is not there stops the run; one with no hash in its name is told, and treated
    /// as any other.
    pub bundler_manifests: Vec<PathBuf>,
    /// What a reference to a file that is not there means: "error", "warn" or "ignore", or a list of
    /// patterns with one of them each. Default: "error".
    ///
    /// A pattern fits the file that refers, or the name that is missing: `["vendor/*=warn", "error"]`.
    pub missing_reference: values::Severities,
    /// The same for source maps, which many packages name but do not ship. Default: "warn".
    pub missing_source_map: values::Severities,
    /// Images of which an AVIF or WebP twin is sent to browsers that name its type in `Accept`, as globs. Default: none.
    ///
    /// A twin is `photo.jpg.avif` or `photo.avif` beside `photo.jpg`, with the same picture, and smaller. An image's hash
    /// is then one of its twins too, since browsers keep under its name what they got. A CDN in front must heed
    /// `Vary: Accept`, or it gives one browser's format to all.
    pub image_twins: Vec<String>,
    /// What it means that such an image has no twin at all, as for `missing_reference`. Default: "ignore".
    pub missing_image_twin: values::Severities,
    /// The compressed copies to make. Default: "gzip", "brotli" and "zstd".
    pub encodings: Vec<values::Encoding>,
    /// 1 to 12. Default: 10.
    ///
    /// From 10 on, libdeflate searches for the shortest encoding. 10 takes a twentieth of the time of brotli and saves
    /// 4 % over zlib's 9; 12 takes twice that and saves another 0.3 %.
    pub gzip_level: u32,
    /// 0 to 11. Default: 11.
    pub brotli_level: u32,
    /// 1 to 22. Default: 19.
    pub zstd_level: u32,
    /// Keep a compressed copy only if it is at most this much of the original. Default: 0.95, as in
    /// WhiteNoise.
    pub keep_ratio: f64,
    /// Extensions of files that are compressed already. Default: the usual image, audio, video,
    /// font and archive types.
    pub skip_compression: Vec<String>,
    /// Where to keep compressed copies and deltas for the next run. Default: `vestibule` in `$XDG_CACHE_HOME`,
    /// or else in `~/.cache`; "" keeps none.
    ///
    /// Safe to share between projects and to lose. In CI, mount it.
    pub cache: Option<PathBuf>,
    /// How large that folder may grow; what was not used for longest goes first. Default: 1 GiB.
    pub cache_size: ByteSize,
    /// Make deltas from earlier versions of a file, for browsers that have one of them (RFC 9842).
    /// Default: true.
    pub deltas: bool,
    /// Keep a delta only if it is at most this much of the smallest compressed copy. Default: 0.8.
    pub delta_ratio: f64,
    /// From how many earlier versions of a file to make deltas. Default: 3.
    pub delta_versions: u32,
    /// A page to write about the release: sizes, what compression saves, and what has changed since the
    /// release before. Default: none.
    ///
    /// One HTML file that needs nothing else. It must lie outside of the output and of every source.
    pub report: Option<PathBuf>,
    /// Threads for compression. Default: 0, one per core; 1024 at most.
    pub threads: usize,
}

impl Default for CollectConfig {
    fn default() -> Self {
        let words = |list: &str| list.split_whitespace().map(str::to_owned).collect();
        Self {
            sources: Vec::new(),
            apps: Vec::new(),
            virtual_env: None,
            output: None,
            previous: None,
            keep_releases: 10,
            keep_for: HumanDuration::seconds(30 * 86400),
            keep_originals: true,
            ignore: words("CVS .* *~"),
            hash: true,
            javascript_modules: false,
            html: Vec::new(),
            web_manifests: words("*.webmanifest"),
            bundler_manifests: Vec::new(),
            missing_reference: values::Severity::Error.into(),
            missing_source_map: values::Severity::Warn.into(),
            image_twins: Vec::new(),
            missing_image_twin: values::Severity::Ignore.into(),
            encodings: vec![values::Encoding::Gzip, values::Encoding::Brotli, values::Encoding::Zstd],
            gzip_level: 10,
            brotli_level: 11,
            zstd_level: 19,
            keep_ratio: 0.95,
            skip_compression: words(
                "jpg jpeg png gif webp avif heic jxl zip gz tgz bz2 tbz xz br zst 7z rar swf flv woff woff2 \
                 3gp 3gpp asf avi m4v m4a mov mp3 mp4 mpeg mpg ogg opus webm wmv",
            ),
            cache: None,
            cache_size: ByteSize::mebibytes(1024),
            deltas: true,
            delta_ratio: 0.8,
            delta_versions: 3,
            report: None,
            threads: 0,
        }
    }
}
