//! Who the client is: one value, for logs, limits and headers alike. What a balancer says in the PROXY protocol is in it
//! already.

use ::http::HeaderName;

use crate::config::ListenConfig;
use crate::http::{Request, forwarded};

/// Believes what a trusted proxy says of the client, and of the request's name.
pub fn resolve(request: &mut Request, config: &ListenConfig) {
    // Most sites trust nobody, and then there is nothing to read.
    if config.trusted_proxies.is_empty() {
        return;
    }
    let is_trusted = |address| config.trusted_proxies.iter().any(|peer| peer.covers(address));
    let is_written = |name: &HeaderName| config.trusted_headers.iter().any(|written| written.0 == *name);
    let origin = forwarded::origin(request.client.address, is_trusted, is_written, &request.head.headers);
    if origin.address != request.client.address {
        // The port belongs to the proxy's connection.
        request.client.port = 0;
    }
    request.client.address = origin.address;
    request.client.scheme = origin.scheme.unwrap_or(request.client.scheme);
    request.id = origin.id.unwrap_or(request.id);
    if let Some(start) = origin.start {
        request.head.extensions.insert(start);
    }
}
