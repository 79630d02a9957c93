//! The jobs of a queue in memory: who may have which, and when.
//!
//! Not here: the clock (times are nanoseconds since the queue was made), waiting, locks.
//!
//! # Invariants
//! 1. Every job of `jobs` is in exactly one of: `ready`; `timed`, waiting for its due time;
//!    `timed`, claimed until its lease ends.
//! 2. A claim's number is one more than the last of its job, so an older receipt never fits.
//! 3. A job keeps its place (priority, when it was due, push order) until it is delayed.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;

use super::ns;
use crate::claimed::{JobId, Receipt};
use crate::push::{Push, Pushed};
use crate::queue::{Fail, Next, Release};
use crate::stats::{DeadJob, Stats};

/// All jobs of one queue.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    jobs: HashMap<u64, Entry>,
    ready: BTreeSet<Place>,
    /// When a job is due, or its lease ends.
    timed: BTreeSet<(u64, u64)>,
    keys: HashMap<Arc<str>, u64>,
    keys_end: BTreeSet<(u64, Arc<str>)>,
    dead: Vec<DeadJob>,
    last: u64,
    scheduled: u64,
    done: u64,
    attempts: u64,
    returns: u64,
}

/// One job that is not settled.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: JobId,
    pub(super) kind: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) headers: Vec<(String, String)>,
    pub(super) checkpoint: Option<Bytes>,
    pub(super) attempts: u32,
    pub(super) returns: u32,
    /// How often it was claimed; the newest claim's number.
    pub(super) claims: u64,
    priority: i16,
    due: u64,
    waits: Waits,
    /// Whose the newest claim is; `None` when it is settled, or there was none.
    owner: Option<u64>,
}

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// For a claim.
    Ready,
    /// For its due time.
    Due,
    /// For its handler, until its lease ends then.
    Lease(u64),
}

/// The order of claims: the priority, when it was due, the order of the pushes.
type Place = (Reverse<i16>, u64, u64);

impl Jobs {
    /// Adds a job, unless its key is remembered.
    pub(super) fn push(&mut self, push: &Push, now: u64) -> Pushed {
        self.forget_keys(now);
        if let Some(dedupe) = push.dedupe_key() {
            if self.keys.contains_key(dedupe.key.as_str()) {
                return Pushed::Duplicate;
            }
            let key: Arc<str> = dedupe.key.as_str().into();
            let end = now.saturating_add(ns(dedupe.period));
            self.keys.insert(key.clone(), end);
            self.keys_end.insert((end, key));
        }
        self.last += 1;
        let number = self.last;
        let id = JobId::new(number.to_string());
        let entry = Entry {
            id: id.clone(),
            kind: push.kind().into(),
            payload: push.payload().clone(),
            headers: push.headers().to_vec(),
            checkpoint: None,
            attempts: 0,
            returns: 0,
            claims: 0,
            priority: push.priority_value(),
            due: now.saturating_add(ns(push.delayed_by())),
            waits: Waits::Ready,
            owner: None,
        };
        self.jobs.insert(number, entry);
        self.place(number, now);
        Pushed::New(id)
    }

    /// Takes up to `max` jobs for `owner` until `end`, and hands each to `taken`.
    pub(super) fn claim(
        &mut self,
        max: NonZeroUsize,
        owner: u64,
        now: u64,
        end: u64,
        mut taken: impl FnMut(&Entry),
    ) {
        self.advance(now);
        for _ in 0..max.get() {
            let Some((.., number)) = self.ready.pop_first() else { break };
            let Some(entry) = self.jobs.get_mut(&number) else { continue };
            debug_assert_eq!(entry.waits, Waits::Ready, "invariant 1");
            entry.claims += 1;
            entry.attempts += 1;
            entry.owner = Some(owner);
            entry.waits = Waits::Lease(end);
            self.timed.insert((end, number));
            self.attempts += 1;
            taken(entry);
        }
    }

    /// Forgets a job that is done; whether the receipt was its newest.
    pub(super) fn ack(&mut self, receipt: &Receipt, owner: u64) -> bool {
        let Some(number) = self.held(receipt, owner) else { return false };
        self.take(number);
        self.jobs.remove(&number);
        self.done += 1;
        true
    }

    /// Puts a job back where it was; whether the receipt was its newest.
    pub(super) fn release(&mut self, release: &Release, owner: u64, now: u64) -> bool {
        let Some(number) = self.held(&release.receipt, owner) else { return false };
        self.take(number);
        let Some(entry) = self.jobs.get_mut(&number) else { return false };
        entry.owner = None;
        entry.attempts -= 1;
        entry.returns = entry.returns.saturating_add(1);
        if let Some(checkpoint) = &release.checkpoint {
            entry.checkpoint = Some(checkpoint.clone());
        }
        if !release.delay.is_zero() {
            entry.due = now.saturating_add(ns(release.delay));
        }
        self.attempts -= 1;
        self.returns += 1;
        self.place(number, now);
        true
    }

    /// Schedules or buries a job that failed; whether the receipt was its newest.
    pub(super) fn fail(&mut self, fail: &Fail, owner: u64, now: u64) -> bool {
        let Some(number) = self.held(&fail.receipt, owner) else { return false };
        self.take(number);
        match fail.next {
            Next::Dead => {
                let Some(entry) = self.jobs.remove(&number) else { return false };
                let Entry { id, kind, payload, attempts, .. } = entry;
                let error = fail.error.as_str();
                self.dead.push(DeadJob::new(id, &*kind, payload, attempts, error));
            }
            Next::Retry(delay) => {
                let Some(entry) = self.jobs.get_mut(&number) else { return false };
                entry.owner = None;
                if let Some(checkpoint) = &fail.checkpoint {
                    entry.checkpoint = Some(checkpoint.clone());
                }
                entry.due = now.saturating_add(ns(delay));
                self.place(number, now);
            }
        }
        true
    }

    /// Lets a lease end at `end`, also one that has ended and whose job nobody has taken yet.
    pub(super) fn extend(
        &mut self,
        receipt: &Receipt,
        checkpoint: Option<&Bytes>,
        owner: u64,
        end: u64,
    ) -> bool {
        let Some(number) = self.held(receipt, owner) else { return false };
        self.take(number);
        let Some(entry) = self.jobs.get_mut(&number) else { return false };
        if let Some(checkpoint) = checkpoint {
            entry.checkpoint = Some(checkpoint.clone());
        }
        entry.waits = Waits::Lease(end);
        self.timed.insert((end, number));
        true
    }

    /// When the next job is due, or the next lease ends.
    pub(super) fn next(&self) -> Option<u64> {
        self.timed.first().map(|(at, _)| *at)
    }

    pub(super) fn stats(&mut self, now: u64) -> Stats {
        self.advance(now);
        let (all, ready) = (self.jobs.len() as u64, self.ready.len() as u64);
        Stats {
            ready,
            scheduled: self.scheduled,
            running: all - ready - self.scheduled,
            done: self.done,
            dead: self.dead.len() as u64,
            attempts: self.attempts,
            returns: self.returns,
        }
    }

    /// The dead letters, the newest first.
    pub(super) fn dead(&self, max: NonZeroUsize) -> Vec<DeadJob> {
        self.dead.iter().rev().take(max.get()).cloned().collect()
    }

    /// The job's number, if the receipt is its newest claim and that is not settled.
    fn held(&self, receipt: &Receipt, owner: u64) -> Option<u64> {
        let number = receipt.id().as_str().parse().ok()?;
        let entry = self.jobs.get(&number)?;
        (entry.owner == Some(owner) && entry.claims == receipt.number()).then_some(number)
    }

    /// Takes a job out of what it waits in, so that it can be put elsewhere.
    fn take(&mut self, number: u64) {
        let Some(entry) = self.jobs.get(&number) else { return };
        let was_there = match entry.waits {
            Waits::Ready => self.ready.remove(&(Reverse(entry.priority), entry.due, number)),
            Waits::Due => {
                self.scheduled -= 1;
                self.timed.remove(&(entry.due, number))
            }
            Waits::Lease(end) => self.timed.remove(&(end, number)),
        };
        debug_assert!(was_there, "invariant 1");
    }

    /// Puts a job that waits in nothing where its due time says.
    fn place(&mut self, number: u64, now: u64) {
        let Some(entry) = self.jobs.get_mut(&number) else { return };
        if entry.due > now {
            entry.waits = Waits::Due;
            self.scheduled += 1;
            self.timed.insert((entry.due, number));
        } else {
            entry.waits = Waits::Ready;
            self.ready.insert((Reverse(entry.priority), entry.due, number));
        }
    }

    /// Makes ready what is due, and what nobody has a lease of any longer.
    fn advance(&mut self, now: u64) {
        // Bound: each job that was in `timed` leaves it once.
        while let Some((at, number)) = self.timed.first().copied().filter(|(at, _)| *at <= now) {
            self.timed.remove(&(at, number));
            let Some(entry) = self.jobs.get_mut(&number) else { continue };
            if entry.waits == Waits::Due {
                self.scheduled -= 1;
            }
            entry.waits = Waits::Ready;
            self.ready.insert((Reverse(entry.priority), entry.due, number));
        }
    }

    fn forget_keys(&mut self, now: u64) {
        // Bound: each key leaves once.
        while self.keys_end.first().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, key)) = self.keys_end.pop_first() {
                self.keys.remove(&key);
            }
        }
    }
}
