//! Turns a [`Choice`] into a response. The only file here that opens a file while requests run.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use ::http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, LOCATION};
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::task::spawn_blocking;
use tracing::error;

use super::asset::{Asset, Policy, Variant};
use super::choose::Choice;
use super::contents::Content;
use crate::http::body::Body;
use crate::http::dictionary::USE_AS_DICTIONARY;
use crate::http::{Response, answers};

/// Answers for an asset.
pub(super) async fn respond(choice: Choice<'_>, asset: &Asset, head: &Parts) -> Response {
    let refuse = |status| refuse(status, asset.always(), head);
    let (status, headers, variant, part) = match choice {
        Choice::Whole(variant) => (StatusCode::OK, variant.headers.clone(), variant, 0..variant.size),
        Choice::Part(variant, part) => (StatusCode::PARTIAL_CONTENT, part_headers(variant, &part), variant, part),
        Choice::NotModified(variant) => {
            return assemble(StatusCode::NOT_MODIFIED, variant.not_modified.clone(), Body::Empty);
        }
        Choice::PreconditionFailed => return refuse(StatusCode::PRECONDITION_FAILED),
        Choice::NotAcceptable => return refuse(StatusCode::NOT_ACCEPTABLE),
        Choice::Unsatisfiable(variant) => {
            let size = content_range("*", variant.size);
            return with(refuse(StatusCode::RANGE_NOT_SATISFIABLE), CONTENT_RANGE, size);
        }
        Choice::MethodNotAllowed => {
            return with(refuse(StatusCode::METHOD_NOT_ALLOWED), ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
    };
    match body(variant, part, head).await {
        Ok(body) => assemble(status, headers, body),
        Err(cause) => {
            // A cache must not keep it, and the browser shall ask again: `refuse` sees to both.
            error!(%cause, "a static file is no longer what it was at start; reload (SIGHUP), or run `vestibule collect` again");
            refuse(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Answers for a path that is no asset. No cache may keep it: while a deploy goes on, the next server
/// may well have the file.
pub(super) fn not_found(head: &Parts, policy: &Policy) -> Response {
    refuse(StatusCode::NOT_FOUND, policy.always(), head)
}

/// Sends the client on from a folder's name without its last slash. 301, which every client knows; nothing
/// but GET and HEAD comes here, so it changes no method. A browser keeps it as long as a plain file, and not
/// for ever as it would without a word: the folder may become a page of the application.
pub(super) fn to_folder(location: String, head: &Parts, policy: &Policy) -> Response {
    let Ok(location) = HeaderValue::try_from(location) else { return not_found(head, policy) };
    let mut response = refuse(StatusCode::MOVED_PERMANENTLY, policy.always(), head);
    response.headers_mut().insert(CACHE_CONTROL, policy.plain().clone());
    with(response, LOCATION, location)
}

fn refuse(status: StatusCode, always: &HeaderMap, head: &Parts) -> Response {
    let mut response = answers::status(status);
    response.headers_mut().extend(always.clone());
    if head.method == Method::HEAD {
        *response.body_mut() = Body::Empty;
    }
    response
}

fn with(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

fn assemble(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn part_headers(variant: &Variant, part: &Range<u64>) -> HeaderMap {
    let mut headers = variant.headers.clone();
    // A part is no version of the file.
    headers.remove(USE_AS_DICTIONARY);
    headers.insert(CONTENT_LENGTH, (part.end - part.start).into());
    headers.insert(CONTENT_RANGE, content_range(&format!("{}-{}", part.start, part.end - 1), variant.size));
    headers
}

fn content_range(part: &str, size: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes {part}/{size}")).expect("digits are a header value")
}

async fn body(variant: &Variant, part: Range<u64>, head: &Parts) -> io::Result<Body> {
    match &variant.content {
        _ if head.method == Method::HEAD => Ok(Body::Empty),
        Content::Memory(bytes) => {
            let place = |position| usize::try_from(position).expect("a body in memory has a length that fits");
            Ok(bytes.slice(place(part.start)..place(part.end)).into())
        }
        Content::Disk(place) => {
            let (place, size) = (Arc::clone(place), variant.size);
            let file = spawn_blocking(move || place.open(size, part)).await.map_err(io::Error::other)?;
            file.map(Body::File)
        }
    }
}
