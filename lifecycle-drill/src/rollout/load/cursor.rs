//! When each request is due: one every so often, whatever becomes of those before.

use std::{
    sync::{Mutex, PoisonError},
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
    /// Not to be stopped before so many were given.
    least: u64,
    next: Mutex<u64>,
    is_stopping: watch::Sender<bool>,
}

impl Cursor {
    pub(super) fn new(rate: f64, least: u64) -> Self {
        Self { rate, least, next: Mutex::default(), is_stopping: watch::Sender::new(false) }
    }

    /// The next one: its number, and when it is due after the beginning. `None`: no more.
    pub(super) fn take(&self) -> Option<(u64, Duration)> {
        // A poisoned lock only means that a client panicked; a count is still a count.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *next;
        if self.rate <= 0.0 || (*self.is_stopping.borrow() && number >= self.least) {
            return None;
        }
        *next += 1;
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
        let due = Duration::from_secs_f64(number as f64 / self.rate);
        Some((number, due))
    }

    /// Waits until it is due; `false` if it is not to be begun, as all is over before that.
    pub(super) async fn wait(&self, number: u64, due: Instant) -> bool {
        let mut is_stopping = self.is_stopping.subscribe();
        tokio::select! {
            () = sleep_until(due) => true,
            _ = is_stopping.wait_for(|is| *is), if number >= self.least => false,
        }
    }

    /// Ends once the least number has been given.
    pub(super) fn stop(&self) {
        self.is_stopping.send_replace(true);
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

    #[tokio::test(start_paused = true)]
    async fn what_is_due_after_the_end_is_not_begun_unless_it_is_owed() {
        let cursor = Cursor::new(1.0, 1);
        cursor.stop();
        let due = Instant::now() + Duration::from_secs(1);
        assert!(cursor.wait(0, due).await);
        assert_eq!(Instant::now(), due);
        assert!(!cursor.wait(1, due + Duration::from_secs(1)).await);
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
