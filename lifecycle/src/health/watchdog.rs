//! Heartbeats: whether something that should move does. Monotonic milliseconds only.
//!
//! # Invariants
//! 1. A heart is only ever told "I moved at"; whether it stalls is asked, never ticked.

use std::sync::Arc;
use std::time::Duration;

use crate::budget::PERIOD_MOST;
use crate::component::Component;
use crate::error::BoxError;
use crate::handle::Handle;
use crate::phase::Phase;
use crate::shared::Shared;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// One heartbeat and its limit.
#[derive(Debug)]
pub(crate) struct Heart {
    name: String,
    limit: Duration,
    beat_ms: AtomicU64,
    /// It has beaten: before, it cannot stall.
    begun: AtomicBool,
    /// Its owner has ended: it cannot stall either, nor does a beat change that, since a handle
    /// may outlive the component that it was given to.
    ended: AtomicBool,
    /// What was said of it last, so that it is said once.
    stalled: AtomicBool,
}

/// A heart that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    Recovered,
    Stalled,
}

impl Heart {
    /// Resting until its first beat.
    pub(crate) fn new(name: String, limit: Duration) -> Self {
        Self {
            name,
            limit: limit.clamp(LIMIT_LEAST, PERIOD_MOST),
            beat_ms: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    pub(crate) fn beat(&self, now_ms: u64) {
        // Ordering: Relaxed, a time that publishes nothing; and so is what follows.
        self.beat_ms.store(now_ms, Ordering::Relaxed);
        if !self.begun.load(Ordering::Relaxed) {
            // Ordering: Relaxed, as above.
            self.begun.store(true, Ordering::Relaxed);
        }
    }

    /// Its owner has ended.
    pub(crate) fn rest(&self) {
        // Ordering: Relaxed, as in `beat`.
        self.ended.store(true, Ordering::Relaxed);
    }

    /// For how long it has not moved.
    pub(crate) fn silent_for(&self, now_ms: u64) -> Duration {
        // Ordering: Relaxed, as in `beat`; and so is what follows.
        if !self.begun.load(Ordering::Relaxed) || self.ended.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        // Ordering: Relaxed, as above.
        Duration::from_millis(now_ms.saturating_sub(self.beat_ms.load(Ordering::Relaxed)))
    }

    pub(crate) fn is_stalled(&self, now_ms: u64) -> bool {
        self.silent_for(now_ms) > self.limit
    }

    /// Whether that has changed since last asked.
    pub(crate) fn pulse(&self, now_ms: u64) -> Option<Pulse> {
        let now = self.is_stalled(now_ms);
        // Ordering: Relaxed, read and written by the control thread alone.
        let before = self.stalled.load(Ordering::Relaxed);
        if now == before {
            return None;
        }
        // Ordering: Relaxed, as above.
        self.stalled.store(now, Ordering::Relaxed);
        Some(if now { Pulse::Stalled } else { Pulse::Recovered })
    }
}

/// The component that moves on the application's runtime, so that a blocked one shows.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    heart: Arc<Heart>,
    shared: Arc<Shared>,
}

impl Heartbeat {
    pub(crate) fn new(heart: Arc<Heart>, shared: &Arc<Shared>) -> Self {
        Self { heart, shared: Arc::clone(shared) }
    }
}

impl Component for Heartbeat {
    async fn run(self, handle: Handle) -> Result<(), BoxError> {
        let mut lame_duck = std::pin::pin!(handle.lame_duck());
        // From the cause on the deadline sees to what is stuck.
        while handle.phase() <= Phase::Running {
            self.heart.beat(self.shared.clock().now_ms());
            tokio::select! {
                biased;
                () = &mut lame_duck => {}
                () = tokio::time::sleep(self.heart.limit() / 4) => {}
            }
        }
        self.heart.rest();
        Ok(())
    }
}

/// The steps of a coarse clock; what beats for less would be a spin.
const LIMIT_LEAST: Duration = Duration::from_millis(10);

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use super::*;

    #[test]
    fn stalls_past_its_limit_and_recovers_with_the_next_beat() {
        let heart = Heart::new("runtime".into(), Duration::from_millis(100));
        assert!(!heart.is_stalled(1_000), "not begun");
        heart.beat(1_000);
        assert_eq!(heart.pulse(1_100), None);
        assert_eq!(heart.pulse(1_101), Some(Pulse::Stalled));
        assert_eq!(heart.pulse(1_500), None, "said once");
        assert_eq!(heart.silent_for(1_500), Duration::from_millis(500));
        heart.beat(1_500);
        assert_eq!(heart.pulse(1_510), Some(Pulse::Recovered));
        heart.rest();
        assert!(!heart.is_stalled(9_000), "its owner has ended");
        heart.beat(9_000);
        assert!(!heart.is_stalled(19_000), "a handle that outlives it wakes no dead");
    }
}
