//! Who waits for a phase is woken where most of them run: from another thread each wake-up is a
//! lock, and on a current-thread runtime a system call; there it is a push to a queue. It is done
//! in batches, between which those who were woken run: while they are in the cache.
//!
//! # Invariants
//! 1. Everybody who waits is woken, whatever becomes of that runtime: a batch that is overdue is
//!    done from here, each twice the one before, and at the end all are woken from here.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::runtime;
use tokio::time::Instant;

use crate::phase::Phase;
use crate::sync::{Mutex, locked};
use crate::view::{View, Waiters};

/// The relays that may not have ended yet.
#[derive(Debug, Default)]
pub(super) struct Relays(Vec<Watched>);

/// A relay, and what was seen of it when it was last looked at.
#[derive(Debug)]
struct Watched {
    relay: Arc<Relay>,
    left: usize,
    look_at: Instant,
    /// How many were woken from here when it stood still.
    batch: usize,
}

#[derive(Debug)]
struct Relay(Mutex<Waiters>);

impl Relays {
    /// Wakes those who wait for a phase that was entered, on that runtime if it is another one.
    pub(super) fn wake(&mut self, view: &View, phase: Phase, on: Option<&runtime::Handle>) {
        let there = on.filter(|on| on.id() != runtime::Handle::current().id());
        // The last phases come one upon the other, and nobody is left to look after a relay.
        let relayed = matches!(phase, Phase::LameDuck | Phase::Draining | Phase::Cancelling);
        let Some(there) = there.filter(|_| relayed) else {
            for Watched { relay, .. } in self.0.drain(..) {
                relay.wake(usize::MAX);
            }
            view.wake(phase);
            return;
        };
        let waiters = view.waiters(phase);
        let left = waiters.len();
        if left > 0 {
            let relay = Arc::new(Relay(Mutex::new(waiters)));
            drop(there.spawn(Arc::clone(&relay).run()));
            let look_at = Instant::now() + BATCH_WITHIN;
            self.0.push(Watched { relay, left, look_at, batch: BATCH });
        }
    }

    /// When to look at one.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.0.iter().map(|watched| watched.look_at).min()
    }

    /// Does a batch of those that stand still.
    pub(super) fn on_time(&mut self) {
        let now = Instant::now();
        self.0.retain_mut(|watched| watched.look_at > now || watched.look(now));
    }
}

impl Watched {
    /// Whether there is anything left to do.
    fn look(&mut self, now: Instant) -> bool {
        let mut left = locked(&self.relay.0).len();
        if left == self.left {
            left = self.relay.wake(self.batch);
            self.batch = self.batch.saturating_mul(2);
        }
        self.left = left;
        self.look_at = now + BATCH_WITHIN;
        left > 0
    }
}

impl Relay {
    /// On the runtime of those who wait: batch by batch, in turns with them.
    ///
    /// # Cancel safety
    /// Cancel safe: who was not woken is still there for who looks after the relay.
    async fn run(self: Arc<Self>) {
        let (mut batch, mut turn) = (BATCH, Instant::now());
        poll_fn(|cx| {
            // Others have long turns here, and those who wait should not have one between each
            // two batches.
            if turn.elapsed() > TURN {
                batch = batch.saturating_mul(2);
            }
            if self.wake(batch) == 0 {
                return Poll::Ready(());
            }
            turn = Instant::now();
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Wakes so many at most, and says how many are left.
    fn wake(&self, most: usize) -> usize {
        let mut waiters = locked(&self.0);
        let batch: Vec<_> = waiters.by_ref().take(most).collect();
        let left = waiters.len();
        // What a waker does is not ours to lock.
        drop(waiters);
        batch.into_iter().for_each(Waker::wake);
        left
    }
}

/// What a runtime's worker holds in its own queue, with room left.
const BATCH: usize = 128;

/// A turn of a runtime that has nothing else to do is shorter.
const TURN: Duration = Duration::from_micros(200);

/// A runtime that is not busy does a batch within microseconds; who waits on another one than
/// `run` hears of a phase a few of these later at most if that one is blocked.
const BATCH_WITHIN: Duration = Duration::from_millis(1);

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;
    use crate::handle::Reached;

    type Waiting = Vec<task::Spawn<Reached>>;

    fn runtime() -> runtime::Runtime {
        runtime::Builder::new_current_thread().build().expect("a runtime")
    }

    /// A phase that was entered, and so many who wait for it.
    fn entered(phase: Phase, waiting: usize) -> (Arc<View>, Waiting) {
        let view = Arc::new(View::new());
        let waiting = (0..waiting).map(|_| {
            let mut waiting = task::spawn(Reached::new(&view, phase));
            assert_pending!(waiting.poll());
            waiting
        });
        let waiting = waiting.collect();
        view.advance(phase);
        (view, waiting)
    }

    fn woken(waiting: &Waiting) -> usize {
        waiting.iter().filter(|waiting| waiting.is_woken()).count()
    }

    #[test]
    fn who_waits_is_woken_on_the_other_runtime() {
        let (here, there) = (runtime(), runtime());
        let (view, mut waiting) = entered(Phase::Draining, 1);
        let mut relays = Relays::default();
        here.block_on(async { relays.wake(&view, Phase::Draining, Some(there.handle())) });
        assert!(woken(&waiting) == 0 && relays.due_at().is_some());
        there.block_on(tokio::task::yield_now());
        assert_eq!(woken(&waiting), 1);
        assert_ready!(waiting[0].poll());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_a_turn_and_twice_as_many_after_a_long_turn() {
        let (view, waiting) = entered(Phase::Draining, 4 * BATCH);
        let relay = Arc::new(Relay(Mutex::new(view.waiters(Phase::Draining))));
        let mut run = task::spawn(relay.run());
        for turn in 1..=2 {
            assert_pending!(run.poll());
            assert_eq!(woken(&waiting), turn * BATCH);
            assert!(run.is_woken(), "it comes again by itself");
        }
        tokio::time::advance(2 * TURN).await;
        assert_ready!(run.poll());
        assert_eq!(woken(&waiting), 4 * BATCH);
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_is_blocked_or_gone_holds_nobody_up() {
        let mut blocked = Some(runtime());
        let there = blocked.as_ref().map(|blocked| blocked.handle().clone());
        for what in ["blocked", "gone"] {
            if what == "gone" {
                blocked.take().expect("it is there").shutdown_background();
            }
            let (view, waiting) = entered(Phase::LameDuck, 7 * BATCH);
            let mut relays = Relays::default();
            relays.wake(&view, Phase::LameDuck, there.as_ref());
            for batches in [0, 1, 3, 7] {
                relays.on_time();
                assert_eq!(woken(&waiting), batches * BATCH, "{what}");
                relays.on_time();
                assert_eq!(woken(&waiting), batches * BATCH, "{what}: nothing else is overdue");
                tokio::time::advance(BATCH_WITHIN).await;
            }
            assert_eq!(relays.due_at(), None, "{what}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_moves_is_let_be() {
        let there = runtime();
        let (view, waiting) = entered(Phase::Draining, 3 * BATCH);
        let mut relays = Relays::default();
        relays.wake(&view, Phase::Draining, Some(there.handle()));
        for done in 1..=3 {
            relays.0[0].relay.wake(BATCH);
            tokio::time::advance(BATCH_WITHIN).await;
            relays.on_time();
            assert_eq!(woken(&waiting), done * BATCH);
        }
        assert_eq!(relays.due_at(), None);
        there.shutdown_background();
    }

    #[tokio::test]
    async fn on_the_same_runtime_and_in_the_last_phases_nobody_is_sent() {
        let other = runtime();
        for (phase, on) in [
            (Phase::Draining, runtime::Handle::current()),
            (Phase::Stopped, other.handle().clone()),
        ] {
            let (view, waiting) = entered(phase, 1);
            let mut relays = Relays::default();
            relays.wake(&view, phase, Some(&on));
            assert!(woken(&waiting) == 1 && relays.due_at().is_none());
        }
        other.shutdown_background();
    }

    #[tokio::test]
    async fn in_the_last_phases_nobody_is_left_to_a_relay() {
        let blocked = runtime();
        let (view, waiting) = entered(Phase::Draining, 3 * BATCH);
        let mut relays = Relays::default();
        relays.wake(&view, Phase::Draining, Some(blocked.handle()));
        view.advance(Phase::Closing);
        assert_eq!(woken(&waiting), 0);
        relays.wake(&view, Phase::Closing, Some(blocked.handle()));
        assert!(woken(&waiting) == waiting.len() && relays.due_at().is_none());
        blocked.shutdown_background();
    }
}
