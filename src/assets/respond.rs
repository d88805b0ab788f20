//! Turns a [`Choice`] into a response; what is not in memory is opened on a thread that may wait.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use ::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE,
    LOCATION, ORIGIN, RETRY_AFTER, VARY,
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
use crate::http::body::{Body, Piece, Pieces, Place};
use crate::http::dictionary::USE_AS_DICTIONARY;
use crate::http::lines::Lines;
use crate::http::range::content_range;
use crate::http::{Response, answers, multipart};

/// What may be done with a file.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// An answer of which the body must be read from the disk.
#[derive(Debug)]
pub(super) struct Unread {
    status: StatusCode,
    headers: HeaderMap,
    place: Arc<OnDisk>,
    size: u64,
    parts: Wanted,
}

/// What of a file on the disk is sent.
#[derive(Debug)]
enum Wanted {
    Slice(Range<u64>),
    Pieces(Vec<Piece>),
}

/// Answers for the asset of which the answer was chosen, from memory: most answers are made without anything to wait for.
/// If there are `lines`, what is ready of the head is written there, and the fields are not in their map.
///
/// # Errors
/// What is still to be read, where the body lies on the disk.
pub(super) fn respond(
    choice: Choice<'_>,
    asset: &Asset,
    head: &Parts,
    lines: Option<&mut Lines>,
) -> Result<Response, Box<Unread>> {
    if let Some(response) = lines.and_then(|lines| ready(&choice, asset, head, lines)) {
        return Ok(response);
    }
    let refuse = |status| refuse(status, asset.always(), head);
    let (status, headers, variant, parts) = match choice {
        Choice::Whole(variant) if head.method == Method::HEAD => {
            return Ok(assemble(StatusCode::OK, asset.headers(variant), Body::Empty));
        }
        Choice::Whole(variant) => (StatusCode::OK, asset.headers(variant), variant, Wanted::Slice(0..variant.size)),
        Choice::Part(variant, part) => {
            let headers = part_headers(asset, variant, &part);
            (StatusCode::PARTIAL_CONTENT, headers, variant, Wanted::Slice(part))
        }
        Choice::Parts(variant, parts) => {
            let (headers, pieces) = parts_headers(asset, variant, &parts);
            (StatusCode::PARTIAL_CONTENT, headers, variant, Wanted::Pieces(pieces))
        }
        Choice::NotModified(variant) => {
            return Ok(assemble(StatusCode::NOT_MODIFIED, asset.not_modified(variant), Body::Empty));
        }
        Choice::PreconditionFailed => return Ok(refuse(StatusCode::PRECONDITION_FAILED)),
        Choice::NotAcceptable => return Ok(depending_on_coding(refuse(StatusCode::NOT_ACCEPTABLE))),
        Choice::Unsatisfiable(variant) => {
            let size = content_range(None, variant.size);
            return Ok(with(refuse(StatusCode::RANGE_NOT_SATISFIABLE), CONTENT_RANGE, size));
        }
        Choice::Options => return Ok(assemble(StatusCode::NO_CONTENT, options(asset.always(), head), Body::Empty)),
        Choice::MethodNotAllowed => return Ok(with(refuse(StatusCode::METHOD_NOT_ALLOWED), ALLOW, METHODS)),
    };
    match &variant.content {
        Content::Memory(bytes) => Ok(assemble(status, headers, from_memory(bytes, None, parts))),
        Content::Placed(placed) => Ok(assemble(status, headers, from_memory(&placed.0, Some(&placed.1), parts))),
        Content::Disk(place) => {
            let (place, size) = (Arc::clone(place), variant.size);
            Err(Box::new(Unread { status, headers, place, size, parts }))
        }
    }
}

/// The answers that clients get most often, with a head that was ready.
fn ready(choice: &Choice<'_>, asset: &Asset, head: &Parts, lines: &mut Lines) -> Option<Response> {
    let (status, variant, body) = match choice {
        Choice::Whole(variant) if head.method == Method::HEAD => (StatusCode::OK, variant, Body::Empty),
        Choice::Whole(variant) => match &variant.content {
            Content::Memory(bytes) => (StatusCode::OK, variant, bytes.clone().into()),
            Content::Placed(placed) => (StatusCode::OK, variant, Body::placed(placed.0.clone(), placed.1.clone())),
            Content::Disk(_) => return None,
        },
        Choice::NotModified(variant) => (StatusCode::NOT_MODIFIED, variant, Body::Empty),
        _ => return None,
    };
    asset.write_head(status, variant, lines).then(|| assemble(status, HeaderMap::new(), body))
}

/// Opens the file of an answer and finishes it.
pub(super) async fn read(unread: Box<Unread>, asset: &Asset, head: &Parts) -> Response {
    let Unread { status, headers, place, size, parts } = *unread;
    match from_disk(place, size, parts).await {
        Ok(body) => assemble(status, headers, body),
        Err(cause) if is_out_of_descriptors(&cause) => {
            error!(%cause, "a static file cannot be opened: too many files and connections are open at once; raise the limit on open files (LimitNOFILE=), or lower [limits] connections");
            let response = refuse(StatusCode::SERVICE_UNAVAILABLE, asset.always(), head);
            with(response, RETRY_AFTER, HeaderValue::from_static("1"))
        }
        Err(cause) => {
            // A cache must not keep it, and the browser shall ask again: `refuse` sees to both.
            error!(%cause, "a static file is no longer what it was at start; reload (SIGHUP), or run `vestibule collect` again");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, asset.always(), head)
        }
    }
}

/// Answers for a path that is no asset. No cache may keep it: while a deploy goes on, the next server
/// may well have the file.
pub(super) fn not_found(head: &Parts, policy: &Policy) -> Response {
    let mut response = refuse(StatusCode::NOT_FOUND, policy.always(), head);
    policy.edit(&mut response, head);
    response
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
    let mut response = with(response, LOCATION, location);
    policy.edit(&mut response, head);
    response
}

fn refuse(status: StatusCode, always: &HeaderMap, head: &Parts) -> Response {
    let mut response = answers::status(status);
    response.headers_mut().extend(always.clone());
    if head.method == Method::HEAD {
        *response.body_mut() = Body::Empty;
    }
    response
}

/// A file that has only one form is refused to who does not take that one: this answer depends on the request, though
/// no other about the file does.
fn depending_on_coding(mut response: Response) -> Response {
    let names_it = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("Accept-Encoding"));
    if !response.headers().get_all(VARY).iter().any(names_it) {
        response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
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

fn part_headers(asset: &Asset, variant: &Variant, part: &Range<u64>) -> HeaderMap {
    let mut headers = asset.headers(variant);
    // A part is no version of the file.
    headers.remove(USE_AS_DICTIONARY);
    headers.insert(CONTENT_LENGTH, (part.end - part.start).into());
    headers.insert(CONTENT_RANGE, content_range(Some(part), variant.size));
    headers
}

/// The headers of an answer with several parts, and what it is made of.
fn parts_headers(asset: &Asset, variant: &Variant, parts: &[Range<u64>]) -> (HeaderMap, Vec<Piece>) {
    let mut headers = asset.headers(variant);
    headers.remove(USE_AS_DICTIONARY);
    let pieces = multipart::frame(&mut headers, parts, variant.size);
    (headers, pieces)
}

fn from_memory(bytes: &Bytes, place: Option<&Place>, parts: Wanted) -> Body {
    match parts {
        Wanted::Slice(part) => match place.map(|place| place.behind(part.start)) {
            Some(place) => Body::placed(slice(bytes, part), place),
            None => slice(bytes, part).into(),
        },
        Wanted::Pieces(mut pieces) => {
            for piece in &mut pieces {
                if let Piece::OfFile(part) = piece {
                    *piece = Piece::Ready(slice(bytes, part.clone()));
                }
            }
            Body::Pieces(Box::new(Pieces::new(pieces, None)))
        }
    }
}

/// A part of what is in memory; nothing is copied.
fn slice(bytes: &Bytes, part: Range<u64>) -> Bytes {
    let place = |position| usize::try_from(position).expect("a body in memory has a length that fits");
    bytes.slice(place(part.start)..place(part.end))
}

/// Opens the file on a thread that may wait.
async fn from_disk(place: Arc<OnDisk>, size: u64, parts: Wanted) -> io::Result<Body> {
    let part = if let Wanted::Slice(part) = &parts { part.clone() } else { 0..0 };
    let file = spawn_blocking(move || place.open(size, part)).await.map_err(io::Error::other)??;
    Ok(match parts {
        Wanted::Slice(_) => Body::File(file),
        Wanted::Pieces(pieces) => Body::Pieces(Box::new(Pieces::new(pieces, Some(file)))),
    })
}

/// Whether this process or the system has no descriptor left: the file is sound, and may be had in a moment.
fn is_out_of_descriptors(cause: &io::Error) -> bool {
    cause.raw_os_error().is_some_and(|code| [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).contains(&code))
}
