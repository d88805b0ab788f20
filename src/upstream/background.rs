//! What outlives its request: upgraded connections, and uploads whose client has left. A stop waits for both.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of this kind. A clone stands for the same ones, and they outlive the configuration under which they began.
#[derive(Debug, Clone, Default)]
pub struct Background {
    tasks: TaskTracker,
    /// To clone a token takes a lock, and this is cloned for each connection.
    closing: Arc<CancellationToken>,
}

impl Background {
    /// Runs a task beside everything else.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// What tells an upgraded connection to end.
    pub(super) fn closing(&self) -> CancellationToken {
        CancellationToken::clone(&self.closing)
    }

    /// How many tasks there are.
    pub fn count(&self) -> usize {
        self.tasks.len()
    }

    /// Tells all upgraded connections to end, those to come included. Uploads go on.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Waits until nothing is left.
    pub async fn closed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
