//! The adaptive lame duck: leave early once nobody comes any more.
//!
//! Pure: times since the cause in, times since the cause out.

use std::time::Duration;

/// When a lame duck may end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quiet {
    /// Never before.
    pub(crate) least: Duration,
    /// Without a new connection for so long.
    pub(crate) window: Duration,
}

impl Quiet {
    /// When it may end if no connection comes after the last one, which came at that time
    /// (`None`: none since the cause).
    pub(crate) fn ends_at(self, last: Option<Duration>) -> Duration {
        last.unwrap_or_default().saturating_add(self.window).max(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_a_window_after_the_last_connection_but_not_before_its_least_time() {
        let ms = Duration::from_millis;
        let quiet = Quiet { least: ms(2_000), window: ms(500) };
        assert_eq!(quiet.ends_at(None), ms(2_000));
        assert_eq!(quiet.ends_at(Some(ms(1_200))), ms(2_000));
        assert_eq!(quiet.ends_at(Some(ms(1_800))), ms(2_300));
        let at_once = Quiet { least: Duration::ZERO, window: ms(500) };
        assert_eq!(at_once.ends_at(None), ms(500));
    }
}
