//! The exchanges of `fixtures/exchanges/static`, over HTTP/1.1 and over HTTP/2, and what RFC 9110 asks
//! of every answer, whatever the fixtures say.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::client::{Answer, Connection};
use crate::support::exchange::{Exchange, Group, Outcome, bytes_of, escape, unescape};
use crate::support::server::TestServer;
use crate::support::soon;

const STYLE: &[u8] = b"body { color: #123456; background: #654321 }";
const MANIFEST: &[u8] =
    br#"{"paths": {"css/app.css": "css/app.0123456789ab.css", "js/tiny.js": "js/tiny.ba9876543210.js"},
"version": "1.1", "hash": ""}"#;

/// The site that the exchanges are about. The copies are not what a decoder would understand, so that
/// one sees in a body which of them was sent.
pub(crate) fn site() -> TempDir {
    let big: Vec<u8> = (0..200_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in [
        ("css/app.css", STYLE),
        ("css/app.css.br", b"brotli's"),
        ("css/app.css.gz", b"gzip's copy"),
        ("css/app.css.zst", b"zstd's one"),
        ("css/app.0123456789ab.css", STYLE),
        ("css/app.0123456789ab.css.br", b"brotli's"),
        ("css/app.0123456789ab.css.gz", b"gzip's copy"),
        ("css/app.0123456789ab.css.zst", b"zstd's one"),
        ("css/alone.css", b"a { color: red }"),
        // The brotli copy is longer than the file.
        ("js/tiny.js", b"let a = 1;\n"),
        ("js/tiny.js.br", b"brotli's, longer"),
        ("js/tiny.js.gz", b"gzip's"),
        ("js/tiny.ba9876543210.js", b"let a = 1;\n"),
        // Looks like a hash, and is in no manifest.
        ("js/with.123456789012.js", b"let b = 2;\n"),
        ("js/module.mjs", b"export const answer = 42;\n"),
        ("img/dot.png", b"\x89PNG\r\n\x1a\n"),
        ("img/my photo.png", b"\x89PNG photo"),
        ("img/\u{fc}berblick.png", b"\x89PNG view"),
        ("img/100%.svg", b"<svg/>"),
        ("img/photo.jpg", b"\xff\xd8\xff JPEG, forty bytes long in this case.."),
        ("img/photo.webp", b"RIFF WebP, rather short"),
        ("img/photo.avif", b"ftypavif short"),
        // The AVIF twin is longer than the image.
        ("img/icon.png", b"\x89PNG icon"),
        ("img/icon.png.avif", b"ftypavif, longer"),
        ("img/icon.png.webp", b"RIFF"),
        ("fonts/icons.woff2", b"wOF2\0"),
        ("data/list.json", b"[]"),
        ("site.webmanifest", b"{}"),
        ("page.html", b"<!doctype html>\n"),
        ("robots.txt", b"User-agent: *\n"),
        ("LICENSE", b"MIT\n"),
        ("empty.txt", b""),
        ("big.bin", &big),
        (".env", b"SECRET=1\n"),
        ("css/.draft.css", b"b{}"),
        (".well-known/security.txt", b"Contact: a\n"),
        ("staticfiles.json", MANIFEST),
    ] {
        let path = folder.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, contents).unwrap();
        let date = UNIX_EPOCH + Duration::from_secs(784_111_777);
        fs_err::OpenOptions::new().write(true).open(&path).unwrap().file().set_modified(date).unwrap();
    }
    folder
}

/// vestibule with that site.
pub(crate) async fn serve(folder: &Path) -> TestServer {
    let twins = "[\"/static/img/photo.*\", \"*/icon.png\"]";
    TestServer::start(&format!("[static]\ndirectory = {folder:?}\nmemory = \"64 KiB\"\nimage_twins = {twins}\n")).await
}

/// A request of an exchange, taken apart.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<String>,
    body: Vec<u8>,
    /// Whether its first line says `HTTP/1.1`, because it cannot be said in HTTP/2 or means something else there.
    is_for_http1_only: bool,
}

impl Sent {
    pub(crate) fn of(exchange: &Exchange) -> Self {
        let mut lines = exchange.sent.iter();
        let first = lines.next().unwrap();
        let (line, is_for_http1_only) = first.strip_suffix(" HTTP/1.1").map_or((&**first, false), |line| (line, true));
        let (method, target) = line.split_once(' ').unwrap();
        let fields: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).cloned().collect();
        let body = bytes_of(&lines.cloned().collect::<Vec<_>>());
        let mut bytes = Vec::new();
        unescape(target, &mut bytes);
        let target = String::from_utf8(bytes).unwrap();
        Self { method: method.to_owned(), target, fields, body, is_for_http1_only }
    }

    /// A GET with one field.
    pub(crate) fn get(target: &str, field: &str) -> Self {
        let sent = vec![format!("GET {target}"), field.to_owned()];
        Self::of(&Exchange { sent, ..Exchange::default() })
    }

    /// All of it, for HTTP/1.1. No further request follows.
    fn raw(&self) -> Vec<u8> {
        let end = ["Connection: close".to_owned(), String::new()];
        let first = format!("{} {} HTTP/1.1\r\nHost: localhost\r\n", self.method, self.target);
        [first.as_bytes(), &bytes_of(&self.fields), &bytes_of(&end), &self.body].concat()
    }
}

/// The answer that a raw request gets; nothing when the server closes without one.
pub(crate) async fn answer_to<S>(mut connection: Connection<S>, sent: &Sent) -> Option<Answer>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    connection.send(sent.raw()).await;
    if sent.method == "HEAD" { connection.answer_to_head().await } else { connection.answer().await }
}

async fn over_http2(client: &mut SendRequest<Full<Bytes>>, sent: &Sent) -> Answer {
    let mut request = http::Request::builder().method(&*sent.method).uri(format!("http://localhost{}", sent.target));
    for field in &sent.fields {
        let (name, value) = field.split_once(':').unwrap();
        let mut bytes = Vec::new();
        unescape(value.trim(), &mut bytes);
        request = request.header(name, bytes);
    }
    let request = request.body(Full::from(sent.body.clone())).unwrap();
    let (head, body) = soon(client.send_request(request)).await.unwrap().into_parts();
    let field =
        |(name, value): (&http::HeaderName, &http::HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
    let headers = head.headers.iter().map(field).collect();
    Answer { status: head.status.as_u16(), headers, body: soon(body.collect()).await.unwrap().to_bytes().into() }
}

/// The answer as lines, without what is another one each time or belongs to the connection.
fn lines(answer: &Answer) -> Vec<String> {
    // What parts the parts is another one each time.
    if let Some((_, boundary)) = answer.header("content-type").and_then(|kind| kind.split_once("; boundary=")) {
        let known = |text: &str| text.replace(boundary, "(any)").replace("; boundary=", "; ");
        let headers = answer.headers.iter().map(|(name, value)| (name.clone(), known(value))).collect();
        let body = known(&String::from_utf8_lossy(&answer.body)).into_bytes();
        return lines(&Answer { headers, body, status: answer.status });
    }
    let mut fields: Vec<_> =
        answer.headers.iter().filter(|(name, _)| !matches!(&**name, "date" | "connection")).collect();
    fields.sort();
    let mut lines = vec![answer.status.to_string()];
    lines.extend(fields.into_iter().map(|(name, value)| format!("{name}: {value}")));
    if !answer.body.is_empty() {
        lines.extend([String::new(), escape(&answer.body)]);
    }
    lines
}

#[tokio::test]
async fn every_static_exchange_is_as_written_over_both_protocols() {
    let folder = site();
    let server = serve(folder.path()).await;
    let stream = TokioIo::new(TcpStream::connect(server.address()).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    for group in Group::all("static") {
        let mut outcomes = Vec::new();
        for exchange in &group.exchanges {
            let sent = Sent::of(exchange);
            let connection = Connection::open(server.address()).await;
            let answer = answer_to(connection, &sent).await;
            let got = answer.as_ref().map_or_else(|| vec!["closed".to_owned()], lines);
            if let Some(answer) = &answer {
                check_the_standard(&exchange.title, &sent, answer);
            }
            if !sent.is_for_http1_only {
                let other = lines(&over_http2(&mut client, &sent).await);
                assert_eq!(other, got, "HTTP/2 answers {:?} otherwise than HTTP/1.1", exchange.title);
            }
            outcomes.push(Outcome { got, seen: Vec::new() });
        }
        group.settle(outcomes);
    }
}

/// What RFC 9110 asks of every answer.
fn check_the_standard(title: &str, sent: &Sent, answer: &Answer) {
    let has = |name| answer.header(name).is_some();
    let length = answer.header("content-length").map(|length| length.parse::<usize>().unwrap());
    let is_asked_for = |name: &str| sent.fields.iter().any(|field| field.to_ascii_lowercase().starts_with(name));
    if sent.method == "HEAD" || matches!(answer.status, 204 | 304) {
        assert!(answer.body.is_empty(), "{title}: a body (9.3.2, 15.4.5)");
    } else {
        assert_eq!(length, Some(answer.body.len()), "{title}: another length than announced (8.6)");
    }
    match answer.status {
        200 | 304 => assert!(has("etag") && has("cache-control"), "{title}: no validator (8.8) or lifetime"),
        204 => assert!(sent.method == "OPTIONS" && has("allow") && length.is_none(), "{title}: (8.6, 9.3.7)"),
        206 if answer.header("content-type").is_some_and(|kind| kind.starts_with("multipart/byteranges")) => {
            assert!(!has("content-range"), "{title}: the parts tell their ranges (15.3.7.2)");
        }
        206 => {
            let range = answer.header("content-range").expect("a 206 tells its range (15.3.7)");
            let (part, size) = range.strip_prefix("bytes ").and_then(|range| range.split_once('/')).unwrap();
            let (first, last) = part.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            assert!(first <= last && last < size.parse::<usize>().unwrap(), "{title}: {range} (14.4)");
            assert_eq!(length, Some(last + 1 - first), "{title}: {range} is not so long");
            assert!(sent.method == "GET" && is_asked_for("range:"), "{title}: nobody asked for a part (14.2)");
        }
        405 => assert!(has("allow"), "{title}: what is allowed? (15.5.6)"),
        412 => assert!(is_asked_for("if-"), "{title}: no precondition (15.5.13)"),
        416 => assert!(
            answer.header("content-range").unwrap().starts_with("bytes */"),
            "{title}: how long is it? (15.5.17)"
        ),
        400 | 404 | 406 => {}
        other => panic!("{title}: {other}"),
    }
    assert!(answer.status != 304 || !has("content-length") && !has("content-encoding"), "{title}: (15.4.5)");
    assert!(answer.status < 400 || answer.header("cache-control") == Some("no-store"), "{title}: an error is kept");
}

/// The four things a GET and a HEAD must agree about are all of them (RFC 9110, section 9.3.2).
#[tokio::test]
async fn head_has_the_headers_of_get() {
    let folder = site();
    let server = serve(folder.path()).await;
    for group in Group::all("static") {
        for exchange in group.exchanges {
            let get = Sent::of(&exchange);
            if get.method != "GET" || get.fields.iter().any(|field| field.to_ascii_lowercase().starts_with("range")) {
                continue;
            }
            let head = Sent { method: "HEAD".to_owned(), ..Sent::of(&exchange) };
            let mut answers = Vec::new();
            for sent in [get, head] {
                let answer = answer_to(Connection::open(server.address()).await, &sent).await;
                let answer = answer.map(|answer| Answer { body: Vec::new(), ..answer });
                answers.push(answer.map(|answer| lines(&answer)));
            }
            assert_eq!(answers[0], answers[1], "for {}", exchange.title);
        }
    }
}
