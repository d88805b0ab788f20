//! Several applications on one site: which one is asked.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::app::App;
use crate::support::client::{Connection, get};
use crate::support::gunicorn::Gunicorn;
use crate::support::server::TestServer;
use crate::support::soon;

async fn app(name: &str) -> App {
    App::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())).await
}

#[tokio::test]
async fn a_path_or_a_host_leads_to_its_application() {
    let (main, chat, api) = (app("main").await, app("chat").await, app("api").await);
    let server = TestServer::start(&format!(
        "[upstream]\naddress = \"{}\"\n\
         [[routes]]\npath = \"/ws/\"\nupstream = \"{}\"\n\
         [[routes]]\nhost = \"api.example.com\"\nupstream = \"api\"\n\
         [[applications]]\nname = \"api\"\nservers = [\"{}\"]\nresponse_timeout = \"5m\"\n",
        main.address(),
        chat.address(),
        api.address()
    ))
    .await;
    for (host, path, expected) in [
        ("example.com", "/", "main"),
        ("example.com", "/ws/room/1", "chat"),
        ("example.com", "/%77s/", "chat"),
        ("api.example.com", "/", "api"),
        ("API.example.com:80", "/ws/", "api"),
    ] {
        let mut connection = Connection::open(server.address()).await;
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(connection.answer().await.unwrap().text(), expected, "for {host} and {path}");
    }
    let seen = chat.requests().iter().map(|request| request.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(seen, ["/ws/room/1", "/%77s/"], "the path goes on as it came");
}

#[tokio::test]
async fn one_application_that_is_down_leaves_the_others_and_readiness_alone() {
    let (main, chat) = (app("main").await, app("chat").await);
    chat.stop();
    let server = TestServer::start(&format!(
        "[upstream]\naddress = \"{}\"\nhold = 0\n[[routes]]\npath = \"/ws/\"\nupstream = \"{}\"\n",
        main.address(),
        chat.address()
    ))
    .await;
    assert_eq!(get(server.address(), "/ws/", "").await.status, 502);
    assert_eq!(get(server.address(), "/", "").await.status, 200);
    assert_eq!(get(server.address(), "/-/ready", "").await.status, 200);
}

#[tokio::test]
async fn with_routes_alone_the_rest_is_not_found() {
    let api = app("api").await;
    let server = TestServer::start(&format!("[[routes]]\npath = \"/api/\"\nupstream = \"{}\"\n", api.address())).await;
    assert_eq!(get(server.address(), "/api/", "").await.text(), "api");
    assert_eq!(get(server.address(), "/", "").await.status, 404);
    assert_eq!(get(server.address(), "/-/ready", "").await.status, 200);
}

#[tokio::test]
async fn a_real_chat_stands_beside_real_pages() {
    let (pages, chat) = (Gunicorn::start(&["--workers", "1", "--worker-class", "sync"]), Gunicorn::chat());
    let (pages_at, chat_at) = (pages.address(), chat.address());
    let server = TestServer::start(&format!(
        "[upstream]\naddress = {pages_at:?}\nhold = \"60s\"\n[[routes]]\npath = \"/ws/\"\nupstream = {chat_at:?}\n"
    ))
    .await;
    let (page, talk) = (get(server.address(), "/", "").await, get(server.address(), "/ws/", "").await);
    assert!(page.text().parse::<u32>().is_ok(), "the number of a process: {}", page.text());
    assert_eq!(talk.text(), "chat");
    let (mut socket, _) = soon(connect_async(format!("ws://{}/ws/room", server.address()))).await.unwrap();
    soon(socket.send(Message::text("hello"))).await.unwrap();
    assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::text("HELLO"));
}
