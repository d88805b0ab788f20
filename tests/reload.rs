//! SIGHUP: all of the new, or all of the old.

use vestibule::serve::Order;

use crate::support::client::get;
use crate::support::server::TestServer;
use crate::support::until;

/// A folder as `collect` would leave it, with one file.
fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("a.txt"), text).unwrap();
    folder
}

fn config(folder: &std::path::Path, rest: &str) -> String {
    format!("[listen]\nhttp = [\"127.0.0.1:0\"]\n[static]\ndirectory = \"{}\"\n{rest}", folder.display())
}

#[tokio::test]
async fn a_new_release_appears_without_a_restart() {
    let (old, new) = (folder("old"), folder("new"));
    let server = TestServer::start(&config(old.path(), "")).await;
    assert_eq!(get(server.address(), "/static/a.txt", "").await.text(), "old");
    server.set_config(&config(new.path(), ""));
    server.order(Order::Reload).await;
    until(|| async { get(server.address(), "/static/a.txt", "").await.text() == "new" }).await;
}

#[tokio::test]
async fn a_bad_release_or_a_bad_configuration_changes_nothing() {
    let (old, bad, new) = (folder("old"), folder("bad"), folder("new"));
    fs_err::write(bad.path().join("staticfiles.json"), "{\"paths\": {").unwrap();
    let server = TestServer::start(&config(old.path(), "")).await;
    server.set_config(&config(bad.path(), ""));
    server.order(Order::Reload).await;
    server.set_config(&config(new.path(), "prefx = \"/x/\"\n"));
    server.order(Order::Reload).await;
    // Orders are carried out one after another, so when a good one shows, the bad ones are past.
    server.set_config(&config(old.path(), "max_age = \"7s\"\n"));
    server.order(Order::Reload).await;
    until(|| async {
        let answer = get(server.address(), "/static/a.txt", "").await;
        assert_eq!(answer.text(), "old");
        answer.header("cache-control") == Some("max-age=7, public")
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_is_not_bound_takes_part_in_nothing() {
    let old = folder("old");
    let server = TestServer::start(&config(old.path(), "")).await;
    let text = config(old.path(), "max_age = \"7s\"\n[tls]\nself_signed = true\n");
    server.set_config(&text.replace("[static]", "https = [\"127.0.0.1:0\"]\n[static]"));
    server.order(Order::Reload).await;
    until(|| async {
        let answer = get(server.address(), "/static/a.txt", "").await;
        assert_eq!(answer.status, 200, "redirected to a port on which nobody listens");
        answer.header("cache-control") == Some("max-age=7, public")
    })
    .await;
}
