//! A real gunicorn that is restarted while requests keep coming: no client sees an error, and nothing is done twice.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinHandle;

use crate::support::client::{Connection, get};
use crate::support::gunicorn::Gunicorn;
use crate::support::server::TestServer;
use crate::support::until;

/// Clients that ask without a pause.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<(String, u16)>>>,
}

impl Load {
    pub(crate) fn on(address: SocketAddr) -> Self {
        let (is_over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let kinds = [("GET", true), ("GET", false), ("POST", true), ("POST", false)].into_iter().cycle();
        let client = |(number, (method, keeps)): (usize, (&'static str, bool))| {
            tokio::spawn(ask(address, number, method, keeps, is_over.clone(), answered.clone()))
        };
        let clients = kinds.take(12).enumerate().map(client).collect();
        Self { is_over, answered, clients }
    }

    /// Waits for so many further answers.
    pub(crate) async fn answers(&self, count: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        until(|| async { self.answered.load(Ordering::Relaxed) >= goal }).await;
    }

    /// What each client sent, and the status that it got.
    pub(crate) async fn end(self) -> Vec<(String, u16)> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.extend(client.await.unwrap());
        }
        all
    }
}

async fn ask(
    address: SocketAddr,
    number: usize,
    method: &'static str,
    keeps: bool,
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Vec<(String, u16)> {
    let mut results = Vec::new();
    let mut connection = Connection::open(address).await;
    while !is_over.load(Ordering::Relaxed) {
        if !keeps {
            connection = Connection::open(address).await;
        }
        let note = format!("{method}-{number}-{}", results.len());
        let (path, body) = match method {
            "POST" => {
                // In one read of the application's, in several, more than a unix socket takes by itself, in a file, and as
                // it comes.
                let (path, length) =
                    [("/", 5), ("/", 20_000), ("/", 500_000), ("/", 2_000_000), ("/streamed", 100_000)]
                        [results.len() % 5];
                (path, format!("Content-Length: {length}\r\n\r\n{}", "x".repeat(length)))
            }
            _ => ("/", "\r\n".into()),
        };
        connection.send(format!("{method} {path}?note={note} HTTP/1.1\r\nHost: localhost\r\n{body}")).await;
        let status = connection.answer().await.map_or(0, |answer| answer.status);
        results.push((note, status));
        answered.fetch_add(1, Ordering::Relaxed);
    }
    results
}

async fn pid(server: &TestServer) -> String {
    get(server.address(), "/", "").await.text().to_owned()
}

async fn no_client_notices_restarts(scheme: &str, flags: &[&'static str]) {
    let mut gunicorn = Gunicorn::start(flags);
    let address = format!("{scheme}{}", gunicorn.address());
    let config = format!("[upstream]\naddress = {address:?}\nhold = \"60s\"\nstream_requests = [\"/streamed\"]\n");
    let server = TestServer::start(&config).await;
    pid(&server).await;
    let load = Load::on(server.address());
    for _ in 0..3 {
        load.answers(100).await;
        let before = pid(&server).await;
        gunicorn.hang_up();
        until(|| async { pid(&server).await != before }).await;
    }
    for _ in 0..3 {
        load.answers(100).await;
        gunicorn = tokio::task::spawn_blocking(move || {
            gunicorn.stop();
            gunicorn.start_again();
            gunicorn
        })
        .await
        .unwrap();
    }
    load.answers(100).await;
    let results = load.end().await;
    let failed: Vec<_> = results.iter().filter(|(_, status)| *status != 200).collect();
    assert!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), results.len());
    let notes = gunicorn.notes();
    let posts = |name: &&String| name.starts_with("POST");
    let written: BTreeSet<_> = notes.iter().filter(posts).collect();
    assert_eq!(notes.iter().filter(posts).count(), written.len(), "a POST was done twice");
    assert_eq!(written.len(), results.iter().filter(|(note, _)| note.starts_with("POST")).count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_that_a_gunicorn_with_sync_workers_restarts() {
    no_client_notices_restarts("", &["--workers", "1", "--worker-class", "sync"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_that_a_gunicorn_that_speaks_uwsgi_restarts() {
    let flags = ["--workers", "1", "--worker-class", "sync", "--protocol", "uwsgi", "--uwsgi-allow-from", "*"];
    no_client_notices_restarts("uwsgi+", &flags).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_that_a_gunicorn_with_threads_restarts() {
    let flags = ["--workers", "1", "--worker-class", "gthread", "--threads", "4", "--keep-alive", "5"];
    no_client_notices_restarts("", &flags).await;
}

/// The worker has read the head, and may or may not have read the body with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_ends_its_worker_before_the_body_is_asked_for_is_not_done_twice() {
    for class in ["sync", "gthread"] {
        let gunicorn = Gunicorn::start(&["--workers", "1", "--worker-class", class, "--keep-alive", "5"]);
        let address = gunicorn.address();
        let server = TestServer::start(&format!("[upstream]\naddress = {address:?}\nhold = \"60s\"\n")).await;
        pid(&server).await;
        for length in [1, 1000, 3500, 20_000, 500_000] {
            let mut client = Connection::open(server.address()).await;
            let head =
                format!("POST /end?note={length} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
            client.send(head + &"x".repeat(length)).await;
            assert_eq!(client.answer().await.unwrap().status, 502, "for {length} bytes with {class}");
            until(|| async { get(server.address(), "/", "").await.status == 200 }).await;
        }
        assert_eq!(gunicorn.notes(), ["1", "1000", "3500", "20000", "500000"], "with {class}");
    }
}
