//! The request path, from the outermost step to the innermost.
//!
//! ```text
//! client address        one value for logs, limits and headers
//! access log            sees what the client gets, whoever made it
//!   health              before the host check and the redirect: a probe knows no host name
//!   well-formed         what is not a sound request goes no further
//!   allowed host        before the application is woken
//!   one name            the canonical one, and https, before anything of the site is shown in the clear
//!   gate                rate limits, networks, passwords
//!   redirects           what has moved, in files and pages alike
//!   uploads             if they own the path; the application never sees it
//!   files               of [static] and [[mounts]], if one of them answers
//!   maintenance         the application rests; files do not
//!   body limit          only the application reads bodies
//!   header rules        for the application's answers; the static files were given theirs at start
//!   compression         of the application's answers
//!   file handed over    in place of an answer's body, if the application names one
//!   application
//! what the operator wants on whatever comes back: error pages, security headers, strict transport security
//! ```

use std::convert::Infallible;
use std::sync::Arc;

use ::http::header::{ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, STRICT_TRANSPORT_SECURITY};
use ::http::request::Parts;
use ::http::{Method, StatusCode, Version};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tracing::debug;

use super::accept::Stack;
use super::fresh;
use super::site::{Live, Site};
use crate::files::send_file::Kept;
use crate::gate::{self, Pass};
use crate::http::{Client, HandedOver, Request, RequestId, Response, Scheme, answers, request_rules};
use crate::layers::access_log::AccessLog;
use crate::layers::{body_limit, client_address, compression, redirect_to_https, redirects, security_headers};
use crate::upstream::Upstream;

/// Builds the service that answers every request of every connection.
pub fn build(live: Arc<Live>, log: &AccessLog) -> impl Stack {
    let outer = live.clone();
    let logged = log.layer(service_fn(move |request: Request| {
        let live = live.clone();
        async move {
            let site = fresh::site(&live).await;
            let (scheme, hsts) = (request.client.scheme, site.hsts.clone());
            let version = request.head.version;
            let wants_page = site.error_pages.may_dress(&request.head);
            let mut response = answer(&live, &site, request).await;
            if let Some(wish) = wants_page {
                site.error_pages.dress(&mut response, wish);
            }
            if site.config.pages.security_headers {
                security_headers::add(response.headers_mut());
            }
            if site.gate.is_staging() {
                gate::mark_as_preview(response.headers_mut());
            }
            if live.is_stopping() && version != Version::HTTP_2 {
                // An upgraded connection has a life of its own.
                response.headers_mut().entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
            }
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
            let is_static = site.assets.assets().is_some_and(|assets| assets.owns(request.head.uri.path()));
            return refused(refusal.status(), is_static);
        }
    };
    // hyper counts those of HTTP/1.1 only; here the crumbs of an HTTP/2 cookie have become one.
    if request.head.headers.len() > site.config.limits.header_count.get() {
        return answers::status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    let allowed = &site.config.hosts.allowed;
    if !allowed.is_empty() && !allowed.iter().any(|pattern| pattern.matches(&host)) {
        debug!(id = %request.id, client = ?request.client.address, %host, "the host is not in [hosts] allowed");
        return answers::status(StatusCode::BAD_REQUEST);
    }
    let name = site.config.hosts.canonical.as_ref().map_or(&*host, |name| &*name.0);
    if let (Scheme::Http, Some(port)) = (request.client.scheme, site.redirect_port) {
        let redirect = redirect_to_https::redirect(name, port, &request.head.uri);
        return redirect.unwrap_or_else(|| answers::status(StatusCode::BAD_REQUEST));
    }
    if name != host {
        let redirect = redirects::to_host(name, request.client.scheme, &request.head);
        return redirect.unwrap_or_else(|| answers::status(StatusCode::BAD_REQUEST));
    }
    let pass = match site.gate.is_open() {
        true => Pass::default(),
        // Boxed, since few sites have rules, and every static answer would be moved about with room for them.
        false => match Box::pin(site.gate.admit(&request.head, &request.client)).await {
            Ok(pass) => pass,
            Err(refused) => return *refused,
        },
    };
    if let Some(response) = answer_from_files(site, &request.head, &request.client, request.id).await {
        return response;
    }
    // Boxed for the same reason: its future is some kilobytes, and that was a quarter of the cost of a static answer
    // over HTTP/2.
    Box::pin(answer_from_application(site, request, pass)).await
}

/// What needs no application.
async fn answer_from_files(site: &Site, head: &Parts, client: &Client, id: RequestId) -> Option<Response> {
    if let Some(redirect) = site.redirects.redirect(&head.uri) {
        return Some(redirect);
    }
    if let Some(media) = site.media.as_ref().filter(|media| media.owns(head.uri.path())) {
        return Some(Box::pin(media.respond(head, id)).await);
    }
    Some(site.assets.find(head)?.respond(head, client).await)
}

async fn answer_from_application(site: &Site, request: Request, pass: Pass) -> Response {
    let Some(upstream) = &site.upstream else {
        return answers::status(StatusCode::NOT_FOUND);
    };
    if let Some(response) = site.maintenance.as_ref().and_then(|rest| rest.answer(request.client.address)) {
        return response;
    }
    let edits = site.header_rules.for_raw_path(request.head.uri.path());
    let mut response = match body_limit::bound(request, &site.config.limits, &site.config.timeouts) {
        Ok(request) => ask(site, upstream, request).await,
        Err(response) => *response,
    };
    site.gate.settle(pass, response.status());
    // What is switched to another protocol has no headers to speak of.
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        edits.apply(response.status(), response.headers_mut());
    }
    response
}

/// The application's answer, compressed, or the file that it hands over, as it is.
async fn ask(site: &Site, upstream: &Upstream, request: Request) -> Response {
    let (kept, asked, id) = (Kept::of(&request.head), compression::Asked::of(&request.head), request.id);
    let response = upstream.forward(request).await;
    if response.extensions().get::<HandedOver>().is_some() {
        return site.send_file.settle(response, &kept, id).await;
    }
    compression::compress(response, asked, &site.config.compression)
}

/// The answer to a request that is not sound. A 405 must say what is allowed (RFC 9110, section 15.5.6).
///
/// A connection of HTTP/1.1 ends with it. Whoever sent this may see the end of it elsewhere than we do, as with
/// `CONNECT`, behind which other bytes than HTTP follow; and what comes next may be another client's, if a proxy
/// before us shares its connection among many.
fn refused(status: StatusCode, is_static: bool) -> Response {
    let mut response = answers::status(status);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let methods = if is_static { "GET, HEAD, OPTIONS" } else { "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" };
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    }
    answers::last(response)
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
        Some(upstream) if !Box::pin(upstream.is_reachable()).await => Some(unavailable(
            "the application cannot be reached
",
        )),
        _ => Some(answers::plain(StatusCode::OK, "ready\n")),
    }
}

fn unavailable(text: &'static str) -> Response {
    let mut response = answers::plain(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_answer<F, O>(_: F) -> usize
    where
        F: FnOnce(&'static Live, &'static Site, Request) -> O,
    {
        size_of::<O>()
    }

    #[test]
    fn an_answer_in_the_making_is_small_enough_to_be_moved_about() {
        let size = size_of_answer(answer);
        assert!(size < 2048, "it has {size} bytes: which part of it is rare and should be boxed?");
    }
}
