//! The lines that wait, and the thread that writes them.
//!
//! A request puts its line with the others; the thread writes all that has come together within a moment. So a busy
//! site pays neither a system call nor a wake-up per line. When standard output takes nothing for so long that the bound
//! is reached, lines are dropped and counted: a stuck log must not stop the site.

use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::warn;

/// How many bytes of lines may wait for the writer.
const BOUND: usize = 4 << 20;

/// How long lines come together before they are written. Measured: at full load it saves two context
/// switches per request, which were a third of the request's cost.
const GATHER: Duration = Duration::from_millis(20);

/// How long the last lines may take to be written.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// The lines that wait for the writer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Rung when the first line comes, and at the end.
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: u64,
    ended: bool,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer(Option<(Arc<Queue>, JoinHandle<()>)>);

impl Writer {
    /// Writes what comes into a queue.
    pub(super) fn start(queue: &Arc<Queue>) -> io::Result<Self> {
        let written = Arc::clone(queue);
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || written.write_lines())?;
        Ok(Self(Some((Arc::clone(queue), thread))))
    }

    /// Where nothing is to be written.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Waits until every line so far is written, even if somebody still holds the log.
    pub fn finish(self) {
        if let Some((queue, thread)) = self.0 {
            queue.lock().ended = true;
            queue.bell.notify_one();
            // A standard output that takes nothing must not keep the program from ending.
            let deadline = Instant::now() + LAST_WRITE;
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(GATHER / 4);
            }
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub(super) fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.lines.len() + line.len() > BOUND {
            waiting.dropped += 1;
            return;
        }
        let is_first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if is_first {
            self.bell.notify_one();
        }
    }

    /// What waits now.
    #[cfg(test)]
    pub(super) fn lines(&self) -> Vec<u8> {
        self.lock().lines.clone()
    }

    fn write_lines(&self) {
        let mut output = io::stdout();
        let mut lines = Vec::new();
        loop {
            let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.ended;
            let waiting = self.bell.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            let gathered = self.bell.wait_timeout_while(waiting, GATHER, |waiting| !waiting.ended);
            let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            // The two buffers take turns, so neither is allocated anew.
            std::mem::swap(&mut waiting.lines, &mut lines);
            let (dropped, ended) = (std::mem::take(&mut waiting.dropped), waiting.ended);
            drop(waiting);
            // Whoever reads the log may be gone; the site goes on.
            let _ = output.write_all(&lines).and_then(|()| output.flush());
            lines.clear();
            if dropped > 0 {
                warn!(dropped, "standard output was stuck; these access-log lines are lost");
            }
            if ended {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_writer_costs_lines_and_not_memory() {
        let queue = Queue::default();
        let line = [b'x'; 1000];
        (0..2 * BOUND / line.len()).for_each(|_| queue.push(&line));
        let waiting = queue.lock();
        assert!(waiting.lines.len() <= BOUND);
        assert_eq!(waiting.lines.len() / line.len() + waiting.dropped as usize, 2 * BOUND / line.len());
    }
}
