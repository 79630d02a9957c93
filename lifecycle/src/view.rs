//! One phase and those who wait for it: the process' own, or what one component sees of it.
//!
//! # Invariants
//! 1. The phase is stored before its waiters are woken, and never goes back.
//! 2. Only the coordinator moves it.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::phase::{Phase, PhaseCell};

#[derive(Debug)]
pub(crate) struct View {
    phase: PhaseCell,
    /// One per phase, so that nobody is woken for a phase that it does not wait for.
    reached: [Arc<Notify>; Phase::ALL.len()],
}

impl View {
    pub(crate) fn new() -> Self {
        Self { phase: PhaseCell::new(), reached: std::array::from_fn(|_| Arc::default()) }
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.phase.load()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.advance(phase);
        self.wake(phase);
    }

    /// Without waking anybody: [`wake`](Self::wake) has to follow.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.advance(phase);
    }

    /// Wakes those who wait for `phase`, which has been reached.
    pub(crate) fn wake(&self, phase: Phase) {
        debug_assert!(self.phase() >= phase, "invariant 1");
        // Those who wait for a phase that was passed over are woken too.
        for waiters in &self.reached[..=phase as usize] {
            waiters.notify_waiters();
        }
    }

    pub(crate) fn waiters(&self, phase: Phase) -> Arc<Notify> {
        Arc::clone(&self.reached[phase as usize])
    }
}
