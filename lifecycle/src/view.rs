//! One phase and those who wait for it: the process' own, or what one component sees of it.
//!
//! # Invariants
//! 1. The phase is stored before its waiters are taken, and never goes back.
//! 2. Only the coordinator moves it.
//! 3. Whoever takes a place looks at the phase under the lock under which the waiters are taken:
//!    it is among them, or it sees the phase. So once they were taken no place is given out, and
//!    a place is its holder's until the phase comes.
//! 4. No waker is dropped under a lock: with it may go a task that waits here too.

use std::array;
use std::iter::Flatten;
use std::mem;
use std::task::{Poll, Waker};

use slab::Slab;

use crate::phase::{Phase, PhaseCell};
use crate::sync::{Mutex, locked};

/// Its references are counted on another cache line than the phase is read from: who waits comes
/// and goes. 128 because processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct View {
    phase: PhaseCell,
    /// One per phase, so that nobody is woken for a phase that it does not wait for.
    waiting: [Mutex<Slab<Waker>>; PHASES],
}

/// Those who have waited, the oldest first, and are to be woken.
#[derive(Debug)]
pub(crate) struct Waiters {
    wakers: Flatten<array::IntoIter<Slab<Waker>, PHASES>>,
    left: usize,
}

impl View {
    pub(crate) fn new() -> Self {
        Self { phase: PhaseCell::new(), waiting: array::from_fn(|_| Mutex::default()) }
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.phase.load()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.advance(phase);
        self.wake(phase);
    }

    /// Without waking anybody: [`wake`](Self::wake) has to follow, or the same in parts.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.advance(phase);
    }

    /// Wakes those who wait for `phase`, which has been reached, or for one that was passed over.
    pub(crate) fn wake(&self, phase: Phase) {
        self.waiters(phase).for_each(Waker::wake);
    }

    /// Takes those that [`wake`](Self::wake) wakes: nobody else will.
    pub(crate) fn waiters(&self, phase: Phase) -> Waiters {
        debug_assert!(self.phase() >= phase, "invariant 1");
        let lists = array::from_fn(|at| {
            if at <= phase as usize {
                mem::take(&mut *locked(&self.waiting[at]))
            } else {
                Slab::new()
            }
        });
        let left = lists.iter().map(Slab::len).sum();
        Waiters { wakers: lists.into_iter().flatten(), left }
    }

    /// Ready once `phase` has been reached; until then `waker` waits for it in `place`.
    pub(crate) fn poll(&self, phase: Phase, place: &mut Option<usize>, waker: &Waker) -> Poll<()> {
        if self.phase() >= phase {
            return Poll::Ready(());
        }
        let mut waiting = locked(&self.waiting[phase as usize]);
        // Invariant 3.
        if self.phase() >= phase {
            return Poll::Ready(());
        }
        let held = place.map(|place| &mut waiting[place]);
        let replaced = match held {
            Some(held) if held.will_wake(waker) => None,
            Some(held) => Some(mem::replace(held, waker.clone())),
            None => {
                *place = Some(waiting.insert(waker.clone()));
                None
            }
        };
        // Invariant 4.
        drop(waiting);
        drop(replaced);
        Poll::Pending
    }

    /// Gives up a place that [`poll`](Self::poll) gave.
    pub(crate) fn leave(&self, phase: Phase, place: usize) {
        if self.phase() < phase {
            // It may have been taken meanwhile. The lock goes first, then the waker: invariant 4.
            let _gone = locked(&self.waiting[phase as usize]).try_remove(place);
        }
    }
}

impl Iterator for Waiters {
    type Item = Waker;

    fn next(&mut self) -> Option<Waker> {
        let (_, waker) = self.wakers.next()?;
        self.left -= 1;
        Some(waker)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Waiters {}

const PHASES: usize = Phase::ALL.len();

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::{Arc, mpsc};
    use std::task::{Context, Wake};
    use std::thread;
    use std::time::Duration;

    use tokio_test::task::{self, Spawn};

    use super::*;
    use crate::handle::Reached;

    fn view() -> Arc<View> {
        Arc::new(View::new())
    }

    /// Polls it as that task does.
    fn is_pending(reached: &mut Reached, task: &mut Spawn<()>) -> bool {
        task.enter(|cx, _| Pin::new(reached).poll(cx)).is_pending()
    }

    fn waiting(view: &Arc<View>) -> (Reached, Spawn<()>) {
        let (mut reached, mut task) = (Reached::new(view, Phase::Draining), task::spawn(()));
        assert!(is_pending(&mut reached, &mut task));
        (reached, task)
    }

    #[test]
    fn who_comes_and_goes_needs_no_more_room_and_nobody_any_afterwards() {
        let view = view();
        let room = || locked(&view.waiting[Phase::Draining as usize]).capacity();
        let (_reached, task) = waiting(&view);
        let first = room();
        for _ in 0..1_000 {
            drop(waiting(&view));
        }
        assert_eq!(room(), first);
        view.enter(Phase::Draining);
        assert_eq!(room(), 0);
        assert!(task.is_woken());
    }

    #[test]
    fn who_has_left_is_not_woken_and_who_has_its_place_is() {
        let view = view();
        let ((left, of_left), (_stays, of_stays)) = (waiting(&view), waiting(&view));
        drop(left);
        assert_eq!(of_left.waker_ref_count(), 1, "nothing is kept");
        let (mut came, mut of_came) = waiting(&view);
        view.enter(Phase::Draining);
        assert!(of_stays.is_woken() && of_came.is_woken() && !of_left.is_woken());
        assert!(!is_pending(&mut came, &mut of_came));
    }

    #[test]
    fn the_task_of_the_last_poll_is_woken() {
        let view = view();
        let (mut reached, first) = waiting(&view);
        let mut last = task::spawn(());
        for _ in 0..2 {
            assert!(is_pending(&mut reached, &mut last));
        }
        assert_eq!((first.waker_ref_count(), last.waker_ref_count()), (1, 2));
        view.enter(Phase::Cancelling);
        assert!(last.is_woken() && !first.is_woken());
    }

    #[test]
    fn a_task_that_goes_with_its_waker_may_wait_here_too() {
        struct Task(#[expect(dead_code, reason = "dropped with the waker")] Reached);
        impl Wake for Task {
            fn wake(self: Arc<Self>) {}
        }
        let (done, is_done) = mpsc::sync_channel(1);
        // On a thread of its own, which may stand still for ever.
        thread::spawn(move || {
            let view = view();
            for polls in 1..=2 {
                let mut reached = Reached::new(&view, Phase::Draining);
                for _ in 0..polls {
                    let waker = Waker::from(Arc::new(Task(waiting(&view).0)));
                    let polled = Pin::new(&mut reached).poll(&mut Context::from_waker(&waker));
                    assert!(polled.is_pending());
                }
            }
            assert!(locked(&view.waiting[Phase::Draining as usize]).is_empty());
            done.send(()).expect("somebody waits");
        });
        is_done.recv_timeout(Duration::from_secs(60)).expect("no lock is held");
    }

    #[test]
    fn a_wait_is_small() {
        assert!(size_of::<Reached>() <= 32, "{}", size_of::<Reached>());
    }
}

#[cfg(all(test, lifecycle_loom))]
mod loom_tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::Context;

    use loom::future::block_on;
    use loom::thread;

    use super::*;
    use crate::handle::Reached;

    /// Polled once, by a task that is gone since.
    fn waiting(view: &Arc<View>) -> Reached {
        let mut reached = Reached::new(view, Phase::Draining);
        let polled = Pin::new(&mut reached).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        reached
    }

    /// Question: can who begins to wait sleep through its phase? (loom reports a deadlock.)
    #[test]
    fn loom_who_waits_does_not_miss_the_phase() {
        loom::model(|| {
            let view = Arc::new(View::new());
            let waiter = thread::spawn({
                let view = view.clone();
                move || block_on(Reached::new(&view, Phase::Draining))
            });
            view.enter(Phase::Draining);
            waiter.join().expect("no panic");
        });
    }

    /// Question: can it when another task has polled for it before?
    #[test]
    fn loom_the_task_of_the_last_poll_is_woken() {
        loom::model(|| {
            let view = Arc::new(View::new());
            let reached = waiting(&view);
            let waiter = thread::spawn(move || block_on(reached));
            view.enter(Phase::Draining);
            waiter.join().expect("no panic");
        });
    }

    /// Question: can it when another leaves, whose place it may be given?
    #[test]
    fn loom_who_leaves_takes_only_its_own_place() {
        loom::model(|| {
            let view = Arc::new(View::new());
            let leaves = waiting(&view);
            let leaver = thread::spawn(move || drop(leaves));
            let waiter = thread::spawn({
                let view = view.clone();
                move || block_on(Reached::new(&view, Phase::Draining))
            });
            view.enter(Phase::Draining);
            leaver.join().expect("no panic");
            waiter.join().expect("no panic");
        });
    }
}
