//! One line per request, written when the last byte of its answer has been handed on.
//!
//! A request formats its line and puts it with the others; a thread of its own writes all that has come
//! together within a moment. So a busy site pays neither a system call nor a wake-up per line. When
//! standard output takes nothing for so long that the bound is reached, lines are dropped and counted:
//! a stuck log must not stop the site.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use ::http::header::{CONTENT_ENCODING, HOST, HeaderName, HeaderValue, REFERER, USER_AGENT};
use ::http::{Method, StatusCode, Uri, Version};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use percent_encoding::{CONTROLS, PercentEncode, utf8_percent_encode};
use serde::{Serialize, Serializer};
use tower::{Layer, Service};
use tracing::warn;

use crate::config::values::AccessLog as Form;
use crate::http::body::{Body, BodyError};
use crate::http::{Client, Request, RequestId, Response, Scheme, UpstreamServer, UpstreamTime};

/// How many bytes of lines may wait for the writer.
const BOUND: usize = 4 << 20;

/// How long lines come together before they are written. Measured: at full load it saves two context
/// switches per request, which were a third of the request's cost.
const GATHER: Duration = Duration::from_millis(20);

/// How long the last lines may take to be written.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Where access lines go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLog {
    sink: Option<Sink>,
}

#[derive(Debug, Clone)]
struct Sink {
    queue: Arc<Queue>,
    form: Line,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Text { colour: bool },
    Json,
}

/// The lines that wait for the writer.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Rung when the first line comes, and at the end.
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: u64,
    ended: bool,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer(Option<(Arc<Queue>, JoinHandle<()>)>);

impl Writer {
    /// Waits until every line so far is written, even if somebody still holds the log.
    pub fn finish(self) {
        if let Some((queue, thread)) = self.0 {
            queue.lock().ended = true;
            queue.bell.notify_one();
            // A standard output that takes nothing must not keep the program from ending.
            let deadline = Instant::now() + LAST_WRITE;
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(GATHER / 4);
            }
        }
    }
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
        let queue = Arc::new(Queue::default());
        let written = queue.clone();
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || written.write_lines())?;
        Ok((Self { sink: Some(Sink { queue: queue.clone(), form }) }, Writer(Some((queue, thread)))))
    }
}

impl AccessLog {
    /// Writes a line for a request that could not be read, and was answered by the parser.
    pub fn malformed(&self, client: &Client, status: u16, reason: &str) {
        let Some(sink) = &self.sink else { return };
        sink.write(&Entry {
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
        });
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.lines.len() + line.len() > BOUND {
            waiting.dropped += 1;
            return;
        }
        let is_first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if is_first {
            self.bell.notify_one();
        }
    }

    fn write_lines(&self) {
        let mut output = io::stdout();
        let mut lines = Vec::new();
        loop {
            let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.ended;
            let waiting = self.bell.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            let gathered = self.bell.wait_timeout_while(waiting, GATHER, |waiting| !waiting.ended);
            let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            // The two buffers take turns, so neither is allocated anew.
            std::mem::swap(&mut waiting.lines, &mut lines);
            let (dropped, ended) = (std::mem::take(&mut waiting.dropped), waiting.ended);
            drop(waiting);
            // Whoever reads the log may be gone; the site goes on.
            let _ = output.write_all(&lines).and_then(|()| output.flush());
            lines.clear();
            if dropped > 0 {
                warn!(dropped, "standard output was stuck; these access-log lines are lost");
            }
            if ended {
                return;
            }
        }
    }
}

thread_local! {
    /// Where a thread formats its lines, so that none is allocated for a line.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Sink {
    fn write(&self, entry: &Entry) {
        SCRATCH.with_borrow_mut(|line| {
            line.clear();
            entry.write(self.form, line).expect("writing to memory never fails");
            self.queue.push(line);
        });
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
        Poll::Ready(Ok(response.map(|inner| LoggedBody { inner, pending, is_cut: false })))
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
    is_cut: bool,
}

impl LoggedBody {
    /// Notes that the last bytes that were taken of it do not reach the client, and nothing more does.
    pub fn cut(&mut self, bytes: usize) {
        self.is_cut = true;
        if let Some(Pending { entry, .. }) = &mut self.pending {
            entry.bytes = entry.bytes.saturating_sub(bytes as u64);
        }
    }
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
            entry.complete |= self.inner.is_end_stream() && !self.is_cut;
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
    server: Option<Arc<str>>,
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

    fn answered(&mut self, response: &Response) {
        self.status = response.status();
        self.encoding = response.headers().get(CONTENT_ENCODING).cloned();
        self.upstream = response.extensions().get::<UpstreamTime>().map(|time| time.0);
        self.server = response.extensions().get::<UpstreamServer>().map(|server| Arc::clone(&server.0));
        // These have no body to complete, whatever their headers announce.
        self.complete = self.method == Method::HEAD
            || matches!(
                self.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS
            );
    }

    fn write(&self, form: Line, out: &mut Vec<u8>) -> io::Result<()> {
        match form {
            Line::Json => self.json(out),
            Line::Text { colour } => self.text(colour, out),
        }
    }

    fn json(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let text = |value| Option::<&HeaderValue>::map(value, Lossy);
        let line = JsonLine {
            time: Clock(SystemTime::now()),
            client: self.client,
            scheme: self.scheme.as_str(),
            method: self.method.as_str(),
            host: text(self.host.as_ref()),
            target: Target(self.target_as_sent()),
            protocol: protocol(self.version),
            status: self.status.as_u16(),
            bytes: self.bytes,
            duration: seconds(self.started.elapsed()),
            upstream: self.upstream.map(seconds),
            server: self.server.as_deref(),
            encoding: text(self.encoding.as_ref()),
            request_id: self.id,
            user_agent: text(self.user_agent.as_ref()),
            referer: text(self.referer.as_ref()),
            aborted: !self.complete,
            error: self.error.as_deref(),
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    }

    fn text(&self, colour: bool, out: &mut Vec<u8>) -> io::Result<()> {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let (on, off) = if colour { (colour_of(self.status), "\x1b[0m") } else { ("", "") };
        write!(out, "{} {on}{}{off} {} {}", &time[11..19], self.status.as_u16(), self.method, self.target())?;
        write!(out, " {} B {:.1} ms", self.bytes, self.started.elapsed().as_secs_f64() * 1e3)?;
        if let Some(time) = self.upstream {
            let (at, server) = self.server.as_deref().map_or(("", ""), |server| (" at ", server));
            write!(out, " (application{at}{server} {:.1} ms)", time.as_secs_f64() * 1e3)?;
        }
        if let Some(coding) = self.encoding.as_ref().and_then(|value| value.to_str().ok()) {
            write!(out, " {coding}")?;
        }
        if let Some(client) = self.client {
            write!(out, " {client}")?;
        }
        write!(out, " {}", self.id)?;
        if !self.complete {
            write!(out, " aborted")?;
        }
        writeln!(out)
    }

    /// The target, with what is not ASCII encoded: some of it is a command to a terminal, or the end of a
    /// line to who reads the log.
    fn target(&self) -> PercentEncode<'_> {
        utf8_percent_encode(self.target_as_sent(), CONTROLS)
    }

    fn target_as_sent(&self) -> &str {
        self.uri.path_and_query().map_or("*", |target| target.as_str())
    }
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

/// The text itself where it is nothing but what a typewriter has, which nearly all is: then there is
/// nothing to look for in it.
fn harmless(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|_| bytes.iter().all(|byte| matches!(byte, b' '..=b'~')))
}

/// A time in UTC to the millisecond.
struct Clock(SystemTime);

thread_local! {
    /// The last millisecond and its text: many lines of a busy site have the same.
    static LAST: RefCell<(Duration, String)> = const { RefCell::new((Duration::MAX, String::new())) };
}

impl Serialize for Clock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        LAST.with_borrow_mut(|(last, text)| {
            if *last != since {
                use fmt::Write as _;
                text.clear();
                let time = humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since);
                write!(text, "{time}").map_err(serde::ser::Error::custom)?;
                *last = since;
            }
            serializer.serialize_str(text)
        })
    }
}

/// The target, encoded as by [`Entry::target`].
struct Target<'a>(&'a str);

impl Serialize for Target<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match harmless(self.0.as_bytes()) {
            Some(text) => serializer.serialize_str(text),
            None => serializer.collect_str(&utf8_percent_encode(self.0, CONTROLS)),
        }
    }
}

/// A header value as text; what is not UTF-8 in it is marked.
struct Lossy<'a>(&'a HeaderValue);

impl Serialize for Lossy<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(text) = harmless(self.0.as_bytes()) {
            return serializer.serialize_str(text);
        }
        let text = String::from_utf8_lossy(self.0.as_bytes());
        let ends_a_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        match text.contains(ends_a_line) {
            true => serializer.serialize_str(&text.replace(ends_a_line, "\u{fffd}")),
            false => serializer.serialize_str(&text),
        }
    }
}

fn shown<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: Clock,
    client: Option<IpAddr>,
    scheme: &'a str,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Lossy<'a>>,
    target: Target<'a>,
    protocol: &'a str,
    status: u16,
    bytes: u64,
    duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<Lossy<'a>>,
    #[serde(serialize_with = "shown")]
    request_id: RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Lossy<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<Lossy<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    aborted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(target: &str) -> Entry {
        let (head, ()) = ::http::Request::builder()
            .uri(target)
            .header("host", "example.com")
            .header("user-agent", HeaderValue::from_bytes(b"a \"quoted\" \xff agent").unwrap())
            .body(())
            .unwrap()
            .into_parts();
        let client = Client { address: Some([192, 0, 2, 1].into()), port: 1, scheme: Scheme::Https, local_port: 443 };
        Entry::of(&Request { head, body: Body::Empty, client, id: RequestId(0xab), early_hints: None })
    }

    fn line(entry: &Entry, form: Line) -> String {
        let mut line = Vec::new();
        entry.write(form, &mut line).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_stuck_writer_costs_lines_and_not_memory() {
        let queue = Queue::default();
        let line = [b'x'; 1000];
        (0..2 * BOUND / line.len()).for_each(|_| queue.push(&line));
        let waiting = queue.lock();
        assert!(waiting.lines.len() <= BOUND);
        assert_eq!(waiting.lines.len() / line.len() + waiting.dropped as usize, 2 * BOUND / line.len());
    }

    #[test]
    fn a_json_line_is_one_object_whatever_the_client_sends() {
        let mut entry = entry("/a?b=%22\u{2028}\u{9b}31m");
        entry.answered(
            &::http::Response::builder().status(404).header("content-encoding", "br").body(Body::Empty).unwrap(),
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
        entry.answered(&response);
        let text = |entry: &Entry| line(entry, Line::Text { colour: false });
        assert!(text(&entry).contains(" (application 20.0 ms)") && !line(&entry, Line::Json).contains("server"));
        response.extensions_mut().insert(UpstreamServer("unix:/a".into()));
        entry.answered(&response);
        assert!(text(&entry).contains(" (application at unix:/a 20.0 ms)"));
        assert!(line(&entry, Line::Json).contains(r#""server":"unix:/a""#));
    }

    #[test]
    fn what_was_taken_of_a_body_and_did_not_reach_the_client_does_not_count() {
        for (cut, expected) in [(None, (10, false)), (Some(4), (6, true))] {
            let queue = Arc::new(Queue::default());
            let mut entry = entry("/");
            entry.answered(&::http::Response::new(Body::Empty));
            let pending = Some(Pending { sink: Sink { queue: queue.clone(), form: Line::Json }, entry });
            let mut body = LoggedBody { inner: Body::from("0123456789"), pending, is_cut: false };
            let frame = Pin::new(&mut body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
            assert!(frame.is_ready());
            if let Some(bytes) = cut {
                body.cut(bytes);
            }
            drop(body);
            let line: serde_json::Value = serde_json::from_slice(&queue.lock().lines).unwrap();
            assert_eq!((line["bytes"].as_u64().unwrap(), line["aborted"] == true), expected, "{line}");
        }
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
