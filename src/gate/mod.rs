//! Who may come in, decided before any answer is looked for: by how often a client has come (`rate`), from which
//! network, and with which password (`access`, `passwords`). Paths are compared as an application would read them.
//!
//! `maintenance` stands later on the way, before the application alone: a page about it may need static files.

mod access;
pub mod maintenance;
mod passwords;
mod rate;

use std::path::PathBuf;
use std::time::Instant;

use ::http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use ::http::request::Parts;
use ::http::{Method, StatusCode};

use self::access::{Access, Refused};
use self::passwords::{Checked, Passwords};
use self::rate::{RateLimits, Reserved};
use crate::config::{AccessConfig, GateLimits, RateLimitConfig, StagingConfig};
use crate::http::{Client, Response, answers, path};

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// A file of passwords cannot be read.
    #[error("cannot read the passwords")]
    Unreadable(#[source] std::io::Error),
    /// A line of it is not what it should be.
    #[error("{}:{line}: {reason}; make a line with `htpasswd -nB NAME`", .file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It has none.
    #[error("{} names nobody; make a line with `htpasswd -nB NAME`", .0.display())]
    Nobody(PathBuf),
}

/// All the rules.
#[derive(Debug)]
pub struct Gate {
    limits: RateLimits,
    access: Vec<Access>,
    staging: Option<Staging>,
}

/// A whole site behind one password.
#[derive(Debug)]
struct Staging {
    passwords: Passwords,
    open: Vec<crate::config::values::PathPattern>,
}

/// What was counted of a request that was let in.
#[derive(Debug, Default)]
pub struct Pass(Vec<Reserved>);

impl Gate {
    /// Reads the files of passwords.
    ///
    /// # Errors
    /// See [`GateError`].
    pub fn new(
        access: &[AccessConfig],
        limits: &[RateLimitConfig],
        staging: &StagingConfig,
        bounds: &GateLimits,
    ) -> Result<Self, GateError> {
        let staging = match &staging.password_file {
            Some(file) if staging.enabled => {
                let passwords = Passwords::read(file, bounds.password_checks)?;
                Some(Staging { passwords, open: staging.open.clone() })
            }
            _ => None,
        };
        let access = access.iter().map(|rule| Access::new(rule, bounds)).collect::<Result<_, _>>()?;
        Ok(Self { limits: RateLimits::new(limits, bounds.rate_limit_clients), access, staging })
    }

    /// Whether there is no rule at all: everybody may come in.
    pub fn is_open(&self) -> bool {
        self.limits.is_empty() && self.access.is_empty() && self.staging.is_none()
    }

    /// Lets a request in, or gives the answer for who stays outside.
    ///
    /// # Errors
    /// 401, 403, 429, or 503 when too many passwords are being checked.
    pub async fn admit(&self, head: &Parts, client: &Client) -> Result<Pass, Box<Response>> {
        let path = path::decided(head.uri.path());
        let reserved = self.limits.reserve(&path, &head.method, client.address, Instant::now()).map_err(too_many)?;
        for rule in self.access.iter().filter(|rule| rule.path.covers(&path)) {
            if let Some(refused) = rule.refuses(head, client.address).await {
                return Err(refusal(refused));
            }
        }
        if let Some(staging) = &self.staging
            && !staging.open.iter().any(|pattern| pattern.covers(&path))
        {
            if path == "/robots.txt" && matches!(head.method, Method::GET | Method::HEAD) {
                return Err(Box::new(answers::plain(StatusCode::OK, "User-agent: *\nDisallow: /\n")));
            }
            match staging.passwords.check(&head.headers).await {
                Checked::Known => {}
                Checked::Unknown => return Err(refusal(Refused::Password("staging".into()))),
                Checked::Busy => return Err(refusal(Refused::Busy)),
            }
        }
        Ok(Pass(reserved))
    }

    /// Takes back what was counted as a failed login, once the answer says that it was none.
    pub fn settle(&self, pass: Pass, status: StatusCode) {
        if !pass.0.is_empty() {
            self.limits.settle(pass.0, status);
        }
    }

    /// Whether the site is a preview that nobody should find.
    pub fn is_staging(&self) -> bool {
        self.staging.is_some()
    }
}

/// Says that an answer is part of a preview: for no search engine and no shared cache.
pub fn mark_as_preview(headers: &mut HeaderMap) {
    headers.insert("x-robots-tag", HeaderValue::from_static("noindex, nofollow"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
}

fn too_many(seconds: u64) -> Box<Response> {
    let mut response = answers::status(StatusCode::TOO_MANY_REQUESTS);
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    Box::new(response)
}

fn refusal(refused: Refused) -> Box<Response> {
    let (status, name, value) = match refused {
        Refused::Network => return Box::new(answers::status(StatusCode::FORBIDDEN)),
        Refused::Password(realm) => {
            let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
            let challenge = HeaderValue::try_from(challenge).expect("the configuration takes plain realms only");
            (StatusCode::UNAUTHORIZED, WWW_AUTHENTICATE, challenge)
        }
        Refused::Busy => (StatusCode::SERVICE_UNAVAILABLE, RETRY_AFTER, HeaderValue::from_static("1")),
    };
    let mut response = answers::status(status);
    response.headers_mut().insert(name, value);
    Box::new(response)
}
