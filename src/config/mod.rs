//! What the operator asked for, finished and valid.
//!
//! One struct per TOML table, one field per option. A field's doc comment is its manual entry, its
//! default stands once, in the struct's `Default`, and `config/vestibule.toml` shows it; a test keeps
//! the two equal. [`load`] lays the file, the environment and the flags over the defaults, once.

mod collect;
mod files;
mod gate;
pub mod header_rule;
mod limits;
mod listen;
pub mod load;
mod pages;
mod rules;
mod upstream;
pub mod values;

use serde::Deserialize;

pub use self::collect::CollectConfig;
pub use self::files::{AssetsConfig, MediaConfig, MountConfig, SendFileConfig};
pub use self::gate::{AccessConfig, MaintenanceConfig, RateLimitConfig, StagingConfig};
use self::header_rule::HeaderRule;
pub use self::limits::{LimitsConfig, LogConfig, TimeoutsConfig};
pub use self::listen::{HostsConfig, HttpsConfig, ListenConfig, TlsConfig};
pub use self::pages::{HealthConfig, PagesConfig, RedirectConfig};
pub use self::upstream::{ApplicationConfig, CompressionConfig, RouteConfig, UpstreamConfig};
use self::values::{HostName, HostPattern};

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

impl Config {
    /// The name that health checks ask with, unless the application has one of its own.
    pub fn check_host(&self) -> Option<HostName> {
        let plain = self.hosts.allowed.iter().find_map(|pattern| match pattern {
            HostPattern::Exactly(name) | HostPattern::WithSubdomains(name) => Some(HostName(name.clone())),
            HostPattern::Any => None,
        });
        self.hosts.canonical.clone().or(plain)
    }

    /// Whether there is any application.
    pub fn has_application(&self) -> bool {
        self.upstream.is_given() || !self.routes.is_empty()
    }
}
