//! Static files over real sockets: what hyper makes of the answers that `src/assets` tests as values.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::client::{Connection, get};
use crate::support::process::Process;
use crate::support::server::TestServer;

const STYLE: &[u8] = b"body { color: #123456; background: #654321 }";
const HASHED: &str = "/static/css/app.0123456789ab.css";

/// A stylesheet with copies and a file that is too large for the memory of [`serve`].
fn site() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir(folder.path().join("css")).unwrap();
    for name in ["css/app.css", "css/app.0123456789ab.css"] {
        fs_err::write(folder.path().join(name), STYLE).unwrap();
        fs_err::write(folder.path().join(format!("{name}.br")), "brotli's").unwrap();
        fs_err::write(folder.path().join(format!("{name}.gz")), "gzip's copy").unwrap();
    }
    fs_err::write(folder.path().join("big.bin"), big()).unwrap();
    let manifest = r#"{"paths": {"css/app.css": "css/app.0123456789ab.css"}, "version": "1.1", "hash": ""}"#;
    fs_err::write(folder.path().join("staticfiles.json"), manifest).unwrap();
    folder
}

/// Three megabytes that differ everywhere.
fn big() -> Vec<u8> {
    (0..3_000_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

async fn serve(folder: &Path) -> TestServer {
    TestServer::start(&format!("[static]\ndirectory = {folder:?}\nmemory = \"64 KiB\"\n")).await
}

async fn http2(server: &TestServer) -> SendRequest<Empty<Bytes>> {
    let stream = TokioIo::new(TcpStream::connect(server.address()).await.unwrap());
    let (client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    client
}

fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> http::Request<Empty<Bytes>> {
    let mut request = http::Request::builder().method(method).uri(format!("http://localhost{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

#[tokio::test]
async fn one_connection_carries_every_kind_of_answer() {
    let folder = site();
    let server = serve(folder.path()).await;
    let tag = get(server.address(), HASHED, "").await.header("etag").unwrap().to_owned();
    let mut connection = Connection::open(server.address()).await;
    let big = big();
    for (path, fields, status, body) in [
        (HASHED, "Accept-Encoding: gzip, br", 200, &b"brotli's"[..]),
        (HASHED, "Accept-Encoding: br;q=0, gzip", 200, b"gzip's copy"),
        (HASHED, "Accept-Encoding:", 200, STYLE),
        (HASHED, "Range: bytes=0-3", 206, b"body"),
        (HASHED, "Range: bytes=100-", 416, b"416 Range Not Satisfiable\n"),
        (HASHED, "If-None-Match: *", 304, b""),
        (HASHED, &format!("If-None-Match: \"x\", W/{tag}"), 304, b""),
        (HASHED, "If-Match: \"x\"", 412, b"412 Precondition Failed\n"),
        (HASHED, "Accept-Encoding: *;q=0", 406, b"406 Not Acceptable\n"),
        ("/static/missing.css", "X: y", 404, b"404 Not Found\n"),
        ("/static/big.bin", "Range: bytes=1000000-1999999", 206, &big[1_000_000..2_000_000]),
        ("/static/big.bin", "X: y", 200, &big),
        ("/static/css/app.css", "X: y", 200, STYLE),
    ] {
        connection.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n")).await;
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(answer.status, status, "for {path} with {fields}");
        assert!(answer.body == body, "another body for {path} with {fields}");
        assert_eq!(answer.header("transfer-encoding"), None, "for {path} with {fields}");
        let length = (status != 304).then(|| body.len().to_string());
        assert_eq!(answer.header("content-length"), length.as_deref(), "for {path} with {fields}");
    }
}

#[tokio::test]
async fn head_announces_a_body_that_does_not_come() {
    let folder = site();
    let server = serve(folder.path()).await;
    let mut connection = Connection::open(server.address()).await;
    for (path, status, length) in
        [(HASHED, 200, "44"), ("/static/big.bin", 200, "3000001"), ("/static/missing", 404, "14")]
    {
        connection.send(&format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-3\r\n\r\n")).await;
        let answer = connection.answer_to_head().await.expect("an answer");
        assert_eq!((answer.status, answer.header("content-length")), (status, Some(length)), "for {path}");
    }
    // Had a body come, this answer would not be found where it should begin.
    connection.send(format!("GET {HASHED} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    assert_eq!(connection.answer().await.expect("an answer").body, STYLE);
}

#[tokio::test]
async fn http2_gets_the_same_answers() {
    let folder = site();
    let server = serve(folder.path()).await;
    let mut client = http2(&server).await;
    let big = big();
    for (method, path, fields, status, length, body) in [
        ("GET", HASHED, &[("accept-encoding", "gzip, br")][..], 200, Some("8"), &b"brotli's"[..]),
        ("GET", HASHED, &[("accept-encoding", "gzip"), ("accept-encoding", "br")], 200, Some("8"), b"brotli's"),
        ("HEAD", HASHED, &[], 200, Some("44"), b""),
        ("HEAD", "/static/big.bin", &[], 200, Some("3000001"), b""),
        ("HEAD", "/static/missing", &[], 404, Some("14"), b""),
        ("GET", HASHED, &[("if-none-match", "*")], 304, None, b""),
        ("GET", HASHED, &[("range", "bytes=-4")], 206, Some("4"), b"21 }"),
        ("POST", HASHED, &[], 405, Some("23"), b"405 Method Not Allowed\n"),
        ("OPTIONS", HASHED, &[], 204, None, b""),
        ("GET", "/static/big.bin", &[], 200, Some("3000001"), &big),
    ] {
        let answer = client.send_request(request(method, path, fields)).await.unwrap();
        assert_eq!(answer.status(), status, "for {method} {path} with {fields:?}");
        let announced = answer.headers().get("content-length").map(|length| length.to_str().unwrap());
        assert_eq!(announced, length, "for {method} {path} with {fields:?}");
        let received = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(received == body, "another body for {method} {path} with {fields:?}");
    }
}

#[tokio::test]
async fn http2_streams_do_not_wait_for_each_other() {
    let folder = site();
    let server = serve(folder.path()).await;
    let mut client = http2(&server).await;
    // Its body is not read, so its window stays shut.
    let stuck = client.send_request(request("GET", "/static/big.bin", &[])).await.unwrap();
    let answer = client.send_request(request("GET", HASHED, &[])).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), STYLE);
    assert!(stuck.into_body().collect().await.unwrap().to_bytes() == big());
}

#[tokio::test]
async fn an_answer_to_options_has_no_body_and_keeps_the_connection() {
    let folder = site();
    let server = serve(folder.path()).await;
    let mut connection = Connection::open(server.address()).await;
    connection.send(format!("OPTIONS {HASHED} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    let answer = connection.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    assert_eq!((answer.header("content-length"), answer.header("transfer-encoding")), (None, None));
    connection.send(format!("POST {HASHED} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")).await;
    let answer = connection.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[tokio::test]
async fn several_ranges_arrive_as_announced_over_either_protocol() {
    let folder = site();
    let server = serve(folder.path()).await;
    let big = big();
    for (path, bytes) in [("/static/big.bin", &big[..]), (HASHED, STYLE)] {
        let range = "bytes=30-, 0-1";
        let answer = get(server.address(), path, &format!("Range: {range}\r\n")).await;
        let boundary = answer.header("content-type").unwrap().rsplit_once('=').unwrap().1.to_owned();
        let media_type = if path == HASHED { "text/css; charset=utf-8" } else { "application/octet-stream" };
        let (length, last) = (bytes.len(), bytes.len() - 1);
        let head = |place: &str| {
            format!("\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: bytes {place}/{length}\r\n\r\n")
        };
        let (first, second, end) = (head(&format!("30-{last}")), head("0-1"), format!("\r\n--{boundary}--\r\n"));
        let expected = [first.as_bytes(), &bytes[30..], second.as_bytes(), &bytes[..2], end.as_bytes()].concat();
        assert_eq!((answer.status, answer.header("transfer-encoding")), (206, None));
        assert!(answer.body == expected, "another body for {path}");

        let mut client = http2(&server).await;
        let answer = client.send_request(request("GET", path, &[("range", range)])).await.unwrap();
        let announced: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let received = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!((announced, received.len()), (expected.len(), expected.len()), "for {path}");
    }
}

#[tokio::test]
async fn attacks_on_paths_find_nothing() {
    let folder = site();
    let server = serve(folder.path()).await;
    for (path, expected) in [
        // What climbs or cannot be decoded in one way only is no sound request.
        ("/static/../../../../etc/passwd", 400),
        ("/static/%2e%2e/%2e%2e/etc/passwd", 400),
        ("/static/..%2f..%2fetc%2fpasswd", 400),
        ("/static/..%5c..%5cetc", 400),
        ("/static/css/app.css%00.png", 400),
        ("/static/css\\app.css", 400),
        ("/static/%c0%ae%c0%ae/css/app.css", 404),
        (&format!("/static/{}", "a".repeat(30_000)), 404),
        ("http://localhost/static/../etc/passwd", 400),
        ("/static/%252e%252e/etc/passwd", 404),
        ("/static/%ff%fe", 404),
        ("/static//css/app.css", 404),
        ("/static/css/", 404),
        ("/static/css", 404),
        ("/static/", 404),
        ("/static/staticfiles.json", 404),
        ("/static/css/app.css.br", 404),
        ("/%73tatic/absent.css", 404),
    ] {
        let answer = get(server.address(), path, "").await;
        assert_eq!((answer.status, answer.header("cache-control")), (expected, Some("no-store")), "for {path}");
    }
    // No head is that long.
    let answer = get(server.address(), &format!("/static/{}", "a".repeat(60_000)), "").await;
    assert_eq!(answer.status, 431);
    let answer = get(server.address(), "http://localhost/static/css/app.css", "").await;
    assert_eq!(answer.status, 200, "the absolute form names the same file");
}

#[tokio::test]
async fn a_file_that_is_gone_is_an_error_and_not_a_hang() {
    let folder = site();
    let server = serve(folder.path()).await;
    fs_err::remove_file(folder.path().join("big.bin")).unwrap();
    let mut connection = Connection::open(server.address()).await;
    for (path, status) in [("/static/big.bin", 500), (HASHED, 200)] {
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(connection.answer().await.expect("an answer").status, status, "for {path}");
    }
}

#[tokio::test]
async fn a_download_can_be_continued_where_it_broke_off() {
    let folder = site();
    let server = serve(folder.path()).await;
    let mut connection = Connection::open(server.address()).await;
    connection.send("GET /static/big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let tag = connection.head().await.expect("a head").header("etag").unwrap().to_owned();
    drop(connection);
    let rest = get(server.address(), "/static/big.bin", &format!("Range: bytes=1500000-\r\nIf-Range: {tag}\r\n")).await;
    assert_eq!((rest.status, rest.header("content-range")), (206, Some("bytes 1500000-3000000/3000001")));
    assert!(rest.body == big()[1_500_000..], "another rest");
}

/// The built program with a configuration, and the port it listens on.
fn start(folder: &Path, limit: &str, config: &str) -> (Process, SocketAddr) {
    let file = folder.join("vestibule.toml");
    let text = format!("[listen]\nhttp = [\"127.0.0.1:0\"]\n[log]\naccess = \"off\"\nformat = \"text\"\n{config}");
    fs_err::write(&file, text).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limit} exec \"$0\" serve --config \"$1\"")]);
    shell.arg(env!("CARGO_BIN_EXE_vestibule")).arg(&file).env_clear();
    let process = Process::start(&mut shell);
    let port = process.wait_for_line("its port", |line| line.split("127.0.0.1:").nth(1).map(str::to_owned));
    let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
    (process, SocketAddr::from(([127, 0, 0, 1], digits.parse().unwrap())))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_descriptor_a_file_is_put_off_and_then_sent_again() {
    let (folder, other) = (site(), tempfile::tempdir().unwrap());
    let config = format!("[static]\ndirectory = {:?}\nmemory = \"64 KiB\"\n", folder.path());
    let (process, address) = start(other.path(), "ulimit -n 60;", &config);
    let mut connection = Connection::open(address).await;
    let mut ask = async |method: &str, range: &str| {
        connection.send(&format!("{method} /static/big.bin HTTP/1.1\r\nHost: localhost\r\n{range}\r\n")).await;
        connection.answer().await.expect("an answer")
    };
    assert_eq!(ask("GET", "Range: bytes=0-0\r\n").await.status, 206);
    // More than there are descriptors. Those beyond wait in the kernel.
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    let refused = loop {
        let answer = ask("GET", "Range: bytes=0-0\r\n").await;
        if answer.status != 206 {
            break answer;
        }
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    process.wait_for_line("why", |line| line.contains("raise the limit on open files").then_some(()));
    drop(crowd);
    while ask("GET", "Range: bytes=0-0\r\n").await.status != 206 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_missing_is_told_with_the_one_that_was_perhaps_meant() {
    let (folder, other) = (site(), tempfile::tempdir().unwrap());
    let config = format!("[static]\ndirectory = {:?}\n", folder.path());
    let (process, address) = start(other.path(), "", &config);
    let referer = "Referer: http://localhost/page\r\n";
    assert_eq!(get(address, "/static/css/apq.css", referer).await.status, 404);
    let line = process.wait_for_line("a missing file", |line| line.contains("apq").then(|| line.to_owned()));
    for part in ["css/apq.css", "css/app.css", "http://localhost/page"] {
        assert!(line.contains(part), "{part} is not in {line:?}");
    }
    // Whatever anybody writes into a name, a terminal shows it and does not obey it.
    assert_eq!(get(address, "/static/%1b%5b31mred", "").await.status, 404);
    let line = process.wait_for_line("a missing file", |line| line.contains("31mred").then(|| line.to_owned()));
    assert!(line.contains("\"\\u{1b}[31mred\""), "{line:?}");
}
