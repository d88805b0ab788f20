//! SIGTERM: what runs is finished, within a deadline.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;
use vestibule::serve::{Ending, Order};

use crate::support::client::Connection;
use crate::support::server::TestServer;
use crate::support::until;

/// A server before an application that answers only when it is told to.
async fn slow(shutdown: &str) -> (TestServer, UnixListener, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("app.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let config =
        format!("[upstream]\naddress = \"unix:{}\"\n[timeouts]\nshutdown = \"{shutdown}\"\n", socket.display());
    (TestServer::start(&config).await, listener, folder)
}

async fn accept(application: &UnixListener) -> UnixStream {
    let accepted = timeout(Duration::from_secs(20), application.accept()).await;
    accepted.expect("the request never came to the application").unwrap().0
}

#[tokio::test]
async fn a_running_request_is_finished_and_no_new_connection_taken() {
    let (server, application, _folder) = slow("20s").await;
    let address = server.address();
    let mut client = Connection::open(address).await;
    client.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut request = accept(&application).await;
    let mut head = [0; 16];
    request.read_exact(&mut head).await.unwrap();
    server.order(Order::Stop).await;
    until(|| async { TcpStream::connect(address).await.is_err() }).await;
    request.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await.unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "done"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(server.ended().await, Ending::Drained);
}

#[tokio::test]
async fn a_request_that_does_not_finish_is_cut_at_the_deadline() {
    let (server, application, _folder) = slow("100ms").await;
    let mut client = Connection::open(server.address()).await;
    client.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let _request = accept(&application).await;
    server.order(Order::Stop).await;
    assert_eq!(server.ended().await, Ending::DeadlinePassed);
}

#[tokio::test]
async fn a_second_signal_ends_the_wait() {
    let (server, application, _folder) = slow("1h").await;
    let mut client = Connection::open(server.address()).await;
    client.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let _request = accept(&application).await;
    server.order(Order::Stop).await;
    server.order(Order::Stop).await;
    assert_eq!(server.ended().await, Ending::DeadlinePassed);
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_end() {
    let server = TestServer::start("[timeouts]\nshutdown = \"1h\"\n").await;
    let mut used = Connection::open(server.address()).await;
    used.send("GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(used.answer().await.unwrap().status, 200);
    let mut fresh = Connection::open(server.address()).await;
    server.order(Order::Stop).await;
    assert_eq!(server.ended().await, Ending::Drained);
    assert!(used.is_closed().await);
    assert!(fresh.is_closed().await);
}
