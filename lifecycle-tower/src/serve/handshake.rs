//! How long a handshake may take.
//!
//! Pure: the phase and times in, a decision out.
//!
//! # Invariants
//! 1. No byte of the client's moves the end: dribbling gains nothing.

use std::time::Duration;

use lifecycle::Phase;
use tokio::time::Instant;

use super::rule::Decision;

/// A handshake under way; what is not known to be over is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    /// `None` is beyond what the clock can count.
    ends: Option<Instant>,
    /// The drain was seen and has had its say.
    shortened: bool,
}

impl Handshake {
    pub(crate) fn new(accepted: Instant, handshake_timeout: Duration) -> Self {
        Self { ends: accepted.checked_add(handshake_timeout), shortened: false }
    }

    /// Whoever had connected when the drain began may still be about to ask, with the
    /// handshake's last bytes even: it has the time that every silent connection has.
    pub(crate) fn decide(
        &mut self,
        phase: Phase,
        now: Instant,
        idle_drain_timeout: Duration,
    ) -> Decision {
        if phase >= Phase::Cancelling {
            return Decision::Close;
        }
        if phase == Phase::Draining && !self.shortened {
            self.shortened = true;
            let drained = now.checked_add(idle_drain_timeout);
            self.ends = [self.ends, drained].into_iter().flatten().min();
        }
        match self.ends {
            Some(ends) if ends <= now => Decision::Close,
            ends => Decision::Wait(ends),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(1);

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn while_running_it_has_its_own_limit() {
        let start = Instant::now();
        let mut handshake = Handshake::new(start, TIMEOUT);
        for phase in [Phase::Starting, Phase::Running, Phase::LameDuck] {
            let decision = handshake.decide(phase, at(start, 9_999), IDLE);
            assert_eq!(decision, Decision::Wait(Some(at(start, 10_000))));
        }
        assert_eq!(handshake.decide(Phase::Running, at(start, 10_000), IDLE), Decision::Close);
    }

    #[test]
    fn the_drain_leaves_it_a_second_or_what_it_had_if_less() {
        let start = Instant::now();
        let mut old = Handshake::new(start, TIMEOUT);
        let until = Decision::Wait(Some(at(start, 6_000)));
        assert_eq!(old.decide(Phase::Draining, at(start, 5_000), IDLE), until);
        assert_eq!(old.decide(Phase::Draining, at(start, 5_900), IDLE), until, "once");
        assert_eq!(old.decide(Phase::Draining, at(start, 6_000), IDLE), Decision::Close);
        let mut older = Handshake::new(start, TIMEOUT);
        let until = Decision::Wait(Some(at(start, 10_000)));
        assert_eq!(older.decide(Phase::Draining, at(start, 9_500), IDLE), until);
    }

    #[test]
    fn the_hard_stop_ends_it() {
        let start = Instant::now();
        for phase in [Phase::Cancelling, Phase::Closing, Phase::Stopped] {
            let mut handshake = Handshake::new(start, TIMEOUT);
            assert_eq!(handshake.decide(phase, start, IDLE), Decision::Close);
        }
    }

    #[test]
    fn a_limit_beyond_the_clock_is_none_but_the_drain_ends_it_all_the_same() {
        let start = Instant::now();
        let mut handshake = Handshake::new(start, Duration::MAX);
        assert_eq!(handshake.decide(Phase::Running, start, IDLE), Decision::Wait(None));
        let until = Decision::Wait(Some(at(start, 1_000)));
        assert_eq!(handshake.decide(Phase::Draining, start, IDLE), until);
    }
}
