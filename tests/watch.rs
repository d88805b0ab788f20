//! `--watch`: what changes in a folder shows with the next request.

use std::path::Path;

use crate::support::client::{Answer, get};
use crate::support::server::TestServer;
use crate::support::site::files_below;

async fn serve(folder: &Path, rest: &str) -> TestServer {
    TestServer::start(&format!("[static]\ndirectory = {folder:?}\nwatch = true\n{rest}")).await
}

async fn ask(server: &TestServer, path: &str) -> Answer {
    get(server.address(), path, "Accept-Encoding: gzip, br, zstd\r\n").await
}

#[tokio::test]
async fn what_comes_changes_or_goes_shows_with_the_next_request() {
    let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
    write("a.txt", "one");
    let server = serve(folder.path(), &format!("[[mounts]]\ndirectory = {:?}\n", root.path())).await;
    let answer = ask(&server, "/static/a.txt").await;
    assert_eq!((answer.text(), answer.header("cache-control")), ("one", Some("no-cache")));
    for text in ["two two", "three", "and four"] {
        write("a.txt", text);
        assert_eq!(ask(&server, "/static/a.txt").await.text(), text);
    }
    assert_eq!(ask(&server, "/static/new/b.txt").await.status, 404);
    fs_err::create_dir(folder.path().join("new")).unwrap();
    write("new/b.txt", "b");
    assert_eq!(ask(&server, "/static/new/b.txt").await.text(), "b");
    fs_err::remove_file(folder.path().join("a.txt")).unwrap();
    assert_eq!(ask(&server, "/static/a.txt").await.status, 404);
    fs_err::write(root.path().join("robots.txt"), "robots").unwrap();
    assert_eq!(ask(&server, "/robots.txt").await.text(), "robots");
}

#[tokio::test]
async fn texts_are_compressed_in_memory_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let style = "body { color: red }\n".repeat(500);
    fs_err::write(folder.path().join("a.css"), &style).unwrap();
    fs_err::write(folder.path().join("tiny.css"), "a{}").unwrap();
    fs_err::write(folder.path().join("a.png"), &style).unwrap();
    let before = files_below(folder.path());
    let server = serve(folder.path(), "").await;
    let tag = ask(&server, "/static/tiny.css").await.header("etag").unwrap().to_owned();
    assert!(!tag.contains('-'), "a copy of three bytes is not worth it");
    assert_eq!(ask(&server, "/static/a.png").await.header("content-encoding"), None);
    let mut sizes = Vec::new();
    for coding in ["gzip", "br", "zstd"] {
        let answer = get(server.address(), "/static/a.css", &format!("Accept-Encoding: {coding}\r\n")).await;
        assert_eq!(answer.header("content-encoding"), Some(coding));
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        let decoded = match coding {
            "gzip" => decode(flate2::read::GzDecoder::new(&*answer.body)),
            "br" => decode(brotli::Decompressor::new(&*answer.body, 4096)),
            _ => decode(zstd::Decoder::new(&*answer.body).unwrap()),
        };
        assert_eq!(decoded, style);
        sizes.push(answer.body.len());
    }
    assert!(sizes.iter().all(|size| *size < style.len() / 2), "{sizes:?}");
    assert_eq!(get(server.address(), "/static/a.css", "").await.text(), style);
    assert_eq!(files_below(folder.path()), before);

    // What is not on the disk follows the file all the same, and counts as memory.
    let other = "p { color: blue }\n".repeat(400);
    fs_err::write(folder.path().join("a.css"), &other).unwrap();
    let answer = get(server.address(), "/static/a.css", "Accept-Encoding: gzip\r\n").await;
    assert_eq!(decode(flate2::read::GzDecoder::new(&*answer.body)), other);
    let without =
        TestServer::start(&format!("[static]\ndirectory = {:?}\nwatch = true\nmemory = 0\n", folder.path())).await;
    let answer = get(without.address(), "/static/a.css", "Accept-Encoding: gzip\r\n").await;
    assert_eq!((answer.header("content-encoding"), answer.text()), (None, &*other));
}

fn decode(mut reader: impl std::io::Read) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn a_folder_that_is_not_sound_changes_nothing_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = |text: &str| fs_err::write(folder.path().join("staticfiles.json"), text).unwrap();
    fs_err::write(folder.path().join("a.txt"), "old").unwrap();
    fs_err::write(folder.path().join("a.0123456789ab.txt"), "hashed").unwrap();
    manifest(r#"{"paths": {"a.txt": "a.0123456789ab.txt"}, "version": "1.1", "hash": ""}"#);
    let server = serve(folder.path(), "").await;
    let immutable = Some("max-age=315360000, public, immutable");
    assert_eq!(ask(&server, "/static/a.0123456789ab.txt").await.header("cache-control"), immutable);
    manifest("{");
    fs_err::write(folder.path().join("a.txt"), "newer").unwrap();
    assert_eq!(ask(&server, "/static/a.txt").await.text(), "old");
    manifest(r#"{"paths": {}, "version": "1.1", "hash": ""}"#);
    assert_eq!(ask(&server, "/static/a.txt").await.text(), "newer");
    assert_eq!(ask(&server, "/static/a.0123456789ab.txt").await.header("cache-control"), Some("no-cache"));
}

#[tokio::test]
async fn nothing_is_looked_for_unless_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("a.txt"), "old").unwrap();
    let server = TestServer::start(&format!("[static]\ndirectory = {:?}\n", folder.path())).await;
    fs_err::write(folder.path().join("a.txt"), "newer").unwrap();
    let answer = ask(&server, "/static/a.txt").await;
    assert_eq!((answer.text(), answer.header("cache-control")), ("old", Some("max-age=60, public")));
}
