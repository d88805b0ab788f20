//! What is told of one request, and the two forms of its line.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::http::header::{CONTENT_ENCODING, HOST, HeaderName, HeaderValue, REFERER, USER_AGENT};
use ::http::{Method, StatusCode, Uri, Version};
use percent_encoding::{CONTROLS, PercentEncode, utf8_percent_encode};

use super::json;
use crate::http::{Client, Request, RequestId, Response, Scheme, UpstreamServer, UpstreamTime};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Text { colour: bool },
    Json,
}

/// What is told of one request.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) started: Instant,
    pub(super) client: Option<IpAddr>,
    pub(super) scheme: Scheme,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) host: Option<HeaderValue>,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) referer: Option<HeaderValue>,
    pub(super) id: RequestId,
    pub(super) status: StatusCode,
    pub(super) encoding: Option<HeaderValue>,
    pub(super) upstream: Option<Duration>,
    pub(super) server: Option<Arc<str>>,
    pub(super) bytes: u64,
    pub(super) complete: bool,
    pub(super) error: Option<String>,
}

impl Entry {
    /// What is known of a request before it is answered.
    pub(super) fn of(request: &Request) -> Self {
        let header = |name: HeaderName| request.head.headers.get(name).cloned();
        Self {
            started: Instant::now(),
            client: request.client.address,
            scheme: request.client.scheme,
            method: request.head.method.clone(),
            uri: request.head.uri.clone(),
            version: request.head.version,
            // HTTP/2 names it in the target.
            host: header(HOST).or_else(|| HeaderValue::try_from(request.head.uri.authority()?.as_str()).ok()),
            user_agent: header(USER_AGENT),
            referer: header(REFERER),
            id: request.id,
            // What nginx writes when the client left before there was an answer.
            status: StatusCode::from_u16(499).expect("499 has three digits"),
            encoding: None,
            upstream: None,
            server: None,
            bytes: 0,
            complete: false,
            error: None,
        }
    }

    /// A request that could not be read, and was answered by the parser.
    pub(super) fn malformed(client: &Client, status: u16, reason: &str) -> Self {
        Self {
            started: Instant::now(),
            client: client.address,
            scheme: client.scheme,
            // What nginx and Apache write for what they do not know.
            method: Method::from_bytes(b"-").expect("a hyphen is a token"),
            uri: Uri::from_static("*"),
            version: Version::HTTP_11,
            host: None,
            user_agent: None,
            referer: None,
            id: RequestId(fastrand::u128(..)),
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST),
            encoding: None,
            upstream: None,
            server: None,
            bytes: 0,
            complete: true,
            error: Some(reason.to_owned()),
        }
    }

    /// Notes what the head of the answer says. `coding` is that of an answer whose fields are not in their map.
    pub(super) fn answered(&mut self, response: &Response, coding: Option<&'static str>) {
        self.status = response.status();
        let told = || response.headers().get(CONTENT_ENCODING).cloned();
        self.encoding = coding.map(HeaderValue::from_static).or_else(told);
        self.upstream = response.extensions().get::<UpstreamTime>().map(|time| time.0);
        self.server = response.extensions().get::<UpstreamServer>().map(|server| Arc::clone(&server.0));
        // These have no body to complete, whatever their headers announce.
        self.complete = self.method == Method::HEAD
            || matches!(
                self.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS
            );
    }

    /// What its line says, if it ends now.
    pub(super) fn told(&self) -> Told<'_> {
        let ended = Instant::now();
        let facts = Facts {
            ended,
            duration: ended.saturating_duration_since(self.started),
            client: self.client,
            scheme: self.scheme,
            version: self.version,
            id: self.id,
            status: self.status,
            upstream: self.upstream,
            bytes: self.bytes,
            complete: self.complete,
        };
        fn field(field: Option<&HeaderValue>) -> Option<&[u8]> {
            field.map(HeaderValue::as_bytes)
        }
        let texts = [
            Some(self.method.as_str().as_bytes()),
            Some(self.uri.path_and_query().map_or("*", |target| target.as_str()).as_bytes()),
            field(self.host.as_ref()),
            field(self.user_agent.as_ref()),
            field(self.referer.as_ref()),
            field(self.encoding.as_ref()),
            self.server.as_deref().map(str::as_bytes),
            self.error.as_deref().map(str::as_bytes),
        ];
        Told { facts, texts }
    }
}

/// What the line of a request says that is no text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) ended: Instant,
    pub(super) duration: Duration,
    pub(super) client: Option<IpAddr>,
    pub(super) scheme: Scheme,
    pub(super) version: Version,
    pub(super) id: RequestId,
    pub(super) status: StatusCode,
    pub(super) upstream: Option<Duration>,
    pub(super) bytes: u64,
    pub(super) complete: bool,
}

/// What the line of a request says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'t> {
    pub(super) facts: Facts,
    /// As they came, by [`Text`].
    pub(super) texts: Texts<'t>,
}

pub(super) type Texts<'t> = [Option<&'t [u8]>; TEXTS];

/// How many a line may have.
pub(super) const TEXTS: usize = Text::Error as usize + 1;

/// The texts of a line, in the order in which they are kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Text {
    Method,
    Target,
    Host,
    UserAgent,
    Referer,
    Encoding,
    Server,
    Error,
}

impl<'t> Told<'t> {
    /// One of the texts, if there is such a one.
    pub(super) fn get(&self, text: Text) -> Option<&'t [u8]> {
        self.texts[text as usize]
    }

    /// The same where it is known to be text.
    pub(super) fn text(&self, text: Text) -> Option<Cow<'t, str>> {
        self.get(text).map(String::from_utf8_lossy)
    }

    /// The line of a request that ended at `time`.
    pub(super) fn write(&self, form: Line, time: SystemTime, out: &mut Vec<u8>) -> io::Result<()> {
        match form {
            Line::Json => json::write(self, time, out),
            Line::Text { colour } => self.write_text(colour, time, out),
        }
    }

    fn write_text(&self, colour: bool, time: SystemTime, out: &mut Vec<u8>) -> io::Result<()> {
        let facts = &self.facts;
        let text = |which: Text| self.text(which).unwrap_or_default();
        let time = humantime::format_rfc3339_seconds(time).to_string();
        let (on, off) = if colour { (colour_of(facts.status), "\x1b[0m") } else { ("", "") };
        let (method, target) = (text(Text::Method), text(Text::Target));
        write!(out, "{} {on}{}{off} {method} {}", &time[11..19], facts.status.as_u16(), encoded(&target))?;
        write!(out, " {} B {:.1} ms", facts.bytes, facts.duration.as_secs_f64() * 1e3)?;
        if let Some(time) = facts.upstream {
            let at = if self.get(Text::Server).is_some() { " at " } else { "" };
            write!(out, " (application{at}{} {:.1} ms)", text(Text::Server), time.as_secs_f64() * 1e3)?;
        }
        if let Some(coding) = self.get(Text::Encoding).filter(|coding| coding.is_ascii()) {
            write!(out, " {}", String::from_utf8_lossy(coding))?;
        }
        if let Some(client) = facts.client {
            write!(out, " {client}")?;
        }
        write!(out, " {}", facts.id)?;
        if !facts.complete {
            write!(out, " aborted")?;
        }
        writeln!(out)
    }
}

/// A target, with what is not ASCII encoded: some of it is a command to a terminal, or the end of a line to who reads the
/// log.
pub(super) fn encoded(target: &str) -> PercentEncode<'_> {
    utf8_percent_encode(target, CONTROLS)
}

fn colour_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        500.. => "\x1b[31m",
        400.. => "\x1b[33m",
        300.. => "\x1b[36m",
        _ => "\x1b[32m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::Body;

    fn entry(target: &str) -> Entry {
        let (head, ()) = ::http::Request::builder()
            .uri(target)
            .header("host", "example.com")
            .header("user-agent", HeaderValue::from_bytes(b"a \"quoted\" \xff agent").unwrap())
            .body(())
            .unwrap()
            .into_parts();
        let client = Client { address: Some([192, 0, 2, 1].into()), port: 1, scheme: Scheme::Https, local_port: 443 };
        Entry::of(&Request { head, body: Body::Empty, client, id: RequestId(0xab), early_hints: None, lines: None })
    }

    fn line(entry: &Entry, form: Line) -> String {
        let mut line = Vec::new();
        entry.told().write(form, SystemTime::now(), &mut line).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_json_line_is_one_object_whatever_the_client_sends() {
        let mut entry = entry("/a?b=%22\u{2028}\u{9b}31m");
        entry.answered(
            &::http::Response::builder().status(404).header("content-encoding", "br").body(Body::Empty).unwrap(),
            None,
        );
        let line = line(&entry, Line::Json);
        assert_eq!(line.matches('\n').count(), 1);
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        for (key, expected) in [
            ("client", "192.0.2.1"),
            ("scheme", "https"),
            ("target", "/a?b=%22%E2%80%A8%C2%9B31m"),
            ("host", "example.com"),
            ("encoding", "br"),
            ("user_agent", "a \"quoted\" \u{fffd} agent"),
            ("request_id", "000000000000000000000000000000ab"),
        ] {
            assert_eq!(object[key], expected, "{line}");
        }
        assert_eq!(object["status"], 404);
    }

    #[test]
    fn the_server_is_told_where_there_are_several() {
        let mut entry = entry("/");
        let mut response = ::http::Response::new(Body::Empty);
        response.extensions_mut().insert(UpstreamTime(Duration::from_millis(20)));
        entry.answered(&response, None);
        let text = |entry: &Entry| line(entry, Line::Text { colour: false });
        assert!(text(&entry).contains(" (application 20.0 ms)") && !line(&entry, Line::Json).contains("server"));
        response.extensions_mut().insert(UpstreamServer("unix:/a".into()));
        entry.answered(&response, None);
        assert!(text(&entry).contains(" (application at unix:/a 20.0 ms)"));
        assert!(line(&entry, Line::Json).contains(r#""server":"unix:/a""#));
    }

    #[test]
    fn a_client_that_leaves_before_the_answer_is_logged_as_499() {
        let entry = entry("/slow");
        for (form, expected) in [(Line::Json, "\"status\":499"), (Line::Text { colour: false }, " 499 GET /slow ")] {
            let line = line(&entry, form);
            assert!(line.contains(expected), "{line}");
        }
    }
}
