//! Who may come in, decided before any answer is looked for: by how often a client has come (`rate`), from which
//! network, and with which password (`access`, `passwords`). Paths are compared as an application would read them.
//!
//! `maintenance` stands later on the way, before the application alone: a page about it may need static files.

mod access;
pub mod maintenance;
mod passwords;
mod rate;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use ::http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, RETRY_AFTER, STRICT_TRANSPORT_SECURITY, WWW_AUTHENTICATE};
use ::http::request::Parts;
use ::http::{Method, StatusCode};

use self::access::{Access, Refused};
use self::passwords::{Checked, Passwords};
use self::rate::{RateLimits, Reserved};
use crate::config::Config;
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
    limits: Arc<RateLimits>,
    access: Vec<Access>,
    staging: Option<Staging>,
}

/// A whole site behind one password.
#[derive(Debug)]
struct Staging {
    passwords: Passwords,
    open: Vec<crate::config::values::PathPattern>,
}

/// What is known of a request that was let in.
#[derive(Debug, Default)]
pub struct Pass {
    reserved: Vec<Reserved>,
    /// It was let in by a password: no shared cache may keep the answer.
    is_private: bool,
}

impl Gate {
    /// Reads the files of passwords. What was counted by the rate limits of `before` counts on, if they are the same.
    ///
    /// # Errors
    /// See [`GateError`].
    pub fn new(config: &Config, before: Option<(&Config, &Self)>) -> Result<Self, GateError> {
        let (staging, limits, patience) = (&config.staging, &config.limits, config.timeouts.password_check.0);
        let staging = match &staging.password_file {
            Some(file) if staging.enabled => {
                let passwords = Passwords::read(file, limits.password_checks, patience)?;
                Some(Staging { passwords, open: staging.open.clone() })
            }
            _ => None,
        };
        let access = config.access.iter().map(|rule| Access::new(rule, limits.password_checks, patience));
        let is_same = |other: &Config| {
            (&other.rate_limits, other.limits.rate_limit_clients) == (&config.rate_limits, limits.rate_limit_clients)
        };
        let limits = match before.filter(|(other, _)| is_same(other)) {
            Some((_, gate)) => Arc::clone(&gate.limits),
            None => Arc::new(RateLimits::new(&config.rate_limits, limits.rate_limit_clients)),
        };
        Ok(Self { limits, access: access.collect::<Result<_, _>>()?, staging })
    }

    /// Whether there is no rule at all: everybody may come in.
    pub fn is_open(&self) -> bool {
        self.limits.is_empty() && self.access.is_empty() && self.staging.is_none()
    }

    /// Lets a request in, or gives the answer for who stays outside.
    ///
    /// # Errors
    /// 401, 403, 429, or 503 when too many passwords are being checked, or that takes too long.
    pub async fn admit(&self, head: &Parts, client: &Client) -> Result<Pass, Box<Response>> {
        let path = path::decided(head.uri.path());
        let reserved = self.limits.reserve(&path, &head.method, client.address, Instant::now()).map_err(too_many)?;
        match self.refuses(&path, head, client).await {
            Err(refused) => {
                self.limits.give_back(reserved);
                Err(refused)
            }
            Ok(is_private) => Ok(Pass { reserved, is_private }),
        }
    }

    /// The refusal, or whether it was a password that let the client in.
    async fn refuses(&self, path: &str, head: &Parts, client: &Client) -> Result<bool, Box<Response>> {
        let mut is_private = false;
        for rule in self.access.iter().filter(|rule| rule.path.covers(path)) {
            if let Some(refused) = rule.refuses(head, client.address).await {
                return Err(refusal(refused));
            }
            is_private |= rule.has_passwords();
        }
        let Some(staging) = self.staging.as_ref().filter(|staging| !staging.open.iter().any(|open| open.covers(path)))
        else {
            return Ok(is_private);
        };
        if path == "/robots.txt" && matches!(head.method, Method::GET | Method::HEAD) {
            return Err(Box::new(answers::plain(StatusCode::OK, "User-agent: *\nDisallow: /\n")));
        }
        match staging.passwords.check(&head.headers, client.address).await {
            Checked::Known => Ok(true),
            Checked::Unknown => Err(refusal(Refused::Password("staging".into()))),
            Checked::Busy => Err(refusal(Refused::Busy)),
        }
    }

    /// What is left to do when the answer is there: a login that has not failed is not counted, and what a password
    /// has opened is for no shared cache (RFC 9111, section 3.5: `public` would let one keep it).
    pub fn settle(&self, pass: Pass, response: &mut Response) {
        if !pass.reserved.is_empty() {
            self.limits.settle(pass.reserved, response.status());
        }
        if pass.is_private
            && let Some(value) = response.headers().get(CACHE_CONTROL)
            && let Ok(text) = value.to_str()
        {
            let directives = text.split(',').map(str::trim).filter(|word| !word.eq_ignore_ascii_case("public"));
            let text = directives.chain(["private"]).collect::<Vec<_>>().join(", ");
            let value = HeaderValue::try_from(text).expect("directives joined with commas are a value");
            response.headers_mut().insert(CACHE_CONTROL, value);
        }
    }

    /// Whether the site is a preview that nobody should find.
    pub fn is_staging(&self) -> bool {
        self.staging.is_some()
    }
}

/// Says that an answer is part of a preview: for no search engine and no shared cache. What the application has browsers
/// promise for the real site is not said of it.
pub fn mark_as_preview(headers: &mut HeaderMap) {
    headers.remove(STRICT_TRANSPORT_SECURITY);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_makes_browsers_promise_nothing_and_is_for_no_robot() {
        let mut headers = HeaderMap::new();
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=99"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        mark_as_preview(&mut headers);
        assert_eq!(headers.get(STRICT_TRANSPORT_SECURITY), None);
        assert_eq!(
            (&headers["x-robots-tag"], &headers[CACHE_CONTROL]),
            (&HeaderValue::from_static("noindex, nofollow"), &HeaderValue::from_static("private, no-cache"))
        );
    }
}
