//! When each request is due: one every so often, whatever becomes of those before.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Hands out requests in the order in which they are due.
#[derive(Debug)]
pub(super) struct Cursor {
    /// How many are due a second.
    rate: f64,
    /// Not to be stopped before so many were given.
    least: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    is_stopping: bool,
}

impl Cursor {
    pub(super) fn new(rate: f64, least: u64) -> Self {
        Self { rate, least, state: Mutex::default() }
    }

    /// The next one: its number, and when it is due after the beginning. `None`: no more.
    pub(super) fn take(&self) -> Option<(u64, Duration)> {
        let mut state = self.locked();
        if self.rate <= 0.0 || (state.is_stopping && state.next >= self.least) {
            return None;
        }
        let number = state.next;
        state.next += 1;
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
        let due = Duration::from_secs_f64(number as f64 / self.rate);
        Some((number, due))
    }

    /// Ends once the least number has been given.
    pub(super) fn stop(&self) {
        self.locked().is_stopping = true;
    }

    /// A poisoned lock only means that a client panicked; a count is still a count.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the request of that number is one of this share, evenly spread.
pub(super) fn is_of(share: f64, number: u64) -> bool {
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
    let up_to = |number: u64| (number as f64 * share).floor();
    up_to(number + 1) > up_to(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_a_constant_rate_and_at_least_so_many() {
        let cursor = Cursor::new(100.0, 3);
        assert_eq!(cursor.take(), Some((0, Duration::ZERO)));
        cursor.stop();
        assert_eq!(cursor.take(), Some((1, Duration::from_millis(10))));
        assert_eq!(cursor.take(), Some((2, Duration::from_millis(20))));
        assert_eq!(cursor.take(), None);
        assert_eq!(Cursor::new(0.0, 5).take(), None, "a protocol without a share");
    }

    #[test]
    fn a_share_is_exact_and_spread() {
        let picked: Vec<_> = (0..10).filter(|number| is_of(0.3, *number)).collect();
        assert_eq!(picked.len(), 3);
        assert!(picked.windows(2).all(|two| two[1] - two[0] >= 3), "{picked:?}");
        assert!((0..10).all(|number| is_of(1.0, number) && !is_of(0.0, number)));
    }
}
