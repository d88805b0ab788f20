//! New releases that a running server takes over by itself.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};
use vestibule::manifest::digits::hex;

use crate::support::client::{Answer, get};
use crate::support::server::TestServer;
use crate::support::site::Site;
use crate::support::until;

/// Nothing is held in memory, so that every answer comes from the disk.
fn config(folder: &Path) -> String {
    format!("[static]\ndirectory = {folder:?}\nmemory = 0\nreload = \"100ms\"\n")
}

/// The contents of `big.bin` in a release: as long as in every other, and different everywhere.
fn big(release: u8) -> Vec<u8> {
    (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 ^ release).collect()
}

/// Whether an answer is whole, and of one release: its tag is the hash of its bytes.
fn assert_fits(answer: &Answer) {
    assert_eq!(answer.status, 200);
    let digest = hex(&Sha256::digest(&answer.body));
    assert_eq!(answer.header("etag"), Some(&*format!("\"{}\"", &digest[..32])));
    assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
}

async fn text(address: SocketAddr, path: &str) -> String {
    get(address, path, "").await.text().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_during_twenty_releases_gets_whole_answers_of_one_of_them() {
    let mut site = Site::new().file("app.css", "/* 0 */").file("big.bin", big(0)).set(|config| {
        config.cache = Some("".into());
        config.encodings.clear();
        config.deltas = false;
    });
    site.collected();
    let server = TestServer::start(&config(site.output())).await;
    let address = server.address();
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = ["/static/app.css", "/static/big.bin"]
        .map(|path| {
            let is_over = is_over.clone();
            tokio::spawn(async move {
                let mut answers = 0;
                while !is_over.load(Ordering::Relaxed) {
                    assert_fits(&get(address, path, "").await);
                    answers += 1;
                }
                answers
            })
        })
        .into();
    for release in 1..=20 {
        let style = format!("/* {release} */");
        site = site.file("app.css", &style).file("big.bin", big(release));
        site.collected();
        until(|| async { text(address, "/static/app.css").await == style }).await;
        assert_eq!(get(address, "/static/big.bin", "").await.body, big(release), "one release has both");
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

/// A folder with one file and a manifest.
fn release(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let folder = folder.join(name);
    fs_err::create_dir(&folder).unwrap();
    fs_err::write(folder.join("a.txt"), text).unwrap();
    fs_err::write(folder.join("staticfiles.json"), r#"{"paths": {}, "version": "1.1", "hash": ""}"#).unwrap();
    folder
}

#[tokio::test]
async fn a_link_that_leads_to_the_next_release_brings_it_in() {
    let folder = tempfile::tempdir().unwrap();
    let (current, next) = (folder.path().join("current"), folder.path().join("next"));
    std::os::unix::fs::symlink(release(folder.path(), "1", "one"), &current).unwrap();
    let server = TestServer::start(&config(&current)).await;
    assert_eq!(text(server.address(), "/static/a.txt").await, "one");
    std::os::unix::fs::symlink(release(folder.path(), "2", "two"), &next).unwrap();
    fs_err::rename(&next, &current).unwrap();
    until(|| async {
        let answer = get(server.address(), "/static/a.txt", "").await;
        assert_fits(&answer);
        answer.text() == "two"
    })
    .await;
}

#[tokio::test]
async fn a_release_that_is_not_sound_changes_nothing_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let release = release(folder.path(), "1", "old");
    // In memory this time: what is on the disk is about to be wrong.
    let server = TestServer::start(&config(&release).replace("memory = 0", "memory = \"1 MiB\"")).await;
    let manifest = release.join("staticfiles.json");
    // This names a file that is still on its way. The manifest does not change any more when it comes.
    let text_of = r#"{"paths": {"b.txt": "b.0123456789ab.txt"}, "version": "1.1", "hash": ""}"#;
    fs_err::write(&manifest, text_of).unwrap();
    fs_err::write(release.join("a.txt"), "new").unwrap();
    for _ in 0..20 {
        assert_eq!(text(server.address(), "/static/a.txt").await, "old");
    }
    fs_err::write(release.join("b.0123456789ab.txt"), "b").unwrap();
    until(|| async { text(server.address(), "/static/a.txt").await == "new" }).await;
    assert_eq!(text(server.address(), "/static/b.0123456789ab.txt").await, "b");
}

#[tokio::test]
async fn a_release_without_the_manifest_that_there_was_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (current, next) = (folder.path().join("current"), folder.path().join("next"));
    std::os::unix::fs::symlink(release(folder.path(), "1", "old"), &current).unwrap();
    let server = TestServer::start(&config(&current).replace("memory = 0", "memory = \"1 MiB\"")).await;
    let bare = release(folder.path(), "2", "new");
    let manifest = fs_err::read(bare.join("staticfiles.json")).unwrap();
    fs_err::remove_file(bare.join("staticfiles.json")).unwrap();
    std::os::unix::fs::symlink(&bare, &next).unwrap();
    fs_err::rename(&next, &current).unwrap();
    // It is looked at several times meanwhile.
    for _ in 0..50 {
        assert_eq!(text(server.address(), "/static/a.txt").await, "old");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    fs_err::write(bare.join("staticfiles.json"), manifest).unwrap();
    until(|| async { text(server.address(), "/static/a.txt").await == "new" }).await;
}

#[tokio::test]
async fn a_file_that_is_replaced_where_there_is_no_manifest_is_never_sent_with_the_tag_of_another() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("a.txt"), "old").unwrap();
    let server = TestServer::start(&config(folder.path())).await;
    assert_eq!(text(server.address(), "/static/a.txt").await, "old");
    fs_err::write(folder.path().join("next"), "new").unwrap();
    fs_err::rename(folder.path().join("next"), folder.path().join("a.txt")).unwrap();
    // The first request finds it out, and the next look mends it.
    until(|| async {
        let answer = get(server.address(), "/static/a.txt", "").await;
        if answer.status == 500 {
            return false;
        }
        assert_fits(&answer);
        answer.text() == "new"
    })
    .await;
}
