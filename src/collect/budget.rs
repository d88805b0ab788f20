//! Shares of memory, so that a machine with many cores does not compress as many large files at once as it could.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// An amount of memory that tasks take shares of, each for as long as it works.
#[derive(Debug)]
pub(super) struct Budget {
    total: u64,
    free: Mutex<u64>,
    returned: Condvar,
}

impl Budget {
    /// So many bytes in all.
    pub(super) fn new(total: u64) -> Self {
        Self { total, free: Mutex::new(total), returned: Condvar::new() }
    }

    /// Waits until so much is free. A task that needs more than there is gets all of it, and works alone.
    pub(super) fn take(&self, amount: u64) -> Share<'_> {
        let amount = amount.min(self.total);
        let waited = self.returned.wait_while(self.free(), |free| *free < amount);
        *waited.unwrap_or_else(PoisonError::into_inner) -= amount;
        Share { budget: self, amount }
    }

    fn free(&self) -> MutexGuard<'_, u64> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A share, given back when it goes away.
#[derive(Debug)]
pub(super) struct Share<'a> {
    budget: &'a Budget,
    amount: u64,
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.budget.free() += self.amount;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn no_more_is_ever_taken_than_there_is_and_everybody_gets_a_turn() {
        let budget = Budget::new(10);
        let taken = AtomicU64::new(0);
        let turns = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (budget, taken, turns) = (&budget, &taken, &turns);
                scope.spawn(move || {
                    for turn in 0..100 {
                        let amount = (thread * 7 + turn) % 15; // up to more than there is
                        let _share = budget.take(amount);
                        let now = taken.fetch_add(amount.min(10), Ordering::SeqCst) + amount.min(10);
                        assert!(now <= 10, "{now} of 10");
                        turns.fetch_add(1, Ordering::SeqCst);
                        taken.fetch_sub(amount.min(10), Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 400);
        assert_eq!(*budget.free(), 10);
    }
}
