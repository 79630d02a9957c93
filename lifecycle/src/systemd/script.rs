//! What systemd is told when: lines of its protocol out of what is seen of the process.
//!
//! Pure: no socket, no clock but the caller's.
//!
//! # Invariants
//! 1. `READY=1` only when the start is over, `STOPPING=1` once, when the shutdown has begun;
//!    after it nothing takes it back.
//! 2. A ping says that the process is live, never only that time has passed.
//! 3. No ping before `READY=1` nor after the cause: systemd watches only in between, and each
//!    ping would arm its watchdog again (`service_reset_watchdog` looks at no state).

use std::fmt;
use std::time::Duration;

use super::StopTimeout;
use crate::blockers::{Blocker, listed};
use crate::budget::PERIOD_MOST;
use crate::phase::Phase;

/// One line of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    ExtendTimeout(Duration),
    Ready,
    /// The time on the monotonic clock goes with it, added by the shell.
    Reloading,
    Status(String),
    Stopping,
    Watchdog,
    WatchdogTimeout(Duration),
}

/// What is seen of the process.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Since any moment, the same for all calls.
    pub(super) at: Duration,
    pub(super) phase: Phase,
    pub(super) started: bool,
    pub(super) ready: bool,
    pub(super) live: bool,
    /// Of the grace period, once the cause has come.
    pub(super) left: Duration,
    /// How many reloads were asked for, and how many of these are done.
    pub(super) reloads_asked: u64,
    pub(super) reloads_done: u64,
}

#[derive(Debug)]
pub(super) struct Script {
    watchdog: Option<Duration>,
    stop: StopTimeout,
    told_ready: bool,
    told_stopping: bool,
    reloading: bool,
    reloads_told: u64,
    /// The phase and how it was, of the last status.
    status: Option<(Phase, Health)>,
    next_status: Option<Duration>,
    next_ping: Option<Duration>,
    /// A ping was due and not sent, since the process was not live.
    missed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    NotReady,
    NotLive,
}

impl Script {
    pub(super) fn new(watchdog: Option<Duration>, stop: StopTimeout) -> Self {
        Self {
            watchdog,
            stop,
            told_ready: false,
            told_stopping: false,
            reloading: false,
            reloads_told: 0,
            status: None,
            next_status: None,
            next_ping: None,
            missed: false,
        }
    }

    /// What is to be said now, in one message.
    pub(super) fn lines(
        &mut self,
        seen: &Seen,
        blockers: impl FnOnce() -> Vec<Blocker>,
    ) -> Vec<Line> {
        let mut lines = Vec::new();
        if seen.phase.is_shutting_down() {
            self.stopping(&mut lines);
        } else if seen.started || self.told_ready {
            self.ready(seen, &mut lines);
            self.reloads(seen, &mut lines);
            self.ping(seen, &mut lines);
        }
        self.status(seen, blockers, &mut lines);
        debug_assert!(
            !(self.told_stopping && self.next_ping.is_some()),
            "invariant 3: a ping would arm the watchdog again"
        );
        lines
    }

    /// When to call again though nothing has changed.
    pub(super) fn next_at(&self) -> Option<Duration> {
        [self.next_status, self.next_ping].into_iter().flatten().min()
    }

    fn stopping(&mut self, lines: &mut Vec<Line>) {
        if self.told_stopping {
            return;
        }
        self.told_stopping = true;
        self.reloading = false;
        self.next_ping = None;
        lines.push(Line::Stopping);
        // systemd stops watching when it begins to stop us. A ping that crosses its signal on
        // the way makes it begin again, and would have it kill the drain.
        if self.watchdog.is_some() {
            lines.push(Line::WatchdogTimeout(PERIOD_MOST));
        }
    }

    fn ready(&mut self, seen: &Seen, lines: &mut Vec<Line>) {
        if !self.told_ready {
            self.told_ready = true;
            lines.push(Line::Ready);
            // It watches from now on.
            self.next_ping = self.watchdog.map(|_| seen.at);
        }
    }

    fn reloads(&mut self, seen: &Seen, lines: &mut Vec<Line>) {
        if seen.reloads_asked > self.reloads_told {
            self.reloads_told = seen.reloads_asked;
            self.reloading = true;
            lines.push(Line::Reloading);
        }
        if self.reloading && seen.reloads_done >= self.reloads_told {
            self.reloading = false;
            lines.push(Line::Ready);
        }
    }

    fn ping(&mut self, seen: &Seen, lines: &mut Vec<Line>) {
        // Who recovers is heard of at once, before the manager's patience ends.
        let recovered = self.missed && seen.live;
        let due = recovered || self.next_ping.is_some_and(|at| seen.at >= at);
        let Some(every) = self.watchdog.filter(|_| due) else { return };
        self.missed = !seen.live;
        if seen.live {
            lines.push(Line::Watchdog);
        }
        let after = if seen.live { every / 2 } else { every / 16 };
        self.next_ping = Some(seen.at + after.max(PING_LEAST));
    }

    fn status(
        &mut self,
        seen: &Seen,
        blockers: impl FnOnce() -> Vec<Blocker>,
        lines: &mut Vec<Line>,
    ) {
        let health = match (seen.live, seen.ready) {
            _ if seen.phase != Phase::Running => Health::Well,
            (false, _) => Health::NotLive,
            (true, false) => Health::NotReady,
            (true, true) => Health::Well,
        };
        let due = self.next_status.is_some_and(|at| seen.at >= at);
        let same = self.status == Some((seen.phase, health)) && !due;
        // The report has the last word.
        if same || seen.phase == Phase::Stopped {
            return;
        }
        self.status = Some((seen.phase, health));
        let stopping = seen.phase.is_shutting_down();
        self.next_status = stopping.then(|| seen.at + STATUS_EVERY);
        if stopping && self.stop == StopTimeout::Extend && !seen.left.is_zero() {
            lines.push(Line::ExtendTimeout(seen.left));
        }
        let phase = seen.phase.name().replace('_', " ");
        lines.push(Line::Status(match health {
            Health::NotLive => format!("{phase}, not live"),
            Health::NotReady => format!("{phase}, not ready"),
            Health::Well if stopping => waiting(&phase, &blockers()),
            Health::Well => phase,
        }));
    }
}

fn waiting(phase: &str, blockers: &[Blocker]) -> String {
    match blockers.len() {
        0 => phase.to_owned(),
        count => format!("{phase}, waits for {count}: {}", listed(blockers)),
    }
}

impl fmt::Display for Line {
    /// Without its end of line; a text is kept to one line and to a length that systemd reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExtendTimeout(time) => write!(f, "EXTEND_TIMEOUT_USEC={}", time.as_micros()),
            Self::Ready => f.write_str("READY=1"),
            Self::Reloading => f.write_str("RELOADING=1"),
            Self::Status(text) => {
                f.write_str("STATUS=")?;
                let end = text.floor_char_boundary(STATUS_MOST);
                let mut one_line = text[..end].chars();
                one_line.try_for_each(|c| write!(f, "{}", if c.is_control() { ' ' } else { c }))
            }
            Self::Stopping => f.write_str("STOPPING=1"),
            Self::Watchdog => f.write_str("WATCHDOG=1"),
            Self::WatchdogTimeout(time) => write!(f, "WATCHDOG_USEC={}", time.as_micros()),
        }
    }
}

/// As often as the log says what a drain waits for.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// A message may have 4096 bytes (systemd's `NOTIFY_BUFFER_MAX`), all its lines together.
const STATUS_MOST: usize = 2048;
/// A watchdog of microseconds is a mistake that must not become a spin.
const PING_LEAST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blockers::{Kind, Stage};

    const WATCHDOG: Duration = Duration::from_secs(4);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn running(at_ms: u64) -> Seen {
        Seen {
            at: ms(at_ms),
            phase: Phase::Running,
            started: true,
            ready: true,
            live: true,
            left: Duration::ZERO,
            reloads_asked: 0,
            reloads_done: 0,
        }
    }

    fn starting(at_ms: u64) -> Seen {
        Seen { phase: Phase::Starting, started: false, ready: false, ..running(at_ms) }
    }

    fn stopping(at_ms: u64, phase: Phase, left_ms: u64) -> Seen {
        Seen { phase, left: ms(left_ms), ready: false, ..running(at_ms) }
    }

    fn say(script: &mut Script, seen: &Seen) -> Vec<String> {
        let blocker = || Blocker {
            kind: Kind::Request,
            name: "GET /a".into(),
            age: ms(1_000),
            stage: Stage::Working,
        };
        script.lines(seen, || vec![blocker()]).iter().map(Line::to_string).collect()
    }

    #[test]
    fn a_whole_life_without_a_watchdog() {
        let mut script = Script::new(None, StopTimeout::AsConfigured);
        assert_eq!(say(&mut script, &starting(0)), ["STATUS=starting"]);
        assert_eq!(say(&mut script, &starting(1)), [""; 0], "said once");
        assert_eq!(say(&mut script, &running(10)), ["READY=1", "STATUS=running"]);
        assert_eq!(say(&mut script, &running(20)), [""; 0]);
        assert_eq!(script.next_at(), None, "idle costs nothing");
        let waits = "waits for 1: request GET /a (1.0s)";
        assert_eq!(
            say(&mut script, &stopping(30, Phase::LameDuck, 9_000)),
            ["STOPPING=1".to_owned(), format!("STATUS=lame duck, {waits}")]
        );
        assert_eq!(
            say(&mut script, &stopping(40, Phase::Draining, 9_000)),
            [format!("STATUS=draining, {waits}")]
        );
        assert_eq!(say(&mut script, &stopping(5_039, Phase::Draining, 9_000)), [""; 0]);
        assert_eq!(script.next_at(), Some(ms(5_040)));
        assert_eq!(
            say(&mut script, &stopping(5_040, Phase::Draining, 4_000)),
            [format!("STATUS=draining, {waits}")],
            "again, since ages grow"
        );
    }

    #[test]
    fn a_start_that_is_not_over_is_not_ready() {
        let mut script = Script::new(Some(WATCHDOG), StopTimeout::AsConfigured);
        let warming_up = Seen { started: false, ready: false, ..running(0) };
        assert_eq!(say(&mut script, &warming_up), ["STATUS=running, not ready"]);
        assert_eq!(script.next_at(), None, "no ping before it watches");
        let stopped = say(&mut script, &stopping(10, Phase::Closing, 1_000));
        assert!(!stopped.contains(&"READY=1".to_owned()), "{stopped:?}");
        assert_eq!(stopped[0], "STOPPING=1");
    }

    #[test]
    fn pings_twice_in_its_time_and_only_while_live() {
        let mut script = Script::new(Some(WATCHDOG), StopTimeout::AsConfigured);
        assert_eq!(say(&mut script, &running(0)), ["READY=1", "WATCHDOG=1", "STATUS=running"]);
        assert_eq!(script.next_at(), Some(ms(2_000)));
        assert_eq!(say(&mut script, &running(1_999)), [""; 0]);
        assert_eq!(say(&mut script, &running(2_000)), ["WATCHDOG=1"]);
        let stalled = |at| Seen { live: false, ..running(at) };
        assert_eq!(say(&mut script, &stalled(4_000)), ["STATUS=running, not live"]);
        assert_eq!(script.next_at(), Some(ms(4_250)), "looks again soon");
        assert_eq!(say(&mut script, &stalled(4_250)), [""; 0]);
        assert_eq!(say(&mut script, &running(4_300)), ["WATCHDOG=1", "STATUS=running"], "at once");
        assert_eq!(script.next_at(), Some(ms(6_300)));
    }

    #[test]
    fn a_shutdown_ends_the_watch() {
        let mut script = Script::new(Some(WATCHDOG), StopTimeout::AsConfigured);
        say(&mut script, &running(0));
        let said = say(&mut script, &stopping(100, Phase::Draining, 90_000));
        let year_us = PERIOD_MOST.as_micros();
        assert_eq!(said[..2], ["STOPPING=1".to_owned(), format!("WATCHDOG_USEC={year_us}")]);
        for at in (2_000..90_000).step_by(500) {
            let said = say(&mut script, &stopping(at, Phase::Draining, 90_000 - at));
            assert!(!said.contains(&"WATCHDOG=1".to_owned()), "at {at}: {said:?}");
        }
    }

    #[test]
    fn extending_asks_for_what_is_left_of_the_grace_and_repeats_it() {
        let mut script = Script::new(None, StopTimeout::Extend);
        say(&mut script, &running(0));
        let said = say(&mut script, &stopping(0, Phase::LameDuck, 30_000));
        assert_eq!(said[..2], ["STOPPING=1", "EXTEND_TIMEOUT_USEC=30000000"]);
        let said = say(&mut script, &stopping(5_000, Phase::LameDuck, 25_000));
        assert_eq!(said[0], "EXTEND_TIMEOUT_USEC=25000000");
        let said = say(&mut script, &stopping(31_000, Phase::Closing, 0));
        assert_eq!(said.len(), 1, "nothing is left to ask for: {said:?}");
    }

    #[test]
    fn a_reload_is_told_even_if_it_was_quick_and_no_stop() {
        let mut script = Script::new(None, StopTimeout::AsConfigured);
        let seen = |asked, done| Seen { reloads_asked: asked, reloads_done: done, ..running(0) };
        say(&mut script, &running(0));
        assert_eq!(say(&mut script, &seen(1, 0)), ["RELOADING=1"]);
        assert_eq!(say(&mut script, &seen(1, 0)), [""; 0]);
        assert_eq!(say(&mut script, &seen(1, 1)), ["READY=1"]);
        assert_eq!(say(&mut script, &seen(2, 2)), ["RELOADING=1", "READY=1"]);
        assert_eq!(say(&mut script, &seen(3, 2)), ["RELOADING=1"]);
        assert_eq!(say(&mut script, &seen(4, 3)), ["RELOADING=1"], "one more meanwhile");
        assert_eq!(say(&mut script, &seen(4, 4)), ["READY=1"]);
        say(&mut script, &seen(5, 4));
        let cut = Seen { reloads_asked: 5, reloads_done: 5, ..stopping(9, Phase::Draining, 1) };
        assert!(!say(&mut script, &cut).contains(&"READY=1".to_owned()), "a stop stays a stop");
    }

    #[test]
    fn a_text_cannot_bring_lines_of_its_own_and_has_a_bound() {
        let status = Line::Status("a\nREADY=1\u{7}".to_owned()).to_string();
        assert_eq!(status, "STATUS=a READY=1 ");
        let long = Line::Status("é".repeat(5_000)).to_string();
        assert_eq!(long.len(), "STATUS=".len() + STATUS_MOST);
    }
}
