//! What the tests share: a server on a port of its own, and a client that sends exactly what it is told.

pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod curl;
pub(crate) mod django_site;
pub(crate) mod exchange;
pub(crate) mod gunicorn;
pub(crate) mod http2;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod site;

use std::time::Duration;

/// A test that waits for longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what comes soon, or fails the test: nothing may hang.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not come about in time")
}

/// Waits until something is so; a test that waits for too long has failed.
pub(crate) async fn until<F: Future<Output = bool>>(mut is_so: impl FnMut() -> F) {
    for _ in 0..1000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come about within ten seconds");
}
