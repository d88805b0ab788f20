//! `103 Early Hints`: what an application says before its answer reaches the clients of HTTP/2.

use crate::support::app::App;
use crate::support::client;
use crate::support::gunicorn::Gunicorn;
use crate::support::http2;
use crate::support::server::TestServer;

/// What an application says to one request.
const HINTED: &str = "HTTP/1.1 102 Processing\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nLink: </static/a.css>; rel=preload; as=style\r\nSet-Cookie: a=1\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nLink: </static/b.css>; rel=preload; as=style\r\n\
    Link: </static/c.css>; rel=preload; as=style\r\nServer: it\r\n\r\n\
    HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

async fn server(app: &App, more: &str) -> TestServer {
    TestServer::start(&format!("[upstream]\naddress = \"{}\"\n{more}", app.address())).await
}

#[tokio::test]
async fn what_an_application_says_before_its_answer_reaches_clients_of_http2() {
    let app = App::answering(HINTED).await;
    let server = server(&app, "").await;
    for _ in 0..2 {
        let answer = http2::get(server.address(), "/").await;
        assert_eq!((answer.status, &*answer.body), (200, "hello"));
        let expected = ["a", "b", "c"].map(|name| format!("</static/{name}.css>; rel=preload; as=style"));
        assert_eq!(answer.hinted_links(), expected);
        assert_eq!(answer.hints.iter().map(http::HeaderMap::len).collect::<Vec<_>>(), [1, 2], "{answer:?}");
    }
}

#[tokio::test]
async fn a_hint_does_not_wait_for_the_answer() {
    let app = App::new(async |mut connection| {
        connection.request().await;
        connection.send("HTTP/1.1 103 Early Hints\r\nLink: </static/a.css>; rel=preload; as=style\r\n\r\n").await;
        // There is no answer, and the client gives up when it has the hint.
        connection.hung_up().await;
    })
    .await;
    let server = server(&app, "").await;
    let hint = http2::first_hint(server.address(), "/").await;
    assert_eq!(hint["link"], "</static/a.css>; rel=preload; as=style");
}

#[tokio::test]
async fn clients_of_http1_get_the_answer_only() {
    let app = App::answering(HINTED).await;
    let server = server(&app, "").await;
    for _ in 0..2 {
        let answer = client::get(server.address(), "/", "").await;
        assert_eq!((answer.status, answer.text()), (200, "hello"));
    }
}

#[tokio::test]
async fn they_can_be_switched_off() {
    let app = App::answering(HINTED).await;
    let server = server(&app, "early_hints = false\n").await;
    for _ in 0..2 {
        let answer = http2::get(server.address(), "/").await;
        assert_eq!((answer.status, &*answer.body, answer.hints.len()), (200, "hello", 0));
    }
}

#[tokio::test]
async fn the_uwsgi_protocol_has_them_too() {
    let app = App::uwsgi(async |mut connection| {
        if connection.packet().await.is_some() {
            connection.send(HINTED).await;
        }
    })
    .await;
    let server = server(&app, "").await;
    let answer = http2::get(server.address(), "/").await;
    assert_eq!((answer.status, &*answer.body, answer.hints.len()), (200, "hello", 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gunicorn_sends_them_with_wsgi_asgi_and_uwsgi() {
    for (gunicorn, scheme) in [
        (Gunicorn::start(&["--workers", "1"]), "unix"),
        (Gunicorn::start(&["--workers", "1", "--worker-class", "gthread", "--threads", "2"]), "unix"),
        (Gunicorn::start(&["--workers", "1", "--protocol", "uwsgi"]), "uwsgi+unix"),
        (Gunicorn::chat(), "unix"),
    ] {
        let address = gunicorn.address().replacen("unix", scheme, 1);
        let server = TestServer::start(&format!("[upstream]\naddress = {address:?}\nhold = \"60s\"\n")).await;
        let answer = http2::get(server.address(), "/hinted").await;
        assert_eq!(answer.status, 200, "over {address}: {answer:?}");
        assert_eq!(answer.hinted_links(), ["</static/a.css>; rel=preload; as=style"], "over {address}");
        assert_eq!(http2::get(server.address(), "/").await.hints.len(), 0, "over {address}");
    }
}
