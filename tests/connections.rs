//! Client connections: protocols, deadlines, limits, and what every request meets before its answer.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use vestibule::http::body::Body;

use crate::requests::over_http2;
use crate::support::app::{App, HELLO};
use crate::support::client::{Connection, get};
use crate::support::server::TestServer;
use crate::support::until;

#[tokio::test]
async fn health_answers_need_neither_a_known_host_nor_https() {
    let config = "[listen]\nhttp = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\n[tls]\nself_signed = true\n\
                  [hosts]\nallowed = [\"example.com\"]\n";
    let server = TestServer::start(config).await;
    for path in ["/-/live", "/-/ready", "/-/live?probe=1"] {
        let answer = get(server.address(), path, "").await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "for {path}");
    }
}

#[tokio::test]
async fn a_health_answer_is_for_a_sound_request_even_if_it_names_no_host() {
    let server = TestServer::start("[hosts]\nallowed = [\"example.com\"]\n").await;
    let framed = |fields| format!("GET /-/ready HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n");
    for (raw, expected) in [
        ("GET /-/live HTTP/1.1\r\nHost: 10.0.0.1:8000\r\n\r\n", 200),
        ("GET http://10.0.0.1/-/live HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n", 200),
        ("GET /-/live HTTP/1.1\r\nHost:\r\n\r\n", 200),
        ("GET /-/ready HTTP/1.0\r\n\r\n", 200),
        ("GET /-/live HTTP/1.1\r\n\r\n", 400),
        ("GET /-/live HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET /-/live HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET http://a/-/live HTTP/1.1\r\nHost: b\r\n\r\n", 400),
        ("GET /-/live?\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (&framed("Transfer-Encoding: chunked"), 200),
        (&framed("Transfer-Encoding: chunked, chunked"), 400),
        (&framed("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400),
        ("GET / HTTP/1.0\r\n\r\n", 400), // all else needs a host
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ] {
        let mut connection = Connection::open(server.address()).await;
        connection.send(raw).await;
        assert_eq!(connection.answer().await.unwrap().status, expected, "for {raw:?}");
        assert!(expected == 200 || connection.is_closed().await, "for {raw:?}");
    }
}

#[tokio::test]
async fn readiness_follows_the_application() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("app.sock");
    let server = TestServer::start(&format!("[upstream]\naddress = \"unix:{}\"\n", socket.display())).await;
    assert_eq!(get(server.address(), "/-/ready", "").await.status, 503);
    let _application = tokio::net::UnixListener::bind(&socket).unwrap();
    until(|| async { get(server.address(), "/-/ready", "").await.status == 200 }).await;
}

#[tokio::test]
async fn another_host_is_refused_before_the_application() {
    for (setting, unknown) in [("", 400), ("unknown_status = 421\n", 421)] {
        let server = TestServer::start(&format!("[hosts]\nallowed = [\".example.com\"]\n{setting}")).await;
        for (host, expected) in [("example.com", 404), ("www.EXAMPLE.com:8080", 404), ("evil.test", unknown)] {
            let mut connection = Connection::open(server.address()).await;
            connection.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(connection.answer().await.unwrap().status, expected, "for {host}");
        }
        let request = http::Request::get("http://evil.test/");
        assert_eq!(over_http2(&server, request, Body::Empty).await, unknown);
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed_after_its_time() {
    let server = TestServer::start("[timeouts]\nheader = \"50ms\"\n").await;
    let mut connection = Connection::open(server.address()).await;
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let server = TestServer::start("[timeouts]\nheader = \"300ms\"\n").await;
    let mut connection = Connection::open(server.address()).await;
    connection.send("GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await;
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time_and_not_before() {
    let server = TestServer::start("[timeouts]\nheader = \"500ms\"\nidle = \"4s\"\n").await;
    let mut connection = Connection::open(server.address()).await;
    connection.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
    // Longer than the time for a head, shorter than the idle time.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    connection.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
    assert!(connection.is_closed().await);
}

/// Longer than a connection keeps its buffers while nothing happens.
const REST: std::time::Duration = std::time::Duration::from_millis(2500);

#[tokio::test]
async fn a_connection_that_has_rested_serves_the_next_request() {
    let server = TestServer::start("").await;
    let mut connection = Connection::open(server.address()).await;
    for _ in 0..3 {
        connection.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(connection.answer().await.unwrap().status, 200);
        tokio::time::sleep(REST).await;
    }
}

#[tokio::test]
async fn half_a_head_that_came_with_the_request_before_is_not_lost() {
    let server = TestServer::start("").await;
    let mut connection = Connection::open(server.address()).await;
    connection.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /-/re").await;
    assert_eq!(connection.answer().await.unwrap().text(), "alive\n");
    tokio::time::sleep(REST).await;
    connection.send("ady HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(connection.answer().await.unwrap().text(), "ready\n");
}

#[tokio::test]
async fn a_head_that_comes_slowly_is_answered_and_so_is_what_follows() {
    let server = TestServer::start("").await;
    let mut connection = Connection::open(server.address()).await;
    for head in ["GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /-/live HTTP/1.1\nHost: a\n\n"] {
        for piece in head.as_bytes().chunks(3) {
            connection.send(piece).await;
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        assert_eq!(connection.answer().await.unwrap().text(), "alive\n");
        connection.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(connection.answer().await.unwrap().text(), "alive\n");
    }
    // What turns out to be wrong, too large or another protocol's gets the answer that it would have got at once.
    let long = format!(" HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(50_000));
    for (begin, end, expected) in [
        ("GET /-/live HTTP/1.1\r\nHo", "st : a\r\n\r\n", 400),
        ("GET /-/live HTTP/1", ".0\r\nHost: a\r\n\r\n", 200),
        ("GET /-/live", &*long, 431),
    ] {
        let mut connection = Connection::open(server.address()).await;
        connection.send(begin).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        connection.send(end).await;
        assert_eq!(connection.answer().await.unwrap().status, expected, "for {begin:?}");
    }
}

#[tokio::test]
async fn whatever_comes_on_one_connection_is_answered_in_its_order() {
    let app = App::new(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let target = request.split(' ').nth(1).unwrap().to_owned();
            // The length is not known, and neither of the two halves is the whole.
            let (begin, end) = target.split_at(2);
            let sizes = (begin.len(), end.len());
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            connection.send(&format!("{answer}{:x}\r\n{begin}\r\n", sizes.0)).await;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            connection.send(&format!("{:x}\r\n{end}\r\n0\r\n\r\n", sizes.1)).await;
        }
    })
    .await;
    let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n", app.address())).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc");
    let chunks = |path: &str| {
        format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    };
    let all = [get("/one"), get("/-/live"), get("/two"), post("/three"), get("/-/live"), get("/four"), chunks("/five")]
        .concat()
        + &get("/six");
    let expected = ["/one", "alive\n", "/two", "/three", "alive\n", "/four", "/five", "/six"];
    // All at once, and in pieces that end anywhere.
    for width in [all.len(), 100, 7] {
        let mut connection = Connection::open(server.address()).await;
        for piece in all.as_bytes().chunks(width) {
            connection.send(piece).await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        for expected in expected {
            let answer = connection.answer().await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, expected), "{width} bytes at a time");
        }
    }
}

#[tokio::test]
async fn a_client_that_asks_and_ends_in_one_breath_gets_its_answer() {
    let app = App::answering(HELLO).await;
    let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n", app.address())).await;
    for request in
        ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"]
    {
        let mut connection = Connection::open(server.address()).await;
        connection.send(request).await;
        connection.hang_up().await;
        assert_eq!(connection.answer().await.unwrap().text(), "hello");
        assert!(connection.is_closed().await);
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_not_waited_for() {
    let (sender, mut given_up) = tokio::sync::mpsc::unbounded_channel();
    let app = App::new(move |mut connection| {
        let sender = sender.clone();
        async move {
            connection.request().await;
            connection.hung_up().await;
            sender.send(()).unwrap();
        }
    })
    .await;
    let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n", app.address())).await;
    let mut connection = Connection::open(server.address()).await;
    connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    drop(connection);
    let given_up = tokio::time::timeout(std::time::Duration::from_secs(20), given_up.recv()).await;
    assert!(given_up.is_ok(), "the application is still asked");
}

#[tokio::test]
async fn an_empty_line_behind_a_request_begins_no_other() {
    let server = TestServer::start("[timeouts]\nheader = \"300ms\"\nidle = \"20s\"\n").await;
    let mut connection = Connection::open(server.address()).await;
    connection.send("POST /-/live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx\r\n").await;
    assert_eq!(connection.answer().await.unwrap().status, 404);
    tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    connection.send("\r\nGET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(connection.answer().await.expect("it is open").status, 200);
}

#[tokio::test]
async fn a_body_that_comes_after_its_answer_is_never_taken_for_a_request() {
    let server = TestServer::start("").await;
    let mut connection = Connection::open(server.address()).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n.", hidden.len() + 1);
    connection.send(&head).await;
    assert_eq!(connection.answer().await.unwrap().status, 404);
    tokio::time::sleep(REST).await;
    connection.send(&format!("{hidden}GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    // It may as well have been closed.
    if let Some(answer) = connection.answer().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// An application that answers with the length of the body, and whether it is as sent: all of one letter.
async fn measuring() -> App {
    App::new(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let body = request.split_once("\r\n\r\n").unwrap().1;
            let answer = format!("{} {}", body.len(), body.bytes().all(|byte| byte == b'x'));
            connection.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())).await;
        }
    })
    .await
}

fn upload(length: usize) -> String {
    format!("POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test]
async fn a_body_is_whole_however_it_comes_and_what_follows_it_is_the_next_request() {
    let app = measuring().await;
    for config in ["", "stream_requests = [\"/upload\"]\n", "request_buffer = 1000\n"] {
        let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n{config}", app.address())).await;
        let mut connection = Connection::open(server.address()).await;
        for (length, width) in [(1 << 20, 1 << 21), (1 << 20, 100_000), (20_000, 20_040), (300, 100), (1, 60)] {
            let body = "x".repeat(length);
            let all = upload(length) + &body + "GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
            for piece in all.as_bytes().chunks(width) {
                connection.send(piece).await;
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            let answer = connection.answer().await.unwrap();
            assert_eq!(answer.text(), format!("{length} true"), "{width} bytes at a time, with {config:?}");
            assert_eq!(connection.answer().await.unwrap().text(), "alive\n");
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_never_arrives_as_a_whole_one() {
    for config in ["", "stream_requests = [\"/upload\"]\n"] {
        let app = measuring().await;
        let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n{config}", app.address())).await;
        let mut connection = Connection::open(server.address()).await;
        connection.send(&(upload(1 << 20) + &"x".repeat(1 << 19))).await;
        connection.hang_up().await;
        if let Some(answer) = connection.answer().await {
            assert_eq!(answer.status, 400, "{answer:?}");
        }
        assert!(connection.is_closed().await);
        assert_eq!(app.requests(), [""; 0], "with {config:?}");
    }
}

#[tokio::test]
async fn a_connection_serves_on_when_the_body_that_nobody_wanted_has_come() {
    let app = App::new(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        connection.hung_up().await;
    })
    .await;
    let application = format!("[upstream]\naddress = \"{}\"\nstream_requests = [\"/upload\"]\n", app.address());
    for (config, expected) in [("", 404), (&*application, 403)] {
        let server = TestServer::start(config).await;
        let mut connection = Connection::open(server.address()).await;
        connection.send(&upload(1 << 20)).await;
        connection.send(&"x".repeat(1 << 19)).await;
        assert_eq!(connection.answer().await.unwrap().status, expected);
        // What else comes of it is read on and thrown away, however it looks.
        connection.send(&upload(0).repeat(1 << 15)[..1 << 19]).await;
        connection.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(connection.answer().await.unwrap().text(), "alive\n");
    }
}

#[tokio::test]
async fn too_large_a_head_gets_431() {
    let server = TestServer::start("[limits]\nheader_size = \"8 KiB\"\nheader_count = 20\n").await;
    let long = format!("X-Long: {}\r\n", "a".repeat(10_000));
    assert_eq!(get(server.address(), "/", &long).await.status, 431);
    let many: String = (0..30).map(|n| format!("X-{n}: 1\r\n")).collect();
    assert_eq!(get(server.address(), "/", &many).await.status, 431);
}

#[tokio::test]
async fn a_further_connection_waits_until_there_is_room() {
    let server = TestServer::start("[limits]\nconnections = 1\n").await;
    let mut first = Connection::open(server.address()).await;
    first.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(first.answer().await.unwrap().status, 200);
    let mut second = Connection::open(server.address()).await;
    second.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    // In this time the second could have been served many times over, however slow the machine is.
    for _ in 0..20 {
        first.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(first.answer().await.unwrap().status, 200);
    }
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), second.answer()).await;
    assert!(early.is_err(), "the second connection was served beside the first");
    drop(first);
    assert_eq!(second.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_unix_socket_serves_both_protocols_and_is_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("front.sock");
    let config = format!("[listen]\nhttp = [\"unix:{}\"]\nunix_mode = \"0600\"\n", path.display());
    let server = TestServer::start(&config).await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs_err::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let mut connection = Connection::over(UnixStream::connect(&path).await.unwrap());
    connection.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(connection.answer().await.unwrap().text(), "alive\n");
    let http2 = http2_status(UnixStream::connect(&path).await.unwrap()).await;
    assert_eq!(http2, 200);
    server.order(vestibule::serve::Order::Stop).await;
    server.ended().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn http2_in_the_clear_is_known_by_its_preface_even_in_pieces() {
    let server = TestServer::start("").await;
    assert_eq!(http2_status(TcpStream::connect(server.address()).await.unwrap()).await, 200);
    let mut connection = Connection::open(server.address()).await;
    // An HTTP/1.1 method that begins as the preface does.
    connection.send("PR").await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    connection.send("OPFIND / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(connection.answer().await.unwrap().status, 404);
}

/// The status of `/-/live` over HTTP/2.
async fn http2_status(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> u16 {
    let request = http::Request::get("http://localhost/-/live").body(Empty::new()).unwrap();
    http2(stream).await.send_request(request).await.unwrap().status().as_u16()
}

/// An HTTP/2 client in the clear.
async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> SendRequest<Empty<Bytes>> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_client_that_is_still_sending_hears_that_its_body_is_too_large() {
    let server =
        TestServer::start("[limits]\nbody_size = \"1 KiB\"\n[upstream]\naddress = \"unix:absent.sock\"\n").await;
    let mut connection = Connection::open(server.address()).await;
    let length = 8 << 20;
    connection.send(&format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")).await;
    // More than the kernel's buffers hold, and all of it before the answer is looked for.
    connection.send(vec![b'x'; length]).await;
    assert_eq!(connection.answer().await.unwrap().status, 413);
    connection.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(connection.answer().await.unwrap().text(), "alive\n");
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_refused_without_its_body() {
    let server =
        TestServer::start("[limits]\nbody_size = \"1 KiB\"\n[upstream]\naddress = \"unix:absent.sock\"\n").await;
    let mut connection = Connection::open(server.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n";
    connection.send(head).await;
    assert_eq!(connection.answer().await.unwrap().status, 413);
    assert!(connection.is_closed().await);
}

/// A client that opens its window for nothing, and is alive all the same.
#[tokio::test]
async fn an_http2_client_that_takes_nothing_gives_the_application_back() {
    let app = App::new(|mut connection| async move {
        if connection.request().await.is_some() {
            connection
                .send(&format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(500_000)))
                .await;
            connection.hung_up().await;
        }
    })
    .await;
    let config =
        format!("[upstream]\naddress = \"{}\"\nconnections = 1\n[timeouts]\nsend = \"200ms\"\n", app.address());
    let server = TestServer::start(&config).await;
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1000)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = || http::Request::get("http://localhost/").body(Empty::new()).unwrap();
    let stuck = sender.send_request(request()).await.unwrap();
    assert_eq!(stuck.status(), 200);
    // With one connection to the application there is an answer only after the first one was given up.
    let next = tokio::time::timeout(std::time::Duration::from_secs(20), sender.send_request(request())).await;
    assert_eq!(next.expect("the stuck stream was never reset").unwrap().status(), 200);
}

#[tokio::test]
async fn too_many_fields_get_431_over_http2_as_well() {
    let server = TestServer::start("[limits]\nheader_count = 20\n").await;
    let mut sender = http2(TcpStream::connect(server.address()).await.unwrap()).await;
    let mut request = http::Request::get("http://localhost/");
    for n in 0..30 {
        request = request.header(format!("x-{n}"), "1").header("cookie", format!("crumb{n}=1"));
    }
    let answer = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 431);
}

#[tokio::test]
async fn a_client_that_gives_up_request_after_request_must_connect_anew() {
    let app = App::new(|mut connection| async move { connection.hung_up().await }).await;
    let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n", app.address())).await;
    let mut sender = http2(TcpStream::connect(server.address()).await.unwrap()).await;
    for sent in 0..20_000 {
        if sender.ready().await.is_err() {
            assert!(sent >= 1000, "sent away after {sent} requests only");
            return;
        }
        let request = http::Request::get("http://localhost/").body(Empty::new()).unwrap();
        let answer = sender.send_request(request);
        // Long enough for the request to be sent, and given up before its answer.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(2), answer).await;
    }
    panic!("a flood of 20,000 requests was let through");
}

#[tokio::test]
async fn a_body_where_there_can_be_none_is_not_taken_for_the_next_answer() {
    for (method, head) in [
        ("HEAD", "200 OK\r\nContent-Length: 52"),
        ("GET", "304 Not Modified\r\nETag: \"a\""),
        ("GET", "204 No Content"),
    ] {
        let app = App::new(move |mut connection| async move {
            while connection.request().await.is_some() {
                if connection.number > 0 {
                    connection.send(HELLO).await;
                    continue;
                }
                connection.send(&format!("HTTP/1.1 {head}\r\n\r\n")).await;
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON").await;
            }
        })
        .await;
        let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n", app.address())).await;
        let mut first = Connection::open(server.address()).await;
        first.send(format!("{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        first.answer_to_head().await.unwrap();
        assert_eq!(get(server.address(), "/", "").await.text(), "hello", "after {method} {head}");
    }
}

#[tokio::test]
async fn head_has_no_body_over_http2_whoever_answers() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("a.txt"), "a").unwrap();
    let config = format!(
        "[hosts]\nallowed = [\"localhost\"]\n[static]\ndirectory = \"{}\"\n\
         [[redirects]]\nfrom = \"/old\"\nto = \"/new\"\n[[access]]\npath = \"/closed\"\nallow = [\"192.0.2.1\"]\n",
        folder.path().display()
    );
    let server = TestServer::start(&config).await;
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (target, status) in [
        ("http://localhost/-/live", 200),
        ("http://localhost/-/ready", 200),
        ("http://localhost/static/a.txt", 200),
        ("http://localhost/static/none", 404),
        ("http://localhost/none", 404),
        ("http://localhost/old", 308),
        ("http://localhost/closed", 403),
        ("http://localhost/%2e%2e/x", 400),
        ("http://elsewhere/", 400),
    ] {
        let request = http::Request::head(target).body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status, "for {target}");
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
        assert!(body.to_bytes().is_empty(), "for {target}");
    }
}
