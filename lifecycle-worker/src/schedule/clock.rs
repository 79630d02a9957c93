//! A schedule's life: sleeps until a tick, enqueues it, and is quiet from the cause on.
//!
//! Not here: which ticks are due (`plan`).
//!
//! # Invariants
//! 1. No push begins after the cause. One that is under way then is waited for, until the hard
//!    stop.
//! 2. It sleeps for a minute at most, so that a wall clock that was set, or a machine that
//!    slept, is noticed by then.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lifecycle::{Handle, Phase};
use tokio::time::{Instant, sleep_until};

use super::plan::Plan;
use super::ticks::rfc3339;
use super::{Entry, Schedule, TICK_HEADER, WallClock};
use crate::any::AnyQueue;
use crate::error::{BoxError, QueueError, chain};
use crate::push::{Push, Pushed};
use crate::queue::Queue;
use crate::runner::{Standing, pause};
use crate::telemetry;

/// Runs a schedule from its start to its last word.
pub(super) async fn run(schedule: Schedule, handle: Handle) -> Result<(), BoxError> {
    let mut clock = Clock::new(schedule, handle);
    let end = match clock.first_look().await {
        Ok(()) => clock.tick().await,
        Err(error) => Err(error),
    };
    clock.last_word();
    end.map_err(|error| format!("the schedule cannot go on: {}", chain(&error)).into())
}

struct Clock {
    queue: AnyQueue,
    entries: Vec<(Entry, Plan)>,
    dedupe: Duration,
    wall: WallClock,
    standing: Standing,
    handle: Handle,
    /// Pushes that failed, one after the other.
    failures: u32,
    /// When to try again what could not be pushed.
    again_at: Option<Instant>,
    tally: Tally,
}

/// What has become of all ticks.
#[derive(Default)]
struct Tally {
    enqueued: usize,
    duplicate: usize,
    missed: usize,
    failed: usize,
}

impl Clock {
    fn new(schedule: Schedule, handle: Handle) -> Self {
        let Schedule { queue, entries, missed, look_back, wall, standing } = schedule;
        let (now, back) = (whole(wall.now()), whole(look_back));
        let plan = |entry: Entry| {
            let plan = Plan::new(entry.ticks.clone(), missed, back, now);
            (entry, plan)
        };
        let entries = entries.into_iter().map(plan).collect();
        let (dedupe, tally) = (look_back.saturating_add(DEDUPE_BEYOND), Tally::default());
        Self { queue, entries, dedupe, wall, standing, handle, failures: 0, again_at: None, tally }
    }

    /// What waiting does not mend is said at the start; a broker that is away is waited for.
    async fn first_look(&mut self) -> Result<(), QueueError> {
        let answer = tokio::select! {
            () = self.handle.lame_duck() => return Ok(()),
            answer = self.queue.ping() => answer,
        };
        match answer {
            Ok(()) => {
                self.standing.answered();
                Ok(())
            }
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                self.failed(&error);
                Ok(())
            }
        }
    }

    /// Until the cause, or an error that waiting does not mend.
    async fn tick(&mut self) -> Result<(), QueueError> {
        while self.handle.phase() < Phase::LameDuck {
            self.handle.beat();
            self.look();
            self.push().await?;
            let until = self.wakes_at();
            tokio::select! {
                biased;
                () = self.handle.lame_duck() => {}
                () = sleep_until(until) => {}
            }
        }
        Ok(())
    }

    fn look(&mut self) {
        let now = whole(self.wall.now());
        for (entry, plan) in &mut self.entries {
            let missed = plan.look(now);
            telemetry::ticks(self.queue.name(), &entry.name, "missed", missed);
            self.tally.missed += missed;
        }
    }

    /// Pushes what is due. After a failure it asks the queue even if nothing is: readiness
    /// shows the answer.
    async fn push(&mut self) -> Result<(), QueueError> {
        let jobs = self.jobs();
        if jobs.is_empty() && self.again_at.is_none() {
            return Ok(());
        }
        let asked = async {
            if jobs.is_empty() {
                self.queue.ping().await.map(|()| Vec::new())
            } else {
                self.queue.push(&jobs).await
            }
        };
        let answer = tokio::select! {
            biased;
            // What has been sent is there or not: the next clock's push is a duplicate or new.
            () = self.handle.cancelled() => return Ok(()),
            answer = asked => answer,
        };
        match answer {
            Ok(said) => {
                self.pushed(said);
                Ok(())
            }
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                self.failed(&error);
                Ok(())
            }
        }
    }

    /// A job for each tick that is due, in the order of the entries.
    fn jobs(&self) -> Vec<Push> {
        let job = |entry: &Entry, tick: i64| {
            let tick = rfc3339(tick);
            let key = format!("schedule/{}/{tick}", entry.name);
            entry.push.clone().header(TICK_HEADER, tick).dedupe_for(key, self.dedupe)
        };
        let of = |(entry, plan): &(Entry, Plan)| -> Vec<Push> {
            plan.pending().iter().map(|tick| job(entry, *tick)).collect()
        };
        self.entries.iter().flat_map(of).collect()
    }

    fn pushed(&mut self, said: Vec<Pushed>) {
        if self.standing.answered() {
            telemetry::reachable(self.queue.name());
        }
        (self.failures, self.again_at) = (0, None);
        let mut said = VecDeque::from(said);
        for (entry, plan) in &mut self.entries {
            let ours = said.drain(..plan.pending().len().min(said.len()));
            let (total, new) =
                ours.fold((0, 0), |(total, new), one| (total + 1, new + usize::from(one.is_new())));
            telemetry::ticks(self.queue.name(), &entry.name, "enqueued", new);
            telemetry::ticks(self.queue.name(), &entry.name, "duplicate", total - new);
            self.tally.enqueued += new;
            self.tally.duplicate += total - new;
            plan.pushed();
        }
    }

    fn failed(&mut self, error: &QueueError) {
        let pause = pause(self.failures, fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        self.again_at = Some(Instant::now() + pause);
        self.standing.failed(chain(error));
        telemetry::unreachable(self.queue.name(), error, pause);
        for (entry, plan) in &self.entries {
            let ticks = plan.pending().len();
            telemetry::ticks(self.queue.name(), &entry.name, "failed", ticks);
        }
        self.tally.failed += 1;
    }

    /// The next tick, the next try, or a minute from now.
    fn wakes_at(&self) -> Instant {
        let (now, wall) = (Instant::now(), self.wall.now());
        let until = |at: i64| {
            let at = Duration::from_secs(u64::try_from(at).unwrap_or_default());
            at.saturating_sub(wall)
        };
        let next = self.entries.iter().map(|(_, plan)| until(plan.upcoming()));
        let at = now + next.fold(LONGEST_SLEEP, Duration::min);
        self.again_at.map_or(at, |again| again.min(at))
    }

    fn last_word(&self) {
        let Tally { enqueued, duplicate, missed, failed } = self.tally;
        self.handle.note(format!(
            "schedule of {}: {enqueued} enqueued, {duplicate} by another clock, {missed} missed, \
             {failed} failed pushes",
            self.queue.name()
        ));
    }
}

impl WallClock {
    /// Since 1970, in UTC.
    fn now(&self) -> Duration {
        // A clock before 1970 is not set yet.
        (self.0)().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    pub(super) fn system() -> Self {
        Self(Box::new(SystemTime::now))
    }
}

fn whole(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// A key is remembered for longer than any clock looks back: two clocks may be that far apart.
pub(super) const DEDUPE_BEYOND: Duration = Duration::from_secs(3600);
