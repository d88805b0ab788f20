//! One line per request, written when the last byte of its answer has been handed on.
//!
//! Lines are formatted where the request ends and written by a thread of their own, many at a time.
//! When standard output takes nothing for so long that the queue is full, lines are dropped and
//! counted: a stuck log must not stop the site.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use ::http::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue, REFERER, USER_AGENT};
use ::http::{Method, StatusCode, Uri, Version};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;
use tower::{Layer, Service};
use tracing::warn;

use crate::config::values::AccessLog as Form;
use crate::http::body::{Body, BodyError};
use crate::http::{Request, RequestId, Response, Scheme, UpstreamTime};

/// How many lines may wait for the writer.
const QUEUE: usize = 8192;

/// Where access lines go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLog {
    sink: Option<Sink>,
}

#[derive(Debug, Clone)]
struct Sink {
    messages: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    form: Line,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Text { colour: bool },
    Json,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer(Option<(SyncSender<Message>, JoinHandle<()>)>);

impl Writer {
    /// Waits until every line so far is written, even if somebody still holds the log.
    pub fn finish(self) {
        if let Some((messages, thread)) = self.0 {
            // Both fail only if the writer is gone already, and then there is nothing to wait for.
            let _ = messages.send(Message::End);
            let _ = thread.join();
        }
    }
}

/// What the writer is handed.
#[derive(Debug)]
enum Message {
    Line(String),
    End,
}

impl AccessLog {
    /// A log on standard output.
    ///
    /// # Errors
    /// When the system gives no thread for it.
    pub fn start(form: Form) -> io::Result<(Self, Writer)> {
        let terminal = io::stdout().is_terminal();
        let form = match form {
            Form::Off => return Ok((Self { sink: None }, Writer(None))),
            Form::Json => Line::Json,
            Form::Auto if !terminal => Line::Json,
            Form::Auto | Form::Text => Line::Text { colour: terminal },
        };
        let (messages, queue) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || write_lines(&queue))?;
        let writer = Writer(Some((messages.clone(), thread)));
        Ok((Self { sink: Some(Sink { messages, dropped: Arc::default(), form }) }, writer))
    }
}

fn write_lines(queue: &Receiver<Message>) {
    let mut output = io::BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    while let Ok(Message::Line(line)) = queue.recv() {
        // Whoever reads the log may be gone; the site goes on.
        let _ = output.write_all(line.as_bytes());
        loop {
            match queue.try_recv() {
                Ok(Message::Line(line)) => {
                    let _ = output.write_all(line.as_bytes());
                }
                // Dropping the writer flushes it.
                Ok(Message::End) => return,
                Err(_) => break,
            }
        }
        let _ = output.flush();
    }
}

impl Sink {
    fn write(&self, entry: &Entry) {
        match self.messages.try_send(Message::Line(entry.line(self.form))) {
            Ok(()) => {
                let dropped = self.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    warn!(dropped, "standard output was stuck; these access-log lines are lost");
                }
            }
            Err(_) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl<S> Layer<S> for AccessLog {
    type Service = Logged<S>;

    fn layer(&self, inner: S) -> Logged<S> {
        Logged { inner, log: self.clone() }
    }
}

/// A service whose answers are logged.
#[derive(Debug, Clone)]
pub struct Logged<S> {
    inner: S,
    log: AccessLog,
}

impl<S> Service<Request> for Logged<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = ::http::Response<LoggedBody>;
    type Error = S::Error;
    type Future = LoggedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let entry = self.log.sink.as_ref().map(|sink| Pending { sink: sink.clone(), entry: Entry::of(&request) });
        LoggedFuture { inner: self.inner.call(request), pending: entry }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Logged`].
    pub struct LoggedFuture<F> {
        #[pin]
        inner: F,
        pending: Option<Pending>,
    }
}

impl<F, E> Future for LoggedFuture<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<::http::Response<LoggedBody>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let mut pending = this.pending.take();
        if let Some(Pending { entry, .. }) = &mut pending {
            entry.answered(&response);
        }
        Poll::Ready(Ok(response.map(|inner| LoggedBody { inner, pending })))
    }
}

/// A line that is written when it is dropped: at the end of the answer, or of the client's patience.
#[derive(Debug)]
struct Pending {
    sink: Sink,
    entry: Entry,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.sink.write(&self.entry);
    }
}

/// A body that counts its bytes for the log.
#[derive(Debug)]
pub struct LoggedBody {
    inner: Body,
    pending: Option<Pending>,
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Pending { entry, .. }) = &mut self.pending {
            match &frame {
                Some(Ok(frame)) => entry.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
                Some(Err(error)) => entry.error = Some(error.to_string()),
                None => entry.complete = true,
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for LoggedBody {
    fn drop(&mut self) {
        if let Some(Pending { entry, .. }) = &mut self.pending {
            entry.complete |= self.inner.is_end_stream();
        }
    }
}

/// What is told of one request.
#[derive(Debug)]
struct Entry {
    started: Instant,
    client: Option<IpAddr>,
    scheme: Scheme,
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    id: RequestId,
    status: StatusCode,
    encoding: Option<HeaderValue>,
    upstream: Option<Duration>,
    bytes: u64,
    complete: bool,
    error: Option<String>,
}

impl Entry {
    fn of(request: &Request) -> Self {
        let header = |name: HeaderName| request.head.headers.get(name).cloned();
        Self {
            started: Instant::now(),
            client: request.client.address,
            scheme: request.client.scheme,
            method: request.head.method.clone(),
            uri: request.head.uri.clone(),
            version: request.head.version,
            host: header(::http::header::HOST),
            user_agent: header(USER_AGENT),
            referer: header(REFERER),
            id: request.id,
            // What nginx writes when the client left before there was an answer.
            status: StatusCode::from_u16(499).expect("499 has three digits"),
            encoding: None,
            upstream: None,
            bytes: 0,
            complete: false,
            error: None,
        }
    }

    fn answered(&mut self, response: &Response) {
        self.status = response.status();
        self.encoding = encoding_of(response.headers());
        self.upstream = response.extensions().get::<UpstreamTime>().map(|time| time.0);
        // These have no body to complete, whatever their headers announce.
        self.complete = self.method == Method::HEAD
            || matches!(
                self.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS
            );
    }

    fn line(&self, form: Line) -> String {
        match form {
            Line::Json => self.json(),
            Line::Text { colour } => self.text(colour),
        }
    }

    fn json(&self) -> String {
        let text =
            |value: &Option<HeaderValue>| value.as_ref().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        let line = JsonLine {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            client: self.client,
            scheme: self.scheme.as_str(),
            method: self.method.as_str(),
            host: text(&self.host).or_else(|| self.uri.authority().map(ToString::to_string)),
            target: self.target(),
            protocol: protocol(self.version),
            status: self.status.as_u16(),
            bytes: self.bytes,
            duration: seconds(self.started.elapsed()),
            upstream: self.upstream.map(seconds),
            encoding: text(&self.encoding),
            request_id: self.id.to_string(),
            user_agent: text(&self.user_agent),
            referer: text(&self.referer),
            aborted: !self.complete,
            error: self.error.as_deref(),
        };
        let mut line = serde_json::to_string(&line).expect("texts and numbers are always JSON");
        line.push('\n');
        line
    }

    fn text(&self, colour: bool) -> String {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let mut line = String::with_capacity(128);
        let (on, off) = if colour { (colour_of(self.status), "\x1b[0m") } else { ("", "") };
        let mut write = || -> fmt::Result {
            write!(line, "{} {on}{}{off} {} {}", &time[11..19], self.status.as_u16(), self.method, self.target())?;
            write!(line, " {} B {:.1} ms", self.bytes, self.started.elapsed().as_secs_f64() * 1e3)?;
            if let Some(time) = self.upstream {
                write!(line, " (application {:.1} ms)", time.as_secs_f64() * 1e3)?;
            }
            if let Some(coding) = self.encoding.as_ref().and_then(|value| value.to_str().ok()) {
                write!(line, " {coding}")?;
            }
            if let Some(client) = self.client {
                write!(line, " {client}")?;
            }
            write!(line, " {}", self.id)?;
            if !self.complete {
                write!(line, " aborted")?;
            }
            writeln!(line)
        };
        write().expect("writing to a string never fails");
        line
    }

    fn target(&self) -> &str {
        self.uri.path_and_query().map_or("*", |target| target.as_str())
    }
}

fn encoding_of(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(CONTENT_ENCODING).cloned()
}

fn seconds(time: Duration) -> f64 {
    // Microseconds are enough, and a short number is easier to read.
    (time.as_secs_f64() * 1e6).round() / 1e6
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn colour_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        500.. => "\x1b[31m",
        400.. => "\x1b[33m",
        300.. => "\x1b[36m",
        _ => "\x1b[32m",
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    client: Option<IpAddr>,
    scheme: &'a str,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    target: &'a str,
    protocol: &'a str,
    status: u16,
    bytes: u64,
    duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<String>,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    aborted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Client;

    fn entry(target: &str) -> Entry {
        let (head, ()) = ::http::Request::builder()
            .uri(target)
            .header("host", "example.com")
            .header("user-agent", HeaderValue::from_bytes(b"a \"quoted\" \xff agent").unwrap())
            .body(())
            .unwrap()
            .into_parts();
        let client = Client { address: Some([192, 0, 2, 1].into()), port: 1, scheme: Scheme::Https, local_port: 443 };
        Entry::of(&Request { head, body: Body::Empty, client, id: RequestId(0xab) })
    }

    #[test]
    fn a_json_line_is_one_object_whatever_the_client_sends() {
        let mut entry = entry("/a?b=%22");
        entry.answered(
            &::http::Response::builder().status(404).header("content-encoding", "br").body(Body::Empty).unwrap(),
        );
        let line = entry.json();
        assert_eq!(line.matches('\n').count(), 1);
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        for (key, expected) in [
            ("client", "192.0.2.1"),
            ("scheme", "https"),
            ("target", "/a?b=%22"),
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
    fn a_client_that_leaves_before_the_answer_is_logged_as_499() {
        let entry = entry("/slow");
        assert!(entry.json().contains("\"status\":499"), "{}", entry.json());
        assert!(entry.text(false).contains(" 499 GET /slow "), "{}", entry.text(false));
    }
}
