//! Uploads that stall, and those who want to post beside them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};

use crate::support::app::{App, HELLO};
use crate::support::client::{Answer, Connection};
use crate::support::server::TestServer;
use crate::support::{soon, until};

/// How many stall at once.
const STALLED: usize = 60;

/// A client at an address of this machine.
async fn from(client: Ipv4Addr, server: SocketAddr) -> Connection<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((client, 0).into()).unwrap();
    Connection::over(socket.connect(server).await.unwrap())
}

/// Posts a body of so many bytes.
async fn post(client: Ipv4Addr, server: SocketAddr, length: usize) -> Answer {
    let mut connection = from(client, server).await;
    connection.send(format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")).await;
    connection.send("x".repeat(length)).await;
    connection.answer().await.expect("an answer")
}

/// A server with little room, of which one client may have so much, and clients of one address that have begun to
/// send and stall.
async fn stalled(app: &App, share: f64) -> (TestServer, Vec<Connection<TcpStream>>) {
    let server = TestServer::start(&format!(
        "[upstream]\naddress = \"{}\"\nrequest_buffer = \"64 KiB\"\nrequest_buffer_memory = \"1 MiB\"\n\
         buffer_disk = \"4 MiB\"\nrequest_buffer_share = {share}\n[limits]\nbody_size = \"1 MiB\"\n",
        app.address()
    ))
    .await;
    let mut clients = Vec::new();
    for _ in 0..STALLED {
        let mut client = from(Ipv4Addr::LOCALHOST, server.address()).await;
        client.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n").await;
        client.send("x".repeat(300_000)).await;
        clients.push(client);
    }
    // When there is no room for another one of theirs, all that they may take is taken.
    until(|| async { post(Ipv4Addr::LOCALHOST, server.address(), 600_000).await.status == 503 }).await;
    (server, clients)
}

#[tokio::test]
async fn who_stalls_keeps_out_nobody_else_and_can_still_log_in() {
    let app = App::answering(HELLO).await;
    let (server, clients) = stalled(&app, 0.25).await;
    let other = Ipv4Addr::new(127, 0, 0, 2);
    assert_eq!(post(other, server.address(), 600_000).await.status, 200);
    assert_eq!(post(other, server.address(), 1000).await.status, 200);
    for _ in 0..10 {
        assert_eq!(post(Ipv4Addr::LOCALHOST, server.address(), 1000).await.status, 200);
    }
    let refused = post(Ipv4Addr::LOCALHOST, server.address(), 600_000).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    drop(clients);
    until(|| async { post(Ipv4Addr::LOCALHOST, server.address(), 600_000).await.status == 200 }).await;
}

#[tokio::test]
async fn without_shares_who_stalls_keeps_out_all_but_those_who_log_in() {
    let app = App::answering(HELLO).await;
    let (server, _clients) = stalled(&app, 1.0).await;
    let other = Ipv4Addr::new(127, 0, 0, 2);
    assert_eq!(post(other, server.address(), 600_000).await.status, 503);
    assert_eq!(post(other, server.address(), 1000).await.status, 200);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_given_up_and_the_connection_closed() {
    let app = App::answering(HELLO).await;
    let server = TestServer::start(&format!(
        "[upstream]\naddress = \"{}\"\n[timeouts]\nbody = \"1s\"\nlinger = \"1ms\"\n[limits]\nbody_rate = 1000000\n",
        app.address()
    ))
    .await;
    let mut client = from(Ipv4Addr::LOCALHOST, server.address()).await;
    client.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n").await;
    // It never pauses for as long as it may.
    let sending = async {
        loop {
            client.send("x").await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), sending).await;
    let answer = client.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert!(client.is_closed().await);
    assert_eq!(app.requests().len(), 0);
}

#[tokio::test]
async fn an_answer_that_comes_before_the_upload_has_ended_is_heard_at_once() {
    for fields in ["", "Connection: close\r\n"] {
        let app = App::new(move |mut connection| async move {
            connection.head().await;
            connection.send(&format!("HTTP/1.1 403 Forbidden\r\n{fields}Content-Length: 2\r\n\r\nno")).await;
            // It reads nothing of the body, and does not hang up.
            std::future::pending::<()>().await;
        })
        .await;
        let server = TestServer::start(&format!(
            "[upstream]\naddress = \"{}\"\nstream_requests = [\"/*\"]\n[limits]\nbody_size = \"1 GiB\"\n",
            app.address()
        ))
        .await;
        for sent in [1000, 10_000_000] {
            let mut client = from(Ipv4Addr::LOCALHOST, server.address()).await;
            client.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n").await;
            client.send("x".repeat(sent)).await;
            let answer = client.answer().await.expect("an answer");
            assert_eq!((answer.status, answer.text()), (403, "no"), "with {sent} bytes sent, and {fields:?}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_the_application_reads_late_is_not_changed_by_those_after_it() {
    let (sender, mut read) = mpsc::unbounded_channel();
    let late = Arc::new(Notify::new());
    let app = App::new({
        let late = Arc::clone(&late);
        move |mut connection| {
            let (sender, late) = (sender.clone(), Arc::clone(&late));
            async move {
                if connection.head().await.is_some_and(|head| head.starts_with("POST /late ")) {
                    // What is answered before its body has begun is copied; this is about what is not.
                    let mut all = connection.bytes().await;
                    while all.split_once("\r\n\r\n").is_none_or(|(_, body)| body.is_empty()) {
                        all += &connection.bytes().await;
                    }
                    connection.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await;
                    late.notified().await;
                    while let piece = connection.bytes().await
                        && !piece.is_empty()
                    {
                        all += &piece;
                    }
                    sender.send(all).unwrap();
                } else {
                    connection.request().await;
                    connection.send(HELLO).await;
                }
            }
        }
    })
    .await;
    let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n", app.address())).await;
    let upload = async |path: &str, letter: &str| {
        let mut connection = Connection::open(server.address()).await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
        connection.send(head + &letter.repeat(1_000_000)).await;
        connection.answer().await.expect("an answer").status
    };
    for letter in ["a", "b", "c", "d"] {
        assert_eq!(upload("/late", letter).await, 413);
        for _ in 0..3 {
            assert_eq!(upload("/now", "x").await, 200);
        }
        late.notify_one();
        let all = soon(read.recv()).await.unwrap();
        let (_, body) = all.split_once("\r\n\r\n").unwrap();
        assert!(body.len() > 100_000 && body.chars().all(|found| letter.contains(found)), "{} bytes", body.len());
    }
}
