//! The application behind the door: what it sees, what comes back, and what happens when it fails.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use http::header::{HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use vestibule::config::UpstreamConfig;
use vestibule::config::values::{ByteSize, HumanDuration, UpstreamAddress};
use vestibule::http::body::{Body, BodyError};
use vestibule::http::forwarded::RequestStart;
use vestibule::http::{Client, Request, RequestId, Response, Scheme, UpstreamTime};
use vestibule::upstream::background::Background;
use vestibule::upstream::failure::Failure;
use vestibule::upstream::shared_room::{SIZE, SharedRoom, prepare};

use crate::support::app::{App, HELLO};
use crate::support::{soon, until};

/// The application, as the server has it. What does not answer in time fails the test.
pub(crate) struct Upstream(vestibule::upstream::Upstream);

impl Upstream {
    pub(crate) fn new(address: &UpstreamAddress, config: &UpstreamConfig) -> Self {
        let config = UpstreamConfig { address: Some(address.clone()), ..config.clone() };
        Self::of(&config)
    }

    /// The same with the address, or several servers, in the configuration.
    pub(crate) fn of(config: &UpstreamConfig) -> Self {
        Self(vestibule::upstream::Upstream::new(config, &Background::default()))
    }

    pub(crate) async fn forward(&self, request: Request) -> Response {
        soon(self.0.forward(request)).await
    }

    async fn probe(&self) -> Result<(), Failure> {
        soon(self.0.probe()).await
    }

    async fn is_reachable(&self) -> bool {
        soon(self.0.is_reachable()).await
    }
}

/// A client at 192.0.2.1 that came over TLS.
pub(crate) fn request(method: &str, target: &str, fields: &[(&str, &str)], body: Body) -> Request {
    let mut head = http::Request::builder().method(method).uri(target).body(()).unwrap().into_parts().0;
    head.headers.insert("host", HeaderValue::from_static("example.com"));
    for (name, value) in fields {
        let name = HeaderName::try_from(*name).unwrap();
        head.headers.append(name, HeaderValue::try_from(*value).unwrap());
    }
    let address = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    let client = Client { address, port: 4711, scheme: Scheme::Https, local_port: 443 };
    Request { head, body, client, id: RequestId(0xabc), early_hints: None, lines: None }
}

pub(crate) fn get(target: &str) -> Request {
    request("GET", target, &[], Body::Empty)
}

/// A body whose pieces the test sends one by one.
pub(crate) fn channel() -> (mpsc::UnboundedSender<Result<Bytes, BodyError>>, Body) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Result<Bytes, BodyError>>();
    let frames = stream::poll_fn(move |cx| receiver.poll_recv(cx).map(|next| next.map(|data| data.map(Frame::data))));
    (sender, Body::stream(StreamBody::new(frames)))
}

pub(crate) async fn text(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body = soon(response.into_body().collect()).await.expect("the body is whole").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn config() -> UpstreamConfig {
    UpstreamConfig { hold: HumanDuration::seconds(0), request_start: false, ..UpstreamConfig::default() }
}

fn upstream(app: &App) -> Upstream {
    Upstream::new(app.address(), &config())
}

/// What the application saw, without the lines that are the same for every test.
fn own_lines(request: &str) -> Vec<&str> {
    let common = ["host:", "x-real-ip:", "x-forwarded-", "x-request-id:"];
    request.split("\r\n").filter(|line| !common.iter().any(|name| line.starts_with(name))).collect()
}

#[tokio::test]
async fn the_application_sees_the_request_and_who_sent_it() {
    let app = App::answering(HELLO).await;
    let sent = request("GET", "/a%2Fb//c?q=%20&r=%", &[("accept", "*/*"), ("cookie", "a=1; b=2")], Body::Empty);
    let response = upstream(&app).forward(sent).await;
    assert!(response.extensions().get::<UpstreamTime>().is_some_and(|time| !time.0.is_zero()));
    assert_eq!(text(response).await, (200, "hello".into()));
    assert_eq!(
        app.request(),
        "GET /a%2Fb//c?q=%20&r=% HTTP/1.1\r\n\
         host: example.com\r\n\
         accept: */*\r\n\
         cookie: a=1; b=2\r\n\
         x-real-ip: 192.0.2.1\r\n\
         x-forwarded-for: 192.0.2.1\r\n\
         x-forwarded-proto: https\r\n\
         x-forwarded-port: 443\r\n\
         x-forwarded-host: example.com\r\n\
         x-request-id: 00000000000000000000000000000abc\r\n\r\n"
    );
}

#[tokio::test]
async fn the_application_hears_when_the_request_was_here_and_in_forwarded_who_sent_it() {
    for (start, forwarded) in [(false, false), (true, false), (false, true), (true, true)] {
        let app = App::answering(HELLO).await;
        let config = UpstreamConfig { request_start: start, forwarded, ..config() };
        let claims = [("x-request-start", "t=1"), ("x-queue-start", "t=1"), ("forwarded", "for=203.0.113.9")];
        Upstream::new(app.address(), &config).forward(request("GET", "/", &claims, Body::Empty)).await;
        let seen = app.request();
        let fields = |name: &str| seen.lines().filter_map(|line| line.strip_prefix(name)).collect::<Vec<_>>();
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let starts: Vec<u128> = fields("x-request-start: t=").iter().map(|start| start.parse().unwrap()).collect();
        assert!(starts.len() == usize::from(start) && starts.iter().all(|start| now.abs_diff(*start) < 60_000));
        let expected = "for=192.0.2.1;host=example.com;proto=https";
        assert_eq!(fields("forwarded: "), if forwarded { vec![expected] } else { vec![] });
        assert_eq!(fields("x-queue-start: "), [""; 0]);
    }
}

#[tokio::test]
async fn when_a_request_came_to_a_trusted_proxy_is_handed_on() {
    let app = App::answering(HELLO).await;
    let mut request = get("/");
    request.head.extensions.insert(RequestStart(HeaderValue::from_static("t=1512345678901")));
    let config = UpstreamConfig { request_start: true, ..config() };
    Upstream::new(app.address(), &config).forward(request).await;
    assert!(app.request().contains("\r\nx-request-start: t=1512345678901\r\n"));
}

#[tokio::test]
async fn what_a_client_claims_does_not_reach_the_application() {
    let app = App::answering(HELLO).await;
    let claims = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-ssl", "on"),
        ("forwarded", "for=203.0.113.9"),
        ("script-name", "/admin"),
        ("remote-user", "root"),
        ("x-request-id", "evil"),
        ("proxy", "http://evil"),
        ("connection", "x-forwarded-for, x-forwarded-proto, host"),
        ("te", "trailers"),
        ("keep-alive", "300"),
        ("expect", "100-continue"),
    ];
    upstream(&app).forward(request("GET", "/", &claims, Body::Empty)).await;
    let seen = app.request();
    assert_eq!(own_lines(&seen), ["GET / HTTP/1.1", "", ""]);
    assert!(seen.contains("host: example.com\r\n"));
    assert!(seen.contains("x-forwarded-for: 192.0.2.1\r\n") && seen.contains("x-forwarded-proto: https\r\n"));
    assert_eq!(seen.matches("x-request-id").count(), 1);
}

#[tokio::test]
async fn a_body_of_known_length_arrives_with_it() {
    let app = App::answering(HELLO).await;
    let (sender, body) = channel();
    let upstream = upstream(&app);
    let answer =
        tokio::spawn(async move { upstream.forward(request("POST", "/", &[("content-length", "6")], body)).await });
    for piece in ["ab", "cd", "ef"] {
        sender.send(Ok(Bytes::from_static(piece.as_bytes()))).unwrap();
        tokio::task::yield_now().await;
    }
    drop(sender);
    assert_eq!(answer.await.unwrap().status(), 200);
    assert_eq!(own_lines(&app.request()), ["POST / HTTP/1.1", "content-length: 6", "", "abcdef"]);
}

#[tokio::test]
async fn a_short_body_of_unknown_length_gets_one() {
    for method in ["POST", "GET"] {
        let app = App::answering(HELLO).await;
        let (sender, body) = channel();
        sender.send(Ok(Bytes::from_static(b"abc"))).unwrap();
        drop(sender);
        let sent = request(method, "/", &[("transfer-encoding", "chunked")], body);
        upstream(&app).forward(sent).await;
        assert_eq!(own_lines(&app.request())[1..], ["content-length: 3", "", "abc"], "for {method}");
    }
}

#[tokio::test]
async fn a_long_body_of_unknown_length_gets_one_too() {
    for method in ["POST", "GET"] {
        let app = App::answering(HELLO).await;
        let config = UpstreamConfig { request_buffer: ByteSize(4), ..config() };
        let (sender, body) = channel();
        for piece in [&b"abcdef"[..], b"gh"] {
            sender.send(Ok(Bytes::from_static(piece))).unwrap();
        }
        drop(sender);
        let response = Upstream::new(app.address(), &config).forward(request(method, "/", &[], body)).await;
        assert_eq!(response.status(), 200);
        assert_eq!(own_lines(&app.request())[1..], ["content-length: 8", "", "abcdefgh"], "for {method}");
    }
}

#[tokio::test]
async fn a_body_that_shall_stream_does_with_its_length_or_in_chunks() {
    let named = UpstreamConfig { stream_requests: vec!["/live/*".parse().unwrap()], ..config() };
    let without_disk = UpstreamConfig { request_buffer: ByteSize(4), buffer_disk: ByteSize(0), ..config() };
    let chunked = ["transfer-encoding: chunked", "", "6", "abcdef", "2", "gh", "0", "", ""];
    for (fields, expected) in
        [(&[("content-length", "8")][..], &["content-length: 8", "", "abcdefgh"][..]), (&[], &chunked)]
    {
        for config in [&named, &without_disk] {
            let app = App::answering(HELLO).await;
            let upstream = Upstream::new(app.address(), config);
            let (sender, body) = channel();
            let answer = tokio::spawn({
                let sent = request("POST", "/live/a/b", fields, body);
                async move { upstream.forward(sent).await.status() }
            });
            sender.send(Ok(Bytes::from_static(b"abcdef"))).unwrap();
            until(|| async { app.connections() > 0 }).await; // the rest has not come yet
            sender.send(Ok(Bytes::from_static(b"gh"))).unwrap();
            drop(sender);
            assert_eq!(soon(answer).await.unwrap(), 200);
            assert_eq!(own_lines(&app.request())[1..], *expected);
        }
    }
}

#[tokio::test]
async fn an_upload_that_finds_no_room_is_told_to_come_back_and_one_that_never_will_that_it_is_too_large() {
    let app = App::answering(HELLO).await;
    let config = UpstreamConfig { request_buffer: ByteSize(4), buffer_disk: ByteSize(10), ..config() };
    let upstream = Upstream::new(app.address(), &config);
    let (sender, slow) = channel();
    sender.send(Ok(Bytes::from_static(b"abcdefgh"))).unwrap();
    let mut first = std::pin::pin!(upstream.forward(request("POST", "/", &[], slow)));
    let sent = |text: &'static str| request("POST", "/", &[], Body::from(text));
    let refused = loop {
        assert!(first.as_mut().now_or_never().is_none(), "it waits for the rest");
        match upstream.forward(sent("ABCDEF")).await {
            answer if answer.status() == 200 => tokio::task::yield_now().await, // the first is not on disk yet
            answer => break answer,
        }
    };
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &HeaderValue::from_static("1")));
    assert_eq!(upstream.forward(sent("abcdefghijk")).await.status(), 413);
    assert_eq!(upstream.forward(sent("abc")).await.status(), 200);
    drop(sender);
    assert_eq!(first.await.status(), 200);
    assert_eq!(upstream.forward(sent("ABCDEF")).await.status(), 200);
}

#[tokio::test]
async fn an_empty_body_announces_itself_only_if_the_client_did() {
    for (fields, expected) in [(&[("content-length", "0")][..], 1), (&[], 0)] {
        let app = App::answering(HELLO).await;
        upstream(&app).forward(request("POST", "/", fields, Body::Empty)).await;
        assert_eq!(app.request().matches("content-length: 0\r\n").count(), expected);
    }
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let app = App::answering(HELLO).await;
    let upstream = upstream(&app);
    for _ in 0..3 {
        assert_eq!(text(upstream.forward(get("/")).await).await, (200, "hello".into()));
    }
    assert_eq!(app.connections(), 1);
}

/// Serves one request after the other on each connection.
async fn app_over_tcp() -> App {
    App::tcp(async |mut connection| {
        while connection.request().await.is_some() {
            connection.send(HELLO).await;
        }
    })
    .await
}

#[tokio::test]
async fn tcp_works_as_a_unix_socket_does() {
    let app = app_over_tcp().await;
    assert_eq!(text(upstream(&app).forward(get("/")).await).await, (200, "hello".into()));
}

#[tokio::test]
async fn an_application_that_closes_each_connection_is_asked_anew() {
    let app = App::closing_after("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello").await;
    let upstream = upstream(&app);
    for _ in 0..3 {
        assert_eq!(text(upstream.forward(get("/")).await).await, (200, "hello".into()));
    }
    assert_eq!(app.connections(), 3);
}

/// Serves one request well on each connection, and hangs up upon the second.
async fn app_that_closes_idle_connections() -> App {
    App::new(async |mut connection| {
        connection.request().await;
        connection.send(HELLO).await;
        connection.request().await;
    })
    .await
}

#[tokio::test]
async fn a_get_that_meets_a_closing_connection_is_sent_once_more() {
    let app = app_that_closes_idle_connections().await;
    let upstream = upstream(&app);
    for _ in 0..2 {
        assert_eq!(text(upstream.forward(get("/")).await).await, (200, "hello".into()));
    }
    assert_eq!((app.connections(), app.requests().len()), (2, 3));
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let app = app_that_closes_idle_connections().await;
    let upstream = upstream(&app);
    text(upstream.forward(get("/")).await).await;
    let post = request("POST", "/", &[("content-length", "1")], Body::from("x"));
    assert_eq!(upstream.forward(post).await.status(), 502);
    assert_eq!((app.connections(), app.requests().len()), (1, 2));
}

/// Serves one request on each connection, and tells when it is closed.
async fn app_that_tells_who_hangs_up() -> (App, mpsc::UnboundedReceiver<()>) {
    let (sender, hung_up) = mpsc::unbounded_channel();
    let app = App::new(move |mut connection| {
        let sender = sender.clone();
        async move {
            connection.request().await;
            connection.send(HELLO).await;
            connection.hung_up().await;
            sender.send(()).unwrap();
        }
    })
    .await;
    (app, hung_up)
}

#[tokio::test]
async fn what_cannot_be_sent_again_takes_no_idle_connection_and_closes_one_that_is_too_many() {
    let (app, mut hung_up) = app_that_tells_who_hangs_up().await;
    let connections = std::num::NonZeroUsize::new(1).unwrap();
    let config = UpstreamConfig { request_buffer: ByteSize(4), connections, ..config() };
    let upstream = Upstream::new(app.address(), &config);
    for (method, body) in [("GET", Body::Empty), ("POST", "in a file".into()), ("PUT", "in a file".into())] {
        assert_eq!(text(upstream.forward(request(method, "/", &[], body)).await).await, (200, "hello".into()));
    }
    assert_eq!((app.connections(), app.requests().len()), (3, 3));
    for _ in 0..2 {
        soon(hung_up.recv()).await.unwrap();
    }
}

/// Over TCP nobody knows what was read, so that a POST could not be sent again.
#[tokio::test]
async fn over_tcp_only_what_is_idempotent_takes_an_idle_connection() {
    let app = app_over_tcp().await;
    let upstream = upstream(&app);
    for (method, connections) in [("GET", 1), ("PUT", 1), ("POST", 2), ("GET", 2), ("PATCH", 3)] {
        let sent = request(method, "/", &[], if method == "GET" { Body::Empty } else { "x".into() });
        assert_eq!(text(upstream.forward(sent).await).await, (200, "hello".into()));
        assert_eq!(app.connections(), connections, "after {method}");
    }
}

#[tokio::test]
async fn an_upload_that_is_answered_before_it_is_read_holds_no_memory_while_the_answer_lasts() {
    let app = App::new(async |mut connection| {
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\r\n\r\nhello").await;
        connection.hung_up().await;
    })
    .await;
    let config = UpstreamConfig {
        request_buffer_memory: ByteSize(SIZE as u64 + 1),
        request_buffer_share: 1.0,
        request_buffer_reserve: ByteSize(0),
        buffer_disk: ByteSize(0),
        ..config()
    };
    let upstream = Upstream::new(app.address(), &config);
    prepare();
    let mut answers = Vec::new();
    for _ in 0..3 {
        let mut room = SharedRoom::take().unwrap();
        room.spare().fill(b'x');
        room.advance(SIZE);
        answers.push(upstream.forward(request("PUT", "/", &[], room.split().into())).await);
    }
    assert!(answers.iter().all(|answer| answer.status() == 200), "{answers:?}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let (app, mut hung_up) = app_that_tells_who_hangs_up().await;
    let config = UpstreamConfig { keepalive_timeout: HumanDuration(Duration::from_millis(20)), ..config() };
    let upstream = Upstream::new(app.address(), &config);
    text(upstream.forward(get("/")).await).await;
    soon(hung_up.recv()).await.unwrap();
}

#[tokio::test]
async fn each_piece_of_an_answer_goes_on_at_once() {
    let (sender, receiver) = oneshot::channel::<()>();
    let gate = std::sync::Mutex::new(Some(receiver));
    let app = App::new(move |mut connection| {
        let gate = gate.lock().unwrap().take();
        async move {
            connection.request().await;
            connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
            gate.unwrap().await.unwrap();
            connection.send("6\r\nsecond\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let response = upstream(&app).forward(get("/")).await;
    assert!(!response.headers().contains_key("transfer-encoding"));
    let mut body = response.into_body();
    assert_eq!(soon(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "first");
    sender.send(()).unwrap(); // the application goes on only now
    assert_eq!(soon(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "second");
    assert!(soon(body.frame()).await.is_none());
}

#[tokio::test]
async fn an_answer_without_a_body_has_none_whatever_it_says() {
    for (method, raw) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ] {
        let app = App::answering(raw).await;
        let upstream = upstream(&app);
        for _ in 0..2 {
            let response = upstream.forward(request(method, "/", &[], Body::Empty)).await;
            assert_eq!(text(response).await.1, "", "for {raw:?}");
        }
        // Some send one nevertheless, so nothing else is asked on that connection.
        assert_eq!(app.connections(), 2, "for {raw:?}");
    }
}

#[tokio::test]
async fn trailers_end_with_this_hop() {
    let app = App::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    )
    .await;
    let upstream = upstream(&app);
    for _ in 0..2 {
        let response = upstream.forward(get("/")).await;
        assert!(!response.headers().contains_key("trailer"));
        let body = soon(response.into_body().collect()).await.unwrap();
        assert_eq!(body.trailers(), None);
        assert_eq!(body.to_bytes(), "hello");
    }
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn an_interim_answer_is_not_the_answer() {
    let app = App::answering(format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{HELLO}")).await;
    assert_eq!(text(upstream(&app).forward(get("/")).await).await, (200, "hello".into()));
}

#[tokio::test]
async fn an_early_answer_to_an_upload_reaches_the_client() {
    let app = App::new(async |mut connection| {
        connection.head().await;
        connection.send("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno").await;
    })
    .await;
    let body = Body::from(Bytes::from("x".repeat(4_000_000)));
    let response = upstream(&app).forward(request("POST", "/", &[("content-length", "4000000")], body)).await;
    assert_eq!(text(response).await, (413, "no".into()));
}

#[tokio::test]
async fn a_faulty_answer_is_502_and_poisons_nothing() {
    for raw in [
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        &format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(1_000_000)),
        &format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101)),
    ] {
        let faulty = raw.to_owned();
        let app = App::new(move |mut connection| {
            let faulty = faulty.clone();
            async move {
                connection.request().await;
                connection.send(if connection.number == 0 { &faulty } else { HELLO }).await;
            }
        })
        .await;
        let upstream = upstream(&app);
        let shown = &raw[..raw.len().min(90)];
        assert_eq!(upstream.forward(get("/")).await.status(), 502, "for {shown:?}");
        assert_eq!(text(upstream.forward(get("/")).await).await, (200, "hello".into()), "after {shown:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_and_never_ended() {
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ] {
        let app = App::closing_after(raw).await;
        let upstream = upstream(&app);
        for _ in 0..2 {
            let response = upstream.forward(get("/")).await;
            assert_eq!(response.status(), 200);
            assert!(soon(response.into_body().collect()).await.is_err(), "for {raw:?}");
        }
    }
}

#[tokio::test]
async fn what_follows_an_answer_is_not_taken_for_the_next_one() {
    let app = App::answering(format!("{HELLO}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")).await;
    let upstream = upstream(&app);
    for _ in 0..3 {
        assert_eq!(text(upstream.forward(get("/")).await).await, (200, "hello".into()));
    }
    assert_eq!(app.connections(), 3);
}

#[tokio::test]
async fn a_socket_that_is_missing_or_refuses_is_502() {
    let app = App::answering(HELLO).await;
    let upstream = upstream(&app);
    assert!(upstream.probe().await.is_ok());
    app.stop();
    assert_eq!(upstream.forward(get("/")).await.status(), 502);
    assert!(upstream.probe().await.is_err());

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refusing = Upstream::new(&format!("http://127.0.0.1:{port}").parse().unwrap(), &config());
    assert_eq!(refusing.forward(get("/")).await.status(), 502);
}

#[tokio::test]
async fn requests_wait_for_an_application_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let address = format!("unix:{}", path.display()).parse().unwrap();
    let hold = |hold| Upstream::new(&address, &UpstreamConfig { hold, ..config() });
    let impatient = hold(SHORT);
    for _ in 0..2 {
        let away = impatient.forward(get("/")).await;
        assert_eq!((away.status().as_u16(), &away.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    }
    let patient = Arc::new(hold(HumanDuration::seconds(60)));
    let post = request("POST", "/", &[("content-length", "1")], Body::from(Bytes::from_static(b"x")));
    let waiting: Vec<_> = [get("/"), post]
        .into_iter()
        .map(|request| {
            let patient = Arc::clone(&patient);
            tokio::spawn(async move { patient.forward(request).await.status() })
        })
        .collect();
    tokio::task::yield_now().await;
    let listener = UnixListener::bind(&path).unwrap();
    for _ in 0..waiting.len() {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(HELLO.as_bytes()).await.unwrap();
        });
    }
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_request_without_harm_is_tried_once_more_when_a_connection_closes_without_a_word() {
    for (silent, method, body, status, connections) in [
        (1, "GET", "", 200, 2),
        (2, "GET", "", 502, 2), // once and not for ever: it may be this request that kills the worker
        (1, "POST", "", 502, 1),
        (1, "POST", "a body", 502, 1),
        (1, "PUT", "a body", 200, 2),
        (2, "PUT", "a body", 502, 2),
        (1, "PATCH", "a body", 502, 1),
        (1, "DELETE", "", 200, 2),
    ] {
        let app = App::new(move |mut connection| async move {
            connection.request().await;
            connection.send(if connection.number < silent { "" } else { HELLO }).await;
        })
        .await;
        let length = body.len().to_string();
        let fields: &[_] = if body.is_empty() { &[] } else { &[("content-length", &*length)] };
        let answer =
            upstream(&app).forward(request(method, "/", fields, Bytes::from_static(body.as_bytes()).into())).await;
        let found = (answer.status().as_u16(), app.connections());
        assert_eq!(found, (status, connections), "for {method} with {body:?}, and {silent}");
    }
}

/// A deadline so short that a test can wait for it.
const SHORT: HumanDuration = HumanDuration(Duration::from_millis(30));

/// A socket whose backlog is full, and the clients that fill it.
async fn full_backlog(path: &std::path::Path) -> (UnixListener, Vec<UnixStream>) {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(path).unwrap()).unwrap();
    socket.listen(1).unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = UnixListener::from_std(std::os::fd::OwnedFd::from(socket).into()).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = UnixStream::connect(path).await {
        waiting.push(stream);
    }
    (listener, waiting)
}

#[tokio::test]
async fn a_full_backlog_is_waited_for_until_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let address = format!("unix:{}", path.display()).parse().unwrap();
    let (listener, waiting) = full_backlog(&path).await;
    let impatient = Upstream::new(&address, &UpstreamConfig { connect_timeout: SHORT, ..config() });
    let full = impatient.forward(get("/")).await;
    assert_eq!((full.status().as_u16(), &full.headers()["retry-after"]), (503, &"1".parse().unwrap()));

    let patient = tokio::spawn(async move { Upstream::new(&address, &config()).forward(get("/")).await.status() });
    tokio::task::yield_now().await;
    drop(waiting);
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if stream.read_buf(&mut Vec::with_capacity(4096)).await.is_ok_and(|read| read > 0) {
                stream.write_all(HELLO.as_bytes()).await.unwrap();
            }
        }
    });
    assert_eq!(patient.await.unwrap(), 200);
    serving.abort();
}

#[tokio::test]
async fn an_application_that_does_not_answer_in_time_is_504() {
    let app = App::new(async |mut connection| {
        connection.request().await;
        connection.hung_up().await;
    })
    .await;
    let upstream = Upstream::new(app.address(), &UpstreamConfig { response_timeout: SHORT, ..config() });
    assert_eq!(upstream.forward(get("/")).await.status(), 504);
}

#[tokio::test]
async fn an_application_that_does_not_read_is_504() {
    let app = App::new(async |mut connection| {
        connection.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let upstream = Upstream::new(app.address(), &UpstreamConfig { idle_timeout: SHORT, ..config() });
    let (sender, body) = channel();
    for _ in 0..64 {
        sender.send(Ok(Bytes::from(vec![b'x'; 65_536]))).unwrap();
    }
    let length = (64 * 65_536).to_string();
    let response = upstream.forward(request("POST", "/", &[("content-length", &length)], body)).await;
    assert_eq!(response.status(), 504);
}

#[tokio::test]
async fn an_application_that_pauses_within_its_answer_is_cut_off() {
    let app = App::new(async |mut connection| {
        connection.request().await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").await;
        connection.hung_up().await;
    })
    .await;
    let upstream = Upstream::new(app.address(), &UpstreamConfig { idle_timeout: SHORT, ..config() });
    let response = upstream.forward(get("/")).await;
    let error = soon(response.into_body().collect()).await.unwrap_err();
    assert!(error.to_string().contains("paused"), "{error}");
}

#[tokio::test]
async fn a_slow_client_is_no_fault_of_the_application() {
    // Long enough for the application to answer on a busy machine.
    let limit = HumanDuration(Duration::from_millis(300));
    let app = App::answering(HELLO).await;
    let upstream =
        Upstream::new(app.address(), &UpstreamConfig { idle_timeout: limit, response_timeout: limit, ..config() });
    let (sender, body) = channel();
    let answer =
        tokio::spawn(async move { upstream.forward(request("POST", "/", &[("content-length", "2")], body)).await });
    sender.send(Ok(Bytes::from_static(b"a"))).unwrap();
    tokio::time::sleep(limit.0 * 2).await; // the pause is what is tested
    sender.send(Ok(Bytes::from_static(b"b"))).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_breaks_off_or_sends_too_much_is_told_so_and_the_application_sees_no_whole_request() {
    for (fields, limit, expected) in [
        (&[("content-length", "9")][..], 3, 413),
        (&[("content-length", "9")], 100, 400),
        (&[], 3, 413), // while it is gathered
    ] {
        let app = App::answering(HELLO).await;
        let (sender, body) = channel();
        sender.send(Ok(Bytes::from_static(b"abcdef"))).unwrap();
        sender.send(Err("connection reset".into())).unwrap();
        let body = Body::stream(Limited::new(body, limit));
        assert_eq!(upstream(&app).forward(request("POST", "/", fields, body)).await.status(), expected);
        assert_eq!(app.requests(), [""; 0]);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_connection_with_it() {
    let (sender, mut hung_up) = mpsc::unbounded_channel();
    let app = App::new(move |mut connection| {
        let sender = sender.clone();
        async move {
            connection.request().await;
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").await;
            connection.hung_up().await;
            sender.send(()).unwrap();
        }
    })
    .await;
    let response = upstream(&app).forward(get("/")).await;
    drop(response);
    soon(hung_up.recv()).await.unwrap();
}

#[tokio::test]
async fn more_requests_than_connections_and_queue_are_told_to_come_back() {
    let app = App::new(async |mut connection| {
        connection.request().await;
        connection.hung_up().await;
    })
    .await;
    let config = UpstreamConfig { connections: 1.try_into().unwrap(), queue: 0, ..config() };
    let upstream = Arc::new(Upstream::new(app.address(), &config));
    let first = tokio::spawn({
        let upstream = upstream.clone();
        async move { upstream.forward(get("/")).await }
    });
    until(|| async { app.connections() > 0 }).await;
    let second = upstream.forward(get("/")).await;
    assert_eq!((second.status().as_u16(), &second.headers()["retry-after"]), (503, &HeaderValue::from_static("1")));
    first.abort();
}

#[tokio::test]
async fn an_answer_that_nobody_takes_holds_its_connection_until_it_is_dropped_and_no_longer() {
    let app = App::new(async |mut connection| {
        connection.request().await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").await;
        connection.hung_up().await;
    })
    .await;
    let config = UpstreamConfig { connections: 1.try_into().unwrap(), queue: 0, ..config() };
    let upstream = Upstream::new(app.address(), &config);
    let mut untaken = upstream.forward(get("/")).await.into_body();
    assert_eq!(soon(untaken.frame()).await.unwrap().unwrap().into_data().unwrap(), "hello");
    assert_eq!(upstream.forward(get("/")).await.status(), 503);
    drop(untaken);
    until(|| async { upstream.forward(get("/")).await.status() == 200 }).await;
}

/// Answers whatever is asked with so many bytes, and closes, as gunicorn's sync worker does.
async fn app_with_long_answers(fields: &'static str, length: usize) -> App {
    App::new(move |mut connection| async move {
        connection.request().await;
        let framing = format!("Content-Length: {length}\r\nConnection: close\r\n{fields}\r\n");
        connection.send(&format!("HTTP/1.1 200 OK\r\n{framing}{}", "x".repeat(length))).await;
    })
    .await
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_held_and_its_connection_is_free() {
    for (memory, disk) in [(8, 0), (0, 16), (1, 16)] {
        let app = app_with_long_answers("", 3_000_000).await;
        let upstream = Upstream::new(
            app.address(),
            &UpstreamConfig {
                connections: 1.try_into().unwrap(),
                response_buffer: ByteSize::mebibytes(8),
                response_buffer_memory: ByteSize::mebibytes(memory),
                buffer_disk: ByteSize::mebibytes(disk),
                ..config()
            },
        );
        let mut untaken = Vec::new();
        for _ in 0..2 {
            untaken.push(upstream.forward(get("/")).await); // the second waits for the connection of the first
        }
        for response in untaken {
            assert_eq!(response.headers()["content-length"], "3000000");
            assert_eq!(text(response).await.1.len(), 3_000_000, "with {memory} and {disk} MiB");
        }
    }
}

#[tokio::test]
async fn an_answer_that_finds_no_room_or_is_live_goes_on_at_the_pace_of_its_client() {
    let (none, live) = ("", "X-Accel-Buffering: no\r\n");
    let events = "Content-Type: text/event-stream\r\n";
    for (fields, buffer, disk) in [(none, 0, 16), (none, 1, 0), (none, 1, 1), (live, 8, 16), (events, 8, 16)] {
        let app = app_with_long_answers(fields, 3_000_000).await;
        let upstream = Upstream::new(
            app.address(),
            &UpstreamConfig {
                connections: 1.try_into().unwrap(),
                queue: 0,
                response_buffer: ByteSize::mebibytes(buffer),
                buffer_disk: ByteSize::mebibytes(disk),
                ..config()
            },
        );
        let first = upstream.forward(get("/")).await;
        assert!(!first.headers().contains_key("x-accel-buffering"));
        assert_eq!(upstream.forward(get("/")).await.status(), 503, "for {fields:?}, {buffer} and {disk} MiB");
        assert_eq!(text(first).await.1.len(), 3_000_000);
        until(|| async { upstream.forward(get("/")).await.status() == 200 }).await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_while_it_is_held_is_cut_after_what_came() {
    let half = "x".repeat(400_000);
    let app = App::closing_after(format!("HTTP/1.1 200 OK\r\nContent-Length: 800000\r\n\r\n{half}")).await;
    let config = UpstreamConfig { response_buffer: ByteSize(1000), connections: 1.try_into().unwrap(), ..config() };
    let upstream = Upstream::new(app.address(), &config);
    let first = upstream.forward(get("/")).await;
    let _second = upstream.forward(get("/")).await; // the first has broken off by now
    let mut body = first.into_body();
    let mut came = 0;
    let end = loop {
        match soon(body.frame()).await {
            Some(Ok(frame)) => came += frame.into_data().unwrap().len(),
            end => break end,
        }
    };
    assert!(came == 400_000 && end.is_some_and(|end| end.is_err()));
    assert!(!http_body::Body::is_end_stream(&body), "the log must not take it for a whole one");
}

#[tokio::test]
async fn without_a_disk_bodies_of_unknown_length_take_no_more_memory_together_than_is_allowed() {
    let app = App::answering(HELLO).await;
    let (memory, disk) = (ByteSize(8), ByteSize(0));
    let reserve = ByteSize(0);
    let config = UpstreamConfig {
        request_buffer_memory: memory,
        request_buffer_reserve: reserve,
        request_buffer_share: 1.0,
        buffer_disk: disk,
        ..config()
    };
    let upstream = Upstream::new(app.address(), &config);
    let (sender, slow) = channel();
    sender.send(Ok(Bytes::from_static(b"abcdef"))).unwrap();
    let mut first = std::pin::pin!(upstream.forward(request("POST", "/", &[], slow)));
    assert!(first.as_mut().now_or_never().is_none(), "it waits for the rest");
    let short = || {
        let (sender, body) = channel();
        sender.send(Ok(Bytes::from_static(b"abc"))).unwrap();
        request("POST", "/", &[], body)
    };
    let refused = upstream.forward(short()).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &HeaderValue::from_static("1")));
    assert_eq!(app.connections(), 0);
    drop(sender);
    assert_eq!(first.await.status(), 200);
    assert_eq!(upstream.forward(short()).await.status(), 200);
}

#[tokio::test]
async fn however_many_ask_whether_the_application_is_there_it_is_tried_once_a_second() {
    let app = App::answering(HELLO).await;
    let upstream = Upstream::new(app.address(), &config());
    let answers = futures_util::future::join_all((0..100).map(|_| upstream.is_reachable())).await;
    assert_eq!(answers, [true; 100]);
    // When this request is answered, whatever connected before it has been counted.
    assert_eq!(upstream.forward(get("/")).await.status(), 200);
    assert_eq!(app.connections(), 2);
    app.stop();
    assert!(upstream.is_reachable().await);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!upstream.is_reachable().await);
}

#[tokio::test]
async fn a_client_that_sends_slowly_holds_no_connection_to_the_application() {
    let app = App::answering(HELLO).await;
    let upstream = upstream(&app);
    let (sender, mut receiver) = mpsc::channel::<Result<Frame<Bytes>, BodyError>>(1);
    let pieces = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let slow = request("POST", "/", &[("content-length", "4")], Body::stream(StreamBody::new(pieces)));
    let sending = async {
        for piece in ["a", "b", "c"] {
            sender.send(Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).await.unwrap();
            assert_eq!(app.connections(), 0);
        }
        sender.send(Ok(Frame::data(Bytes::from_static(b"d")))).await.unwrap();
        drop(sender);
    };
    let (response, ()) = tokio::join!(upstream.forward(slow), sending);
    assert_eq!(response.status(), 200);
    assert!(app.request().ends_with("abcd"), "{}", app.request());
}
