//! `[[mounts]]`: folders of files beside the application.

use crate::support::app::{App, HELLO};
use crate::support::client::{Connection, get};
use crate::support::server::TestServer;

#[tokio::test]
async fn files_at_the_root_stand_before_the_application_and_hide_nothing_else_of_it() {
    let root = tempfile::tempdir().unwrap();
    fs_err::write(root.path().join("robots.txt"), "User-agent: *\n").unwrap();
    let app = App::answering(HELLO).await;
    let server = TestServer::start(&format!(
        "[upstream]\naddress = \"{}\"\n[[mounts]]\ndirectory = {:?}\n",
        app.address(),
        root.path()
    ))
    .await;
    let answer = get(server.address(), "/robots.txt", "").await;
    assert_eq!((answer.status, answer.text()), (200, "User-agent: *\n"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(get(server.address(), "/", "").await.text(), "hello");

    let mut client = Connection::open(server.address()).await;
    client.send("POST /robots.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(client.answer().await.unwrap().status, 405);
    client.send("POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(client.answer().await.unwrap().text(), "hello");
    assert_eq!(app.requests().len(), 2, "the file never woke the application");
}
