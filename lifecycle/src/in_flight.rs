//! The admission gate as users hold it: shards side by side, names, and the waking.
//!
//! Not here: one shard's word (`gate`), one shard's names (`roster`); both are modelled
//! with loom.
//!
//! # Invariants
//! 1. A guard leaves the shard that it entered, from whatever thread.
//! 2. No guard is issued after the gate was seen closed and empty.
//! 3. Entering shares no cache line with another thread's entering, the guard's own
//!    reference count included: it counts on its shard.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::blockers::{Blocker, Kind, Stage};
use crate::clock::Clock;
use crate::error::Refused;
use crate::gate::{Entry, Leave, Word};
use crate::roster::Roster;
use crate::sync::thread_number;

/// Lets work in until it is closed, and tells when the last of it has left.
///
/// One gate counts one kind of work: requests, connections, jobs. Entering and leaving touch
/// memory of their own thread alone, so that threads do not slow each other down; the name
/// and age of everything in flight can be asked for at any time. Made by
/// [`Handle::gate`](crate::Handle::gate); a clone is the same gate.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lifecycle::{Kind, Lifecycle};
///
/// let life = Lifecycle::builder().build_local()?;
/// let imports = life.handle().gate(Kind::Work);
/// let guard = imports.enter("import", "customers.csv")?;
/// assert_eq!(imports.in_flight(), 1);
///
/// imports.close();
/// assert!(imports.enter("import", "late.csv").is_err());
/// drop(guard);
/// imports.drained().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

/// Being in flight; leaves when dropped, on any thread.
#[must_use = "dropping the guard at once means not being in flight"]
pub struct InFlight {
    shard: Arc<Shard>,
    place: Option<u32>,
}

struct Inner {
    kind: Kind,
    shards: Box<[Arc<Shard>]>,
    waiter: Arc<Notify>,
    clock: Clock,
}

/// A shard fills its own cache lines; 128 because processors fetch them in pairs.
#[repr(align(128))]
struct Shard {
    word: Word,
    roster: Roster,
    waiter: Arc<Notify>,
}

impl Gate {
    pub(crate) fn new(kind: Kind, clock: Clock) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let waiter = Arc::new(Notify::new());
        let shards = (0..(threads * 2).next_power_of_two().min(SHARDS_MOST))
            .map(|_| {
                Arc::new(Shard { word: Word::new(), roster: Roster::new(), waiter: waiter.clone() })
            })
            .collect();
        Self { inner: Arc::new(Inner { kind, shards, waiter, clock }) }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// Enters under the name `head tail` (`GET /orders`; one of the two may be empty).
    ///
    /// The name is copied and cut at 48 bytes.
    ///
    /// # Errors
    /// [`Refused`] once the gate is closed.
    #[inline]
    pub fn enter(&self, head: &str, tail: &str) -> Result<InFlight, Refused> {
        let mut guard = self.enter_unnamed()?;
        let now = self.inner.clock.now_ms();
        guard.place = guard.shard.roster.take(head, tail, now);
        Ok(guard)
    }

    /// Enters without a name: counted, but not shown among the blockers by name.
    ///
    /// # Errors
    /// [`Refused`] once the gate is closed.
    #[inline]
    pub fn enter_unnamed(&self) -> Result<InFlight, Refused> {
        let shards = &self.inner.shards;
        let shard = &shards[thread_number() & (shards.len() - 1)];
        match shard.word.enter() {
            Entry::Admitted => Ok(InFlight { shard: Arc::clone(shard), place: None }),
            Entry::Late => Err(Refused),
            Entry::Refused => {
                self.inner.waiter.notify_waiters();
                Err(Refused)
            }
        }
    }

    /// Admits nothing from here on; what is in flight stays. Closing twice is closing once.
    pub fn close(&self) {
        for shard in &self.inner.shards {
            shard.word.close();
        }
        self.inner.waiter.notify_waiters();
    }

    /// How many are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.shards.iter().map(|shard| shard.word.in_flight()).sum()
    }

    /// Waits until the gate is closed and nothing is in flight.
    ///
    /// # Cancel safety
    /// Cancel safe: call again to keep waiting.
    pub async fn drained(&self) {
        loop {
            let woken = self.inner.waiter.notified();
            tokio::pin!(woken);
            // Arm first, then look: a leave between the two wakes us.
            woken.as_mut().enable();
            if self.inner.shards.iter().all(|shard| shard.word.is_drained()) {
                return;
            }
            woken.await;
        }
    }

    /// Everyone in flight by name and age, the oldest first.
    #[must_use]
    pub fn blockers(&self) -> Vec<Blocker> {
        let now = self.inner.clock.now_ms();
        let lines = self.inner.shards.iter().flat_map(|shard| shard.roster.lines());
        let mut blockers: Vec<_> = lines
            .map(|line| Blocker {
                kind: self.inner.kind,
                name: line.name,
                age: Duration::from_millis(now.saturating_sub(line.since_ms)),
                stage: Stage::from_number(line.state),
            })
            .collect();
        blockers.sort_by_key(|blocker| std::cmp::Reverse(blocker.age));
        blockers
    }
}

impl InFlight {
    /// Notes how far it has come, for whoever asks what blocks the drain.
    pub fn set_stage(&self, stage: Stage) {
        if let Some(place) = self.place {
            self.shard.roster.set_state(place, stage.number());
        }
    }
}

impl Drop for InFlight {
    #[inline]
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.shard.roster.give_back(place);
        }
        if self.shard.word.leave() == Leave::Wake {
            self.shard.waiter.notify_waiters();
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("kind", &self.inner.kind)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("place", &self.place).finish_non_exhaustive()
    }
}

/// More shards than this only make the waiter's look longer.
const SHARDS_MOST: usize = 64;

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    fn gate() -> Gate {
        Gate::new(Kind::Work, Clock::coarse())
    }

    #[test]
    fn drained_wakes_when_the_last_guard_leaves_after_the_close() {
        let gate = gate();
        let first = gate.enter("a", "").expect("open");
        let second = gate.enter_unnamed().expect("open");
        let mut drained = task::spawn(gate.drained());
        assert_pending!(drained.poll());
        drop(first);
        assert!(!drained.is_woken(), "an open gate wakes nobody");
        gate.close();
        assert!(drained.is_woken());
        assert_pending!(drained.poll());
        drop(second);
        assert!(drained.is_woken());
        assert_ready!(drained.poll());
    }

    #[test]
    fn an_open_gate_is_never_drained() {
        let gate = gate();
        let mut drained = task::spawn(gate.drained());
        assert_pending!(drained.poll());
        gate.close();
        assert!(drained.is_woken());
        assert_ready!(drained.poll());
        assert!(gate.enter("late", "").is_err());
        assert!(gate.enter_unnamed().is_err());
    }

    #[test]
    fn a_guard_may_leave_on_another_thread() {
        let gate = gate();
        let guards: Vec<_> = (0..100).map(|_| gate.enter("GET", "/").expect("open")).collect();
        gate.close();
        std::thread::spawn(move || drop(guards)).join().expect("no panic");
        assert_ready!(task::spawn(gate.drained()).poll());
        assert_eq!(gate.in_flight(), 0);
        assert!(gate.blockers().is_empty());
    }

    #[test]
    fn names_stage_and_kind_are_told() {
        let gate = gate();
        let guard = gate.enter("GET", "/slow").expect("open");
        guard.set_stage(Stage::Sending);
        let blockers = gate.blockers();
        assert_eq!(blockers.len(), 1);
        assert_eq!(blockers[0].name, "GET /slow");
        assert_eq!(blockers[0].stage, Stage::Sending);
        assert_eq!(blockers[0].kind, Kind::Work);
        drop(guard);
        assert!(gate.blockers().is_empty());
    }

    #[test]
    fn waiting_that_is_dropped_loses_nothing() {
        let gate = gate();
        let guard = gate.enter("a", "").expect("open");
        gate.close();
        for _ in 0..3 {
            let mut dropped = task::spawn(gate.drained());
            assert_pending!(dropped.poll());
        }
        drop(guard);
        assert_ready!(task::spawn(gate.drained()).poll());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_threads_in_and_out_while_it_closes() {
        for _ in 0..200 {
            let gate = gate();
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    let gate = gate.clone();
                    tokio::spawn(async move {
                        while let Ok(guard) = gate.enter("GET", "/") {
                            tokio::task::yield_now().await;
                            drop(guard);
                        }
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            gate.close();
            let limit = Duration::from_secs(10);
            tokio::time::timeout(limit, gate.drained()).await.expect("drains");
            assert_eq!(gate.blockers(), []);
            for task in tasks {
                task.await.expect("no panic");
            }
        }
    }
}
