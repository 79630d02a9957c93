//! The jobs that a worker holds, and what the queue is still to be told of them.
//!
//! Not here: when anything is done (`claimer`, `settler`, `heartbeat`, `stop`).
//!
//! # Invariants
//! 1. An entry stays until the queue has answered for it, its lease is over and its handler has
//!    stopped, or the worker ends.
//! 2. A slot is freed once: when the handler has ended, or the job goes without one. A job that
//!    waits for a slot has none: its end lets no other begin.
//! 3. No lock is held where foreign code runs: handlers, wakers, callbacks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use lifecycle::{Gate, InFlight};
use slab::Slab;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::tally::Tally;
use super::todo::{End, Todo, What};
use crate::claimed::Claimed;
use crate::fate::Standing;
use crate::handler::message_of;
use crate::job::{CancelReason, Held};
use crate::queue::Start;
use crate::retry::Retry;
use crate::sync::locked;
use crate::verdict::{Ended, Verdict};

/// What a worker's tasks share.
#[derive(Debug)]
pub(crate) struct Ledger {
    queue: Arc<str>,
    retry: Retry,
    pub(super) state: Mutex<State>,
    /// The claimer has something to do.
    pub(super) for_claimer: Notify,
    /// The settler has.
    pub(super) for_settler: Notify,
    /// The heartbeat has, after it had nothing.
    pub(super) for_heart: Notify,
    /// An entry has gone, or a handler has ended.
    pub(super) changed: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) entries: Slab<Entry>,
    /// Claimed, for the next slots.
    waiting: usize,
    /// Slots in use: begun and neither ended nor gone.
    busy: usize,
    pub(super) todo: Vec<Todo>,
    pub(super) tally: Tally,
    pub(super) end: End,
    /// Whether the claimer wants to know of a slot.
    pub(super) wants_slot: bool,
    pub(super) is_heart_idle: bool,
}

/// One job that is held.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) held: Arc<Held>,
    pub(super) lease_ends: Option<Instant>,
    pub(super) is_extending: bool,
    /// Whether the queue refuses its end for good: then its lease is not extended.
    pub(super) is_refused: bool,
    slot: Slot,
    pub(super) abort: Option<AbortHandle>,
    /// What the queue is told when the last clone of its [`Job`](crate::Job) has gone, if its
    /// handler has ended and was not done.
    verdict: Option<What>,
    /// Shown among the blockers until the entry goes.
    _in_flight: Option<InFlight>,
}

/// How a job counts against the concurrency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// It waits for one.
    Waits,
    /// It has one.
    Has,
    /// It needs none any more.
    Freed,
}

impl Ledger {
    pub(crate) fn new(queue: Arc<str>, retry: Retry) -> Self {
        let state = State {
            entries: Slab::new(),
            waiting: 0,
            busy: 0,
            todo: Vec::new(),
            tally: Tally::default(),
            end: End::default(),
            wants_slot: false,
            is_heart_idle: true,
        };
        Self {
            queue,
            retry,
            state: Mutex::new(state),
            for_claimer: Notify::new(),
            for_settler: Notify::new(),
            for_heart: Notify::new(),
            changed: Notify::new(),
        }
    }

    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    /// Claims nothing from here on.
    pub(super) fn quiet(&self) {
        locked(&self.state).end.is_quiet = true;
        self.for_claimer.notify_one();
        self.for_settler.notify_one();
    }

    pub(super) fn is_quiet(&self) -> bool {
        locked(&self.state).end.is_quiet
    }

    /// How many more jobs may be claimed, of `most` slots and as many that only wait for the
    /// queue's answer; and whether the claimer is told of the next that is freed.
    pub(super) fn room(&self, most: usize, wants_slot: bool) -> usize {
        let mut state = locked(&self.state);
        state.wants_slot = wants_slot;
        let unsettled_most = most.saturating_mul(2).saturating_add(UNSETTLED_MOST);
        let may_be_held = unsettled_most.saturating_sub(state.entries.len());
        most.saturating_sub(state.used()).min(may_be_held)
    }

    /// Claimed and neither ended nor gone.
    pub(super) fn used(&self) -> usize {
        locked(&self.state).used()
    }

    pub(super) fn busy(&self) -> usize {
        locked(&self.state).busy
    }

    /// Takes them in, and adds each, with its key, to those that are `taken`.
    pub(super) fn take(
        &self,
        claimed: Vec<Claimed>,
        gate: &Gate,
        taken: &mut impl Extend<(usize, Arc<Held>)>,
    ) {
        let entry = |claimed: Claimed| {
            let lease_ends = claimed.lease_ends;
            let held = Arc::new(Held::new(Arc::clone(&self.queue), claimed));
            let _in_flight = gate.enter(&self.queue, held.receipt.id().as_str()).ok();
            let (abort, verdict, slot) = (None, None, Slot::Waits);
            let (is_extending, is_refused) = (false, false);
            Entry { held, lease_ends, is_extending, is_refused, slot, abort, verdict, _in_flight }
        };
        let entries: Vec<_> = claimed.into_iter().map(entry).collect();
        let mut state = locked(&self.state);
        state.waiting += entries.len();
        taken.extend(entries.into_iter().map(|entry| {
            let held = Arc::clone(&entry.held);
            (state.entries.insert(entry), held)
        }));
        let wakes = std::mem::take(&mut state.is_heart_idle);
        drop(state);
        if wakes {
            self.for_heart.notify_one();
        }
    }

    pub(super) fn started(&self, started: Vec<(usize, Arc<Held>, AbortHandle)>) {
        let mut state = locked(&self.state);
        for (key, held, abort) in started {
            let Some(entry) = state.entry(key, &held) else { continue };
            // Its lease may have ended in the moment in which it began.
            (held.fate.standing() == Standing::Lost).then(|| abort.abort());
            entry.abort = Some(abort);
            if entry.slot == Slot::Waits {
                state.count(key, Slot::Has);
            }
        }
    }

    /// The handler has ended by itself. One that was done is done; what else becomes of the job
    /// waits for its last clone, whose holder may still work for it: somebody else would begin
    /// beside it.
    pub(crate) fn ended(&self, key: usize, held: &Arc<Held>, ended: Ended) {
        let what = self.what(held, ended);
        if matches!(what, What::Ack) {
            let is_ours = held.fate.finish();
            self.let_go(key, held, is_ours.then_some(what));
        } else if let Some(entry) = locked(&self.state).entry(key, held) {
            entry.verdict = Some(what);
        }
    }

    /// The same for a job that no handler was given, so without a `Job` whose end would tell.
    pub(super) fn ended_unseen(&self, key: usize, held: &Arc<Held>, ended: Ended) {
        let what = self.what(held, ended);
        if held.fate.finish() {
            self.let_go(key, held, Some(what));
        } else {
            self.stopped(key, held);
        }
    }

    /// Outside of the lock: an error's Display and its drop are foreign code.
    fn what(&self, held: &Held, ended: Ended) -> What {
        let verdict = |ended: Ended| ended.verdict(held.attempt, &self.retry, held.cancel_reason());
        let said = catch_unwind(AssertUnwindSafe(|| verdict(ended)));
        match said.unwrap_or_else(|payload| verdict(Ended::Panicked(message_of(&*payload)))) {
            Verdict::Ack => What::Ack,
            Verdict::Fail { error, next } => What::Fail { error, next },
            Verdict::Release => What::Release(Start::Started),
        }
    }

    /// The handler is gone, and so is everything that has worked for it.
    pub(crate) fn stopped(&self, key: usize, held: &Arc<Held>) {
        match held.fate.standing() {
            Standing::Unstarted | Standing::Finished | Standing::Returned => {}
            Standing::Running => {
                let verdict =
                    locked(&self.state).entry(key, held).and_then(|entry| entry.verdict.take());
                let what = match verdict {
                    Some(what) => held.fate.finish().then_some(what),
                    None => held.fate.give_back().map(What::Release),
                };
                self.let_go(key, held, what);
            }
            Standing::Lost => self.forget_lost(key, held),
        }
    }

    /// Gives back jobs that no handler has seen.
    pub(super) fn give_back(&self, jobs: impl IntoIterator<Item = (usize, Arc<Held>)>) {
        for (key, held) in jobs {
            if held.fate.standing() == Standing::Unstarted
                && let Some(start) = held.fate.give_back()
            {
                self.let_go(key, &held, Some(What::Release(start)));
            }
        }
    }

    /// Frees the slot, and has the queue told.
    fn let_go(&self, key: usize, held: &Arc<Held>, what: Option<What>) {
        let mut state = locked(&self.state);
        if state.entry(key, held).is_none() {
            return;
        }
        let frees = state.count(key, Slot::Freed);
        let tells = what.is_some();
        if let Some(what) = what {
            state.todo.push(Todo::new(key, Arc::clone(held), what));
        }
        let wakes_claimer = frees && std::mem::take(&mut state.wants_slot);
        let is_quiet = state.end.is_quiet;
        drop(state);
        if tells {
            self.for_settler.notify_one();
        }
        if wakes_claimer {
            self.for_claimer.notify_one();
        }
        if is_quiet {
            self.changed.notify_one();
        }
    }

    /// A job whose lease is over has stopped.
    pub(super) fn forget_lost(&self, key: usize, held: &Arc<Held>) {
        let mut state = locked(&self.state);
        let Some(entry) = state.entry(key, held) else { return };
        let lease_ends = entry.lease_ends;
        state.remove(key);
        state.tally.lost(lease_ends);
        let wakes = std::mem::take(&mut state.wants_slot);
        drop(state);
        if wakes {
            self.for_claimer.notify_one();
        }
        self.changed.notify_one();
    }

    /// A claim's answer did not come: it may hold a job until its lease ends.
    pub(super) fn claim_is_uncertain(&self) {
        locked(&self.state).tally.claim_uncertain();
    }

    pub(super) fn todo_count(&self) -> usize {
        locked(&self.state).todo.len()
    }

    /// Adds what is to be told to `todo`, whose room serves the next ones if it is empty; and how
    /// far the end has come.
    pub(super) fn take_todo(&self, todo: &mut Vec<Todo>) -> End {
        let mut state = locked(&self.state);
        if todo.is_empty() {
            std::mem::swap(todo, &mut state.todo);
        } else {
            todo.append(&mut state.todo);
        }
        state.end
    }

    /// Tells every running handler to stop: it is the hard stop.
    pub(super) fn cancel_all(&self, reason: CancelReason) {
        locked(&self.state).end.is_hard = true;
        self.for_settler.notify_one();
        for held in self.running() {
            held.cancel(reason);
        }
    }

    /// Drops every handler that still runs.
    pub(super) fn abort_all(&self) {
        let state = locked(&self.state);
        let aborts: Vec<_> = state.running().filter_map(|(_, entry)| entry.abort.clone()).collect();
        drop(state);
        aborts.iter().for_each(AbortHandle::abort);
    }

    /// Gives back also what still runs.
    pub(super) fn give_back_anyway(&self) {
        let state = locked(&self.state);
        let left: Vec<_> =
            state.running().map(|(key, entry)| (key, Arc::clone(&entry.held))).collect();
        drop(state);
        for (key, held) in left {
            if let Some(start) = held.fate.give_back() {
                self.let_go(key, &held, Some(What::Release(start)));
            }
        }
    }

    pub(super) fn running_count(&self) -> usize {
        locked(&self.state).running().count()
    }

    /// Whether nothing is held any more.
    pub(super) fn is_empty(&self) -> bool {
        locked(&self.state).entries.is_empty()
    }

    fn running(&self) -> Vec<Arc<Held>> {
        locked(&self.state).running().map(|(_, entry)| Arc::clone(&entry.held)).collect()
    }
}

impl State {
    /// The entry of that job; none when it has gone and the key is another's.
    pub(super) fn entry(&mut self, key: usize, held: &Arc<Held>) -> Option<&mut Entry> {
        self.entries.get_mut(key).filter(|entry| Arc::ptr_eq(&entry.held, held))
    }

    pub(super) fn remove(&mut self, key: usize) -> Entry {
        self.count(key, Slot::Freed);
        self.entries.remove(key)
    }

    fn used(&self) -> usize {
        self.waiting + self.busy
    }

    /// Counts that job's slot anew; whether that changes anything.
    fn count(&mut self, key: usize, to: Slot) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let from = std::mem::replace(&mut entry.slot, to);
        for (count, of) in [(&mut self.waiting, Slot::Waits), (&mut self.busy, Slot::Has)] {
            *count -= usize::from(from == of);
            *count += usize::from(to == of);
        }
        from != to
    }

    /// Those whose handler has begun and not ended.
    fn running(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let runs = |entry: &Entry| {
            let lost = entry.held.fate.standing() == Standing::Lost;
            entry.held.fate.standing() == Standing::Running || (lost && entry.slot == Slot::Has)
        };
        self.entries.iter().filter(move |(_, entry)| runs(entry))
    }
}

/// How many jobs may wait for the queue's answer beside twice the slots.
const UNSETTLED_MOST: usize = 64;
