//! Who is let in, and what is said to all others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::app::{App, HELLO};
use crate::support::client::{Answer, Connection, get};
use crate::support::server::TestServer;
use crate::support::until;

/// An application that says hello, and redirects who logs in with the right word.
async fn app() -> App {
    App::new(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let is_right = request.ends_with("right");
            let redirect = "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
            connection.send(if is_right { redirect } else { HELLO }).await;
        }
    })
    .await
}

async fn server(app: &App, rest: &str) -> TestServer {
    TestServer::start(&format!("[upstream]\naddress = \"{}\"\n{rest}", app.address())).await
}

/// "ann" with "secret".
fn password_file(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("htpasswd");
    fs_err::write(&path, format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    path.display().to_string()
}

fn as_ann() -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode("ann:secret"))
}

async fn log_in(server: &TestServer, word: &str) -> Answer {
    let mut connection = Connection::open(server.address()).await;
    let length = word.len();
    let head = format!("POST /login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    connection.send(format!("{head}{word}")).await;
    connection.answer().await.unwrap()
}

#[tokio::test]
async fn a_closed_path_is_closed_however_it_is_written() {
    let app = app().await;
    let server = server(&app, "[[access]]\npath = \"/admin/*\"\nallow = [\"192.0.2.0/24\"]").await;
    for path in ["/admin/", "/admin/x?y", "//admin/", "/%61dmin/", "/admin%2Fx", "/.//admin/"] {
        let answer = get(server.address(), path, "").await;
        assert!([400, 403].contains(&answer.status), "{} for {path}", answer.status);
    }
    assert_eq!(app.requests().len(), 0);
    assert_eq!(get(server.address(), "/administration", "").await.text(), "hello");
}

#[tokio::test]
async fn a_password_opens_what_it_is_for() {
    let (app, folder) = (app().await, tempfile::tempdir().unwrap());
    let rule = format!(
        "[[access]]\npath = \"/private/*\"\nrealm = \"for friends\"\npassword_file = \"{}\"",
        password_file(&folder)
    );
    let server = server(&app, &rule).await;
    let refused = get(server.address(), "/private/", "").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("www-authenticate"), Some("Basic realm=\"for friends\", charset=\"UTF-8\""));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    assert_eq!(get(server.address(), "/private/", &as_ann()).await.text(), "hello");
    assert_eq!(get(server.address(), "/", "").await.text(), "hello");
}

#[tokio::test]
async fn what_a_password_opens_is_for_no_shared_cache() {
    let (app, folder, uploads) = (app().await, tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs_err::write(uploads.path().join("a.txt"), "a").unwrap();
    let rules = format!(
        "[media]\ndirectory = \"{}\"\n[[access]]\npath = \"/media/*\"\npassword_file = \"{}\"",
        uploads.path().display(),
        password_file(&folder)
    );
    let server = server(&app, &rules).await;
    let answer = get(server.address(), "/media/a.txt", &as_ann()).await;
    assert_eq!((answer.text(), answer.header("cache-control")), ("a", Some("max-age=3600, private")));
}

#[tokio::test]
async fn who_fails_to_log_in_too_often_must_wait_and_who_succeeds_need_not() {
    let app = app().await;
    let limit = "[[rate_limits]]\npath = \"/login/\"\nrequests = 2\nper = \"1h\"\ncount = \"failed_logins\"";
    let server = server(&app, limit).await;
    for (word, expected) in [("right", 302), ("right", 302), ("wrong", 200), ("right", 302), ("wrong", 200)] {
        assert_eq!(log_in(&server, word).await.status, expected, "for {word}");
    }
    let refused = log_in(&server, "right").await;
    assert_eq!(refused.status, 429);
    assert!((1..=1800).contains(&refused.header("retry-after").unwrap().parse::<u64>().unwrap()));
    assert_eq!(get(server.address(), "/login/", "").await.status, 200, "the form is no login");
}

#[tokio::test]
async fn a_preview_is_for_those_with_the_password_and_for_no_robot() {
    let (app, folder) = (app().await, tempfile::tempdir().unwrap());
    let password_file = password_file(&folder);
    let staging = format!("[staging]\nenabled = true\nopen = [\"/hooks/*\"]\npassword_file = \"{password_file}\"");
    let server = server(&app, &staging).await;
    for (path, headers, status) in [
        ("/", "", 401),
        ("/", &*as_ann(), 200),
        ("/hooks/paid", "", 200),
        ("/robots.txt", "", 200),
        ("/-/live", "", 200),
    ] {
        let answer = get(server.address(), path, headers).await;
        assert_eq!(answer.status, status, "for {path}");
        assert_eq!(answer.header("x-robots-tag"), Some("noindex, nofollow"), "for {path}");
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"), "for {path}");
    }
    assert_eq!(get(server.address(), "/robots.txt", "").await.text(), "User-agent: *\nDisallow: /\n");
}

#[tokio::test]
async fn maintenance_begins_and_ends_with_a_file() {
    let (app, folder) = (app().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("maintenance.html");
    // Its page goes before those for errors.
    let pages = tempfile::tempdir().unwrap();
    fs_err::write(pages.path().join("5xx.html"), "<p>Sorry.").unwrap();
    let rules =
        format!("[maintenance]\nfile = \"{}\"\n[pages]\nerrors = \"{}\"", file.display(), pages.path().display());
    let server = server(&app, &rules).await;
    assert_eq!(get(server.address(), "/", "").await.status, 200);
    fs_err::write(&file, "<p>Back soon.").unwrap();
    until(|| async { get(server.address(), "/", "").await.status == 503 }).await;
    let answer = get(server.address(), "/", "Accept: text/html\r\n").await;
    assert_eq!(answer.text(), "<p>Back soon.");
    assert_eq!(answer.header("retry-after"), Some("300"));
    assert_eq!(get(server.address(), "/-/live", "").await.status, 200);
    fs_err::remove_file(&file).unwrap();
    until(|| async { get(server.address(), "/", "").await.status == 200 }).await;
}

#[tokio::test]
async fn the_operators_pages_stand_for_our_errors_only() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("5xx.html"), "<p>Sorry.").unwrap();
    let app = App::new(|mut connection| async move {
        while connection.request().await.is_some() {
            connection.send("HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\ntheirs").await;
        }
    })
    .await;
    let pages = format!("[pages]\nsecurity_headers = true\nerrors = \"{}\"", folder.path().display());
    let running = server(&app, &pages).await;
    assert_eq!(get(running.address(), "/", "Accept: text/html\r\n").await.text(), "theirs");
    let absent = "[upstream]\nhold = 0\naddress = \"unix:/no/such.sock\"\n";
    let absent = TestServer::start(&format!("{absent}{pages}")).await;
    let answer = get(absent.address(), "/", "Accept: text/html\r\n").await;
    assert_eq!((answer.status, answer.text()), (502, "<p>Sorry."));
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    assert_eq!(get(absent.address(), "/", "").await.text(), "502 Bad Gateway\n");
}

#[tokio::test]
async fn the_operators_page_is_shown_when_the_application_stays_away() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("503.html"), "<p>Back in a moment.").unwrap();
    let absent = "[upstream]\nhold = \"50ms\"\naddress = \"unix:/no/such.sock\"\n[pages]\nerrors = ";
    let server = TestServer::start(&format!("{absent}\"{}\"", folder.path().display())).await;
    // The first waits for as long as it may, and then nobody does.
    for _ in 0..2 {
        let answer = get(server.address(), "/", "Accept: text/html\r\n").await;
        assert_eq!((answer.status, answer.text()), (503, "<p>Back in a moment."));
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let plain = get(server.address(), "/", "").await;
    assert_eq!((plain.text(), plain.header("retry-after")), ("503 Service Unavailable\n", Some("1")));
}

#[tokio::test]
async fn other_names_and_old_paths_lead_to_the_new() {
    let app = app().await;
    let server = server(
        &app,
        "[hosts]\nallowed = [\".example.com\"]\ncanonical = \"example.com\"\n\
         [[redirects]]\nfrom = \"/blog/*\"\nto = \"/articles/*\"\n",
    )
    .await;
    let ask = async |host: &str, path: &str| {
        let mut connection = Connection::open(server.address()).await;
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        connection.answer().await.unwrap()
    };
    let answer = ask("www.example.com:8080", "/blog/x?y").await;
    assert_eq!((answer.status, answer.header("location")), (308, Some("http://example.com:8080/blog/x?y")));
    let answer = ask("example.com", "/blog/x?y").await;
    assert_eq!((answer.status, answer.header("location")), (308, Some("/articles/x?y")));
    assert_eq!(ask("example.com", "/articles/x").await.text(), "hello");
    assert_eq!(ask("www.example.com", "/-/live").await.text(), "alive\n");
}

#[tokio::test]
async fn a_file_of_passwords_that_is_not_sound_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    fs_err::write(&path, "ann:plain\n").unwrap();
    let rule = format!("[[access]]\npath = \"/*\"\npassword_file = \"{}\"", path.display());
    let error = TestServer::try_start(&rule).await.err().expect("a refusal");
    assert!(error.is_operators_mistake());
    assert!(error.to_string().contains("htpasswd:1: only bcrypt"), "{error}");
}
