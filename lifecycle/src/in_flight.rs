//! The admission gate as users hold it: shards side by side, names, and the waking.
//!
//! Not here: counting the shards that are empty (`gate`), one shard's names (`roster`); both are
//! modelled with loom.
//!
//! # Invariants
//! 1. A guard is a reference to the shard that it entered, and leaves that shard when it is
//!    dropped, on whatever thread: std's `Arc` is the counter, so that what counts a guard is
//!    also what keeps its shard alive. A counter of our own would need a reference beside it.
//! 2. The gate's own reference is dropped at the close, and none is made from none
//!    ([`Weak::upgrade`]): no guard is issued after the gate was seen closed and empty.
//! 3. Entering shares no cache line with another thread's entering.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::blockers::{Blocker, Kind, Stage};
use crate::clock::Clock;
use crate::error::Refused;
use crate::gate::{Counted, Tally};
use crate::handle::Reached;
use crate::phase::Phase;
use crate::roster::Roster;
use crate::sync::{AtomicBool, Mutex, Ordering, locked, thread_number};
use crate::view::View;

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
    clock: Clock,
    lanes: Box<[Lane]>,
    common: Arc<Common>,
    /// Spares who comes late the shard; what counts is that the own references are gone.
    closed: AtomicBool,
    /// The gate's own references; empty once it is closed.
    own: Mutex<Vec<Arc<Shard>>>,
}

/// One shard as the gate sees it.
struct Lane {
    shard: Weak<Shard>,
    /// Beside the shard, so that reading names does not count as being in flight.
    roster: Arc<Roster>,
}

/// What a guard refers to. It fills its own cache lines, and so does its reference count; 128
/// because processors fetch them in pairs.
#[repr(align(128))]
struct Shard {
    roster: Arc<Roster>,
    common: Arc<Common>,
}

/// What all shards of a gate have in common.
struct Common {
    tally: Tally,
    waiter: Notify,
    view: Arc<View>,
}

impl Gate {
    pub(crate) fn new(kind: Kind, clock: Clock, view: Arc<View>) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let count = (threads * 2).next_power_of_two().min(SHARDS_MOST);
        // One for the close itself.
        let (tally, waiter) = (Tally::new(count + 1), Notify::new());
        let common = Arc::new(Common { tally, waiter, view });
        let shard = |_| {
            let (roster, common) = (Arc::new(Roster::new()), Arc::clone(&common));
            Arc::new(Shard { roster, common })
        };
        let own: Vec<_> = (0..count).map(shard).collect();
        let lane = |shard: &Arc<Shard>| {
            let roster = Arc::clone(&shard.roster);
            Lane { shard: Arc::downgrade(shard), roster }
        };
        let lanes = own.iter().map(lane).collect();
        let (closed, own) = (AtomicBool::new(false), Mutex::new(own));
        Self { inner: Arc::new(Inner { kind, clock, lanes, common, closed, own }) }
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
        let lane = self.lane();
        let shard = self.admit(lane)?;
        let place = lane.roster.take(head, tail, self.inner.clock.now_ms());
        Ok(InFlight { shard, place })
    }

    /// Enters without a name: counted, but not shown among the blockers by name.
    ///
    /// # Errors
    /// [`Refused`] once the gate is closed.
    #[inline]
    pub fn enter_unnamed(&self) -> Result<InFlight, Refused> {
        Ok(InFlight { shard: self.admit(self.lane())?, place: None })
    }

    #[inline]
    fn lane(&self) -> &Lane {
        let lanes = &self.inner.lanes;
        &lanes[thread_number() & (lanes.len() - 1)]
    }

    #[inline]
    fn admit(&self, lane: &Lane) -> Result<Arc<Shard>, Refused> {
        // Ordering: Relaxed, a yes is always true, since closed it stays closed; whoever reads
        // an old no is held back by the shard, or admitted as if just before the close.
        if self.inner.closed.load(Ordering::Relaxed) {
            return Err(Refused);
        }
        lane.shard.upgrade().ok_or(Refused)
    }

    /// Admits nothing from here on; what is in flight stays. Closing twice is closing once.
    ///
    /// An entry at the very same moment on another thread may still be admitted, as if it had
    /// come first; [`drained`](Self::drained) waits for it.
    pub fn close(&self) {
        // Ordering: Relaxed, closing publishes nothing; who knows of it otherwise sees this.
        self.inner.closed.store(true, Ordering::Relaxed);
        let mut own = locked(&self.inner.own);
        let is_first = !own.is_empty();
        // Under the lock, so that nobody counts them as in flight. None of them wakes: the
        // tally waits for the close as for a shard more.
        own.clear();
        drop(own);
        if is_first {
            self.inner.common.count();
        }
    }

    /// How many are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let own = locked(&self.inner.own);
        let references: usize = self.inner.lanes.iter().map(|lane| lane.shard.strong_count()).sum();
        references.saturating_sub(own.len())
    }

    /// Waits until the gate is closed and nothing is in flight.
    ///
    /// # Cancel safety
    /// Cancel safe: call again to keep waiting.
    pub async fn drained(&self) {
        let Common { tally, waiter, .. } = &*self.inner.common;
        loop {
            let woken = waiter.notified();
            tokio::pin!(woken);
            // Arm first, then look: a leave between the two wakes us.
            woken.as_mut().enable();
            if tally.is_drained() {
                return;
            }
            woken.await;
        }
    }

    /// Everyone in flight by name and age, the oldest first.
    #[must_use]
    pub fn blockers(&self) -> Vec<Blocker> {
        let now = self.inner.clock.now_ms();
        let lines = self.inner.lanes.iter().flat_map(|lane| lane.roster.lines());
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
    #[inline]
    pub fn set_stage(&self, stage: Stage) {
        if let Some(place) = self.place {
            self.shard.roster.set_state(place, stage.number());
        }
    }

    /// The phase now, as the [`Handle`](crate::Handle) shows it that made the gate.
    #[must_use]
    #[inline]
    pub fn phase(&self) -> Phase {
        self.shard.common.view.phase()
    }

    /// Resolves once [`phase`](Self::phase) has reached or passed this one.
    pub fn reached(&self, phase: Phase) -> Reached {
        Reached::new(&self.shard.common.view, phase)
    }
}

impl Drop for InFlight {
    #[inline]
    fn drop(&mut self) {
        // The name goes first: with the reference this may be the last of the shard.
        if let Some(place) = self.place {
            self.shard.roster.give_back(place);
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.common.count();
    }
}

impl Common {
    fn count(&self) {
        if self.tally.count() == Counted::Wake {
            self.waiter.notify_waiters();
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
        Gate::new(Kind::Work, Clock::coarse(), Arc::new(View::new()))
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
        assert_pending!(drained.poll());
        assert_eq!(gate.in_flight(), 1);
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
