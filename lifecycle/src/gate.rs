//! One shard of the admission gate: lets work in until closed, and tells when a leaver
//! must wake the waiter.
//!
//! Not here: the shards side by side and the waking (`in_flight`), deadlines (`budget`).
//!
//! # Invariants
//! 1. One word holds everything: bit 0 = closed, the rest = twice the number in flight.
//! 2. Once closed it stays closed, and admits nothing more; so a word once seen closed
//!    and empty stays empty of guards. (A refused entry shows in the count for a moment.)
//! 3. Every leave after the close, that of an entry refused at that moment too, wakes the waiter, which looks
//!    again: no leaver can know that it was the last, since there are other shards.

use crate::sync::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(crate) struct Word(AtomicUsize);

/// The gate's answer to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Entry {
    Admitted,
    /// Closed long since: nothing was counted.
    Late,
    /// Closed at this moment. The caller must wake the waiter: the attempt was counted for a moment.
    Refused,
}

/// What a leaver has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Leave {
    Quiet,
    Wake,
}

impl Word {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    pub(crate) fn enter(&self) -> Entry {
        // Ordering: Relaxed, a look that spares late entries the count and the waiter its
        // wake-ups; once closed it stays closed, so a yes is always true.
        if self.0.load(Ordering::Relaxed) & CLOSED != 0 {
            return Entry::Late;
        }
        // Ordering: Relaxed, the count is all that is shared; a read-modify-write always
        // sees the newest word, so an entry comes wholly before or wholly after the close.
        let before = self.0.fetch_add(ONE, Ordering::Relaxed);
        debug_assert!(before < usize::MAX / 2, "the count cannot overflow");
        if before & CLOSED == 0 {
            return Entry::Admitted;
        }
        // Ordering: Relaxed, a refused entry did no work that the waiter should see.
        self.0.fetch_sub(ONE, Ordering::Relaxed);
        Entry::Refused
    }

    pub(crate) fn leave(&self) -> Leave {
        // Ordering: Release, pairs with the Acquire in `is_drained`: who sees the word
        // empty sees all that was done under the guards.
        let before = self.0.fetch_sub(ONE, Ordering::Release);
        debug_assert!(before >= ONE, "a leave without an entry");
        if before & CLOSED == 0 { Leave::Quiet } else { Leave::Wake }
    }

    pub(crate) fn close(&self) {
        // Ordering: Relaxed, closing publishes nothing; the order against entries and
        // leaves is that of the word itself.
        self.0.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// Whether it is closed and nothing is in flight.
    pub(crate) fn is_drained(&self) -> bool {
        // Ordering: Acquire, pairs with the Release in `leave`.
        self.0.load(Ordering::Acquire) == CLOSED
    }

    /// How many are in flight; a refused entry may show for a moment.
    pub(crate) fn in_flight(&self) -> usize {
        // Ordering: Relaxed, a figure for people.
        self.0.load(Ordering::Relaxed) / ONE
    }
}

const CLOSED: usize = 1;
const ONE: usize = 2;

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use super::*;

    #[test]
    fn admits_until_closed_and_drains_when_the_last_has_left() {
        let word = Word::new();
        assert_eq!(word.enter(), Entry::Admitted);
        assert_eq!(word.enter(), Entry::Admitted);
        assert_eq!(word.in_flight(), 2);
        assert_eq!(word.leave(), Leave::Quiet);
        assert!(!word.is_drained(), "open");
        word.close();
        assert!(!word.is_drained(), "one is in flight");
        assert_eq!(word.enter(), Entry::Late);
        assert_eq!(word.in_flight(), 1);
        assert_eq!(word.leave(), Leave::Wake);
        assert!(word.is_drained());
        assert_eq!(word.enter(), Entry::Late);
        assert!(word.is_drained(), "a refused entry leaves no trace");
    }

    #[test]
    fn closing_twice_is_closing_once() {
        let word = Word::new();
        word.close();
        word.close();
        assert!(word.is_drained());
    }
}

#[cfg(all(test, lifecycle_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::cell::UnsafeCell;
    use loom::future::{AtomicWaker, block_on};
    use loom::thread;

    use super::*;

    /// Waits as `Gate::drained` does: arm, then look, then sleep; never trust one look.
    fn wait(words: &[Arc<Word>], waker: &AtomicWaker) {
        block_on(std::future::poll_fn(|cx| {
            waker.register_by_ref(cx.waker());
            if words.iter().all(|word| word.is_drained()) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        }));
    }

    fn leave(word: &Word, waker: &AtomicWaker) {
        if word.leave() == Leave::Wake {
            waker.wake();
        }
    }

    /// Question: can an entry be admitted that a drained gate did not wait for?
    #[test]
    fn loom_admit_against_close() {
        loom::model(|| {
            let word = Arc::new(Word::new());
            let waker = Arc::new(AtomicWaker::new());
            let drained = Arc::new(loom::sync::atomic::AtomicBool::new(false));
            let entrant = thread::spawn({
                let (word, waker, drained) = (word.clone(), waker.clone(), drained.clone());
                move || match word.enter() {
                    Entry::Admitted => {
                        assert!(!drained.load(Ordering::SeqCst), "in flight after the drain");
                        leave(&word, &waker);
                    }
                    Entry::Late => {}
                    Entry::Refused => waker.wake(),
                }
            });
            word.close();
            wait(std::slice::from_ref(&word), &waker);
            drained.store(true, Ordering::SeqCst);
            assert_eq!(word.enter(), Entry::Late);
            entrant.join().expect("no panic");
            assert!(word.is_drained());
        });
    }

    /// Question: can the waiter sleep through the last leave? (loom reports a deadlock.)
    #[test]
    fn loom_leaver_against_waiter() {
        loom::model(|| {
            let words = [Arc::new(Word::new()), Arc::new(Word::new())];
            let waker = Arc::new(AtomicWaker::new());
            let leavers = words.clone().map(|word| {
                assert_eq!(word.enter(), Entry::Admitted);
                let waker = waker.clone();
                thread::spawn(move || leave(&word, &waker))
            });
            for word in &words {
                word.close();
            }
            wait(&words, &waker);
            for leaver in leavers {
                leaver.join().expect("no panic");
            }
        });
    }

    /// Question: does a refused entry, counted for a moment, leave the waiter asleep?
    #[test]
    fn loom_refused_entry_wakes_the_waiter() {
        loom::model(|| {
            let word = Arc::new(Word::new());
            let waker = Arc::new(AtomicWaker::new());
            let late = thread::spawn({
                let (word, waker) = (word.clone(), waker.clone());
                move || match word.enter() {
                    Entry::Admitted => leave(&word, &waker),
                    Entry::Late => {}
                    Entry::Refused => waker.wake(),
                }
            });
            word.close();
            wait(std::slice::from_ref(&word), &waker);
            late.join().expect("no panic");
        });
    }

    /// Question: does the drainer see what was done under a guard that was dropped on
    /// another thread? (loom's cell reports the race.)
    #[test]
    fn loom_drained_sees_the_work_of_a_guard_dropped_elsewhere() {
        loom::model(|| {
            let word = Arc::new(Word::new());
            let work = Arc::new(UnsafeCell::new(0));
            assert_eq!(word.enter(), Entry::Admitted);
            let elsewhere = thread::spawn({
                let (word, work) = (word.clone(), work.clone());
                move || {
                    work.with_mut(|_| ());
                    // No wake-up here: its own ordering would hide a missing Release.
                    word.leave() == Leave::Wake
                }
            });
            word.close();
            if word.is_drained() {
                work.with(|_| ());
            }
            let _ = elsewhere.join().expect("no panic");
        });
    }
}
