//! `[[headers]]` over real sockets: the same rules for static files and for the application.

use crate::support::app::App;
use crate::support::client::get;
use crate::support::server::TestServer;

const RULES: &str = r#"
[[headers]]
path = "*"
set = { "Referrer-Policy" = "same-origin", "X-Who" = "all" }
remove = ["X-Powered-By"]

[[headers]]
path = "/api/*"
set = { "Cache-Control" = "max-age=7", "X-Who" = "api", "Vary" = "Origin" }

[[headers]]
path = "*.css"
set = { "Cache-Control" = "max-age=9" }
"#;

async fn serve(app: &App, rules: &str) -> (tempfile::TempDir, TestServer) {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("app.css"), "a{}").unwrap();
    let config = format!("[static]\ndirectory = {:?}\n[upstream]\naddress = \"{}\"\n", folder.path(), app.address());
    let server = TestServer::start(&format!("{config}{rules}")).await;
    (folder, server)
}

#[tokio::test]
async fn rules_hold_for_files_and_for_the_application() {
    let app = App::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Powered-By: x\r\nVary: Cookie\r\nCache-Control: private\r\n\r\nok",
    )
    .await;
    let (_folder, server) = serve(&app, RULES).await;
    for (path, who, cache_control, vary) in [
        ("/static/app.css", "all", "max-age=9", None),
        ("/page", "all", "private", Some("Cookie")),
        ("/api/x", "api", "max-age=7", Some("Cookie, Origin")),
        ("/%61pi/x", "api", "max-age=7", Some("Cookie, Origin")), // the application would decode it
        ("/api", "all", "private", Some("Cookie")),
    ] {
        let answer = get(server.address(), path, "").await;
        assert_eq!((answer.status, answer.header("x-who")), (200, Some(who)), "for {path}");
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"), "for {path}");
        assert_eq!(answer.header("x-powered-by"), None, "for {path}");
        assert_eq!((answer.header("cache-control"), answer.header("vary")), (Some(cache_control), vary), "for {path}");
    }
}

#[tokio::test]
async fn an_error_is_not_kept_for_as_long_as_a_page() {
    let app = App::answering("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nX-Powered-By: x\r\n\r\n").await;
    let (_folder, server) = serve(&app, RULES).await;
    let answer = get(server.address(), "/api/x", "").await;
    assert_eq!((answer.status, answer.header("cache-control")), (500, None));
    assert_eq!((answer.header("x-who"), answer.header("x-powered-by")), (Some("api"), None));
    app.stop();
}

#[tokio::test]
async fn another_protocol_is_switched_to_without_rules() {
    let app = App::answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    let (_folder, server) = serve(&app, RULES).await;
    let mut connection = crate::support::client::Connection::open(server.address()).await;
    connection.send("GET /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    let answer = connection.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.header("x-who")), (101, None));
}
