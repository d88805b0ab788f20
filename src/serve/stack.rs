//! The request path, from the outermost step to the innermost.
//!
//! ```text
//! client address        one value for logs, limits and headers
//! access log            sees what the client gets, whoever made it
//!   health              before the host check and the redirect: a probe knows no host name
//!   well-formed         what is not a sound request goes no further
//!   allowed host        before the application is woken
//!   redirect to https   before anything of the site is shown in the clear
//!   static files        if they own the path; the application never sees it
//!   body limit          only the application reads bodies
//!   application
//! strict transport security on whatever comes back
//! ```

use std::convert::Infallible;
use std::sync::Arc;

use ::http::header::{HeaderValue, RETRY_AFTER, STRICT_TRANSPORT_SECURITY};
use ::http::request::Parts;
use ::http::{Method, StatusCode};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tracing::debug;

use super::accept::Stack;
use super::site::{Live, Site};
use crate::http::{Request, Response, Scheme, answers, request_rules};
use crate::layers::access_log::AccessLog;
use crate::layers::{body_limit, client_address, redirect_to_https};

/// Builds the service that answers every request of every connection.
pub fn build(live: Arc<Live>, log: &AccessLog) -> impl Stack {
    let outer = live.clone();
    let logged = log.layer(service_fn(move |request: Request| {
        let live = live.clone();
        async move {
            let site = live.site();
            let (scheme, hsts) = (request.client.scheme, site.hsts.clone());
            let mut response = answer(&live, &site, request).await;
            if let (Scheme::Https, Some(value)) = (scheme, hsts) {
                response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, value);
            }
            Ok::<_, Infallible>(response)
        }
    }));
    logged.map_request(move |request| client_address::resolve(request, &outer.glance().config.listen))
}

async fn answer(live: &Live, site: &Site, mut request: Request) -> Response {
    if let Some(response) = health(live, site, &request.head).await {
        return response;
    }
    let host = match request_rules::admit(&mut request.head) {
        Ok(host) => host,
        Err(refusal) => {
            debug!(id = %request.id, client = ?request.client.address, reason = %refusal, "refused");
            return answers::status(refusal.status());
        }
    };
    let allowed = &site.config.hosts.allowed;
    if !allowed.is_empty() && !allowed.iter().any(|pattern| pattern.matches(&host)) {
        debug!(id = %request.id, client = ?request.client.address, %host, "the host is not in [hosts] allowed");
        return answers::status(StatusCode::BAD_REQUEST);
    }
    if let (Scheme::Http, Some(port)) = (request.client.scheme, site.redirect_port) {
        let redirect = redirect_to_https::redirect(&host, port, &request.head.uri);
        return redirect.unwrap_or_else(|| answers::status(StatusCode::BAD_REQUEST));
    }
    if let Some(assets) = site.assets.as_ref().filter(|assets| assets.owns(request.head.uri.path())) {
        return assets.respond(&request.head).await;
    }
    let Some(upstream) = &site.upstream else {
        return answers::status(StatusCode::NOT_FOUND);
    };
    match body_limit::bound(request, &site.config.limits, &site.config.timeouts) {
        Ok(request) => upstream.forward(request).await,
        Err(response) => *response,
    }
}

/// The answers for load balancers and orchestrators.
async fn health(live: &Live, site: &Site, head: &Parts) -> Option<Response> {
    let path = head.uri.path();
    let config = &site.config.health;
    let (is_live, is_ready) = (path == config.live.0, path == config.ready.0);
    if !(is_live || is_ready) || !matches!(head.method, Method::GET | Method::HEAD) {
        return None;
    }
    if is_live {
        return Some(answers::plain(StatusCode::OK, "alive\n"));
    }
    if live.is_stopping() {
        return Some(unavailable("stopping\n"));
    }
    match &site.upstream {
        Some(upstream) if !upstream.is_reachable().await => Some(unavailable("the application cannot be reached\n")),
        _ => Some(answers::plain(StatusCode::OK, "ready\n")),
    }
}

fn unavailable(text: &'static str) -> Response {
    let mut response = answers::plain(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
