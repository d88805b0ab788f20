//! Turns a [`Choice`] into a response. The only file here that opens a file while requests run.

use std::io::{self, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_RANGE};
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderValue, Method, StatusCode};
use fs_err::File;
use tokio::task::spawn_blocking;
use tracing::error;

use super::asset::{Asset, Policy, Variant};
use super::choose::Choice;
use super::contents::Content;
use crate::http::body::{Body, FileSlice};
use crate::http::{Response, answers};

/// Answers for an asset.
pub(super) async fn respond(choice: Choice<'_>, asset: &Asset, head: &Parts) -> Response {
    match choice {
        Choice::Whole(variant) => {
            let headers = variant.headers.clone();
            send(StatusCode::OK, headers, variant, 0..variant.size, asset, head).await
        }
        Choice::Part(variant, part) => {
            let mut headers = variant.headers.clone();
            headers.insert(CONTENT_LENGTH, (part.end - part.start).into());
            let place = format!("bytes {}-{}/{}", part.start, part.end - 1, variant.size);
            headers.insert(CONTENT_RANGE, HeaderValue::try_from(place).expect("digits are a header value"));
            send(StatusCode::PARTIAL_CONTENT, headers, variant, part, asset, head).await
        }
        Choice::NotModified(variant) => {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.headers_mut() = variant.not_modified.clone();
            response
        }
        Choice::Unsatisfiable(variant) => {
            let mut response = refuse(StatusCode::RANGE_NOT_SATISFIABLE, asset.always(), head);
            let size = HeaderValue::try_from(format!("bytes */{}", variant.size)).expect("digits are a header value");
            response.headers_mut().insert(CONTENT_RANGE, size);
            response
        }
        Choice::PreconditionFailed => refuse(StatusCode::PRECONDITION_FAILED, asset.always(), head),
        Choice::NotAcceptable => refuse(StatusCode::NOT_ACCEPTABLE, asset.always(), head),
        Choice::MethodNotAllowed => {
            let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, asset.always(), head);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
    }
}

/// Answers for a path that is no asset. No cache may keep it: while a deploy goes on, the next server
/// may well have the file.
pub(super) fn not_found(head: &Parts, policy: &Policy) -> Response {
    refuse(StatusCode::NOT_FOUND, policy.always(), head)
}

fn refuse(status: StatusCode, always: &HeaderMap, head: &Parts) -> Response {
    let mut response = answers::status(status);
    response.headers_mut().extend(always.clone());
    if head.method == Method::HEAD {
        *response.body_mut() = Body::Empty;
    }
    response
}

async fn send(
    status: StatusCode,
    headers: HeaderMap,
    variant: &Variant,
    part: Range<u64>,
    asset: &Asset,
    head: &Parts,
) -> Response {
    let body = match &variant.content {
        _ if head.method == Method::HEAD => Body::Empty,
        Content::Memory(bytes) => Body::from(slice(bytes, &part)),
        Content::Disk(path) => match open(path, variant.size, part).await {
            Ok(slice) => Body::File(slice),
            Err(cause) => {
                error!(path = %path.display(), %cause, "a static file is no longer what it was at start; restart, or run `vestibule collect` again");
                return refuse(StatusCode::INTERNAL_SERVER_ERROR, asset.always(), head);
            }
        },
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn slice(bytes: &bytes::Bytes, part: &Range<u64>) -> bytes::Bytes {
    let place = |position: u64| usize::try_from(position).expect("a body in memory has a length that fits");
    bytes.slice(place(part.start)..place(part.end))
}

/// Opens a part of a file that must still be as long as at start: its headers, and the tag above all,
/// speak of that content.
async fn open(path: &Arc<Path>, size: u64, part: Range<u64>) -> io::Result<FileSlice> {
    let path = Arc::clone(path);
    let open = move || {
        let mut file = File::open(&*path)?;
        let now = file.metadata()?;
        if !now.is_file() || now.len() != size {
            return Err(io::Error::other(format!("it has {} bytes instead of {size}", now.len())));
        }
        file.seek(SeekFrom::Start(part.start))?;
        Ok(FileSlice::new(file, part.end - part.start))
    };
    spawn_blocking(open).await.map_err(io::Error::other)?
}
