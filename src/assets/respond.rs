//! Turns a [`Choice`] into a response. The only file here that opens a file while requests run.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use ::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, LOCATION, ORIGIN, RETRY_AFTER,
};
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use rustix::io::Errno;
use tokio::task::spawn_blocking;
use tracing::error;

use super::asset::{Asset, Policy, Variant};
use super::choose::Choice;
use super::contents::{Content, OnDisk};
use crate::http::body::{Body, FileSlice, Piece, Pieces};
use crate::http::dictionary::USE_AS_DICTIONARY;
use crate::http::multipart::Multipart;
use crate::http::{Response, answers};

/// What may be done with a file.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// Answers for an asset.
pub(super) async fn respond(choice: Choice<'_>, asset: &Asset, head: &Parts) -> Response {
    let refuse = |status| refuse(status, asset.always(), head);
    let is_head = head.method == Method::HEAD;
    let (status, headers, body) = match choice {
        Choice::Whole(variant) if is_head => (StatusCode::OK, variant.headers.clone(), Ok(Body::Empty)),
        Choice::Whole(variant) => (StatusCode::OK, variant.headers.clone(), body(variant, 0..variant.size).await),
        Choice::Part(variant, part) => {
            let headers = part_headers(variant, &part);
            (StatusCode::PARTIAL_CONTENT, headers, body(variant, part).await)
        }
        Choice::Parts(variant, parts) => {
            let (headers, pieces) = parts_headers(variant, &parts);
            (StatusCode::PARTIAL_CONTENT, headers, body_of_pieces(variant, pieces).await)
        }
        Choice::NotModified(variant) => {
            return assemble(StatusCode::NOT_MODIFIED, variant.not_modified.clone(), Body::Empty);
        }
        Choice::PreconditionFailed => return refuse(StatusCode::PRECONDITION_FAILED),
        Choice::NotAcceptable => return refuse(StatusCode::NOT_ACCEPTABLE),
        Choice::Unsatisfiable(variant) => {
            let size = content_range("*", variant.size);
            return with(refuse(StatusCode::RANGE_NOT_SATISFIABLE), CONTENT_RANGE, size);
        }
        Choice::Options => return assemble(StatusCode::NO_CONTENT, options(asset.always(), head), Body::Empty),
        Choice::MethodNotAllowed => return with(refuse(StatusCode::METHOD_NOT_ALLOWED), ALLOW, METHODS),
    };
    match body {
        Ok(body) => assemble(status, headers, body),
        Err(cause) if is_out_of_descriptors(&cause) => {
            error!(%cause, "a static file cannot be opened: too many files and connections are open at once; raise the limit on open files (LimitNOFILE=), or lower [limits] connections");
            with(refuse(StatusCode::SERVICE_UNAVAILABLE), RETRY_AFTER, HeaderValue::from_static("1"))
        }
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

/// The headers that say what may be done with a file. To a browser that asks on behalf of a page elsewhere
/// (a CORS preflight), also that the page may send whatever headers it means to, if it may read the file at
/// all: none of them changes a file.
fn options(always: &HeaderMap, head: &Parts) -> HeaderMap {
    let mut headers = always.clone();
    headers.insert(ALLOW, METHODS);
    let asks = head.headers.contains_key(ORIGIN) && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if asks && always.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
        if let Some(wanted) = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        // A day, which is as long as any browser believes it.
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    }
    headers
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

/// The headers of an answer with several parts, and what it is made of. The type and the place of each part
/// stand before it, and only there (RFC 9110, section 15.3.7.2).
fn parts_headers(variant: &Variant, parts: &[Range<u64>]) -> (HeaderMap, Vec<Piece>) {
    let mut headers = variant.headers.clone();
    headers.remove(USE_AS_DICTIONARY);
    let media_type = headers.get(CONTENT_TYPE);
    let Multipart { content_type, length, pieces } =
        Multipart::new(parts, variant.size, media_type, fastrand::u128(..));
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_LENGTH, length.into());
    (headers, pieces)
}

async fn body(variant: &Variant, part: Range<u64>) -> io::Result<Body> {
    match &variant.content {
        Content::Memory(bytes) => Ok(slice(bytes, part).into()),
        Content::Disk(place) => Ok(Body::File(open(place, variant.size, part).await?)),
    }
}

async fn body_of_pieces(variant: &Variant, mut pieces: Vec<Piece>) -> io::Result<Body> {
    let file = match &variant.content {
        Content::Memory(bytes) => {
            for piece in &mut pieces {
                if let Piece::OfFile(part) = piece {
                    *piece = Piece::Ready(slice(bytes, part.clone()));
                }
            }
            None
        }
        Content::Disk(place) => Some(open(place, variant.size, 0..0).await?),
    };
    Ok(Body::Pieces(Box::new(Pieces::new(pieces, file))))
}

/// A part of what is in memory; nothing is copied.
fn slice(bytes: &Bytes, part: Range<u64>) -> Bytes {
    let place = |position| usize::try_from(position).expect("a body in memory has a length that fits");
    bytes.slice(place(part.start)..place(part.end))
}

/// Opens it on a thread that may wait.
async fn open(place: &Arc<OnDisk>, size: u64, part: Range<u64>) -> io::Result<FileSlice> {
    let place = Arc::clone(place);
    spawn_blocking(move || place.open(size, part)).await.map_err(io::Error::other)?
}

/// Whether this process or the system has no descriptor left: the file is sound, and may be had in a moment.
fn is_out_of_descriptors(cause: &io::Error) -> bool {
    cause.raw_os_error().is_some_and(|code| [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).contains(&code))
}
