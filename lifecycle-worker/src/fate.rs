//! What becomes of one claimed job: exactly one of finished, returned and lost.
//!
//! Not here: who tries which when (`runner`), telling the broker (`runner/settle`).
//!
//! # Invariants
//! 1. One word holds all of it; it only moves forward, and leaves `Unstarted` and `Running`
//!    once.
//! 2. Whoever moves it settles the job; everybody else does nothing.

use crate::queue::Start;
use crate::sync::{AtomicU8, Ordering};

/// One job's fate.
#[derive(Debug)]
pub(crate) struct Fate(AtomicU8);

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Standing {
    /// Claimed, and no handler has seen it.
    Unstarted = 0,
    /// A handler has it.
    Running = 1,
    /// Its handler has ended by itself.
    Finished = 2,
    /// It goes back to the queue.
    Returned = 3,
    /// Its lease is over: somebody else may have it.
    Lost = 4,
}

impl Fate {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(Standing::Unstarted as u8))
    }

    pub(crate) fn standing(&self) -> Standing {
        // Ordering: Relaxed, what follows from it is read under the ledger's lock.
        Standing::of(self.0.load(Ordering::Relaxed))
    }

    /// A handler begins; `false` when it must not.
    pub(crate) fn start(&self) -> bool {
        self.go(Standing::Unstarted, Standing::Running)
    }

    /// The handler has ended by itself; `false` when that counts no more.
    pub(crate) fn finish(&self) -> bool {
        self.go(Standing::Running, Standing::Finished)
    }

    /// The job goes back, and whether a handler had begun; `None` when it must not.
    pub(crate) fn give_back(&self) -> Option<Start> {
        self.leave_for(Standing::Returned)
    }

    /// The lease is over before the job, and whether a handler had begun; `None` when it was
    /// settled first.
    pub(crate) fn lose(&self) -> Option<Start> {
        self.leave_for(Standing::Lost)
    }

    fn leave_for(&self, to: Standing) -> Option<Start> {
        if self.go(Standing::Unstarted, to) {
            Some(Start::Unstarted)
        } else if self.go(Standing::Running, to) {
            Some(Start::Started)
        } else {
            None
        }
    }

    fn go(&self, from: Standing, to: Standing) -> bool {
        debug_assert!((from as u8) < (to as u8), "invariant 1");
        // Ordering: Relaxed both, the word is all there is: nothing else is published by it.
        let gone =
            self.0.compare_exchange(from as u8, to as u8, Ordering::Relaxed, Ordering::Relaxed);
        gone.is_ok()
    }
}

impl Standing {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Unstarted,
            1 => Self::Running,
            2 => Self::Finished,
            3 => Self::Returned,
            _ => Self::Lost,
        }
    }
}

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_settle_settles() {
        type Move = fn(&Fate) -> bool;
        let moves: [(&str, Move); 3] = [
            ("finish", Fate::finish),
            ("give back", |fate| fate.give_back().is_some()),
            ("lose", |fate| fate.lose().is_some()),
        ];
        for (first, one) in moves {
            for (second, other) in moves {
                let fate = Fate::new();
                assert!(fate.start() && one(&fate), "{first}");
                assert!(!other(&fate), "{second} after {first}");
                assert!(!fate.start(), "start after {first}");
            }
        }
    }

    #[test]
    fn an_unstarted_job_does_not_finish_and_says_so_when_returned() {
        let fate = Fate::new();
        assert!(!fate.finish());
        assert_eq!(fate.give_back(), Some(Start::Unstarted));
        assert_eq!(fate.standing(), Standing::Returned);
        let fate = Fate::new();
        assert!(fate.start() && !fate.start());
        assert_eq!(fate.give_back(), Some(Start::Started));
        assert_eq!(fate.give_back(), None);
    }
}

#[cfg(all(test, lifecycle_loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A handler that ends, a return and a lease that ends, all at once.
    #[test]
    fn loom_exactly_one_of_finish_return_and_loss_wins() {
        loom::model(|| {
            let fate = Arc::new(Fate::new());
            assert!(fate.start());
            let other = Arc::clone(&fate);
            let finished = thread::spawn(move || other.finish());
            let other = Arc::clone(&fate);
            let returned = thread::spawn(move || other.give_back().is_some());
            let lost = fate.lose().is_some();
            let won = [finished.join().unwrap(), returned.join().unwrap(), lost];
            assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
            let says = [Standing::Finished, Standing::Returned, Standing::Lost];
            let winner = won.iter().position(|won| *won).unwrap();
            assert_eq!(fate.standing(), says[winner]);
        });
    }

    /// A stop that takes back what is about to be started, and a lease that ends in that moment.
    #[test]
    fn loom_a_job_is_started_or_leaves_unstarted() {
        let ways: [fn(&Fate) -> Option<Start>; 2] = [Fate::give_back, Fate::lose];
        for leave in ways {
            loom::model(move || {
                let fate = Arc::new(Fate::new());
                let other = Arc::clone(&fate);
                let starter = thread::spawn(move || other.start());
                let left = leave(&fate);
                let started = starter.join().unwrap();
                match left {
                    Some(Start::Unstarted) => assert!(!started),
                    Some(Start::Started) => assert!(started),
                    None => unreachable!("nobody else settles it"),
                }
            });
        }
    }
}
