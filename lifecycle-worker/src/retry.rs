//! How often a job is tried, and how long between: exponential backoff with jitter.
//!
//! Pure: an attempt's number and a draw in, a delay out.

use std::time::Duration;

/// How often a job is tried, and how long it waits between.
///
/// Default: 25 attempts (Sidekiq's and River's), the second after a second, each further one
/// after twice as long, an hour at most; each delay is drawn between three quarters and five
/// quarters of that, so that jobs that failed together do not come back together.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use lifecycle_worker::Retry;
///
/// let retry = Retry::new().attempts(5).first_delay(Duration::from_millis(100));
/// assert!(retry.delay_after(5).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a policy does nothing until a worker has it"]
pub struct Retry {
    attempts: u32,
    first: Duration,
    longest: Duration,
}

impl Retry {
    /// The default.
    pub fn new() -> Self {
        Self { attempts: 25, first: Duration::from_secs(1), longest: Duration::from_secs(3600) }
    }

    /// So many attempts in all, the first included; at least one.
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts: attempts.max(1), ..self }
    }

    /// How long after the first attempt the second comes.
    pub fn first_delay(self, first: Duration) -> Self {
        Self { first, ..self }
    }

    /// The longest that a delay grows.
    pub fn longest_delay(self, longest: Duration) -> Self {
        Self { longest, ..self }
    }

    /// How long to wait after that attempt (the first is 1); `None` when it was the last.
    #[must_use]
    pub fn delay_after(&self, attempt: u32) -> Option<Duration> {
        (attempt < self.attempts).then(|| self.delay(attempt, fastrand::f64()))
    }

    /// Whether a job that is claimed for that attempt has had all of its attempts before.
    pub(crate) fn is_over(&self, attempt: u32) -> bool {
        attempt > self.attempts
    }

    /// `draw` is from 0 up to 1.
    fn delay(&self, attempt: u32, draw: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(DOUBLINGS_MOST);
        let grown = self.first.saturating_mul(1 << doublings).min(self.longest);
        grown.mul_f64(0.75 + draw / 2.0)
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

/// 2^20 seconds are twelve days: beyond any longest delay that makes sense.
const DOUBLINGS_MOST: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let retry = Retry::new().longest_delay(Duration::from_secs(10));
        let delays: Vec<_> = (1..7).map(|attempt| retry.delay(attempt, 0.5).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 10, 10]);
        assert_eq!(retry.delay(1, 0.0), Duration::from_millis(750));
        assert_eq!(Retry::new().delay(u32::MAX, 0.5), Duration::from_secs(3600));
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        let retry = Retry::new().attempts(3);
        assert!(retry.delay_after(2).is_some());
        assert_eq!(retry.delay_after(3), None);
        assert!(!retry.is_over(3));
        assert!(retry.is_over(4), "its worker died in the third");
        assert_eq!(Retry::new().attempts(0).delay_after(1), None);
    }
}
