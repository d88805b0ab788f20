//! Shares of memory, so that a machine with many cores does not compress as many large files at once as it could.

use std::collections::VecDeque;
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

    /// Takes the first task for which enough is free; waits while there is none. One that needs more than there is gets
    /// all of it, and works alone.
    pub(super) fn take_first<T>(&self, tasks: &mut VecDeque<T>, needs: impl Fn(&T) -> u64) -> Option<(T, Share<'_>)> {
        let needs = |task: &T| needs(task).min(self.total);
        let mut free = self.free();
        while !tasks.is_empty() {
            if let Some(task) = tasks.iter().position(|task| needs(task) <= *free).and_then(|at| tasks.remove(at)) {
                let amount = needs(&task);
                *free -= amount;
                return Some((task, Share { budget: self, amount }));
            }
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        None
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
                        let _share = budget.take_first(&mut [amount].into(), |amount| *amount).expect("a task");
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

    #[test]
    fn what_does_not_fit_now_lets_others_go_first() {
        let budget = Budget::new(10);
        let mut tasks = VecDeque::from([8, 7, 2, 30]);
        let needs = |task: &u64| *task;
        let (first, share) = budget.take_first(&mut tasks, needs).expect("a task");
        let (second, other) = budget.take_first(&mut tasks, needs).expect("a task");
        assert_eq!((first, second), (8, 2));
        drop((share, other));
        let (third, share) = budget.take_first(&mut tasks, needs).expect("a task");
        drop(share);
        let (last, _share) = budget.take_first(&mut tasks, needs).expect("a task");
        assert_eq!((third, last), (7, 30));
        assert!(budget.take_first(&mut tasks, needs).is_none());
    }
}
