//! The application's answers, compressed on their way out, through the whole server.

use std::io::Read as _;

use crate::support::app::App;
use crate::support::client::{Answer, Connection, get};
use crate::support::server::TestServer;

/// A page of a few kilobytes.
fn page() -> String {
    (0..200).map(|number| format!("<li>{number} of the list</li>\n")).collect()
}

/// An application that answers all with a page, and a server before it.
async fn site(fields: &str, more: &str) -> (TestServer, App) {
    let page = page();
    let raw = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{page}", page.len());
    let app = App::answering(raw).await;
    let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n{more}", app.address())).await;
    (server, app)
}

fn decoded(answer: &Answer) -> String {
    let (mut text, body) = (String::new(), &answer.body[..]);
    match answer.header("content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_string(&mut text),
        Some("zstd") => zstd::stream::read::Decoder::new(body).unwrap().read_to_string(&mut text),
        _ => return answer.text().to_owned(),
    }
    .unwrap();
    text
}

#[tokio::test]
async fn a_page_comes_in_the_coding_that_the_client_likes_best() {
    let fields = "Content-Type: text/html; charset=utf-8\r\nETag: \"a\"\r\nSet-Cookie: a=1\r\nVary: Cookie\r\n";
    let (server, app) = site(fields, "").await;
    for (accepted, coding) in [
        ("gzip, deflate, br, zstd", Some("br")),
        ("zstd, gzip", Some("zstd")),
        ("gzip", Some("gzip")),
        ("identity", None),
    ] {
        let answer = get(server.address(), "/", &format!("Accept-Encoding: {accepted}\r\n")).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (200, coding), "for {accepted}");
        assert_eq!(decoded(&answer), page(), "for {accepted}");
        let vary: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "vary").map(|(_, value)| value).collect();
        assert_eq!(vary, ["Cookie", "Accept-Encoding"], "for {accepted}");
        assert_eq!(answer.header("etag"), Some(if coding.is_some() { "W/\"a\"" } else { "\"a\"" }));
        assert_eq!(answer.header("set-cookie"), Some("a=1"));
        assert_eq!(answer.header("content-length").is_some(), coding.is_none());
        assert!(coding.is_none() || answer.body.len() < page().len() / 3, "{} bytes", answer.body.len());
    }
    assert_eq!(app.connections(), 1, "each answer was read to its end");
}

#[tokio::test]
async fn head_is_answered_as_get_would_be() {
    let (server, app) = site("Content-Type: text/html\r\nETag: \"a\"\r\n", "").await;
    let head_only = App::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"a\"\r\nContent-Length: {}\r\n\r\n",
        page().len()
    ))
    .await;
    let heads = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n", head_only.address())).await;
    let got = get(server.address(), "/", "Accept-Encoding: br\r\n").await;
    let mut connection = Connection::open(heads.address()).await;
    connection.send("HEAD / HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: br\r\n\r\n").await;
    let head = connection.answer_to_head().await.unwrap();
    let without_framing = |answer: &Answer| {
        let kept = |name: &str| !matches!(name, "date" | "transfer-encoding" | "x-request-id");
        let mut headers: Vec<_> = answer.headers.iter().filter(|(name, _)| kept(name)).cloned().collect();
        headers.sort();
        headers
    };
    assert_eq!((head.status, without_framing(&head)), (200, without_framing(&got)));
    drop(app);
}

#[tokio::test]
async fn what_must_stay_as_it_is_does() {
    for (fields, more) in [
        ("Content-Type: image/png\r\n", ""),
        ("Content-Type: text/html\r\nContent-Encoding: x-own\r\n", ""),
        ("Content-Type: text/html\r\nCache-Control: no-transform\r\n", ""),
        ("Content-Type: text/html\r\n", "[compression]\nenabled = false\n"),
        ("Content-Type: text/html\r\n", "[compression]\nminimum_size = \"1 MiB\"\n"),
        ("Content-Type: text/html\r\n", "[compression]\ntypes = [\"text/css\"]\n"),
    ] {
        let (server, _app) = site(fields, more).await;
        let answer = get(server.address(), "/", "Accept-Encoding: gzip, br\r\n").await;
        assert_eq!((answer.status, answer.text()), (200, page().as_str()), "for {fields:?} {more:?}");
        assert_ne!(answer.header("content-encoding"), Some("br"));
        assert_eq!(answer.header("vary"), None, "for {fields:?} {more:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_handed_over_stays_resumable() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("a.txt"), page()).unwrap();
    let folders = format!("[[send_file]]\npath = \"/p/\"\ndirectory = {:?}\n", folder.path().to_str().unwrap());
    let (server, _app) = site("Content-Type: text/plain\r\nX-Accel-Redirect: /p/a.txt\r\n", &folders).await;
    let answer = get(server.address(), "/", "Accept-Encoding: gzip, br\r\n").await;
    assert_eq!((answer.text(), answer.header("accept-ranges")), (page().as_str(), Some("bytes")));
    assert_eq!(answer.header("content-encoding"), None);
}

#[tokio::test]
async fn a_page_in_pieces_arrives_in_pieces() {
    let (send, pieces) = tokio::sync::mpsc::channel::<&'static str>(1);
    let pieces = std::sync::Arc::new(tokio::sync::Mutex::new(pieces));
    let app = App::new(move |mut connection| {
        let pieces = pieces.clone();
        async move {
            connection.request().await;
            connection.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            while let Some(piece) = pieces.lock().await.recv().await {
                connection.send(&format!("{:x}\r\n{piece}\r\n", piece.len())).await;
            }
            connection.send("0\r\n\r\n").await;
        }
    })
    .await;
    let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n", app.address())).await;
    let mut connection = Connection::open(server.address()).await;
    connection.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n").await;
    let mut answer = connection.head().await.unwrap();
    assert_eq!(answer.header("content-encoding"), Some("br"));
    let mut expected = String::new();
    for piece in ["the first piece, ", "the second, ", "the last"] {
        send.send(piece).await.unwrap();
        expected += piece;
        // Chunks until the piece can be read; nothing more has been sent by now, so waiting for more would fail.
        while so_far(&answer.body) != expected {
            answer.body.extend(connection.chunk().await.unwrap());
        }
    }
    drop(send);
    loop {
        let chunk = connection.chunk().await.unwrap();
        if chunk.is_empty() {
            break;
        }
        answer.body.extend(chunk);
    }
    assert_eq!(decoded(&answer), expected);
}

/// What a client can read of a brotli stream that goes on.
fn so_far(sent: &[u8]) -> String {
    let (mut decoder, mut text, mut part) = (brotli::Decompressor::new(sent, 4096), Vec::new(), [0; 512]);
    while let Ok(read @ 1..) = decoder.read(&mut part) {
        text.extend(&part[..read]);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let app = App::closing_after(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\n\r\n{}",
        page()
    ))
    .await;
    let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n", app.address())).await;
    let mut connection = Connection::open(server.address()).await;
    connection.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n").await;
    assert_eq!(connection.answer().await, None);
}
