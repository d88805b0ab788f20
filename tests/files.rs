//! Uploads, and files that the application hands over, through the whole server.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::support::app::App;
use crate::support::client::{Answer, Connection, get};
use crate::support::server::TestServer;
use crate::support::{soon, until};

/// A folder of uploads with something of everything.
fn uploads() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    };
    write("photos/cat.jpg", "0123456789");
    write("łódź 100%.txt", "boat");
    write("page.html", "<script>alert(1)</script>");
    write("logo.svg", "<svg/>");
    write("run.js", "alert(1)");
    write("paper.pdf", "%PDF-1.7");
    write("sound.ogg", "OggS");
    write(".env", "SECRET=1");
    write(".git/config", "x");
    symlink("/etc/passwd", folder.path().join("passwd.txt")).unwrap();
    symlink("photos/cat.jpg", folder.path().join("first.jpg")).unwrap();
    folder
}

async fn serve_media(folder: &Path, more: &str) -> TestServer {
    TestServer::start(&format!("[media]\ndirectory = {:?}\n{more}", folder.to_str().unwrap())).await
}

#[tokio::test]
async fn an_upload_comes_with_all_that_keeps_it_harmless() {
    let folder = uploads();
    let server = serve_media(folder.path(), "").await;
    let answer = get(server.address(), "/media/photos/cat.jpg", "").await;
    assert_eq!((answer.status, answer.text()), (200, "0123456789"));
    for (name, value) in [
        ("content-type", "image/jpeg"),
        ("content-length", "10"),
        ("cache-control", "max-age=3600, public"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.header(name), Some(value), "for {name}");
    }
    assert!(answer.header("content-security-policy").is_some_and(|policy| policy.contains("sandbox")));
    assert_eq!(answer.header("content-disposition"), None);
    let part = get(server.address(), "/media/photos/cat.jpg", "Range: bytes=-2\r\n").await;
    assert_eq!((part.status, part.text(), part.header("content-range")), (206, "89", Some("bytes 8-9/10")));
}

/// The parts of an answer, each with the bytes that it says it is.
fn parts(answer: &Answer) -> Vec<(&str, &str)> {
    assert_eq!(answer.status, 206, "{answer:?}");
    let boundary = answer.header("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
    let (body, end) = answer.text().rsplit_once(&format!("\r\n--{boundary}--")).unwrap();
    assert_eq!(end, "\r\n");
    let part = |part| -> (&str, &str) {
        let (head, bytes) = str::split_once(part, "\r\n\r\n").unwrap();
        (head.split_once("Content-Range: bytes ").unwrap().1, bytes)
    };
    body.split(&*format!("\r\n--{boundary}\r\n")).skip(1).map(part).collect()
}

#[tokio::test]
async fn several_ranges_of_an_upload_and_of_a_file_that_is_handed_over_come_in_one_answer() {
    let folder = uploads();
    let few = "[static]\nmax_ranges = 3\n";
    let media = serve_media(folder.path(), few).await;
    let said = "X-Accel-Redirect: /protected/photos/cat.jpg\r\nContent-Type: image/x-cat\r\n";
    let (handing_over, _app) = hand_over(said, &format!("{}{few}", declared(folder.path()))).await;
    for (server, path) in [(&media, "/media/photos/cat.jpg"), (&handing_over, "/")] {
        let answer = get(server.address(), path, "Range: bytes=-1,0-1,1-3\r\n").await;
        assert_eq!(parts(&answer), [("9-9/10", "9"), ("0-3/10", "0123")]);
        assert_eq!(answer.header("x-content-type-options").is_some(), path != "/");
        let whole = get(server.address(), path, "Range: bytes=0-0,2-2,4-4,6-6\r\n").await;
        assert_eq!((whole.status, whole.text()), (200, "0123456789"), "more than there may be");
    }
}

#[tokio::test]
async fn what_could_act_as_a_part_of_the_site_is_for_saving_unless_named() {
    let folder = uploads();
    let server = serve_media(folder.path(), "").await;
    let lenient = serve_media(folder.path(), "inline = [\"svg\", \"js\"]").await;
    for (path, saved, media_type, lenient_saved, lenient_type) in [
        ("page.html", true, "text/html; charset=utf-8", true, "text/html; charset=utf-8"),
        ("logo.svg", true, "image/svg+xml; charset=utf-8", false, "image/svg+xml; charset=utf-8"),
        ("run.js", true, "text/plain; charset=utf-8", false, "text/javascript; charset=utf-8"),
        ("photos/cat.jpg", false, "image/jpeg", false, "image/jpeg"),
    ] {
        for (server, saved, media_type) in [(&server, saved, media_type), (&lenient, lenient_saved, lenient_type)] {
            let answer = get(server.address(), &format!("/media/{path}"), "").await;
            assert_eq!(answer.status, 200, "for {path}");
            assert_eq!(answer.header("content-disposition"), saved.then_some("attachment"), "for {path}");
            assert_eq!(answer.header("content-type"), Some(media_type), "for {path}");
            assert!(answer.header("content-security-policy").is_some_and(|policy| policy.ends_with("sandbox")));
        }
    }
    // A PDF viewer keeps what is in the file apart by itself, and a player could not load the file from a sandbox.
    let pdf = get(server.address(), "/media/paper.pdf", "").await;
    assert_eq!((pdf.header("content-security-policy"), pdf.header("content-disposition")), (None, None));
    let sound = get(server.address(), "/media/sound.ogg", "").await;
    let policy = sound.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("sandbox"), "{policy}");
}

#[tokio::test]
async fn only_the_uploads_themselves_can_be_had() {
    let folder = uploads();
    let unreadable = folder.path().join("unreadable.txt");
    fs_err::write(&unreadable, "x").unwrap();
    fs_err::set_permissions(&unreadable, std::fs::Permissions::from_mode(0o000)).unwrap();
    let server = serve_media(folder.path(), "prefix = \"/up/\"").await;
    for (path, status) in [
        ("/up/photos/cat.jpg", 200),
        ("/%75p/photos/cat.jpg", 200),
        ("/up/photos%2Fcat.jpg", 200),
        ("/up/%C5%82%C3%B3d%C5%BA%20100%25.txt", 200),
        ("/up/first.jpg", 200), // a link that stays inside
        ("/up/", 404),
        ("/up/photos", 404),
        ("/up/photos/", 404),
        ("/up/none.jpg", 404),
        ("/up/passwd.txt", 404),
        ("/up/.env", 404),
        ("/up/%2Eenv", 404),
        ("/up/.git/config", 404),
        ("/up/photos/%2E%2E/photos/cat.jpg", 404),
        ("/up/%2E%2E/%2E%2E/etc/passwd", 404),
        ("/up//etc/passwd", 404),
        ("/up/%2Fetc/passwd", 404),
        ("/up/a%00b", 404),
        ("/up", 404), // not below the prefix, and there is no application
        ("/media/photos/cat.jpg", 404),
    ] {
        let answer = get(server.address(), path, "").await;
        // The rules for every request refuse some of them before.
        assert!(answer.status == status || (status == 404 && answer.status == 400), "for {path}: {answer:?}");
        if answer.status == 404 {
            assert_eq!(answer.text(), "404 Not Found\n");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "for {path}");
        }
    }
    // Whoever runs the tests as root may read everything.
    let answer = get(server.address(), "/up/unreadable.txt", "").await;
    assert_eq!(answer.status, if rustix::process::geteuid().is_root() { 200 } else { 404 });
}

#[tokio::test]
async fn uploads_appear_change_and_vanish_while_the_server_runs() {
    let folder = uploads();
    let server = serve_media(folder.path(), "").await;
    let new = folder.path().join("new.txt");
    let ask =
        async || get(server.address(), "/media/new.txt", "If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT\r\n").await;
    assert_eq!(ask().await.status, 404);
    for text in ["one", "two"] {
        fs_err::write(&new, text).unwrap();
        assert_eq!((ask().await.status, ask().await.text()), (200, text), "both within the same second");
    }
    fs_err::remove_file(&new).unwrap();
    assert_eq!(ask().await.status, 404);
    fs_err::remove_dir_all(folder.path()).unwrap();
    assert_eq!(ask().await.status, 404);
}

#[tokio::test]
async fn an_upload_that_lies_still_gets_a_tag_and_a_client_that_has_it_gets_304() {
    let folder = uploads();
    let server = serve_media(folder.path(), "").await;
    let ask = async |fields: String| get(server.address(), "/media/photos/cat.jpg", &fields).await;
    // Until its times are past any doubt, some seconds, there is none.
    until(async || ask(String::new()).await.header("etag").is_some()).await;
    let first = ask(String::new()).await;
    let tag = first.header("etag").unwrap().to_owned();
    assert!(tag.starts_with('"') && first.header("last-modified").is_some());
    let again = ask(format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!((again.status, again.text(), again.header("etag")), (304, "", Some(tag.as_str())));
    assert!(again.header("cache-control").is_some());
    let part = ask(format!("Range: bytes=0-3\r\nIf-Range: {tag}\r\n")).await;
    assert_eq!((part.status, part.text()), (206, "0123"));
    // The same length, and the date of before.
    let file = fs_err::File::open(folder.path().join("photos/cat.jpg")).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    fs_err::write(folder.path().join("photos/cat.jpg"), "9876543210").unwrap();
    let file = fs_err::OpenOptions::new().write(true).open(folder.path().join("photos/cat.jpg")).unwrap();
    file.set_modified(before).unwrap();
    let changed = ask(format!("Range: bytes=0-3\r\nIf-Range: {tag}\r\nIf-None-Match: {tag}\r\n")).await;
    assert_eq!((changed.status, changed.text()), (200, "9876543210"));
}

#[tokio::test]
async fn uploads_can_only_be_read() {
    let folder = uploads();
    let server = serve_media(folder.path(), "").await;
    let mut connection = Connection::open(server.address()).await;
    connection.send("POST /media/photos/cat.jpg HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    let answer = connection.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    connection.send("HEAD /media/photos/cat.jpg HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = connection.answer_to_head().await.unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("10")));
    connection.send("GET /media/photos/cat.jpg HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(connection.answer().await.unwrap().text(), "0123456789", "nothing of a body came before");
}

#[tokio::test]
async fn a_folder_that_is_not_there_stops_the_start() {
    for (config, expected) in [
        (
            "[media]\ndirectory = \"/nonexistent/media\"",
            "there is no folder /nonexistent/media; make it, or correct `directory` under [media]",
        ),
        (
            "[[send_file]]\ndirectory = \"/etc/hostname\"",
            "there is no folder /etc/hostname; make it, or correct `directory` under [[send_file]]",
        ),
    ] {
        let Err(error) = TestServer::try_start(config).await else { panic!("{config} is refused") };
        assert_eq!(error.to_string(), expected);
        assert!(error.is_operators_mistake());
    }
}

/// An application that gives the same answer to all, before a server with these folders.
async fn hand_over(headers: &str, folders: &str) -> (TestServer, App) {
    let app = App::answering(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 0\r\n\r\n")).await;
    let server = TestServer::start(&format!("[upstream]\naddress = \"{}\"\n{folders}", app.address())).await;
    (server, app)
}

fn declared(folder: &Path) -> String {
    format!("[[send_file]]\npath = \"/protected/\"\ndirectory = {:?}\n", folder.to_str().unwrap())
}

#[tokio::test]
async fn a_file_that_the_application_names_is_sent_with_what_the_application_says_of_it() {
    let folder = uploads();
    let said = "X-Accel-Redirect: /protected/photos/cat.jpg\r\nContent-Type: image/x-cat\r\n\
                Content-Disposition: attachment; filename=\"c.jpg\"\r\nCache-Control: private\r\nExpires: 0\r\n\
                Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Frame-Options: DENY\r\nETag: \"mine\"\r\nContent-Encoding: gzip\r\n\
                X-Accel-Buffering: no\r\nX-Accel-Limit-Rate: 1\r\nX-Accel-Charset: utf-8\r\nX-Accel-Expires: 5\r\n\
                X-Sendfile: /etc/passwd\r\n";
    let (server, _app) = hand_over(said, &declared(folder.path())).await;
    let answer = get(server.address(), "/any/page", "").await;
    assert_eq!((answer.status, answer.text()), (200, "0123456789"));
    for (name, value) in [
        ("content-type", "image/x-cat"),
        ("content-disposition", "attachment; filename=\"c.jpg\""),
        ("cache-control", "private"),
        ("expires", "0"),
        ("x-frame-options", "DENY"),
        ("etag", "\"mine\""),
        ("content-length", "10"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(answer.header(name), Some(value), "for {name}");
    }
    assert_eq!(answer.headers.iter().filter(|(name, _)| name == "set-cookie").count(), 2);
    assert_eq!(answer.header("content-encoding"), None, "it spoke of the body that was replaced");
    let hidden = |(name, _): &&(String, String)| name.starts_with("x-accel") || name == "x-sendfile";
    assert_eq!(answer.headers.iter().find(hidden), None);

    let part = get(server.address(), "/", "Range: bytes=0-1\r\nIf-Range: \"mine\"\r\n").await;
    assert_eq!((part.status, part.text()), (206, "01"));
}

#[tokio::test]
async fn the_application_says_in_which_charset_a_text_is() {
    let folder = uploads();
    let boat = "X-Accel-Redirect: /protected/%C5%82%C3%B3d%C5%BA%20100%25.txt\r\nX-Accel-Charset: koi8-r\r\n";
    for (said, expected) in [
        (boat.to_owned(), "text/plain; charset=koi8-r"),
        (format!("{boat}Content-Type: text/html; charset=utf-8\r\n"), "text/html; charset=koi8-r"),
        (format!("{boat}Content-Type: image/png\r\n"), "image/png"),
    ] {
        let (server, _app) = hand_over(&said, &declared(folder.path())).await;
        let answer = get(server.address(), "/", "").await;
        assert_eq!((answer.text(), answer.header("content-type")), ("boat", Some(expected)), "for {said}");
    }
}

#[tokio::test]
async fn clients_conditions_and_methods_reach_the_file() {
    let folder = uploads();
    let said = "X-Accel-Redirect: /protected/photos/cat.jpg\r\nETag: \"mine\"\r\n";
    let (server, app) = hand_over(said, &declared(folder.path())).await;
    for (request, status, body) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"mine\"\r\n\r\n", 304, ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nIf-Match: \"other\"\r\n\r\n", 412, "412 Precondition Failed\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=99-\r\n\r\n", 416, "416 Range Not Satisfiable\n"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na=1", 200, "0123456789"),
        // A range, and a tag, are about reading.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\nIf-None-Match: *\r\nContent-Length: 0\r\n\r\n",
            200,
            "0123456789",
        ),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 200, "0123456789"),
    ] {
        let mut connection = Connection::open(server.address()).await;
        connection.send(request).await;
        let answer = connection.answer().await.unwrap();
        assert_eq!((answer.status, answer.text()), (status, body), "for {request:?}");
    }
    let mut connection = Connection::open(server.address()).await;
    connection.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = connection.answer_to_head().await.unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    assert_eq!(app.connections(), 1, "each answer left the application's connection as it was");
}

#[tokio::test]
async fn a_name_is_found_however_it_is_written() {
    let folder = uploads();
    let at = |name: &str| format!("X-Sendfile: {}/{name}\r\n", folder.path().display());
    fs_err::write(folder.path().join("a%20b.txt"), "as written").unwrap();
    fs_err::write(folder.path().join("a b.txt"), "decoded").unwrap();
    for (header, text) in [
        ("X-Accel-Redirect: /protected/%C5%82%C3%B3d%C5%BA%20100%25.txt\r\n".to_owned(), "boat"),
        ("X-Accel-Redirect: /protected/łódź 100%.txt\r\n".to_owned(), "boat"),
        ("X-Accel-Redirect: /protected//photos/cat.jpg?x=1\r\n".to_owned(), "0123456789"),
        ("X-Accel-Redirect: /protected/a%20b.txt\r\n".to_owned(), "decoded"),
        (at("photos/cat.jpg"), "0123456789"),
        (at("łódź 100%.txt"), "boat"),
        (at("%C5%82%C3%B3d%C5%BA 100%25.txt"), "boat"),
        (at("a%20b.txt"), "as written"),
    ] {
        let (server, _app) = hand_over(&header, &declared(folder.path())).await;
        let answer = get(server.address(), "/", "").await;
        assert_eq!((answer.status, answer.text()), (200, text), "for {header}");
    }
}

#[tokio::test]
async fn nothing_outside_of_what_is_declared_is_sent() {
    let folder = uploads();
    let below = folder.path().display();
    for (header, status) in [
        ("X-Accel-Redirect: /protected/none.txt".to_owned(), 404),
        ("X-Accel-Redirect: /protected/passwd.txt".to_owned(), 404), // a link that leads out
        ("X-Accel-Redirect: /protected/photos".to_owned(), 404),
        ("X-Accel-Redirect: /protected/.env".to_owned(), 502),
        ("X-Accel-Redirect: /protected/../../../etc/passwd".to_owned(), 502),
        ("X-Accel-Redirect: /protected/%2e%2e/%2e%2e/etc/passwd".to_owned(), 502),
        ("X-Accel-Redirect: /other/a".to_owned(), 502),
        ("X-Accel-Redirect: @named".to_owned(), 502),
        ("X-Accel-Redirect: ".to_owned(), 502),
        ("X-Sendfile: /etc/passwd".to_owned(), 502),
        (format!("X-Sendfile: {below}/../../etc/passwd"), 502),
        (format!("X-Sendfile: {below}-other/a"), 502),
        (format!("X-Sendfile: {below}/none"), 404),
        (format!("X-Sendfile: {below}"), 502),
        ("X-Sendfile: photos/cat.jpg".to_owned(), 502),
    ] {
        let (server, _app) = hand_over(&format!("{header}\r\nSet-Cookie: a=1\r\n"), &declared(folder.path())).await;
        let answer: Answer = get(server.address(), "/", "").await;
        assert_eq!(answer.status, status, "for {header}");
        assert_eq!((answer.header("set-cookie"), answer.header("cache-control")), (None, Some("no-store")));
    }
    // Nobody but the application can name a declared path.
    let (server, app) = hand_over("", &declared(folder.path())).await;
    let answer =
        get(server.address(), "/protected/photos/cat.jpg", "X-Accel-Redirect: /protected/photos/cat.jpg\r\n").await;
    assert_eq!((answer.status, answer.text()), (200, ""));
    assert!(app.request().starts_with("GET /protected/photos/cat.jpg "), "it is the application's");
}

#[tokio::test]
async fn where_nothing_is_declared_the_answer_stays_and_the_header_goes() {
    let (server, _app) = hand_over("X-Accel-Redirect: /protected/a\r\nX-Sendfile: /a\r\nX-Other: 1\r\n", "").await;
    let answer = get(server.address(), "/", "").await;
    assert_eq!((answer.status, answer.header("x-other")), (200, Some("1")));
    assert_eq!((answer.header("x-accel-redirect"), answer.header("x-sendfile")), (None, None));
}

#[tokio::test]
async fn the_longest_declared_path_is_meant_and_links_in_a_declared_folder_are_resolved() {
    let (folder, other) = (uploads(), tempfile::tempdir().unwrap());
    fs_err::write(other.path().join("cat.jpg"), "other").unwrap();
    let link = other.path().join("link");
    symlink(folder.path(), &link).unwrap();
    let folders = format!(
        "{}[[send_file]]\npath = \"/protected/photos/\"\ndirectory = {:?}\n",
        declared(&link),
        other.path().to_str().unwrap()
    );
    for (header, text) in [
        ("X-Accel-Redirect: /protected/photos/cat.jpg\r\n".to_owned(), "other"),
        ("X-Accel-Redirect: /protected/first.jpg\r\n".to_owned(), "0123456789"),
        (format!("X-Sendfile: {}/first.jpg\r\n", link.display()), "0123456789"),
        (format!("X-Sendfile: {}/first.jpg\r\n", folder.path().display()), "0123456789"),
    ] {
        let (server, _app) = hand_over(&header, &folders).await;
        assert_eq!(get(server.address(), "/", "").await.text(), text, "for {header}");
    }
}

#[tokio::test]
async fn the_body_that_a_file_replaces_is_not_waited_for() {
    let folder = uploads();
    // As django-sendfile2 has it: the length of the file, and no body. And one that says something, for ever.
    for framing in ["Content-Length: 1000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let raw = format!("HTTP/1.1 200 OK\r\nX-Accel-Redirect: /protected/photos/cat.jpg\r\n{framing}");
        let (hung_up, mut is_hung_up) = tokio::sync::mpsc::channel(1);
        let app = App::new(move |mut connection| {
            let (raw, hung_up) = (raw.clone(), hung_up.clone());
            async move {
                connection.request().await;
                connection.send(&raw).await;
                connection.hung_up().await;
                let _ = hung_up.send(()).await;
            }
        })
        .await;
        let config = format!("[upstream]\naddress = \"{}\"\n{}", app.address(), declared(folder.path()));
        let server = TestServer::start(&config).await;
        let answer = get(server.address(), "/", "").await;
        assert_eq!((answer.status, answer.text()), (200, "0123456789"), "for {framing:?}");
        soon(is_hung_up.recv()).await.expect("the application is free");
    }
}

#[tokio::test]
async fn a_status_of_the_applications_own_is_kept() {
    let folder = uploads();
    for (status, expected) in [("404 Not Found", 404), ("403 Forbidden", 403), ("302 Found", 200), ("206 Partial", 200)]
    {
        let raw =
            format!("HTTP/1.1 {status}\r\nX-Accel-Redirect: /protected/photos/cat.jpg\r\nContent-Length: 0\r\n\r\n");
        let app = App::answering(raw).await;
        let config = format!("[upstream]\naddress = \"{}\"\n{}", app.address(), declared(folder.path()));
        let server = TestServer::start(&config).await;
        let answer = get(server.address(), "/", "").await;
        assert_eq!((answer.status, answer.text()), (expected, "0123456789"), "for {status}");
        assert_eq!(answer.header("content-type"), Some("image/jpeg"), "the application said nothing of it");
    }
}
