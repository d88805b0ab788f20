//! The request path, from the outermost step to the innermost.
//!
//! ```text
//! client address        one value for logs, limits and headers
//! access log            sees what the client gets, whoever made it
//!   well-formed         what is not a sound request goes no further
//!   health              before the host check and the redirect: a probe knows no host name
//!   allowed host        before the application is woken
//!   one name            the canonical one, and https, before anything of the site is shown in the clear
//!   gate                rate limits, networks, passwords
//!   redirects           what has moved, in files and pages alike
//!   uploads             if they own the path; the application never sees it
//!   files               of [static] and [[mounts]], if one of them answers
//!   maintenance         the application rests; files do not
//!   body limit          only the application reads bodies
//!   header rules        for the application's answers; the static files were given theirs at start. Then preloads
//!   compression         of the application's answers
//!   file handed over    in place of an answer's body, if the application names one
//!   application         the one whose route it is
//! what the operator wants on whatever comes back: error pages, security headers, strict transport security
//! ```

use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use ::http::header::{ACCEPT, ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, STRICT_TRANSPORT_SECURITY, VARY};
use ::http::request::Parts;
use ::http::{Method, StatusCode, Version};
use http_body::Body as _;
use tokio_util::either::Either;
use tower::service_fn;
use tracing::debug;

use super::accept::Stack;
use super::fresh;
use super::site::{Live, Site};
use crate::files::send_file::Kept;
use crate::gate;
use crate::http::body::Body;
use crate::http::lines::{self, Lines};
use crate::http::request_rules::{NO_HOST, Refusal};
use crate::http::{HandedOver, Request, Response, Scheme, answers, request_rules};
use crate::layers::access_log::{AccessLog, LoggedBody, Logging};
use crate::layers::{
    body_limit, client_address, compression, error_pages, redirect_to_https, redirects, security_headers,
};
use crate::upstream::Upstream;

/// Builds the service that answers every request of every connection.
pub fn build(live: Arc<Live>, log: &AccessLog) -> impl Stack {
    let log = log.clone();
    service_fn(move |mut request: Request| {
        let site = live.glance();
        client_address::resolve(&mut request, &site.config.listen);
        let logging = log.begin(&request);
        if site.config.assets.watch {
            return Either::Right(look_first(live.clone(), request, logging));
        }
        // Most answers are there at once, and those are not worth a future with room for all others: it would be
        // moved about several times, some kilobytes each.
        let mut wishes = Wishes::of(&site, &mut request, logging);
        match decide(&live, &site, &mut request, wishes.lines.as_mut().filter(|_| site.takes_heads_as_they_are())) {
            Decision::Answer(response) => Either::Left(ready(Ok(wishes.dress(&live, &site, response)))),
            Decision::Ask(whom) => Either::Right(carry_out(live.clone(), Arc::clone(&site), request, wishes, whom)),
        }
    })
}

/// What goes to the protocol.
type Answer = Result<::http::Response<LoggedBody>, Infallible>;

/// An answer that has to be waited for.
type Later = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What was decided of a request.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and is handed on at once")]
enum Decision {
    /// This is the answer.
    Answer(Response),
    /// Somebody must be asked, who may take time.
    Ask(Whom),
}

/// Who is asked for the answer.
#[derive(Debug, Clone, Copy)]
enum Whom {
    /// Whether the application can be reached.
    Readiness,
    /// Whether the client may come in; then the rest is decided.
    Gate,
    /// The folder of uploads.
    Media,
    /// A file that is not in memory.
    Disk,
    /// The application.
    Application,
}

/// The steps from the outermost to the innermost, as far as they need no waiting.
fn decide(live: &Live, site: &Site, request: &mut Request, lines: Option<&mut Lines>) -> Decision {
    // Before the rules for all, which drop what this refuses.
    let checked = if site.config.limits.refuse_ambiguous {
        request_rules::check_strictly(&request.head, !request.body.is_end_stream())
    } else {
        Ok(())
    };
    let (head, named) = match checked.and_then(|()| request_rules::admit(&mut request.head)) {
        Ok(admitted) => admitted,
        Err(refusal) => return refuse(site, request, refusal),
    };
    if let Some(decision) = health(live, site, head) {
        return decision;
    }
    let Some(host) = named else { return refuse(site, request, NO_HOST) };
    // Those of HTTP/1.1 were counted as they were read; here the crumbs of an HTTP/2 cookie have become one.
    if head.headers.len() > site.config.limits.header_count.get() {
        return Decision::Answer(answers::status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    let allowed = &site.config.hosts.allowed;
    if !allowed.is_empty() && !allowed.iter().any(|pattern| pattern.matches(&host)) {
        debug!(id = %request.id, client = ?request.client.address, %host, "the host is not in [hosts] allowed");
        return Decision::Answer(answers::status(site.config.hosts.unknown_status.0));
    }
    let name = site.config.hosts.canonical.as_ref().map_or(&*host, |name| &*name.0);
    if let (Scheme::Http, Some(port)) = (request.client.scheme, site.redirect_port) {
        let redirect = redirect_to_https::redirect(name, port, &head.uri);
        return Decision::Answer(redirect.unwrap_or_else(|| answers::status(StatusCode::BAD_REQUEST)));
    }
    if name != host {
        let redirect = redirects::to_host(name, request.client.scheme, head);
        return Decision::Answer(redirect.unwrap_or_else(|| answers::status(StatusCode::BAD_REQUEST)));
    }
    if site.gate.is_open() { decide_inside(site, request, lines) } else { Decision::Ask(Whom::Gate) }
}

/// The steps for who may come in. A head that is ready goes into `lines`, if there are any.
fn decide_inside(site: &Site, request: &Request, lines: Option<&mut Lines>) -> Decision {
    let head = &request.head;
    if let Some(redirect) = site.redirects.redirect(&head.uri) {
        return Decision::Answer(redirect);
    }
    if site.media.as_ref().is_some_and(|media| media.owns(head.uri.path())) {
        return Decision::Ask(Whom::Media);
    }
    if let Some(found) = site.assets.find(head) {
        let response = found.respond_at_once(head, &request.client, lines);
        return response.map_or(Decision::Ask(Whom::Disk), Decision::Answer);
    }
    if site.applications.find(head).is_none() {
        return Decision::Answer(answers::status(StatusCode::NOT_FOUND));
    }
    match site.maintenance.as_ref().and_then(|rest| rest.answer(request.client.address)) {
        Some(response) => Decision::Answer(response),
        None => Decision::Ask(Whom::Application),
    }
}

/// While somebody develops, the folders are looked at before anything is decided.
fn look_first(live: Arc<Live>, mut request: Request, logging: Logging) -> Later {
    Box::pin(async move {
        let site = fresh::site(&live).await;
        let wishes = Wishes::of(&site, &mut request, logging);
        match decide(&live, &site, &mut request, None) {
            Decision::Answer(response) => Ok(wishes.dress(&live, &site, response)),
            Decision::Ask(whom) => carry_out(live, site, request, wishes, whom).await,
        }
    })
}

fn carry_out(live: Arc<Live>, site: Arc<Site>, request: Request, wishes: Wishes, whom: Whom) -> Later {
    // It goes through many hands, each of which would have room for it twice: half a kilobyte, and not five, for as long
    // as an upload lasts.
    let request = Box::new(request);
    Box::pin(async move {
        let response = match whom {
            Whom::Readiness => readiness(&site).await,
            Whom::Gate => enter(&site, request).await,
            whom => ask(&site, request, whom).await,
        };
        Ok(wishes.dress(&live, &site, response))
    })
}

/// Lets a client in, or not.
async fn enter(site: &Site, request: Box<Request>) -> Response {
    let pass = match site.gate.admit(&request.head, &request.client).await {
        Ok(pass) => pass,
        Err(refused) => return *refused,
    };
    let mut response = match decide_inside(site, &request, None) {
        Decision::Answer(response) => response,
        Decision::Ask(whom) => ask(site, request, whom).await,
    };
    site.gate.settle(pass, &mut response);
    response
}

async fn ask(site: &Site, request: Box<Request>, whom: Whom) -> Response {
    let head = &request.head;
    let response = match (whom, &site.media) {
        (Whom::Media, Some(media)) => Some(media.respond(head, request.id).await),
        (Whom::Disk, _) => match site.assets.find(head) {
            Some(found) => Some(found.respond(head, &request.client).await),
            None => None,
        },
        (Whom::Application, _) => match site.applications.find(head) {
            Some(upstream) => Some(ask_application(site, upstream, request).await),
            None => None,
        },
        _ => None,
    };
    response.unwrap_or_else(|| answers::status(StatusCode::NOT_FOUND))
}

async fn ask_application(site: &Site, upstream: &Upstream, mut request: Box<Request>) -> Response {
    let edits = site.assets.header_rules().for_raw_path(request.head.uri.path());
    let depends_on_accept = site.assets.depends_on_accept(&request.head);
    let mut response = match body_limit::bound(&mut request, &site.config.limits, &site.config.timeouts) {
        Ok(()) => forward(site, upstream, request).await,
        Err(response) => *response,
    };
    if depends_on_accept {
        response.headers_mut().append(VARY, HeaderValue::from_name(ACCEPT));
    }
    // What is switched to another protocol has no headers to speak of.
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        edits.apply(response.status(), response.headers_mut());
        site.assets.add_preloads(response.status(), response.headers_mut());
    }
    response
}

/// The application's answer, compressed, or the file that it hands over, as it is.
async fn forward(site: &Site, upstream: &Upstream, mut request: Box<Request>) -> Response {
    request.early_hints.take_if(|_| !site.config.upstream.early_hints);
    if let Some(hints) = &mut request.early_hints {
        hints.complete_with(site.assets.clone());
    }
    let (kept, asked, id) = (Kept::of(&request.head), compression::Asked::of(&request.head), request.id);
    let response = upstream.forward(request).await;
    if response.extensions().get::<HandedOver>().is_some() {
        return site.send_file.settle(response, &kept, id).await;
    }
    compression::compress(response, &asked, &site.config.compression, &site.encoders)
}

/// The answer to a request that is not sound. A 405 must say what is allowed (RFC 9110, section 15.5.6).
///
/// A connection of HTTP/1.1 ends with it. Whoever sent this may see the end of it elsewhere than we do, as with
/// `CONNECT`, behind which other bytes than HTTP follow; and what comes next may be another client's, if a proxy
/// before us shares its connection among many.
fn refuse(site: &Site, request: &Request, refusal: Refusal) -> Decision {
    debug!(id = %request.id, client = ?request.client.address, reason = %refusal, "refused");
    let mut response = answers::status(refusal.status());
    if refusal.status() == StatusCode::METHOD_NOT_ALLOWED {
        let path = request.head.uri.path();
        let is_ours =
            site.media.as_ref().is_some_and(|media| media.owns(path)) || site.assets.find(&request.head).is_some();
        let methods = if is_ours { "GET, HEAD, OPTIONS" } else { "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" };
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    }
    Decision::Answer(answers::last(response))
}

/// The answers for load balancers and orchestrators.
fn health(live: &Live, site: &Site, head: &Parts) -> Option<Decision> {
    let path = head.uri.path();
    let config = &site.config.health;
    let (is_live, is_ready) = (path == config.live.0, path == config.ready.0);
    if !(is_live || is_ready) || !matches!(head.method, Method::GET | Method::HEAD) {
        return None;
    }
    Some(match () {
        () if is_live => Decision::Answer(answers::plain(StatusCode::OK, "alive\n")),
        () if live.is_stopping() => Decision::Answer(unavailable("stopping\n")),
        () => Decision::Ask(Whom::Readiness),
    })
}

async fn readiness(site: &Site) -> Response {
    match site.applications.main() {
        Some(upstream) if !upstream.is_reachable().await => unavailable("the application cannot be reached\n"),
        _ => answers::plain(StatusCode::OK, "ready\n"),
    }
}

fn unavailable(text: &'static str) -> Response {
    let mut response = answers::plain(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// What of a request counts when its answer is there.
#[derive(Debug)]
struct Wishes {
    logging: Logging,
    scheme: Scheme,
    version: Version,
    is_head: bool,
    page: Option<error_pages::Wish>,
    lines: Option<Lines>,
}

impl Wishes {
    fn of(site: &Site, request: &mut Request, logging: Logging) -> Self {
        let lines = request.lines.take();
        let page = site.error_pages.may_dress(&request.head);
        let head = &request.head;
        let (scheme, version, is_head) = (request.client.scheme, head.version, head.method == Method::HEAD);
        Self { logging, scheme, version, is_head, page, lines }
    }

    /// Puts on an answer what the operator wants on whatever goes out. A head that is ready is not looked at, so a field
    /// that is put on every answer must have its word in `Site::takes_heads_as_they_are`, or in `assets::kinds`.
    fn dress(self, live: &Live, site: &Site, mut response: Response) -> ::http::Response<LoggedBody> {
        if let Some(wish) = self.page {
            site.error_pages.dress(&mut response, wish);
        }
        if site.config.pages.security_headers {
            security_headers::add(response.headers_mut());
        }
        if site.gate.is_staging() {
            gate::mark_as_preview(response.headers_mut());
        }
        if live.is_stopping() && self.version != Version::HTTP_2 {
            // An upgraded connection has a life of its own.
            response.headers_mut().entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
        }
        let mut lines = self.lines.unwrap_or_default();
        if let (Scheme::Https, Some(value)) = (self.scheme, &site.hsts) {
            if lines.text.is_empty() {
                response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, value.clone());
            } else {
                lines::field(STRICT_TRANSPORT_SECURITY.as_str(), value.as_bytes(), &mut lines.text);
            }
        }
        if self.is_head {
            // Over HTTP/2 it would be sent, as an error of the protocol.
            *response.body_mut() = Body::Empty;
        }
        self.logging.answered(response, lines)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Ready;

    use super::*;

    #[test]
    fn an_answer_that_is_there_at_once_is_small_enough_to_be_moved_about() {
        let size = size_of::<Either<Ready<Answer>, Later>>();
        assert!(size < 512, "it has {size} bytes");
    }
}
