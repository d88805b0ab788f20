//! What vestibule answers by itself, and what it puts on answers.

use std::path::PathBuf;

use serde::Deserialize;

use super::values::{PathPattern, RedirectStatus, RedirectTarget, UrlPath};

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
    pub from: PathPattern,
    /// Where it is now: a path or a whole URL; a * at its end stands for what the * of `from` stood for. The query goes
    /// along, unless there is one here.
    pub to: RedirectTarget,
    /// 301, 302, 303, 307 or 308. Default: 308, which is kept, and leaves a POST a POST.
    #[serde(default)]
    pub status: RedirectStatus,
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
