//! WebSockets and other upgraded connections, from a client through the server to the application.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{Error, Message};
use vestibule::serve::{Ending, Order};

use crate::support::app::{App, HELLO};
use crate::support::client::{Connection, get};
use crate::support::server::TestServer;
use crate::support::{soon, until};

async fn server(app: &App, more: &str) -> TestServer {
    TestServer::start(&format!("[upstream]\naddress = \"{}\"\n{more}", app.address())).await
}

/// Agrees to any protocol, says something at once, and then sends back what it gets.
async fn agreeing() -> App {
    App::new(async |mut connection| {
        connection.request().await;
        connection
            .send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\nX-Hop: 1\r\n\r\nearly;")
            .await;
        loop {
            let bytes = connection.bytes().await;
            if bytes.is_empty() {
                return;
            }
            connection.send(&bytes).await;
        }
    })
    .await
}

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n";

#[tokio::test]
async fn bytes_go_both_ways_after_an_upgrade() {
    let app = agreeing().await;
    let server = server(&app, "").await;
    let mut client = Connection::open(server.address()).await;
    client.send(ASK).await;
    let head = client.head().await.unwrap();
    assert_eq!((head.status, head.header("upgrade"), head.header("connection")), (101, Some("echo"), Some("upgrade")));
    client.send("hello\n").await;
    assert_eq!(client.line().await.as_deref(), Some("early;hello"));
    client.send("again\n").await;
    assert_eq!(client.line().await.as_deref(), Some("again"));
    let seen = app.request();
    assert!(seen.contains("upgrade: echo\r\n") && seen.contains("connection: upgrade\r\n"), "{seen}");
}

#[tokio::test]
async fn what_the_client_sent_ahead_is_not_lost() {
    let app = agreeing().await;
    let server = server(&app, "").await;
    let mut client = Connection::open(server.address()).await;
    client.send(format!("{ASK}ahead\n")).await;
    assert_eq!(client.head().await.unwrap().status, 101);
    assert_eq!(client.line().await.as_deref(), Some("early;ahead"));
}

#[tokio::test]
async fn an_application_that_does_not_agree_answers_as_ever() {
    let app = App::answering(HELLO).await;
    let server = server(&app, "").await;
    let mut client = Connection::open(server.address()).await;
    client.send(ASK).await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(answer.header("upgrade"), None);
}

#[tokio::test]
async fn only_a_plain_get_can_ask_for_another_protocol() {
    for ask in [
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let app = App::answering(HELLO).await;
        let server = server(&app, "").await;
        let mut client = Connection::open(server.address()).await;
        client.send(ask).await;
        assert_eq!(client.answer().await.unwrap().status, 200, "for {ask:?}");
        assert!(!app.request().contains("upgrade"), "for {ask:?}");
    }
}

#[tokio::test]
async fn silence_on_both_sides_ends_an_upgraded_connection() {
    let app = agreeing().await;
    let server = server(&app, "tunnel_idle_timeout = \"50ms\"").await;
    let mut client = Connection::open(server.address()).await;
    client.send(ASK).await;
    assert_eq!(client.head().await.unwrap().status, 101);
    assert_eq!(client.line().await.as_deref(), Some("early;"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn stopping_ends_upgraded_connections() {
    let app = agreeing().await;
    let server = server(&app, "").await;
    let mut client = Connection::open(server.address()).await;
    client.send(ASK).await;
    assert_eq!(client.head().await.unwrap().status, 101);
    server.order(Order::Stop).await;
    assert_eq!(client.line().await.as_deref(), Some("early;"));
    assert!(matches!(soon(server.ended()).await, Ending::Drained));
}

#[tokio::test]
async fn stopping_ends_upgraded_connections_that_are_older_than_the_configuration() {
    let (old, new) = (agreeing().await, App::answering(HELLO).await);
    let config = |app: &App| {
        format!(
            "[listen]\nhttp = [\"127.0.0.1:0\"]\n[log]\naccess = \"off\"\n[upstream]\naddress = \"{}\"\n",
            app.address()
        )
    };
    let server = TestServer::start(&config(&old)).await;
    let mut client = Connection::open(server.address()).await;
    client.send(ASK).await;
    assert_eq!(client.head().await.unwrap().status, 101);
    server.set_config(&config(&new));
    server.order(Order::Reload).await;
    until(|| async { get(server.address(), "/", "").await.status == 200 }).await;
    client.send("still here\n").await;
    assert_eq!(client.line().await.as_deref(), Some("early;still here"));
    server.order(Order::Stop).await;
    assert!(client.is_closed().await);
    assert!(matches!(soon(server.ended()).await, Ending::Drained));
}

#[tokio::test]
async fn a_websocket_client_and_a_websocket_application_understand_each_other() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let application = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if !message.is_close() {
                socket.send(message).await.unwrap();
            }
        }
    });
    let server = TestServer::start(&format!("[upstream]\naddress = \"http://{address}\"\n")).await;
    let (mut socket, _) = soon(connect_async(format!("ws://{}/chat", server.address()))).await.unwrap();
    for message in [Message::text("hello"), Message::binary(vec![7; 300_000])] {
        soon(socket.send(message.clone())).await.unwrap();
        assert_eq!(soon(socket.next()).await.unwrap().unwrap(), message);
    }
    soon(socket.close(None)).await.unwrap();
    while let Some(message) = soon(socket.next()).await {
        assert!(matches!(message, Ok(Message::Close(_)) | Err(Error::ConnectionClosed)), "{message:?}");
    }
    soon(application).await.unwrap();
}
