//! When each request is due: one every so often, whatever becomes of those before.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Hands out requests in the order in which they are due.
#[derive(Debug)]
pub(super) struct Cursor {
    /// How many are due a second.
    rate: f64,
    state: Mutex<State>,
    is_stopping: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    next: u64,
    /// Not to be stopped before so many were given.
    least: u64,
}

impl Cursor {
    pub(super) fn new(rate: f64, least: u64) -> Self {
        let state = Mutex::new(State { next: 0, least });
        Self { rate, state, is_stopping: watch::Sender::new(false) }
    }

    /// The next one: its number, and when it is due after the beginning. `None`: no more.
    pub(super) fn take(&self) -> Option<(u64, Duration)> {
        let mut state = self.state();
        let number = state.next;
        if self.rate <= 0.0 || (*self.is_stopping.borrow() && number >= state.least) {
            return None;
        }
        state.next += 1;
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
        let due = Duration::from_secs_f64(number as f64 / self.rate);
        Some((number, due))
    }

    /// Waits until it is due; `false` if it is not to be begun, as all is over before that.
    pub(super) async fn wait(&self, number: u64, due: Instant) -> bool {
        let mut is_stopping = self.is_stopping.subscribe();
        let is_owed = number < self.state().least;
        tokio::select! {
            biased;
            // What is due is begun, also if all is over by now.
            () = sleep_until(due) => true,
            _ = is_stopping.wait_for(|is| *is), if !is_owed => false,
        }
    }

    /// Ends once the least number has been given, and all that were due in that time.
    pub(super) fn stop(&self, elapsed: Duration) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of requests, far below 2^52"
        )]
        let due = (elapsed.as_secs_f64() * self.rate) as u64 + 1;
        let mut state = self.state();
        state.least = state.least.max(due);
        drop(state);
        self.is_stopping.send_replace(true);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock only means that a client panicked; a count is still a count.
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
        cursor.stop(Duration::ZERO);
        assert_eq!(cursor.take(), Some((1, Duration::from_millis(10))));
        assert_eq!(cursor.take(), Some((2, Duration::from_millis(20))));
        assert_eq!(cursor.take(), None);
        assert_eq!(Cursor::new(0.0, 5).take(), None, "a protocol without a share");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_due_before_the_end_is_begun_however_late() {
        let (cursor, began) = (Cursor::new(100.0, 0), Instant::now());
        cursor.stop(Duration::from_millis(25));
        let mut numbers = Vec::new();
        while let Some((number, due)) = cursor.take() {
            numbers.push(number);
            assert!(cursor.wait(number, began + due).await);
        }
        assert_eq!(numbers, [0, 1, 2], "due at 0, 10 and 20 ms");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_after_the_end_is_not_begun_unless_it_is_owed() {
        let cursor = Cursor::new(1.0, 2);
        cursor.stop(Duration::ZERO);
        let due = Instant::now() + Duration::from_secs(1);
        assert!(cursor.wait(1, due).await);
        assert_eq!(Instant::now(), due);
        assert!(!cursor.wait(2, due + Duration::from_secs(1)).await);
        assert_eq!(Instant::now(), due);
    }

    #[test]
    fn a_share_is_exact_and_spread() {
        let picked: Vec<_> = (0..10).filter(|number| is_of(0.3, *number)).collect();
        assert_eq!(picked.len(), 3);
        assert!(picked.windows(2).all(|two| two[1] - two[0] >= 3), "{picked:?}");
        assert!((0..10).all(|number| is_of(1.0, number) && !is_of(0.0, number)));
    }
}
