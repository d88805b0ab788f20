//! curl as the client: a program that others wrote, and that users have.

use std::process::{Command, Stdio};

use serde_json::Value;

/// An answer as curl wrote it down.
#[derive(Debug)]
pub(crate) struct Answer {
    /// `HTTP/1.1` or `HTTP/2`.
    pub(crate) version: String,
    /// The status code.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Runs curl and reads what it got. Panics where curl itself fails.
    pub(crate) fn of(curl: &mut Command) -> Self {
        let output = curl.args(["--silent", "--show-error", "--include", "--max-time", "60"]).output();
        let output = output.expect("curl is not there; run `make test`");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{curl:?} failed: {complaint}");
        Self::parse(&output.stdout)
    }

    fn parse(mut raw: &[u8]) -> Self {
        loop {
            let end = raw.windows(4).position(|four| four == b"\r\n\r\n").expect("the head of an answer ends");
            let answer = Self::from_parts(&String::from_utf8_lossy(&raw[..end]), &raw[end + 4..]);
            // 100 Continue and other words in advance.
            if answer.status >= 200 {
                return answer;
            }
            raw = &raw[end + 4..];
        }
    }

    fn from_parts(head: &str, body: &[u8]) -> Self {
        let mut lines = head.lines();
        let mut status_line = lines.next().expect("an answer has a first line").split(' ');
        let version = status_line.next().expect("split has a first part").to_owned();
        let status = status_line.next().and_then(|code| code.parse().ok()).expect("a status code");
        let field =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        Self { version, status, headers: lines.filter_map(field).collect(), body: body.to_vec() }
    }

    /// A header's value, the last if there are several; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().rev().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the page is text")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }
}

/// A curl that stays connected: what it receives can be read while it receives.
pub(crate) fn streaming(curl: &mut Command) -> std::process::Child {
    let curl = curl.args(["--silent", "--show-error", "--no-buffer", "--max-time", "60"]).stdout(Stdio::piped());
    curl.spawn().expect("curl is not there; run `make test`")
}
