//! Who waits for a phase is woken where most of them run: from another thread each wake-up is a
//! lock, and on a current-thread runtime a system call; there it is a push to a queue.
//!
//! # Invariants
//! 1. Everybody who waits is woken, whatever becomes of that runtime: a relay that has not begun
//!    in time is done from here, and at the end all are woken from here.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::time::Instant;

use crate::phase::Phase;
use crate::sync::{AtomicBool, Ordering};
use crate::view::View;

/// The relays that may not have begun yet, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Relays(Vec<(Instant, Arc<Relay>)>);

#[derive(Debug)]
struct Relay {
    view: Arc<View>,
    phase: Phase,
    begun: AtomicBool,
}

impl Relays {
    /// Wakes those who wait for a phase that was entered, on that runtime if it is another one.
    pub(super) fn wake(&mut self, view: &Arc<View>, phase: Phase, on: Option<&runtime::Handle>) {
        let there = on.filter(|on| on.id() != runtime::Handle::current().id());
        // The last phases come one upon the other, and nobody is left to look after a relay.
        let relayed = matches!(phase, Phase::LameDuck | Phase::Draining | Phase::Cancelling);
        let Some(there) = there.filter(|_| relayed) else {
            view.wake(phase);
            return;
        };
        let relay =
            Arc::new(Relay { view: Arc::clone(view), phase, begun: AtomicBool::new(false) });
        self.0.push((Instant::now() + BEGINS_WITHIN, Arc::clone(&relay)));
        drop(there.spawn(async move { relay.begin() }));
    }

    /// When one is overdue.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Does those that are overdue.
    pub(super) fn on_time(&mut self) {
        let now = Instant::now();
        self.0.retain(|(at, relay)| {
            let waits = *at > now;
            if !waits {
                relay.begin();
            }
            waits
        });
    }
}

impl Relay {
    /// Wakes, unless somebody else does.
    fn begin(&self) {
        // Ordering: Relaxed, who is first is all that counts: the phase was entered before the
        // relay was made.
        if !self.begun.swap(true, Ordering::Relaxed) {
            self.view.wake(self.phase);
        }
    }
}

/// A runtime that is not busy begins within microseconds; who waits on another one than `run`
/// hears of a phase that much later at most if that one is blocked.
const BEGINS_WITHIN: Duration = Duration::from_millis(1);

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;
    use crate::handle::Reached;

    fn runtime() -> runtime::Runtime {
        runtime::Builder::new_current_thread().build().expect("a runtime")
    }

    #[test]
    fn who_waits_is_woken_on_the_other_runtime() {
        let (here, there) = (runtime(), runtime());
        let (view, mut relays) = (Arc::new(View::new()), Relays::default());
        let mut waiting = task::spawn(Reached::new(&view, Phase::Draining));
        assert_pending!(waiting.poll());
        view.advance(Phase::Draining);
        here.block_on(async { relays.wake(&view, Phase::Draining, Some(there.handle())) });
        assert!(!waiting.is_woken() && relays.due_at().is_some());
        there.block_on(tokio::task::yield_now());
        assert!(waiting.is_woken());
        assert_ready!(waiting.poll());
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_is_blocked_or_gone_holds_nobody_up() {
        let mut blocked = Some(runtime());
        let there = blocked.as_ref().map(|blocked| blocked.handle().clone());
        for what in ["blocked", "gone"] {
            if what == "gone" {
                blocked.take().expect("it is there").shutdown_background();
            }
            let (view, mut relays) = (Arc::new(View::new()), Relays::default());
            let mut waiting = task::spawn(Reached::new(&view, Phase::LameDuck));
            assert_pending!(waiting.poll());
            view.advance(Phase::LameDuck);
            relays.wake(&view, Phase::LameDuck, there.as_ref());
            relays.on_time();
            assert!(!waiting.is_woken(), "{what}: not overdue yet");
            tokio::time::advance(BEGINS_WITHIN).await;
            relays.on_time();
            assert!(waiting.is_woken() && relays.due_at().is_none(), "{what}");
        }
    }

    #[tokio::test]
    async fn on_the_same_runtime_and_in_the_last_phases_nobody_is_sent() {
        let other = runtime();
        for (phase, on) in [
            (Phase::Draining, runtime::Handle::current()),
            (Phase::Stopped, other.handle().clone()),
        ] {
            let (view, mut relays) = (Arc::new(View::new()), Relays::default());
            let mut waiting = task::spawn(Reached::new(&view, phase));
            assert_pending!(waiting.poll());
            view.advance(phase);
            relays.wake(&view, phase, Some(&on));
            assert!(waiting.is_woken() && relays.due_at().is_none());
        }
        other.shutdown_background();
    }
}
