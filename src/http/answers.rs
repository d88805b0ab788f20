//! The small answers that vestibule gives by itself.
//!
//! To a client they say little; the log says the rest.

use http::StatusCode;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};

use super::Response;
use super::body::Body;

/// Marks an answer that vestibule gives by itself, in its extensions: an operator's page may take the place of its body.
#[derive(Debug, Clone, Copy)]
pub struct Own;

/// A plain-text answer of one line that no cache may keep.
///
/// Its length is written out, so that it stays right when the body is taken away for `HEAD`.
pub fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, text.len().into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer of a status alone: its number and its name, as in `404 Not Found`.
pub fn status(status: StatusCode) -> Response {
    let text = match status {
        StatusCode::MOVED_PERMANENTLY => "301 Moved Permanently\n",
        StatusCode::BAD_REQUEST => "400 Bad Request\n",
        StatusCode::FORBIDDEN => "403 Forbidden\n",
        StatusCode::UNAUTHORIZED => "401 Unauthorized\n",
        StatusCode::TOO_MANY_REQUESTS => "429 Too Many Requests\n",
        StatusCode::NOT_FOUND => "404 Not Found\n",
        StatusCode::METHOD_NOT_ALLOWED => "405 Method Not Allowed\n",
        StatusCode::NOT_ACCEPTABLE => "406 Not Acceptable\n",
        StatusCode::REQUEST_TIMEOUT => "408 Request Timeout\n",
        StatusCode::LENGTH_REQUIRED => "411 Length Required\n",
        StatusCode::PRECONDITION_FAILED => "412 Precondition Failed\n",
        StatusCode::PAYLOAD_TOO_LARGE => "413 Content Too Large\n",
        StatusCode::RANGE_NOT_SATISFIABLE => "416 Range Not Satisfiable\n",
        StatusCode::MISDIRECTED_REQUEST => "421 Misdirected Request\n",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "431 Request Header Fields Too Large\n",
        StatusCode::BAD_GATEWAY => "502 Bad Gateway\n",
        StatusCode::SERVICE_UNAVAILABLE => "503 Service Unavailable\n",
        StatusCode::GATEWAY_TIMEOUT => "504 Gateway Timeout\n",
        _ => "500 Internal Server Error\n",
    };
    let mut response = plain(status, text);
    response.extensions_mut().insert(Own);
    response
}

/// The last answer on its connection, since nobody knows where the next request would begin: the client is
/// told (RFC 9112, section 9.6). HTTP/2 has no such field, and there `serve::http2` takes it away.
pub fn last(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
