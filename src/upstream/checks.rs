//! Asks the servers of an application, again and again, whether they are well, as the operator wants it.
//!
//! A check is a request like any other, with a name that Django's `ALLOWED_HOSTS` has and as one that came over TLS, so
//! that it is neither refused nor redirected. It has a connection of its own, takes no permit and counts for nothing
//! but itself. Its task ends with the application, or as soon as another one checks the same server.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use ::http::Method;
use ::http::header::{HOST, HeaderValue, USER_AGENT};
use ::http::request::Parts;
use ::http::uri::PathAndQuery;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::failure::{Failure, innermost};
use super::request::{More, Told};
use super::sent::{Length, Outgoing};
use super::servers::Server;
use super::standing::Checked;
use super::{Prepared, Upstream};
use crate::config::values::UpstreamAddress;
use crate::http::{Client, RequestId, Scheme};

/// What is wrong with a server.
#[derive(Debug)]
pub enum Ailment {
    /// It accepts no connection.
    Away(Failure),
    /// It does not answer a health check as it should.
    Ill(String),
}

impl Upstream {
    /// Begins to check the servers, if that is wanted and has not begun.
    pub fn begin_checks(self: &Arc<Self>) {
        let Some(path) = self.config.check_path.as_ref().filter(|_| !self.is_checked.swap(true, Ordering::Relaxed))
        else {
            return;
        };
        for server in self.servers.iter().filter(|server| !server.drains()) {
            let task = check_again_and_again(Arc::downgrade(self), Arc::clone(server), path.0.clone());
            server.standing.check_with(tokio::spawn(task).abort_handle());
        }
    }

    /// Tries each server once: whether it accepts a connection, and whether it is well, if that is asked. One that drains
    /// may have been stopped.
    ///
    /// # Errors
    /// Of each server, what ails it.
    pub async fn probe_each(&self) -> Vec<(UpstreamAddress, Result<(), Ailment>)> {
        let mut found = Vec::new();
        for server in self.servers.iter().filter(|server| !server.drains()) {
            let result = match (server.connect(self.config.connect_timeout.0).await, &self.config.check_path) {
                (Err(failure), _) => Err(Ailment::Away(failure)),
                (Ok(_), Some(path)) => self.check(server, &path.0).await.map_err(Ailment::Ill),
                (Ok(_), None) => Ok(()),
            };
            found.push((UpstreamAddress::clone(&server.address), result));
        }
        found
    }

    /// Asks one server once.
    async fn check(&self, server: &Server, path: &PathAndQuery) -> Result<(), String> {
        let limit = self.config.check_timeout.0;
        let status = match timeout(limit, self.status_of(server, path)).await {
            Ok(Ok(status)) => status,
            Ok(Err(failure)) => {
                let cause = std::error::Error::source(&failure).map(|cause| format!(": {}", innermost(cause)));
                return Err(format!("{failure}{}", cause.unwrap_or_default()));
            }
            Err(_) => return Err(format!("no answer within {limit:?}")),
        };
        match self.config.check_status.contains(&status) {
            true => Ok(()),
            false => Err(format!("the status is {status}")),
        }
    }

    async fn status_of(&self, server: &Server, path: &PathAndQuery) -> Result<u16, Failure> {
        let (head, client) = request(path, &self.check_host.0);
        let (id, length) = (RequestId(fastrand::u128(..)), Length::None);
        let more = &More::default();
        let text = self.text(&Told { head: &head, client: &client, id, more, length, upgrade: None })?;
        let (method, address) = (head.method, client.address);
        let request = Prepared { method, text, address, id, upgrade: None, early_hints: None };
        let socket = server.connect(self.config.check_timeout.0).await?;
        let exchange = self.exchange(socket);
        let sent = self.send(exchange, (), &request, Outgoing::nothing(false)).await;
        let (_exchange, (), answer) = sent.map_err(|unanswered| unanswered.failure)?;
        Ok(answer.parts.status.as_u16())
    }
}

async fn check_again_and_again(upstream: Weak<Upstream>, server: Arc<Server>, path: PathAndQuery) {
    while let Some(upstream) = upstream.upgrade() {
        note(&server, upstream.check(&server, &path).await);
        let interval = upstream.config.check_interval.0;
        drop(upstream);
        sleep(interval).await;
    }
}

/// Keeps what a check said, and tells it if it is news.
fn note(server: &Server, result: Result<(), String>) {
    let (socket, standing) = (&server.address, &server.standing);
    match result {
        Ok(()) if standing.note(Checked::Well) => {
            // Whatever it failed before, it has been mended.
            standing.forgive();
            info!(%socket, "a server is well");
        }
        Err(reason) if standing.note(Checked::Ill) => warn!(%socket, reason, "a server fails its health check"),
        _ => {}
    }
}

fn request(path: &PathAndQuery, host: &str) -> (Parts, Client) {
    let (mut head, ()) = ::http::Request::new(()).into_parts();
    head.method = Method::GET;
    head.uri = path.clone().into();
    let host = HeaderValue::try_from(host).expect("a name is a header value");
    head.headers.insert(HOST, host);
    head.headers.insert(USER_AGENT, HeaderValue::from_static("vestibule health check"));
    let address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    (head, Client { address, port: 0, scheme: Scheme::Https, local_port: 443 })
}
