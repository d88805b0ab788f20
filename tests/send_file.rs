//! The packages with which Django projects hand files over, real ones under a real gunicorn.

use std::process::Command;

use crate::support::client::{Answer, Connection, get};
use crate::support::django_site::{Django, repository};
use crate::support::process::Process;
use crate::support::server::TestServer;
use crate::support::until;

const NAMES: [(&str, &str); 4] = [
    ("a.txt", "0123456789"),
    ("caf%C3%A9.txt", "Latin-1 has this one"),
    ("%C5%82%C3%B3d%C5%BA%20100%25.txt", "and this one it has not"),
    ("deep/x.tar.gz", "\u{1f}\u{8b} not to be decoded on the way"),
];

/// A folder with those files, gunicorn with the packages' views, and vestibule before it.
async fn start(backend: &str, worker: &str) -> (tempfile::TempDir, Process, TestServer) {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    fs_err::create_dir_all(files.join("deep")).unwrap();
    for (name, text) in NAMES {
        let name = percent_encoding::percent_decode_str(name).decode_utf8().unwrap();
        fs_err::write(files.join(name.as_ref()), text).unwrap();
    }
    let socket = folder.path().join("app.sock");
    let mut gunicorn = Command::new(Django::Six.program("gunicorn"));
    gunicorn.args(["--bind", &format!("unix:{}", socket.display()), "--worker-class", worker, "--threads", "2"]);
    gunicorn.arg("handing_over:application").current_dir(repository().join("tests/django"));
    gunicorn.env("FILES", &files).env("BACKEND", backend).env("PYTHONDONTWRITEBYTECODE", "1");
    gunicorn.env_remove("GUNICORN_CMD_ARGS").env_remove("DJANGO_SETTINGS_MODULE");
    let gunicorn = Process::start(&mut gunicorn);
    let config = format!(
        "[upstream]\naddress = \"unix:{}\"\nhold = \"60s\"\n[[send_file]]\npath = \"/protected/\"\ndirectory = {:?}\n",
        socket.display(),
        files.to_str().unwrap()
    );
    let server = TestServer::start(&config).await;
    until(async || get(server.address(), "/-/ready", "").await.status == 200).await;
    (folder, gunicorn, server)
}

async fn the_packages_work(backend: &str, worker: &str) {
    let (folder, _gunicorn, server) = start(backend, worker).await;
    for (name, text) in NAMES {
        for view in ["sent", "stored"] {
            let answer = get(server.address(), &format!("/{view}/{name}"), "Accept-Encoding: gzip\r\n").await;
            assert_eq!((answer.status, answer.text()), (200, text), "for /{view}/{name}: {answer:?}");
            let starts = |header: &str, with: &str| answer.header(header).is_some_and(|value| value.starts_with(with));
            assert!(starts("content-disposition", "attachment; filename="), "{answer:?}");
            assert_eq!(answer.header("x-frame-options"), Some("DENY"), "what Django adds stays");
            assert_eq!(answer.header("content-encoding"), None, "{answer:?}");
            assert_eq!(answer.header("content-length"), Some(text.len().to_string().as_str()));
            let is_internal = |name: &str| name.starts_with("x-accel") || name == "x-sendfile";
            assert!(!answer.headers.iter().any(|(name, _)| is_internal(name)), "{answer:?}");
            if view == "sent" {
                assert_eq!(answer.header("cache-control"), Some("private, max-age=60"));
                assert!(starts("set-cookie", "seen=yes"), "{answer:?}");
            }
            if name == "a.txt" {
                assert!(starts("content-type", "text/plain"), "{answer:?}");
                let part = get(server.address(), &format!("/{view}/{name}"), "Range: bytes=3-5\r\n").await;
                assert_eq!(
                    (part.status, part.text(), part.header("content-range")),
                    (206, "345", Some("bytes 3-5/10"))
                );
            }
        }
    }
    // The type that the view left open comes from the name.
    let bare = get(server.address(), "/bare/a.txt", "").await;
    assert_eq!((bare.status, bare.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    let ask = async |request: &str| -> Answer {
        let mut connection = Connection::open(server.address()).await;
        connection.send(request).await;
        let is_head = request.starts_with("HEAD");
        if is_head { connection.answer_to_head().await } else { connection.answer().await }.unwrap()
    };
    let posted = ask("POST /sent/a.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na=1").await;
    assert_eq!((posted.status, posted.text()), (200, "0123456789"));
    let head = ask("HEAD /sent/a.txt HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    assert_eq!(get(server.address(), "/sent/none.txt", "").await.status, 404, "Django's own");
    assert_eq!(get(server.address(), "/protected/a.txt", "").await.status, 404, "Django's own");

    // Once the file has lain for some seconds it has a tag, and a visitor who has it gets no second copy.
    let path = "/sent/a.txt";
    until(async || get(server.address(), path, "").await.header("etag").is_some()).await;
    let tag = get(server.address(), path, "").await.header("etag").unwrap().to_owned();
    let again = get(server.address(), path, &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!((again.status, again.text(), again.header("cache-control")), (304, "", Some("private, max-age=60")));
    drop(folder);
}

#[tokio::test]
async fn django_packages_work_with_x_accel_redirect() {
    the_packages_work("nginx", "gthread").await;
}

#[tokio::test]
async fn django_packages_work_with_x_sendfile() {
    the_packages_work("xsendfile", "sync").await;
}
