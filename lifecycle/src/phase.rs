//! The seven phases and their order.
//!
//! Not here: when a phase ends (`machine`), how long it may take (`budget`).
//!
//! # Invariants
//! 1. Phases only move forward: `Ord` is the order in time.

use std::fmt;

use crate::sync::{AtomicU8, Ordering};

/// Where a process is between its start and its end. Phases only move forward.
///
/// ```text
/// Starting -> Running -> LameDuck -> Draining -> Cancelling -> Closing -> Stopped
/// ```
///
/// A phase without work is passed over: an idle process goes from `Draining` straight
/// to `Closing`. So compare with `>=`, never with `==`, to learn whether a point in the
/// sequence has been passed.
///
/// # Examples
/// ```
/// use lifecycle::Phase;
///
/// assert!(Phase::Draining > Phase::LameDuck);
/// assert!(Phase::LameDuck.is_shutting_down());
/// assert!(!Phase::Running.is_shutting_down());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
#[repr(u8)]
pub enum Phase {
    /// Before [`Lifecycle::run`](crate::Lifecycle::run): live, not ready.
    Starting = 0,
    /// In service.
    Running = 1,
    /// The cause has come: readiness may fail, connections are still accepted and
    /// served, workers are quiet.
    LameDuck = 2,
    /// Listeners are closed; what is in flight finishes.
    Draining = 3,
    /// The drain's time is over: what is left is told to stop, then dropped.
    Cancelling = 4,
    /// Close hooks run, in reverse order of their registration.
    Closing = 5,
    /// The report is written.
    Stopped = 6,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Running,
        Self::LameDuck,
        Self::Draining,
        Self::Cancelling,
        Self::Closing,
        Self::Stopped,
    ];

    /// Whether the cause of a shutdown has come.
    #[must_use]
    pub fn is_shutting_down(self) -> bool {
        self >= Self::LameDuck
    }

    /// The name used in logs, metrics and the report: `lame_duck` and so on.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::LameDuck => "lame_duck",
            Self::Draining => "draining",
            Self::Cancelling => "cancelling",
            Self::Closing => "closing",
            Self::Stopped => "stopped",
        }
    }

    /// The phase of that number, or `Stopped` for one beyond the last.
    #[inline]
    pub(crate) fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Stopped)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The phase as all threads see it: one writer, many readers.
#[derive(Debug)]
pub(crate) struct PhaseCell(AtomicU8);

impl PhaseCell {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(Phase::Starting as u8))
    }

    #[inline]
    pub(crate) fn load(&self) -> Phase {
        // Ordering: Acquire, pairs with the Release in `advance`: who sees a phase sees what
        // was set up for it, such as its deadlines.
        Phase::from_number(self.0.load(Ordering::Acquire))
    }

    /// Moves on; only the coordinator does.
    pub(crate) fn advance(&self, to: Phase) {
        debug_assert!(to > self.load(), "invariant 1: {} to {to}", self.load());
        // Ordering: Release, pairs with the Acquire in `load`.
        self.0.store(to as u8, Ordering::Release);
    }
}

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions_in_time() {
        for (position, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, position);
            assert_eq!(Phase::from_number(phase as u8), phase);
        }
        assert!(Phase::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_number_beyond_the_last_is_the_last() {
        assert_eq!(Phase::from_number(7), Phase::Stopped);
        assert_eq!(Phase::from_number(255), Phase::Stopped);
    }
}

#[cfg(all(test, lifecycle_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::cell::UnsafeCell;
    use loom::thread;

    use super::*;

    /// Question: does who sees the phase see what was set up for it?
    #[test]
    fn loom_a_phase_shows_what_was_set_up_for_it() {
        loom::model(|| {
            let cell = Arc::new(PhaseCell::new());
            let deadlines = Arc::new(UnsafeCell::new(0));
            let reader = thread::spawn({
                let (cell, deadlines) = (cell.clone(), deadlines.clone());
                move || {
                    if cell.load() >= Phase::LameDuck {
                        deadlines.with(|_| ());
                    }
                }
            });
            deadlines.with_mut(|_| ());
            cell.advance(Phase::LameDuck);
            reader.join().expect("no panic");
        });
    }
}
