//! The uwsgi protocol towards the application.

use bytes::Bytes;
use vestibule::config::UpstreamConfig;
use vestibule::config::values::ByteSize;
use vestibule::http::body::Body;

use crate::proxy::{Upstream, channel, get, request, text};
use crate::support::app::App;

/// As uWSGI answers: no length, no `Connection`, the end is the end.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello";

/// Answers each packet with the body that came with it.
async fn echo() -> App {
    App::uwsgi(async |mut connection| {
        let Some((_, body)) = connection.packet().await else { return };
        connection.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    })
    .await
}

fn upstream(app: &App) -> Upstream {
    Upstream::new(app.address(), &UpstreamConfig::default())
}

#[tokio::test]
async fn each_request_is_one_packet_on_a_connection_of_its_own() {
    let app = App::uwsgi(async |mut connection| {
        let (variables, _) = connection.packet().await.unwrap();
        let find = |name: &str| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(find("REQUEST_URI"), Some("/a%20b?c"));
        assert_eq!(find("PATH_INFO"), Some("/a b"));
        assert_eq!(find("REMOTE_ADDR"), Some("192.0.2.1"));
        assert_eq!(find("HTTPS"), Some("on"));
        assert_eq!(find("HTTP_X_FORWARDED_FOR"), Some("192.0.2.1"));
        assert!(find("HTTP_X_REQUEST_START").unwrap().starts_with("t="));
        assert_eq!(find("HTTP_FORWARDED"), Some("for=192.0.2.1;host=example.com;proto=https"));
        connection.send(ANSWER).await;
    })
    .await;
    let upstream = Upstream::new(app.address(), &UpstreamConfig { forwarded: true, ..UpstreamConfig::default() });
    for _ in 0..2 {
        assert_eq!(text(upstream.forward(get("/a%20b?c")).await).await, (200, "hello".into()));
    }
    assert_eq!((app.connections(), app.requests().len()), (2, 2));
}

#[tokio::test]
async fn a_body_follows_the_packet_with_exactly_its_length() {
    let app = echo().await;
    let (sender, body) = channel();
    for piece in ["ab\r\n\r\ncd", "ef"] {
        sender.send(Ok(Bytes::from_static(piece.as_bytes()))).unwrap();
    }
    drop(sender);
    let answer = upstream(&app).forward(request("POST", "/", &[("content-length", "10")], body)).await;
    assert_eq!(text(answer).await, (200, "ab\r\n\r\ncdef".into()));
}

#[tokio::test]
async fn a_large_body_goes_through_whole() {
    let app = echo().await;
    let sent = "0123456789abcdef".repeat(100_000);
    let length = sent.len().to_string();
    let answer = upstream(&app)
        .forward(request("POST", "/", &[("content-length", &length)], Body::from(Bytes::from(sent.clone()))))
        .await;
    assert!(text(answer).await == (200, sent), "the body came back changed");
}

#[tokio::test]
async fn a_body_of_unknown_length_gets_one_or_is_refused() {
    let refused = (411, "411 Length Required\n".to_owned());
    for (limit, disk, expected) in [(3, 0, (200, "abc".to_owned())), (2, 100, (200, "abc".to_owned())), (2, 0, refused)]
    {
        let app = echo().await;
        let (request_buffer, buffer_disk) = (ByteSize(limit), ByteSize(disk));
        let config = UpstreamConfig { request_buffer, buffer_disk, ..UpstreamConfig::default() };
        let (sender, body) = channel();
        sender.send(Ok(Bytes::from_static(b"abc"))).unwrap();
        drop(sender);
        let answer = Upstream::new(app.address(), &config).forward(request("POST", "/", &[], body)).await;
        assert_eq!(text(answer).await, expected);
    }
}

#[tokio::test]
async fn the_answer_to_head_has_no_body() {
    let app = App::uwsgi(async |mut connection| {
        connection.packet().await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    })
    .await;
    let answer = upstream(&app).forward(request("HEAD", "/", &[], Body::Empty)).await;
    assert_eq!(answer.headers()["content-length"], "5");
    assert_eq!(text(answer).await, (200, String::new()));
}

#[tokio::test]
async fn a_head_beyond_the_format_is_431_and_one_beyond_the_servers_buffer_is_502() {
    let app = App::uwsgi(async |_| {}).await; // hangs up at once, as uWSGI with too small a buffer
    for (length, expected) in [(70_000, 431), (5_000, 502)] {
        let cookie = "x".repeat(length);
        let answer = upstream(&app).forward(request("GET", "/", &[("cookie", &cookie)], Body::Empty)).await;
        assert_eq!(answer.status(), expected, "for {length} bytes");
    }
}

#[tokio::test]
async fn an_upgrade_is_not_offered() {
    let app = App::uwsgi(async |mut connection| {
        let (variables, _) = connection.packet().await.unwrap();
        assert!(variables.iter().all(|(name, _)| name != "HTTP_UPGRADE" && name != "HTTP_CONNECTION"));
        connection.send(ANSWER).await;
    })
    .await;
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let answer = upstream(&app).forward(request("GET", "/", &upgrade, Body::Empty)).await;
    assert_eq!(answer.status(), 200);
}
