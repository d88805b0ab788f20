//! The proxied kind of answer.

use crate::config::UpstreamConfig;
use crate::config::values::UpstreamAddress;
use crate::http::{Request, Response, answers};

/// What went wrong between vestibule and the application.
#[derive(Debug, thiserror::Error)]
pub enum Failure {}

/// The application, as seen from here.
#[derive(Debug)]
pub struct Upstream {}

impl Upstream {
    /// Prepares to connect; nothing is opened yet.
    pub fn new(_address: &UpstreamAddress, _config: &UpstreamConfig) -> Self {
        Self {}
    }

    /// Sends a request to the application and answers with what comes back, or with 4xx or 5xx.
    pub async fn forward(&self, _request: Request) -> Response {
        answers::status(::http::StatusCode::BAD_GATEWAY)
    }

    /// Whether the application accepts a connection now.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn probe(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Tells tunnels to close.
    pub fn close_tunnels(&self) {}

    /// Waits until no upgraded connection is left.
    pub async fn tunnels_closed(&self) {}
}
