//! The threads that serve: a runtime of its own for each, so that a connection stays where it began.
//!
//! A task that never moves is woken without another core being told, and its streams run in the order in
//! which they became ready: an HTTP/2 connection then finds all their answers at once, see [`super::http2::gather`].
//! All threads accept from the same sockets. Whoever is awake takes the connection, and hands it on when
//! it has more than its share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How long threads may take to end; what hangs in them is left to the end of the program.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// How many threads all workers together may start for what blocks: disks, mostly.
const BLOCKING: usize = 512;

/// How many connections more than another thread one may have before it hands on.
const UNEVEN: usize = 4;

/// All threads that serve.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
    all: Arc<[Worker]>,
}

/// One of the threads.
#[derive(Debug)]
struct Worker {
    handle: Handle,
    connections: AtomicUsize,
}

/// One of the threads, among the others.
#[derive(Debug, Clone)]
pub struct Thread {
    all: Arc<[Worker]>,
    own: usize,
}

/// A connection's place in a thread.
#[derive(Debug)]
pub struct Seat {
    thread: Thread,
    is_elsewhere: bool,
}

impl Workers {
    /// Starts this many threads; 0 is one for each core that the program may use.
    ///
    /// # Errors
    /// When the system gives no thread, or no descriptor for its runtime.
    pub fn start(wanted: usize) -> io::Result<Self> {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let count = if wanted == 0 { cores() } else { wanted };
        let (mut threads, mut all) = (Vec::new(), Vec::new());
        for number in 0..count {
            let blocking = (BLOCKING / count).max(4);
            let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(blocking).build()?;
            all.push(Worker { handle: runtime.handle().clone(), connections: AtomicUsize::new(0) });
            let (end, ended) = oneshot::channel();
            let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                // An error says that nobody is left to end it: then it ends as well.
                let _ = runtime.block_on(ended);
                runtime.shutdown_background();
            })?;
            threads.push((end, thread));
        }
        Ok(Self { threads, all: all.into() })
    }

    /// Every thread.
    pub fn threads(&self) -> impl Iterator<Item = Thread> + '_ {
        (0..self.all.len()).map(|own| Thread { all: self.all.clone(), own })
    }

    /// Ends the threads, and with them the connections that are left.
    pub fn end(self) {
        let threads: Vec<_> = self
            .threads
            .into_iter()
            .map(|(end, thread)| {
                // Whoever does not hear it has ended.
                let _ = end.send(());
                thread
            })
            .collect();
        let deadline = Instant::now() + LAST_MOMENT;
        while Instant::now() < deadline && !threads.iter().all(JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Thread {
    /// The thread's runtime.
    pub fn handle(&self) -> &Handle {
        &self.all[self.own].handle
    }

    /// A place for a connection that was accepted here: here, or where there are clearly fewer.
    pub fn seat(&self) -> Seat {
        let counts = self.all.iter().map(|worker| worker.connections.load(Ordering::Relaxed));
        let seated = choose(self.own, counts);
        self.all[seated].connections.fetch_add(1, Ordering::Relaxed);
        Seat { thread: Self { all: self.all.clone(), own: seated }, is_elsewhere: seated != self.own }
    }
}

/// Handing on costs a wake-up of another core, so small differences stay.
fn choose(own: usize, counts: impl Iterator<Item = usize> + Clone) -> usize {
    let mine = counts.clone().nth(own).unwrap_or_default();
    match counts.enumerate().min_by_key(|(_, count)| *count) {
        Some((other, least)) if mine > least + least / 8 + UNEVEN => other,
        _ => own,
    }
}

impl Seat {
    /// The runtime in which the connection is to run, if it is not the one that accepted it.
    pub fn elsewhere(&self) -> Option<&Handle> {
        self.is_elsewhere.then(|| self.thread.handle())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.thread.all[self.thread.own].connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_stays_unless_another_thread_has_clearly_fewer() {
        for (own, counts, expected) in [
            (0, [0, 0, 0], 0),
            (0, [4, 0, 0], 0),
            (0, [5, 1, 0], 2),
            (1, [5, 9, 4], 2),
            (2, [1000, 1000, 1100], 2), // a tenth more is no reason
            (2, [1000, 1000, 1200], 0),
        ] {
            assert_eq!(choose(own, counts.into_iter()), expected, "for {own} of {counts:?}");
        }
    }

    #[test]
    fn a_seat_is_given_back() {
        let workers = Workers::start(2).unwrap();
        let thread = workers.threads().next().unwrap();
        let seats: Vec<_> = (0..20).map(|_| thread.seat()).collect();
        let taken = || workers.all.iter().map(|worker| worker.connections.load(Ordering::Relaxed)).collect::<Vec<_>>();
        assert!(taken().iter().all(|count| (7..=13).contains(count)), "{:?}", taken());
        drop(seats);
        assert_eq!(taken(), [0, 0]);
        workers.end();
    }
}
