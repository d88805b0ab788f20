//! The head of an answer as HTTP/1.1 has it: a status line, and a line for each field (RFC 9112, sections 4 and 5).

use ::http::StatusCode;

/// The head of an answer, written by whoever had it ready, up to the lines that its connection adds. The room for it is
/// the connection's, and comes back to it with the answer.
#[derive(Debug, Default)]
pub struct Lines {
    /// What is written; empty if the answer has all its fields in its map.
    pub text: Vec<u8>,
    /// The coding of the body, for the log.
    pub coding: Option<&'static str>,
}

/// Writes a status line.
pub fn status(status: StatusCode, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes the line of a field.
pub fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
