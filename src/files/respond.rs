//! From an open file and the headers of its whole answer to the answer.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use ::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderValue, LAST_MODIFIED,
};
use ::http::{HeaderMap, Method, StatusCode};
use tokio::task::spawn_blocking;

use super::beneath::{self, Name, Opened};
use super::choose::{Choice, choose};
use crate::http::body::{Body, FileSlice, Pieces};
use crate::http::conditional::Validators;
use crate::http::range::content_range;
use crate::http::{Response, answers, multipart};

/// What of a request counts when a file is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    /// How many ranges it may ask for.
    pub(super) most_ranges: usize,
}

/// Stands for a tag where there is none yet. It is never sent, so nobody can have it.
static NO_TAG: HeaderValue = HeaderValue::from_static("\"\"");

/// Opens a file on a thread that may wait.
pub(super) async fn open(folder: &Path, name: &Name) -> io::Result<Opened> {
    let (folder, name) = (folder.to_owned(), name.clone());
    spawn_blocking(move || beneath::open(&folder, &name)).await.map_err(io::Error::other)?
}

/// Answers a `GET` or `HEAD` with a file. `headers` are those that the 200 has besides; a tag or a date among
/// them counts instead of the file's own.
pub(super) fn with_file(opened: Opened, mut headers: HeaderMap, asked: Asked<'_>) -> Response {
    let Opened { file, stamp } = opened;
    let size = stamp.size;
    if let Some(tag) = stamp.tag {
        headers.entry(ETAG).or_insert(tag);
    }
    if let Some(modified) = stamp.modified {
        headers.entry(LAST_MODIFIED).or_insert_with(|| date(modified));
    }
    let allows_parts = headers.get(ACCEPT_RANGES).is_none_or(|units| units != "none");
    if allows_parts {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    let modified = headers.get(LAST_MODIFIED).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let current = Validators { tag: headers.get(ETAG).unwrap_or(&NO_TAG), modified };
    let most_ranges = if allows_parts { asked.most_ranges } else { 0 };
    match choose(asked.method, asked.headers, size, current, most_ranges) {
        Choice::Whole => whole(StatusCode::OK, FileSlice::new(file, 0..size), size, headers, asked.method),
        Choice::Part(part) => {
            headers.insert(CONTENT_RANGE, content_range(Some(&part), size));
            let Range { start, end } = part;
            whole(StatusCode::PARTIAL_CONTENT, FileSlice::new(file, part), end - start, headers, asked.method)
        }
        Choice::Parts(parts) => {
            let pieces = Pieces::new(multipart::frame(&mut headers, &parts, size), Some(FileSlice::new(file, 0..0)));
            assemble(StatusCode::PARTIAL_CONTENT, headers, Body::Pieces(Box::new(pieces)))
        }
        Choice::NotModified => {
            // What a cache knows already (RFC 9110, section 15.4.5).
            for name in [CONTENT_TYPE, CONTENT_DISPOSITION, CONTENT_LANGUAGE, ACCEPT_RANGES] {
                headers.remove(name);
            }
            assemble(StatusCode::NOT_MODIFIED, headers, Body::Empty)
        }
        Choice::PreconditionFailed => refuse(StatusCode::PRECONDITION_FAILED, asked.method),
        Choice::Unsatisfiable => {
            let mut response = refuse(StatusCode::RANGE_NOT_SATISFIABLE, asked.method);
            response.headers_mut().insert(CONTENT_RANGE, content_range(None, size));
            response
        }
    }
}

/// Sends all of a file, whatever the request said, under any status.
pub(super) fn with_all(status: StatusCode, opened: Opened, headers: HeaderMap, method: &Method) -> Response {
    let size = opened.stamp.size;
    whole(status, FileSlice::new(opened.file, 0..size), size, headers, method)
}

fn whole(status: StatusCode, slice: FileSlice, length: u64, mut headers: HeaderMap, method: &Method) -> Response {
    headers.insert(CONTENT_LENGTH, length.into());
    let body = if method == Method::HEAD || length == 0 { Body::Empty } else { Body::File(slice) };
    assemble(status, headers, body)
}

fn assemble(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A small answer that no cache keeps.
pub(super) fn refuse(status: StatusCode, method: &Method) -> Response {
    let mut response = answers::status(status);
    if method == Method::HEAD {
        *response.body_mut() = Body::Empty;
    }
    response
}

fn date(moment: SystemTime) -> HeaderValue {
    HeaderValue::try_from(httpdate::fmt_http_date(moment)).expect("a date is a header value")
}
