//! Stub.
use ::http::StatusCode;
use ::http::request::Parts;
/// Stub.
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Refusal;
impl Refusal {
    /// x
    pub fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}
/// Stub.
pub fn admit(head: &mut Parts) -> Result<String, Refusal> {
    let _ = head;
    Ok("localhost".into())
}
