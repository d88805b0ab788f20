//! Turns a [`Choice`] into a response. The only file here that opens a file while requests run.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ORIGIN, RETRY_AFTER,
};
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use fs_err::File;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::task::spawn_blocking;
use tracing::error;

use super::asset::{Asset, Policy, Variant};
use super::choose::Choice;
use super::contents::Content;
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
        Content::Disk(path) => Ok(Body::File(open(path, variant.size, part).await?)),
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
        Content::Disk(path) => Some(open(path, variant.size, 0..0).await?),
    };
    Ok(Body::Pieces(Box::new(Pieces::new(pieces, file))))
}

/// A part of what is in memory; nothing is copied.
fn slice(bytes: &Bytes, part: Range<u64>) -> Bytes {
    let place = |position| usize::try_from(position).expect("a body in memory has a length that fits");
    bytes.slice(place(part.start)..place(part.end))
}

/// Opens a file that must still be as long as at start: its headers, and the tag above all, speak of that
/// content.
async fn open(path: &Arc<Path>, size: u64, part: Range<u64>) -> io::Result<FileSlice> {
    let path = Arc::clone(path);
    spawn_blocking(move || {
        let file = open_now(&path)?;
        let now = file.metadata()?;
        if !now.is_file() || now.len() != size {
            return Err(io::Error::other(format!("{} has {} bytes instead of {size}", path.display(), now.len())));
        }
        let slice = FileSlice::new(file, part);
        // Where the system knows no dates, the length must do.
        Ok(match now.modified() {
            Ok(modified) => slice.unchanged_since(modified),
            Err(_) => slice,
        })
    })
    .await
    .map_err(io::Error::other)?
}

/// Opens it for reading. What has become something else than a file must not keep the thread waiting.
fn open_now(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => Ok(File::from_parts(descriptor.into(), path)),
        Err(cause) if is_out_of_descriptors(&cause.into()) => Err(cause.into()),
        Err(cause) => Err(io::Error::other(format!("cannot open {}: {}", path.display(), io::Error::from(cause)))),
    }
}

/// Whether this process or the system has no descriptor left: the file is sound, and may be had in a moment.
fn is_out_of_descriptors(cause: &io::Error) -> bool {
    cause.raw_os_error().is_some_and(|code| [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).contains(&code))
}
