//! How many shards of an admission gate are not yet empty, and who has to wake the waiter.
//!
//! A shard is a reference count: being in flight is holding a reference to it, and one more
//! is the gate's own until it closes. Whoever drops the last one counts the shard as empty.
//!
//! Not here: the shards themselves and the waking (`in_flight`), deadlines (`budget`).
//!
//! # Invariants
//! 1. One word of a shard holds everything: its references. Those in flight, and one more
//!    while the gate is open; so closed and empty is one value of one word: none.
//! 2. No reference is ever made from none, so a shard once closed and empty stays empty.
//! 3. A shard is counted once, by the drop of its last reference; whoever counts the last
//!    shard wakes the waiter.

use crate::sync::{AtomicUsize, Ordering};

/// The shards that are not yet closed and empty.
#[derive(Debug)]
pub(crate) struct Tally(AtomicUsize);

/// What whoever counts a shard as empty has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Counted {
    Quiet,
    Wake,
}

impl Tally {
    pub(crate) fn new(shards: usize) -> Self {
        Self(AtomicUsize::new(shards))
    }

    /// Counts a shard as closed and empty.
    pub(crate) fn count(&self) -> Counted {
        // Ordering: Release, pairs with the Acquire in `is_drained`: who sees all shards empty
        // sees all that was done under their guards (a shard's own references, which are an
        // `Arc`'s, bring that here from the threads that dropped them before).
        let before = self.0.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "invariant 3: a shard is counted once");
        if before == 1 { Counted::Wake } else { Counted::Quiet }
    }

    /// Whether all shards are closed and empty.
    pub(crate) fn is_drained(&self) -> bool {
        // Ordering: Acquire, pairs with the Release in `count`.
        self.0.load(Ordering::Acquire) == 0
    }
}

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_shard_wakes() {
        let tally = Tally::new(2);
        assert_eq!(tally.count(), Counted::Quiet);
        assert!(!tally.is_drained());
        assert_eq!(tally.count(), Counted::Wake);
        assert!(tally.is_drained());
    }
}

#[cfg(all(test, lifecycle_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::cell::UnsafeCell;
    use loom::future::{AtomicWaker, block_on};
    use loom::sync::atomic::fence;
    use loom::thread;

    use super::*;

    /// A shard as std's `Arc` and `Weak` have it, which loom cannot look into: loom's own
    /// `Arc` has no `Weak`.
    struct Shard {
        references: AtomicUsize,
        tally: Arc<Tally>,
        waker: Arc<AtomicWaker>,
    }

    impl Shard {
        fn enter(&self) -> bool {
            let more = |references| (references > 0).then(|| references + 1);
            let (ok, failed) = (Ordering::Acquire, Ordering::Relaxed);
            self.references.fetch_update(ok, failed, more).is_ok()
        }

        /// What the drop of a guard does, and of the gate's own reference at the close.
        fn leave(&self) {
            if self.references.fetch_sub(1, Ordering::Release) == 1 {
                fence(Ordering::Acquire);
                if self.tally.count() == Counted::Wake {
                    self.waker.wake();
                }
            }
        }
    }

    fn shards<const N: usize>() -> [Arc<Shard>; N] {
        let (tally, waker) = (Arc::new(Tally::new(N)), Arc::new(AtomicWaker::new()));
        std::array::from_fn(|_| {
            let (tally, waker) = (tally.clone(), waker.clone());
            Arc::new(Shard { references: AtomicUsize::new(1), tally, waker })
        })
    }

    /// Waits as `Gate::drained` does: arm, then look, then sleep; never trust one look.
    fn wait(tally: &Tally, waker: &AtomicWaker) {
        block_on(std::future::poll_fn(|cx| {
            waker.register_by_ref(cx.waker());
            if tally.is_drained() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        }));
    }

    /// Question: can an entry be admitted that a drained gate did not wait for?
    #[test]
    fn loom_admit_against_close() {
        loom::model(|| {
            let [shard] = shards();
            let drained = Arc::new(loom::sync::atomic::AtomicBool::new(false));
            let entrant = thread::spawn({
                let (shard, drained) = (shard.clone(), drained.clone());
                move || {
                    if shard.enter() {
                        assert!(!drained.load(Ordering::SeqCst), "in flight after the drain");
                        shard.leave();
                    }
                }
            });
            shard.leave();
            wait(&shard.tally, &shard.waker);
            drained.store(true, Ordering::SeqCst);
            assert!(!shard.enter());
            entrant.join().expect("no panic");
            assert!(shard.tally.is_drained());
        });
    }

    /// Question: can the waiter sleep through the last leave? (loom reports a deadlock.)
    #[test]
    fn loom_leaver_against_waiter() {
        loom::model(|| {
            let shards: [_; 2] = shards();
            let leavers = shards.clone().map(|shard| {
                assert!(shard.enter());
                thread::spawn(move || shard.leave())
            });
            for shard in &shards {
                shard.leave();
            }
            wait(&shards[0].tally, &shards[0].waker);
            for leaver in leavers {
                leaver.join().expect("no panic");
            }
        });
    }

    /// Question: does the drainer see what was done under a guard that was dropped on
    /// another thread? (loom's cell reports the race.)
    #[test]
    fn loom_drained_sees_the_work_of_a_guard_dropped_elsewhere() {
        loom::model(|| {
            let [shard] = shards();
            let work = Arc::new(UnsafeCell::new(0));
            assert!(shard.enter());
            let elsewhere = thread::spawn({
                let (shard, work) = (shard.clone(), work.clone());
                move || {
                    work.with_mut(|_| ());
                    // No wake-up here: its own ordering would hide a missing Release.
                    if shard.references.fetch_sub(1, Ordering::Release) == 1 {
                        fence(Ordering::Acquire);
                        let _ = shard.tally.count();
                    }
                }
            });
            shard.leave();
            if shard.tally.is_drained() {
                work.with(|_| ());
            }
            elsewhere.join().expect("no panic");
        });
    }

    /// Question: and of two, dropped on two threads, of which the other counts the shard?
    #[test]
    fn loom_drained_sees_the_work_under_every_shard() {
        loom::model(|| {
            let shards: [_; 2] = shards();
            let works = [0, 1].map(|_| Arc::new(UnsafeCell::new(0)));
            let others = [0, 1].map(|at: usize| {
                let (shard, work) = (shards[at].clone(), works[at].clone());
                thread::spawn(move || {
                    work.with_mut(|_| ());
                    // The gate's own reference, dropped by whoever closes it.
                    let last = shard.references.fetch_sub(1, Ordering::Release) == 1;
                    assert!(last, "nobody else is in");
                    let _ = shard.tally.count();
                })
            });
            if shards[0].tally.is_drained() {
                works.iter().for_each(|work| work.with(|_| ()));
            }
            for other in others {
                other.join().expect("no panic");
            }
        });
    }
}
