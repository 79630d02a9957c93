//! What a queue is still to be told of jobs, and when.
//!
//! Not here: telling it (`settler`).
//!
//! # Invariants
//! 1. What the queue refuses for good is told no longer than its lease lasts, and not once more
//!    than needed when the worker is quiet. A claim that lasts as long as its connection has no
//!    such end: nobody else would get the job.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::QueueError;
use crate::job::Held;
use crate::queue::{Next, Start};

/// Of one job.
#[derive(Debug)]
pub(super) struct Todo {
    pub(super) key: usize,
    pub(super) held: Arc<Held>,
    pub(super) what: What,
    /// Whether the queue was told before, and may have heard it.
    pub(super) was_told: bool,
    trouble: Option<Trouble>,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Ack,
    Fail { error: String, next: Next },
    Release(Start),
}

/// What a job has with a queue that answers, but not for it.
#[derive(Debug)]
struct Trouble {
    /// Asked for the last time.
    since: Instant,
    /// In a row.
    times: u32,
    /// Whether it is told apart from others, which may be taken then.
    is_alone: bool,
    /// Refused for good, also alone.
    is_refused: bool,
    /// When it is told no more, if it is refused and its lease has an end.
    until: Option<Instant>,
}

/// How the queue has not taken it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// Nobody had an answer.
    All,
    /// It says that it will never take it.
    ForGood,
    /// Others had an answer.
    This,
}

impl Missed {
    /// Whether others have had an answer at the same time.
    pub(super) fn of(error: &QueueError, others: bool) -> Self {
        match (error.is_fatal(), others) {
            (true, _) => Self::ForGood,
            (false, true) => Self::This,
            (false, false) => Self::All,
        }
    }
}

/// What is to be done with it at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Alone,
    Later,
    /// It is told no more.
    Over,
    WithOthers,
}

/// How far the worker's end has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End {
    /// It claims nothing more.
    pub(super) is_quiet: bool,
    /// The hard stop has come.
    pub(super) is_hard: bool,
}

impl Todo {
    pub(super) fn new(key: usize, held: Arc<Held>, what: What) -> Self {
        Self { key, held, what, was_told: false, trouble: None }
    }

    /// Whether it has been refused for good, also alone.
    pub(super) fn is_refused(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.is_refused)
    }

    /// When it is to be told again by itself; `None`: with the next that are told.
    pub(super) fn due(&self, end: End) -> Option<Instant> {
        self.trouble.as_ref().map(|trouble| trouble.due(end))
    }

    /// Whether the queue has had an answer for it, or was not told yet.
    pub(super) fn is_new(&self) -> bool {
        self.trouble.is_none()
    }

    pub(super) fn turn(&self, now: Instant, end: End) -> Turn {
        match &self.trouble {
            Some(trouble) if trouble.until.is_some_and(|until| until <= now) => Turn::Over,
            Some(trouble) if trouble.due(end) > now => Turn::Later,
            Some(trouble) if trouble.is_alone => Turn::Alone,
            Some(_) | None => Turn::WithOthers,
        }
    }

    /// The queue was told and did not take it; whether it is told again.
    pub(super) fn missed(
        &mut self,
        missed: Missed,
        now: Instant,
        lease_ends: Option<Instant>,
        end: End,
    ) -> bool {
        // What is refused was not taken.
        self.was_told |= missed != Missed::ForGood;
        if lease_ends.is_some_and(|ends| ends <= now) {
            return false;
        }
        if missed == Missed::All {
            return true;
        }
        let none =
            Trouble { since: now, times: 0, is_alone: false, is_refused: false, until: None };
        let trouble = self.trouble.get_or_insert(none);
        trouble.since = now;
        if missed == Missed::ForGood && !trouble.is_alone {
            // It may be another's fault.
            (trouble.is_alone, trouble.times) = (true, 0);
            return true;
        }
        trouble.times = trouble.times.saturating_add(1);
        if missed == Missed::ForGood {
            // Until then it may be mended all the same: rights that are given, a key that is new.
            trouble.is_refused = true;
            trouble.until = trouble.until.or(lease_ends);
            return trouble.until.is_none_or(|until| now < until) && !end.is_quiet;
        }
        true
    }
}

impl Trouble {
    fn due(&self, end: End) -> Instant {
        if !self.is_refused {
            return self.since + pause_before(self.times, end);
        }
        // For the last time, when the worker is quiet: nobody waits for it.
        let pause =
            if end.is_quiet { Duration::ZERO } else { pause(self.times, PAUSE_REFUSED_MOST) };
        let again_at = self.since + pause;
        self.until.map_or(again_at, |until| again_at.min(until))
    }
}

/// How long to wait after so many failures in a row, before the queue is told again.
pub(super) fn pause_before(failures: u32, end: End) -> Duration {
    // The reserve for returns is short: then it is told as soon as it answers again.
    pause(failures, if end.is_hard { PAUSE_END_MOST } else { PAUSE_MOST })
}

fn pause(failures: u32, most: Duration) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    (PAUSE_FIRST * (1 << doublings.min(10))).min(most)
}

const PAUSE_FIRST: Duration = Duration::from_millis(25);
const PAUSE_MOST: Duration = Duration::from_millis(800);
const PAUSE_END_MOST: Duration = Duration::from_millis(100);
const PAUSE_REFUSED_MOST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claimed::{Claimed, JobId, Receipt};

    const RUNNING: End = End { is_quiet: false, is_hard: false };
    const QUIET: End = End { is_quiet: true, is_hard: false };
    const HARD: End = End { is_quiet: true, is_hard: true };

    fn todo() -> Todo {
        let claimed = Claimed::new(Receipt::new(JobId::new("1"), 1), "test", "");
        Todo::new(0, Arc::new(Held::new("mail".into(), claimed)), What::Ack)
    }

    #[test]
    fn pauses_double_to_a_bound_that_the_hard_stop_lowers() {
        let table = [(0, 0, 0), (1, 25, 25), (3, 100, 100), (4, 200, 100), (99, 800, 100)];
        for (failures, running, hard) in table {
            let pause = |end| pause_before(failures, end).as_millis();
            assert_eq!((pause(RUNNING), pause(QUIET)), (running, running), "{failures}");
            assert_eq!(pause(HARD), hard, "{failures}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_told_alone_and_then_no_longer_than_its_lease() {
        let (now, mut todo) = (Instant::now(), todo());
        let ends = now + Duration::from_secs(30);
        assert_eq!(todo.turn(now, RUNNING), Turn::WithOthers);
        assert!(todo.missed(Missed::ForGood, now, Some(ends), RUNNING));
        assert_eq!((todo.turn(now, RUNNING), todo.is_refused()), (Turn::Alone, false));
        let (mut at, mut times) = (now, 0);
        while todo.missed(Missed::ForGood, at, Some(ends), RUNNING) {
            assert!(todo.is_refused());
            assert_eq!(todo.turn(at, RUNNING), Turn::Later, "not at once");
            assert_eq!(todo.turn(at, QUIET), Turn::Alone, "nobody waits for it");
            let due = todo.due(RUNNING).unwrap();
            assert!(due > at && due <= at + PAUSE_REFUSED_MOST, "{due:?}");
            (at, times) = (due, times + 1);
            if todo.turn(at, RUNNING) == Turn::Over {
                break;
            }
        }
        assert!(at == ends && (5..20).contains(&times), "{times} times");
        assert_eq!(todo.turn(at, QUIET), Turn::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_when_the_worker_is_quiet_is_left_when_it_was_told_alone() {
        let (now, mut todo) = (Instant::now(), todo());
        assert!(todo.missed(Missed::ForGood, now, None, QUIET), "it may be another's fault");
        assert!(!todo.missed(Missed::ForGood, now, None, QUIET));
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_lasts_as_long_as_its_connection_is_told_until_the_worker_is_quiet() {
        let (now, mut todo) = (Instant::now(), todo());
        let mut at = now;
        for _ in 0..999 {
            assert!(todo.missed(Missed::ForGood, at, None, RUNNING));
            at = todo.due(RUNNING).unwrap();
        }
        assert!(at > now + PAUSE_REFUSED_MOST * 900 && at < now + PAUSE_REFUSED_MOST * 999);
        assert!(todo.is_refused());
        assert_eq!(todo.turn(at, RUNNING), Turn::Alone);
        assert!(!todo.missed(Missed::ForGood, at, None, QUIET));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_good_was_not_told() {
        let (now, mut todo) = (Instant::now(), todo());
        assert!(todo.missed(Missed::ForGood, now, None, RUNNING) && !todo.was_told);
        assert!(todo.missed(Missed::This, now, None, RUNNING) && todo.was_told);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_answered_is_told_with_others_until_its_lease_ends() {
        let (now, mut todo) = (Instant::now(), todo());
        let ends = Some(now + Duration::from_secs(9));
        assert!(todo.missed(Missed::All, now, ends, HARD));
        assert_eq!(todo.due(RUNNING), None);
        assert!(todo.missed(Missed::This, now, ends, HARD));
        assert_eq!(todo.due(RUNNING), Some(now + PAUSE_FIRST));
        assert_eq!(todo.turn(now + PAUSE_FIRST, RUNNING), Turn::WithOthers);
        for missed in [Missed::All, Missed::This, Missed::ForGood] {
            assert!(!todo.missed(missed, now + Duration::from_secs(9), ends, RUNNING));
        }
    }
}
