//! Requests that two readers could understand in two ways: through a real socket, and what of them
//! reaches the application. Either nothing does, or exactly one well-formed request.

use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use vestibule::http::body::Body;

use crate::proxy::channel;
use crate::support::app::{App, HELLO};
use crate::support::client::Connection;
use crate::support::server::TestServer;
use crate::support::soon;

async fn server(app: &App) -> TestServer {
    TestServer::start(&format!("[upstream]\naddress = \"{}\"\n", app.address())).await
}

/// The request line, the framing and the body, of what the application saw.
fn essence(request: &str) -> String {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let framing =
        head.lines().filter(|line| line.starts_with("content-length") || line.starts_with("transfer-encoding"));
    let mut lines: Vec<&str> = head.lines().take(1).chain(framing).collect();
    lines.push(body);
    lines.join("|")
}

#[tokio::test]
async fn an_ambiguous_request_does_not_reach_the_application() {
    for raw in [
        // Lengths
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        // Lengths and codings
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\nCONTENT-LENGTH:0\nTRANSFER-ENCODING:chunked\n\n0\r\n\r\n",
        // Codings
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        // Chunks
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
        // Hosts
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        // Targets
        "GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /../a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /static/../admin HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%2e%2e%2fa HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a\\..\\b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        // Lines
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\x00: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX y: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    ] {
        let app = App::answering(HELLO).await;
        let server = server(&app).await;
        let mut client = Connection::open(server.address()).await;
        client.send(raw).await;
        let status = client.answer().await.map(|answer| answer.status);
        assert!(status.is_none_or(|status| matches!(status, 400 | 405)), "{status:?} for {raw:?}");
        assert_eq!(app.connections(), 0, "for {raw:?}");
    }
}

#[tokio::test]
async fn what_does_reach_the_application_is_one_request_framed_anew() {
    for (raw, expected) in [
        ("GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1|"), // bare line feeds are read, and not handed on
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET / HTTP/1.1|"),
        ("GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n", "GET /b?c HTTP/1.1|"),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a HTTP/1.1|"),
        ("GET //a HTTP/1.1\r\nHost: a\r\n\r\n", "GET //a HTTP/1.1|"),
        ("GET /%252e%252e/a%2fb HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%252e%252e/a%2fb HTTP/1.1|"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "POST / HTTP/1.1|content-length: 5|hello"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n",
            "POST / HTTP/1.1|content-length: 5|hello",
        ),
        // A body on a GET cannot become a request of its own.
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 31\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1|content-length: 31|GET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        // Nor can the application be told where the body ends in another way.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1|content-length: 5|hello",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent_Length: 9\r\nTransfer_Encoding: chunked\r\n\r\nhello",
            "POST / HTTP/1.1|content-length: 5|hello",
        ),
    ] {
        let app = App::answering(HELLO).await;
        let server = server(&app).await;
        let mut client = Connection::open(server.address()).await;
        client.send(raw).await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "hello"), "for {raw:?}");
        if raw.contains("evil") {
            assert!(client.is_closed().await, "for {raw:?}");
        }
        assert_eq!(essence(&app.request()), expected, "for {raw:?}");
    }
}

#[tokio::test]
async fn a_length_beside_chunks_is_seen_however_the_head_comes() {
    const GOOD: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    const BAD: [&str; 3] = [
        "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Le",
        "ngth: 5\r\nTransfer-Encoding: chunk",
        "ed\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ];
    let bad = BAD.concat();
    for (said, answers) in [
        (&[&*bad][..], &[400][..]),
        (&BAD, &[400]),
        (&[GOOD, &bad], &[200, 400]),
        (&[GOOD, BAD[0], BAD[1], BAD[2]], &[200, 400]),
        (&[&format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{bad}")], &[200, 400]), // behind another one
    ] {
        let app = App::answering(HELLO).await;
        let server = server(&app).await;
        let mut client = Connection::open(server.address()).await;
        let mut answered = Vec::new();
        for part in said {
            client.send(part).await;
            // Whatever is heard of it must be heard before the next part comes.
            if part.starts_with(GOOD) {
                answered.push(client.answer().await.unwrap().status);
            }
            tokio::task::yield_now().await;
        }
        while let Some(answer) = client.answer().await {
            answered.push(answer.status);
        }
        assert_eq!(answered, answers, "for {said:?}");
        assert!(app.requests().iter().all(|request| !request.contains("/bad")), "for {said:?}");
    }
}

#[tokio::test]
async fn nothing_follows_trailers_on_a_connection() {
    let chunks = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    // Another reader may take a bare LF for the end of a line, and see a request where hyper sees trailers.
    for (end, answers) in [
        ("0\r\n\r\n", &[200, 200][..]),
        ("0\r\nX: y\r\n\r\n", &[200]),
        ("0\r\nX: y\n\r\n", &[200]),
        ("0\r\n\n", &[200]),
        ("0\r\nX: y\n\n", &[200]),
    ] {
        let app = App::answering(HELLO).await;
        let server = server(&app).await;
        let mut client = Connection::open(server.address()).await;
        client.send(&format!("{chunks}{end}{next}{next}")).await;
        let mut answered = Vec::new();
        while answered.len() < answers.len() || answers.len() == 1 {
            let Some(answer) = client.answer().await else { break };
            answered.push(answer.status);
        }
        assert_eq!(answered, answers, "for {end:?}");
        let has_next = app.requests().iter().any(|request| request.contains("/next"));
        assert_eq!(has_next, answers.len() > 1, "for {end:?}");
    }
}

#[tokio::test]
async fn expect_is_answered_here_and_only_when_the_body_is_wanted() {
    let app = App::answering(HELLO).await;
    let server = server(&app).await;
    let mut client = Connection::open(server.address()).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().status, 100);
    client.send("ab").await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    assert!(!app.request().contains("expect"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_cuts_the_clients_connection() {
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let app = App::closing_after(raw).await;
        let server = server(&app).await;
        let mut client = Connection::open(server.address()).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.answer().await, None, "for {raw:?}");
    }
}

#[tokio::test]
async fn the_answer_to_head_announces_a_body_that_does_not_come() {
    let app = App::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let server = server(&app).await;
    let mut client = Connection::open(server.address()).await;
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.answer_to_head().await.unwrap();
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("5")));
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_frees_the_application() {
    let (sender, mut hung_up) = tokio::sync::mpsc::unbounded_channel();
    let app = App::new(move |mut connection| {
        let sender = sender.clone();
        async move {
            connection.request().await;
            sender.send("asked").unwrap();
            connection.hung_up().await;
            sender.send("left").unwrap();
        }
    })
    .await;
    let server = server(&app).await;
    let mut client = Connection::open(server.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(soon(hung_up.recv()).await, Some("asked"));
    drop(client);
    assert_eq!(soon(hung_up.recv()).await, Some("left"));
}

#[tokio::test]
async fn events_reach_the_client_one_by_one() {
    let (go_on, gate) = tokio::sync::oneshot::channel::<()>();
    let gate = std::sync::Mutex::new(Some(gate));
    let app = App::new(move |mut connection| {
        let gate = gate.lock().unwrap().take();
        async move {
            connection.request().await;
            connection.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
            gate.unwrap().await.unwrap();
            connection.send("data: 2\n\n").await;
        }
    })
    .await;
    let server = server(&app).await;
    let mut client = Connection::open(server.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head().await.unwrap().header("transfer-encoding"), Some("chunked"));
    assert_eq!(client.chunk().await.as_deref(), Some(&b"data: 1\n\n"[..]));
    go_on.send(()).unwrap(); // the second event is written only now
    assert_eq!(client.chunk().await.as_deref(), Some(&b"data: 2\n\n"[..]));
    assert_eq!(client.chunk().await.as_deref(), Some(&b""[..]));
}

#[tokio::test]
async fn an_unlimited_body_goes_through_and_a_larger_one_than_allowed_does_not() {
    for (limit, expected) in [("0", 200), ("10", 413)] {
        let app = App::answering(HELLO).await;
        let config = format!("[upstream]\naddress = \"{}\"\n[limits]\nbody_size = {limit}\n", app.address());
        let server = TestServer::start(&config).await;
        let mut client = Connection::open(server.address()).await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n")
            .await;
        assert_eq!(client.answer().await.unwrap().status, expected, "for a limit of {limit}");
    }
}

#[tokio::test]
async fn the_answer_to_an_upload_that_pauses_is_408() {
    let app = App::answering(HELLO).await;
    let config = format!("[upstream]\naddress = \"{}\"\n[timeouts]\nbody = \"50ms\"\n", app.address());
    let server = TestServer::start(&config).await;
    let mut client = Connection::open(server.address()).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello").await;
    assert_eq!(client.answer().await.unwrap().status, 408);
    assert_eq!(app.requests(), [""; 0], "only its head went on");
}

/// Sends one request over HTTP/2 in the clear, and returns the status.
pub(crate) async fn over_http2(server: &TestServer, request: http::request::Builder, body: Body) -> u16 {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut sender, connection) =
        soon(hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))).await.unwrap();
    tokio::spawn(connection);
    soon(sender.send_request(request.body(body).unwrap())).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_request_over_http2_reaches_the_application_as_one_over_http1() {
    let app = App::answering(HELLO).await;
    let server = server(&app).await;
    let (sender, body) = channel();
    sender.send(Ok(Bytes::from_static(b"hello"))).unwrap();
    drop(sender);
    let request = http::Request::post("http://example.com/a?b")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x_forwarded_for", "203.0.113.9")
        .header("te", "trailers");
    assert_eq!(over_http2(&server, request, body).await, 200);
    let seen = app.request();
    assert_eq!(essence(&seen), "POST /a?b HTTP/1.1|content-length: 5|hello");
    assert!(seen.contains("host: example.com\r\n") && seen.contains("cookie: a=1; b=2\r\n"), "{seen}");
    assert!(!seen.contains("203.0.113.9") && !seen.contains("\r\nte:"), "{seen}");
}

#[tokio::test]
async fn ambiguous_requests_are_refused_where_that_is_wanted() {
    let app = App::answering(HELLO).await;
    let config = format!("[limits]\nrefuse_ambiguous = true\n[upstream]\naddress = \"{}\"\n", app.address());
    let server = TestServer::start(&config).await;
    for raw in [
        "GET / HTTP/1.1\r\nHost: a\r\nX_A: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX.A: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut client = Connection::open(server.address()).await;
        client.send(raw).await;
        assert_eq!(client.answer().await.unwrap().status, 400, "for {raw:?}");
        assert!(client.is_closed().await, "for {raw:?}");
    }
    let (sender, body) = channel();
    sender.send(Ok(Bytes::from_static(b"hello"))).unwrap();
    drop(sender);
    assert_eq!(over_http2(&server, http::Request::get("http://a/"), body).await, 400);
    assert_eq!(over_http2(&server, http::Request::get("http://a/").header("x_a", "1"), Body::Empty).await, 400);
    assert_eq!(app.connections(), 0);
    assert_eq!(over_http2(&server, http::Request::get("http://a/"), Body::Empty).await, 200);
}

#[tokio::test]
async fn a_streamed_body_that_breaks_off_before_the_application_reads_never_ends() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("app.sock");
    let application = tokio::net::UnixListener::bind(&socket).unwrap();
    let config = format!("[upstream]\naddress = \"unix:{}\"\nstream_requests = [\"/*\"]\n", socket.display());
    let server = TestServer::start(&config).await;
    for body in ["5\r\nhello\r\n", "5\r\nhello\r\nzz\r\n"] {
        let mut client = Connection::open(server.address()).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).await;
        client.hang_up().await;
        assert_eq!(client.answer().await.unwrap().status, 400, "for {body:?}");
        let mut came = String::new();
        let (mut request, _) = soon(application.accept()).await.unwrap();
        soon(request.read_to_string(&mut came)).await.unwrap();
        assert!(came.ends_with("\r\n\r\n") && !came.ends_with("\r\n0\r\n\r\n"), "{came:?}");
    }
}

#[tokio::test]
async fn a_host_that_differs_from_the_authority_is_refused_over_http2() {
    let app = App::answering(HELLO).await;
    let server = server(&app).await;
    let request = http::Request::get("http://example.com/").header("host", "other.example.com");
    assert_eq!(over_http2(&server, request, Body::Empty).await, 400);
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn an_answer_to_an_upload_that_is_not_read_does_not_reset_the_stream() {
    let app = App::new(async |mut connection| {
        connection.head().await;
        connection.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    })
    .await;
    let streams = format!("[upstream]\naddress = \"{}\"\nstream_requests = [\"/*\"]\n", app.address());
    let server = TestServer::start(&streams).await;
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut sender, connection) = soon(h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://example.com/").header("content-length", "2000000").body(()).unwrap();
    let (answer, mut upload) = sender.send_request(request, false).unwrap();
    let mut answer = soon(answer).await.unwrap();
    assert_eq!(answer.status(), 403);
    assert_eq!(soon(answer.body_mut().data()).await.unwrap().unwrap(), "no");
    assert!(soon(answer.body_mut().data()).await.is_none());
    upload.send_data(Bytes::from_static(b"ab"), false).expect("the stream is still open");
}

#[tokio::test]
async fn what_came_of_an_answer_that_broke_off_reaches_the_client() {
    let app = App::closing_after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
    let server = server(&app).await;
    let mut client = Connection::open(server.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
    let head = client.head().await.expect("a head");
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    assert_eq!(client.line().await.as_deref(), Some("hello"));
    assert!(client.is_closed().await, "half an answer must not look like a whole one");
}

#[tokio::test]
async fn a_length_beyond_all_numbers_is_a_mistake_and_one_that_is_only_large_is_too_large() {
    let app = App::answering(HELLO).await;
    let server = server(&app).await;
    for (length, status) in [
        ("104857601", 413),
        ("18446744073709551613", 413),
        // hyper means something else by the two largest numbers, and refuses them as it refuses a large head.
        ("18446744073709551614", 431),
        ("18446744073709551615", 431),
        ("18446744073709551616", 400),
        (&"9".repeat(200), 400),
    ] {
        let mut client = Connection::open(server.address()).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhello")).await;
        assert_eq!(client.answer().await.unwrap().status, status, "for {length}");
    }
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn what_a_trusted_proxy_says_in_forwarded_reaches_the_application_in_its_fields() {
    let app = App::answering(HELLO).await;
    for (trusted, expected) in [
        (
            "127.0.0.0/8",
            ["x-forwarded-for: 2001:db8::1", "x-forwarded-proto: https", "x-request-start: t=1512345678901"],
        ),
        ("192.0.2.0/24", ["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", ""]),
    ] {
        let server = TestServer::start(&format!(
            "[listen]\nhttp = [\"127.0.0.1:0\"]\ntrusted_proxies = [\"{trusted}\"]\n\
             trusted_headers = [\"Forwarded\", \"x-request-start\"]\n[upstream]\naddress = \"{}\"\n",
            app.address()
        ))
        .await;
        let mut client = Connection::open(server.address()).await;
        client
            .send(
                "GET / HTTP/1.1\r\nHost: example.com\r\nX-Request-Start: t=1512345678901\r\n\
                 X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: gopher\r\n\
                 Forwarded: for=mallory, for=\"[2001:db8::1]:4711\";proto=https;host=mallory\r\n\r\n",
            )
            .await;
        assert_eq!(client.answer().await.unwrap().status, 200);
        let seen = app.requests().pop().unwrap();
        for line in expected {
            assert!(seen.contains(&format!("\r\n{line}")), "{line} is not in {seen}");
        }
        let starts = seen.matches("x-request-start: ").count();
        assert!(starts == 1 && !seen.contains("mallory") && !seen.contains("\r\nforwarded: "), "{seen}");
        assert_eq!(seen.contains("1512345678901"), trusted.starts_with("127"));
    }
}
