//! How often a client may come, by the generic cell rate algorithm: the time at which a client's next request would be
//! on schedule is all that is kept of it.
//!
//! A client is an IPv4 address or an IPv6 network of 64 bits, since that is what one subscriber has. Of the clients
//! that came last a bounded number is kept.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::http::{Method, StatusCode};
use lru::LruCache;

use crate::config::RateLimitConfig;
use crate::config::values::{Counted, PathPattern};
use crate::http::network_of;

/// All limits.
#[derive(Debug)]
pub(super) struct RateLimits(Vec<RateLimit>);

#[derive(Debug)]
struct RateLimit {
    path: PathPattern,
    counted: Counted,
    /// The time that one request takes of the schedule.
    interval: Duration,
    /// How far ahead of the schedule a client may be.
    ahead: Duration,
    /// When each client is on schedule again.
    clients: Mutex<LruCache<IpAddr, Instant>>,
}

/// One request that was counted in one limit.
#[derive(Debug)]
pub(super) struct Reserved {
    limit: usize,
    client: IpAddr,
}

impl RateLimits {
    pub(super) fn new(config: &[RateLimitConfig], clients: NonZeroUsize) -> Self {
        let limit = |config: &RateLimitConfig| {
            let interval = config.per.0 / config.requests.get();
            RateLimit {
                path: config.path.clone(),
                counted: config.count,
                interval,
                ahead: interval * config.burst.unwrap_or(config.requests).get(),
                clients: Mutex::new(LruCache::new(clients)),
            }
        };
        Self(config.iter().map(limit).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts a request in each limit that it falls under; what is given back may turn out not to count.
    /// A client without an address, on a unix socket, has no limit: all would share it.
    ///
    /// # Errors
    /// In how many seconds to come again.
    pub(super) fn reserve(
        &self,
        path: &str,
        method: &Method,
        client: Option<IpAddr>,
        now: Instant,
    ) -> Result<Vec<Reserved>, u64> {
        let Some(client) = client.map(network_of) else { return Ok(Vec::new()) };
        let mut reserved = Vec::new();
        for (number, limit) in self.0.iter().enumerate() {
            let is_login = *method == Method::POST;
            if !limit.path.covers(path) || (limit.counted == Counted::FailedLogins && !is_login) {
                continue;
            }
            if let Err(wait) = limit.take(client, now) {
                self.give_back(reserved);
                return Err(wait.as_secs_f64().ceil() as u64);
            }
            if limit.counted == Counted::FailedLogins {
                reserved.push(Reserved { limit: number, client });
            }
        }
        Ok(reserved)
    }

    /// A login that was answered with a redirect has succeeded: Django shows the form again otherwise. What the
    /// server could not do is nobody's failure.
    pub(super) fn settle(&self, reserved: Vec<Reserved>, status: StatusCode) {
        if status.is_redirection() || status.is_server_error() {
            self.give_back(reserved);
        }
    }

    /// Counts nothing of what was reserved: the request came to nobody who could say that a login has failed.
    pub(super) fn give_back(&self, reserved: Vec<Reserved>) {
        for Reserved { limit, client } in reserved {
            self.0[limit].give_back(client);
        }
    }
}

impl RateLimit {
    fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let on_schedule = clients.get(&client).copied().unwrap_or(now).max(now) + self.interval;
        match (on_schedule - now).checked_sub(self.ahead).filter(|wait| !wait.is_zero()) {
            Some(wait) => Err(wait),
            None => {
                clients.put(client, on_schedule);
                Ok(())
            }
        }
    }

    fn give_back(&self, client: IpAddr) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(on_schedule) = clients.get_mut(&client) {
            *on_schedule = on_schedule.checked_sub(self.interval).unwrap_or(*on_schedule);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const CLIENTS: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

    fn limits(text: &str) -> RateLimits {
        let config: Config = toml::from_str(&format!("[[rate_limits]]\n{text}")).expect("a limit");
        RateLimits::new(&config.rate_limits, CLIENTS)
    }

    fn come(limits: &RateLimits, method: &Method, client: &str, now: Instant) -> Result<Vec<Reserved>, u64> {
        limits.reserve("/login/", method, Some(client.parse().expect("an address")), now)
    }

    #[test]
    fn so_many_at_once_and_then_one_at_a_time() {
        let limits = limits("path = \"/login/*\"\nrequests = 3\nper = \"30s\"");
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        for (seconds, expected) in [
            (0, None),
            (0, None),
            (0, None),
            (0, Some(10)),
            (4, Some(6)),
            (10, None),
            (10, Some(10)),
            (60, None),
            (60, None),
        ] {
            assert_eq!(come(&limits, &Method::GET, "192.0.2.1", after(seconds)).err(), expected, "after {seconds} s");
        }
        assert!(come(&limits, &Method::GET, "192.0.2.2", after(10)).is_ok(), "another client");
        assert!(limits.reserve("/", &Method::GET, Some("192.0.2.1".parse().expect("one")), after(10)).is_ok());
        assert!(limits.reserve("/login/", &Method::GET, None, after(10)).is_ok(), "nobody knows who it is");
    }

    #[test]
    fn an_ipv6_subscriber_is_one_client() {
        let limits = limits("path = \"/*\"\nrequests = 1\nper = \"1m\"");
        let now = Instant::now();
        assert!(come(&limits, &Method::GET, "2001:db8:0:1::1", now).is_ok());
        assert_eq!(come(&limits, &Method::GET, "2001:db8:0:1:ffff::2", now).err(), Some(60));
        assert!(come(&limits, &Method::GET, "2001:db8:0:2::1", now).is_ok());
        assert!(come(&limits, &Method::GET, "::ffff:192.0.2.1", now).is_ok());
        assert_eq!(come(&limits, &Method::GET, "192.0.2.1", now).err(), Some(60));
    }

    #[test]
    fn only_logins_that_fail_count() {
        let limits = limits("path = \"/login/\"\nrequests = 2\nper = \"1m\"\ncount = \"failed_logins\"");
        let now = Instant::now();
        for _ in 0..10 {
            assert!(come(&limits, &Method::GET, "192.0.2.1", now).is_ok(), "the form");
        }
        for status in [302, 302, 500, 200, 403] {
            let reserved = come(&limits, &Method::POST, "192.0.2.1", now).expect("not too many yet");
            limits.settle(reserved, StatusCode::from_u16(status).expect("a status"));
        }
        assert_eq!(come(&limits, &Method::POST, "192.0.2.1", now).err(), Some(30));
    }

    #[test]
    fn logins_under_way_count_until_they_have_succeeded() {
        let limits = limits("path = \"/login/\"\nrequests = 2\nper = \"1m\"\ncount = \"failed_logins\"");
        let now = Instant::now();
        let first = come(&limits, &Method::POST, "192.0.2.1", now).expect("the first");
        let _second = come(&limits, &Method::POST, "192.0.2.1", now).expect("the second");
        assert!(come(&limits, &Method::POST, "192.0.2.1", now).is_err());
        limits.settle(first, StatusCode::FOUND);
        assert!(come(&limits, &Method::POST, "192.0.2.1", now).is_ok());
    }

    #[test]
    fn what_another_limit_refuses_is_no_failed_login() {
        let both = "path = \"/login/\"\nrequests = 2\nper = \"1h\"\ncount = \"failed_logins\"\n\
                    [[rate_limits]]\npath = \"/*\"\nrequests = 1\nper = \"1m\"";
        let limits = limits(both);
        let now = Instant::now();
        let first = come(&limits, &Method::POST, "192.0.2.1", now).expect("the first");
        limits.settle(first, StatusCode::FOUND);
        for _ in 0..5 {
            assert_eq!(come(&limits, &Method::POST, "192.0.2.1", now).err(), Some(60));
        }
        let later = now + Duration::from_secs(60);
        assert!(come(&limits, &Method::POST, "192.0.2.1", later).is_ok());
    }

    #[test]
    fn no_more_clients_are_kept_than_are_allowed() {
        let limits = limits("path = \"/*\"\nrequests = 1\nper = \"1m\"");
        let now = Instant::now();
        for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            assert!(come(&limits, &Method::GET, client, now).is_ok());
        }
        assert!(come(&limits, &Method::GET, "192.0.2.1", now).is_ok(), "it came longest ago, and was forgotten");
        assert!(come(&limits, &Method::GET, "192.0.2.3", now).is_err());
    }
}
