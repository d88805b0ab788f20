//! Who may come in, and when.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::Deserialize;

use super::values::{Counted, HumanDuration, PathPattern, Realm, TrustedPeer};

/// `[[access]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessConfig {
    /// The path, or all below it: "/admin/*". It is compared with the decoded path, with runs of slashes as one.
    pub path: PathPattern,
    /// The networks that may come; all others get 403. Default: none, which means all.
    #[serde(default)]
    pub allow: Vec<TrustedPeer>,
    /// The networks that may not. Default: none.
    #[serde(default)]
    pub deny: Vec<TrustedPeer>,
    /// A file of names and bcrypt hashes, as `htpasswd -B` writes it; who knows none gets 401. Default: none.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// What browsers say when they ask for the password. Default: "restricted".
    #[serde(default)]
    pub realm: Realm,
}

/// `[[rate_limits]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// The path, or all below it: "/accounts/login/", "/api/*".
    pub path: PathPattern,
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
    pub count: Counted,
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
    pub open: Vec<PathPattern>,
}

/// `[maintenance]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaintenanceConfig {
    /// While this file exists, every request for the application gets 503; static files are answered. What is in it
    /// is the page, as HTML. No default. It is noticed within a second.
    pub file: Option<PathBuf>,
    /// Networks that see the site nevertheless. Default: none.
    pub allow: Vec<TrustedPeer>,
    /// When to come again (`Retry-After`). Default: 5 minutes.
    pub retry_after: HumanDuration,
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self { file: None, allow: Vec::new(), retry_after: HumanDuration::seconds(300) }
    }
}
