//! How large a request's body may be, and how long its sender may pause.

use ::http::StatusCode;
use ::http::header::CONTENT_LENGTH;
use http_body::Body as _;
use http_body_util::Limited;
use tower_http::timeout::TimeoutBody;

use crate::config::{LimitsConfig, TimeoutsConfig};
use crate::http::body::Body;
use crate::http::{Request, Response, answers};

/// Puts bounds on the body, or refuses a request that announces too much.
///
/// A body that grows beyond the limit on the way ends with `http_body_util::LengthLimitError`, and one
/// that pauses for too long with `tower_http::timeout::TimeoutError`; who reads it decides what to answer.
pub fn bound(request: Request, limits: &LimitsConfig, timeouts: &TimeoutsConfig) -> Result<Request, Box<Response>> {
    // Nothing to bound, and no box to pay for.
    if request.body.is_end_stream() {
        return Ok(request);
    }
    let announced = request.head.headers.get(CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let limit = match limits.body_size.as_usize() {
        0 => usize::MAX,
        limit => limit,
    };
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Box::new(answers::status(StatusCode::PAYLOAD_TOO_LARGE)));
    }
    let body = Body::stream(Limited::new(TimeoutBody::new(timeouts.body.0, request.body), limit));
    Ok(Request { body, ..request })
}
