//! How many connections to the application there are, who may have one, and which stay open.
//!
//! A permit stands for a connection in use. Idle connections need none: before a new one is opened, those that are too
//! many are closed, so that both together never exceed the number of permits.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::exchange::Exchange;
use super::failure::Failure;
use crate::config::UpstreamConfig;

/// The connections to the application.
pub(super) struct Pool {
    permits: Arc<Semaphore>,
    connections: usize,
    waiting: AtomicUsize,
    queue: usize,
    queue_timeout: Duration,
    shelf: Mutex<Shelf>,
    keep: usize,
    keep_for: Duration,
}

/// The idle connections.
#[derive(Default)]
struct Shelf {
    /// Oldest first.
    idle: Vec<Idle>,
    /// Whether a task is about that closes them in time.
    is_watched: bool,
}

struct Idle {
    exchange: Box<Exchange>,
    /// The number of its server.
    server: usize,
    until: Instant,
}

impl Pool {
    pub(super) fn new(config: &UpstreamConfig) -> Self {
        let connections = config.connections.get().min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(connections)),
            connections,
            waiting: AtomicUsize::new(0),
            queue: config.queue,
            queue_timeout: config.queue_timeout.0,
            shelf: Mutex::default(),
            keep: config.keepalive_connections,
            keep_for: config.keepalive_timeout.0,
        }
    }

    /// Waits for its turn to use a connection.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let _queued = Queued::take(&self.waiting, self.queue).ok_or(Failure::QueueFull)?;
        match Box::pin(timeout(self.queue_timeout, Arc::clone(&self.permits).acquire_owned())).await {
            Ok(permit) => Ok(permit.expect("nobody closes the semaphore")),
            Err(_) => Err(Failure::QueueTooSlow { waited: self.queue_timeout }),
        }
    }

    /// An idle connection to a server that is still open, the one used last.
    pub(super) fn take(&self, server: usize, now: Instant) -> Option<Box<Exchange>> {
        loop {
            let mut shelf = self.shelf();
            let place = shelf.idle.iter().rposition(|idle| idle.server == server)?;
            let idle = shelf.idle.remove(place);
            drop(shelf);
            if idle.until > now && idle.exchange.is_silent() {
                return Some(idle.exchange);
            }
        }
    }

    /// Closes the oldest idle connections, as many as must go before a fresh one is opened, since not every request can
    /// use every one: those to one server are of no use to another, and what cannot be sent again, or is long, uses none.
    pub(super) fn make_room(&self) {
        let in_use = self.connections.saturating_sub(self.permits.available_permits());
        let mut shelf = self.shelf();
        let excess = (in_use + shelf.idle.len()).saturating_sub(self.connections).min(shelf.idle.len());
        let closed: Vec<_> = shelf.idle.drain(..excess).collect();
        drop(shelf);
        drop(closed);
    }

    /// Takes a connection back after an answer, if it can serve another one.
    pub(super) fn put(self: &Arc<Self>, mut exchange: Box<Exchange>, server: usize) {
        if self.keep == 0 || self.keep_for.is_zero() || !exchange.is_reusable() {
            return;
        }
        exchange.shrink();
        let until = Instant::now() + self.keep_for;
        let mut shelf = self.shelf();
        if shelf.idle.len() >= self.keep {
            shelf.idle.remove(0);
        }
        shelf.idle.push(Idle { exchange, server, until });
        if !std::mem::replace(&mut shelf.is_watched, true) {
            tokio::spawn(close_in_time(Arc::downgrade(self), until));
        }
    }

    /// Closes what has been idle for too long; says when the next one will have been. With none left,
    /// the watch is over.
    fn close_old(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut shelf = self.shelf();
        shelf.idle.retain(|idle| idle.until > now);
        let next = shelf.idle.first().map(|idle| idle.until);
        shelf.is_watched = next.is_some();
        next
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes idle connections while there are any, so that a quiet site holds none of the application's.
async fn close_in_time(pool: Weak<Pool>, first: Instant) {
    let mut next = first;
    loop {
        sleep_until(next).await;
        let Some(pool) = pool.upgrade() else { return };
        match pool.close_old() {
            Some(instant) => next = instant,
            None => return,
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("free", &self.permits.available_permits())
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

/// A place in the queue, given back when its holder goes.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn take(waiting: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let taken = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then(|| n + 1));
        // A place that was not taken must not be made either: it would be given back.
        taken.is_ok().then(|| Self(waiting))
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::HumanDuration;

    fn pool(connections: usize, queue: usize) -> Pool {
        Pool::new(&UpstreamConfig {
            connections: connections.try_into().unwrap(),
            queue,
            queue_timeout: HumanDuration::seconds(30),
            ..UpstreamConfig::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_sent_away() {
        let pool = pool(1, 1);
        let _held = pool.permit().await.unwrap();
        assert!(matches!(pool.permit().await, Err(Failure::QueueTooSlow { .. })));
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_is_sent_away_at_once() {
        let pool = pool(1, 0);
        let held = pool.permit().await.unwrap();
        for _ in 0..3 {
            assert!(matches!(pool.permit().await, Err(Failure::QueueFull)));
            assert_eq!(pool.waiting.load(Ordering::Relaxed), 0, "who never waited gives nothing back");
        }
        drop(held);
        assert!(pool.permit().await.is_ok());
    }

    #[tokio::test]
    async fn who_leaves_the_queue_gives_the_place_back() {
        let pool = pool(1, 1);
        let _held = pool.permit().await.unwrap();
        let waiting = pool.permit();
        drop(waiting);
        assert_eq!(pool.waiting.load(Ordering::Relaxed), 0);
    }
}
