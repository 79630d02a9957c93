//! Jobs at times of the day: cron expressions whose ticks are enqueued once, however many
//! clocks run.
//!
//! `ticks` knows when an expression ticks, `plan` which ticks are due (both pure), `clock`
//! waits and pushes.
//!
//! # Invariants
//! 1. A tick's dedupe key is its schedule's name and its time in UTC, and is remembered for
//!    longer than any clock looks back.

mod clock;
mod error;
mod plan;
mod ticks;

use std::fmt;
use std::future::Future;
use std::time::{Duration, SystemTime};

use lifecycle::{Check, Component, Handle, Role};

use self::ticks::Ticks;
use crate::any::AnyQueue;
use crate::error::BoxError;
use crate::push::Push;
use crate::queue::Queue;
use crate::runner::Standing;

pub use self::error::ScheduleError;

/// Enqueues jobs at the times of cron expressions: a clock, as a component.
///
/// Run as many clocks as you like, in as many processes: each tick is enqueued once, since its
/// job has the schedule's name and the tick's time as its dedupe key. So that ticks are not
/// missed while a process is replaced, run two, or let the next one look back
/// ([`missed`](Self::missed), [`look_back`](Self::look_back)). The handler finds the tick's
/// time in the header `schedule-tick`, as `2026-03-29T01:00:00Z`: it may run later.
///
/// At the cause it is quiet at once, and nothing is enqueued after. A push under way is waited
/// for until the hard stop. It does not close the queue, which a worker beside it may use.
///
/// # Expressions
/// Five fields (minute, hour, day of the month, month, day of the week), six with seconds
/// first, seven with a year last; names (`MON`, `JAN`), `L`, `W`, `#`, and `@hourly` `@daily`
/// `@weekly` `@monthly` `@yearly`. With both days given a job is due on either, as in cron.
///
/// # When the clocks change
/// As in Vixie's cron: an expression that has one value each for second, minute and hour is at
/// a fixed time, any other is an interval.
///
/// | the local time | fixed time | interval |
/// |---|---|---|
/// | does not exist (spring) | ticks right after the gap: 02:30 in Berlin ticks at 03:00 | ticks in the gap are left out |
/// | exists twice (autumn) | ticks the first time | ticks both times |
///
/// Zones come from the system's database, or from one that is built in where there is none.
/// Two clocks whose databases differ may see one tick at two times, and enqueue it twice.
///
/// # The wall clock
/// It sleeps until the next tick, for a minute at most (its one timer): a clock that was set,
/// and a machine that slept, are noticed by then. A clock set back enqueues no tick again whose
/// key is still remembered, which is an hour longer than it looks back. While the queue
/// cannot be reached, pushes are tried again after 0.1 s up to 5 s, until they succeed or the
/// next tick comes; then the older tick is a missed one. An error that waiting does not mend
/// ends the clock, and so starts the shutdown.
///
/// # Examples
/// ```
/// # #[cfg(feature = "memory")] #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lifecycle::Lifecycle;
/// use lifecycle_worker::{Job, MemoryQueue, Missed, Push, Schedule, Worker};
///
/// let mut life = Lifecycle::builder().build_local()?;
/// let queue = MemoryQueue::new("jobs");
/// let schedule = Schedule::new(queue.clone())?
///     .missed(Missed::Once)
///     .every("nightly", "0 3 * * *", "Europe/Berlin", Push::new("report", ""))?
///     .every("tick", "* * * * * *", "UTC", Push::new("tick", ""))?;
/// let handle = life.handle();
/// let worker = Worker::new(queue, move |job: Job| {
///     let tick = job.header("schedule-tick").unwrap_or_default().to_owned();
///     handle.shutdown(format!("it was {tick}"));
///     async {}
/// });
/// life.spawn("clock", schedule).spawn("worker", worker);
/// assert_eq!(life.run().await?.exit_code(), 0);
/// # Ok(()) }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
#[must_use = "a schedule does nothing until it is spawned"]
pub struct Schedule {
    queue: AnyQueue,
    entries: Vec<Entry>,
    missed: Missed,
    look_back: Duration,
    wall: WallClock,
    standing: Standing,
}

/// What becomes of missed ticks: those that no clock saw within a minute, and those that could
/// not be enqueued before the next one of their schedule.
///
/// A clock that starts does not know what others have enqueued. It pushes what its policy says
/// for the time that it looks back on, and what is there already is dropped by its dedupe key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Missed {
    /// Each of them is enqueued: the newest 1000 of a schedule at once, from as far back as
    /// [`Schedule::look_back`].
    All,
    /// The newest of them is, from as far back as [`Schedule::look_back`].
    #[default]
    Once,
    /// None is: a clock that starts does not look back.
    Skip,
}

/// One schedule.
#[derive(Debug)]
struct Entry {
    name: String,
    ticks: Ticks,
    push: Push,
}

/// What tells the time.
struct WallClock(Box<dyn Fn() -> SystemTime + Send + Sync>);

impl Schedule {
    /// A clock without schedules that pushes to that queue.
    ///
    /// # Errors
    /// [`ScheduleError::NoDedupe`] when the queue does not declare
    /// [`dedupe`](crate::Capabilities::dedupe).
    pub fn new(queue: impl Queue) -> Result<Self, ScheduleError> {
        if !queue.capabilities().dedupe {
            return Err(ScheduleError::NoDedupe { queue: queue.name().to_owned() });
        }
        Ok(Self {
            queue: AnyQueue::new(queue),
            entries: Vec::new(),
            missed: Missed::default(),
            look_back: LOOK_BACK,
            wall: WallClock::system(),
            standing: Standing::default(),
        })
    }

    /// Pushes that job at each tick of the expression in that time zone, by its IANA name.
    ///
    /// The name is part of the dedupe key: clocks that run at the same time have to agree on
    /// it. The job's own dedupe key is replaced.
    ///
    /// # Errors
    /// [`ScheduleError`], when the expression, the zone or the name is none.
    pub fn every(
        mut self,
        name: impl Into<String>,
        expression: impl AsRef<str>,
        zone: impl AsRef<str>,
        push: Push,
    ) -> Result<Self, ScheduleError> {
        let name = name.into();
        let is_taken = self.entries.iter().any(|entry| entry.name == name);
        let is_bad = name.is_empty() || name.len() > NAME_MOST || name.contains(char::is_control);
        if is_taken || is_bad {
            return Err(ScheduleError::Name { name });
        }
        let ticks = Ticks::new(&name, expression.as_ref(), zone.as_ref())?;
        self.entries.push(Entry { name, ticks, push });
        Ok(self)
    }

    /// What becomes of missed ticks. Default: [`Missed::Once`].
    pub fn missed(self, missed: Missed) -> Self {
        Self { missed, ..self }
    }

    /// How far back missed ticks are enqueued, both when a clock starts and when it finds that
    /// it has missed some. Each tick's dedupe key is remembered for an hour longer.
    /// Default: 1 h.
    pub fn look_back(self, look_back: Duration) -> Self {
        Self { look_back, ..self }
    }

    /// What tells the time, for tests. Default: the system's clock.
    pub fn wall_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { wall: WallClock(Box::new(now)), ..self }
    }

    /// A readiness check: it passes once the queue has answered, and fails while ticks cannot
    /// be enqueued. Register it with [`Lifecycle::check`](lifecycle::Lifecycle::check).
    ///
    /// It asks the queue nothing: it shows how the last push went.
    pub fn readiness(&self, name: impl Into<String>) -> Check {
        let standing = self.standing.clone();
        Check::readiness(name, move || standing.clone().check()).interval(READINESS_INTERVAL)
    }
}

impl Component for Schedule {
    fn run(self, handle: Handle) -> impl Future<Output = Result<(), BoxError>> + Send + 'static {
        clock::run(self, handle)
    }

    fn role(&self) -> Role {
        Role::Worker
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.entries.iter().map(|entry| &entry.name).collect();
        f.debug_struct("Schedule")
            .field("queue", &self.queue)
            .field("names", &names)
            .field("missed", &self.missed)
            .field("look_back", &self.look_back)
            .finish_non_exhaustive()
    }
}

/// The header that has the tick's time.
const TICK_HEADER: &str = "schedule-tick";
const LOOK_BACK: Duration = Duration::from_secs(3600);
const NAME_MOST: usize = 100;
const READINESS_INTERVAL: Duration = Duration::from_secs(1);
