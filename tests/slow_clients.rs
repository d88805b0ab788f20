//! Slow clients before a real gunicorn with a single worker that does one thing at a time.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::app::App;
use crate::support::client::{Connection, get};
use crate::support::gunicorn::Gunicorn;
use crate::support::server::TestServer;
use crate::support::{soon, until};

/// How many read slowly, and how many send slowly, all at once.
const CLIENTS: usize = 200;

/// What they read and send at a time, and how long they pause then.
const PIECE: usize = 1024;
const PAUSE: Duration = Duration::from_secs(1);

/// A client whose system takes little for it in advance.
async fn open(address: SocketAddr) -> Connection<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    Connection::over(socket.connect(address).await.unwrap())
}

/// Has the head of a long answer when this returns, and then reads on at its pace.
async fn read_slowly(address: SocketAddr) -> JoinHandle<Connection<TcpStream>> {
    let mut client = open(address).await;
    client.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let head = client.head().await.expect("a head");
    assert_eq!((head.status, head.header("content-length")), (200, Some("1000000")));
    tokio::spawn(async move {
        for _ in 0..1_000_000 / PIECE {
            client.rest(PIECE).await.expect("the answer is whole");
            sleep(PAUSE).await;
        }
        client
    })
}

/// Has sent the head of a long request when this returns, and then sends on at its pace.
async fn send_slowly(address: SocketAddr, framing: &'static str) -> JoinHandle<Connection<TcpStream>> {
    let mut client = open(address).await;
    client.send(format!("POST /upload HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n")).await;
    tokio::spawn(async move {
        for _ in 0..1_000_000 / PIECE {
            let chunk_head = if framing.contains("chunked") { "400\r\n" } else { "" };
            let chunk_end = if framing.contains("chunked") { "\r\n" } else { "" };
            client.send(format!("{chunk_head}{}{chunk_end}", "x".repeat(PIECE))).await;
            sleep(PAUSE).await;
        }
        client
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_hold_no_worker() {
    let gunicorn = Gunicorn::start(&["--workers", "1", "--worker-class", "sync"]);
    let address = gunicorn.address();
    let server = TestServer::start(&format!("[upstream]\naddress = {address:?}\nhold = \"60s\"\n")).await;
    let mut slow = Vec::new();
    for n in 0..CLIENTS {
        let framing = if n % 2 == 0 { "Content-Length: 1000000" } else { "Transfer-Encoding: chunked" };
        slow.push(send_slowly(server.address(), framing).await);
        // The head comes from the only worker, so it was free again after the client before.
        slow.push(read_slowly(server.address()).await);
    }
    for _ in 0..3 {
        assert_eq!(get(server.address(), "/", "").await.status, 200);
    }
    let finished = slow.iter().filter(|client| client.is_finished()).count();
    assert_eq!((slow.len(), finished), (2 * CLIENTS, 0), "all of them are still at it");
    slow.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn streams_of_http2_whose_windows_are_closed_hold_no_connection_to_the_application() {
    let app = App::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(300_000))).await;
    let config = "connections = 1\nqueue = 0\n";
    let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n{config}", app.address())).await;
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut sender, connection) =
        soon(h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream)).await.unwrap();
    tokio::spawn(async move { connection.await.unwrap() });
    let mut untaken = Vec::new();
    for _ in 0..20 {
        let request = http::Request::get("http://example.com/").body(()).unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let answer = soon(answer).await.unwrap();
        // Its head may come before the last of its body has been taken from the application.
        until(|| async { get(server.address(), "/", "").await.status == 200 }).await;
        assert_eq!(answer.status(), 200);
        untaken.push(answer);
    }
    for mut answer in untaken {
        assert!(answer.body_mut().data().now_or_never().is_none(), "nothing was let through its window");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_a_slow_client_is_whole() {
    let gunicorn = Gunicorn::start(&["--workers", "1", "--worker-class", "sync"]);
    let address = gunicorn.address();
    let config = "hold = \"60s\"\nrequest_buffer = 1000\nresponse_buffer = 1000\n";
    let server = TestServer::start(&format!("[upstream]\naddress = {address:?}\n{config}")).await;
    let mut reader = open(server.address()).await;
    reader.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    reader.head().await.expect("a head");
    let mut sender = open(server.address()).await;
    sender.send("POST /upload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..100 {
        assert_eq!(reader.rest(10_000).await.expect("the answer is whole"), "0123456789abcdef".repeat(625).as_bytes());
        sender.send(format!("4e20\r\n{}\r\n", "x".repeat(20_000))).await;
    }
    sender.send("0\r\n\r\n").await;
    assert_eq!(sender.answer().await.expect("an answer").text(), "2000000");
}
