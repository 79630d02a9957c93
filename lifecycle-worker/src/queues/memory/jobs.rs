//! The jobs of a queue in memory: who may have which, and when.
//!
//! Not here: the clock (times are nanoseconds since the queue was made), waiting, locks.
//!
//! # Invariants
//! 1. Every job of `jobs` is in exactly one of: `ready`; `timed`, waiting for its due time;
//!    `timed`, claimed until its lease ends.
//! 2. A receipt's number is the job's slot, which is its own as long as it is there, and how
//!    often it was claimed by then: it grows with each claim, so an older receipt never fits.
//!    The id tells it from a later job of the same slot.
//! 3. A job keeps its place (priority, when it was due, push order) until it is delayed.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

use super::ns;
use crate::claimed::{JobId, Receipt};
use crate::push::{Push, Pushed};
use crate::queue::{Fail, Next, Release};
use crate::stats::{DeadJob, Stats};

/// All jobs of one queue.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    jobs: Slab<Entry>,
    ready: BTreeSet<Place>,
    /// When the job of a slot is due, or its lease ends.
    timed: BTreeSet<(u64, usize)>,
    keys: HashMap<Arc<str>, u64>,
    keys_end: BTreeSet<(u64, Arc<str>)>,
    dead: Vec<DeadJob>,
    /// The kind of the last job, which most of the next have too.
    kind: Option<Arc<str>>,
    pushed: u64,
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
    slot: usize,
    claims: u32,
    pushed: u64,
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

/// The order of claims: the priority, when it was due, the order of the pushes; then the slot.
type Place = (Reverse<i16>, u64, u64, usize);

impl Entry {
    fn place(&self) -> Place {
        (Reverse(self.priority), self.due, self.pushed, self.slot)
    }

    /// The newest claim's receipt.
    pub(super) fn receipt(&self) -> Receipt {
        let number = (u64::from(self.claims) << SLOT_BITS) | self.slot as u64;
        Receipt::new(self.id.clone(), number)
    }
}

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
        self.pushed += 1;
        let kind = self.kind(push.kind());
        let id = JobId::new(self.pushed.to_string());
        let slot = self.jobs.vacant_key();
        self.jobs.insert(Entry {
            id: id.clone(),
            kind,
            payload: push.payload().clone(),
            headers: push.headers().to_vec(),
            checkpoint: None,
            attempts: 0,
            returns: 0,
            slot,
            claims: 0,
            pushed: self.pushed,
            priority: push.priority_value(),
            due: now.saturating_add(ns(push.delayed_by())),
            waits: Waits::Ready,
            owner: None,
        });
        self.place(slot, now);
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
            let Some((.., slot)) = self.ready.pop_first() else { break };
            let Some(entry) = self.jobs.get_mut(slot) else { continue };
            debug_assert_eq!(entry.waits, Waits::Ready, "invariant 1");
            entry.claims = entry.claims.wrapping_add(1);
            entry.attempts += 1;
            entry.owner = Some(owner);
            entry.waits = Waits::Lease(end);
            self.timed.insert((end, slot));
            self.attempts += 1;
            taken(entry);
        }
    }

    /// Forgets a job that is done; whether the receipt was its newest.
    pub(super) fn ack(&mut self, receipt: &Receipt, owner: u64) -> bool {
        let Some(slot) = self.held(receipt, owner) else { return false };
        self.take(slot);
        self.jobs.remove(slot);
        self.done += 1;
        true
    }

    /// Puts a job back where it was; whether the receipt was its newest.
    pub(super) fn release(&mut self, release: &Release, owner: u64, now: u64) -> bool {
        let Some(slot) = self.held(&release.receipt, owner) else { return false };
        self.take(slot);
        let Some(entry) = self.jobs.get_mut(slot) else { return false };
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
        self.place(slot, now);
        true
    }

    /// Schedules or buries a job that failed; whether the receipt was its newest.
    pub(super) fn fail(&mut self, fail: &Fail, owner: u64, now: u64) -> bool {
        let Some(slot) = self.held(&fail.receipt, owner) else { return false };
        self.take(slot);
        match fail.next {
            Next::Dead => {
                let Entry { id, kind, payload, attempts, .. } = self.jobs.remove(slot);
                let error = fail.error.as_str();
                self.dead.push(DeadJob::new(id, &*kind, payload, attempts, error));
            }
            Next::Retry(delay) => {
                let Some(entry) = self.jobs.get_mut(slot) else { return false };
                entry.owner = None;
                if let Some(checkpoint) = &fail.checkpoint {
                    entry.checkpoint = Some(checkpoint.clone());
                }
                entry.due = now.saturating_add(ns(delay));
                self.place(slot, now);
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
        let Some(slot) = self.held(receipt, owner) else { return false };
        self.take(slot);
        let Some(entry) = self.jobs.get_mut(slot) else { return false };
        if let Some(checkpoint) = checkpoint {
            entry.checkpoint = Some(checkpoint.clone());
        }
        entry.waits = Waits::Lease(end);
        self.timed.insert((end, slot));
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

    /// The job's slot, if the receipt is its newest claim and that is not settled.
    fn held(&self, receipt: &Receipt, owner: u64) -> Option<usize> {
        let slot = usize::try_from(receipt.number() & ((1 << SLOT_BITS) - 1)).ok()?;
        let entry = self.jobs.get(slot)?;
        let claims = receipt.number() >> SLOT_BITS;
        let is_newest = u64::from(entry.claims) == claims && entry.id == *receipt.id();
        (is_newest && entry.owner == Some(owner)).then_some(slot)
    }

    fn kind(&mut self, kind: &str) -> Arc<str> {
        match &self.kind {
            Some(last) if **last == *kind => last.clone(),
            _ => self.kind.insert(kind.into()).clone(),
        }
    }

    /// Takes a job out of what it waits in, so that it can be put elsewhere.
    fn take(&mut self, slot: usize) {
        let Some(entry) = self.jobs.get(slot) else { return };
        let was_there = match entry.waits {
            Waits::Ready => self.ready.remove(&entry.place()),
            Waits::Due => {
                self.scheduled -= 1;
                self.timed.remove(&(entry.due, slot))
            }
            Waits::Lease(end) => self.timed.remove(&(end, slot)),
        };
        debug_assert!(was_there, "invariant 1");
    }

    /// Puts a job that waits in nothing where its due time says.
    fn place(&mut self, slot: usize, now: u64) {
        let Some(entry) = self.jobs.get_mut(slot) else { return };
        if entry.due > now {
            entry.waits = Waits::Due;
            self.scheduled += 1;
            self.timed.insert((entry.due, slot));
        } else {
            entry.waits = Waits::Ready;
            self.ready.insert(entry.place());
        }
    }

    /// Makes ready what is due, and what nobody has a lease of any longer.
    fn advance(&mut self, now: u64) {
        // Bound: each job that was in `timed` leaves it once.
        while let Some((at, slot)) = self.timed.first().copied().filter(|(at, _)| *at <= now) {
            self.timed.remove(&(at, slot));
            let Some(entry) = self.jobs.get_mut(slot) else { continue };
            if entry.waits == Waits::Due {
                self.scheduled -= 1;
            }
            entry.waits = Waits::Ready;
            self.ready.insert(entry.place());
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

/// Four thousand million jobs at once, and claims of each.
const SLOT_BITS: u32 = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MAX: NonZeroUsize = NonZeroUsize::MAX;

    impl Jobs {
        /// That invariant 1 holds, and the counts.
        fn check(&mut self, now: u64) {
            let waits = |wanted: fn(&Entry) -> bool| {
                self.jobs.iter().filter(|(_, entry)| wanted(entry)).count()
            };
            let ready = waits(|entry| entry.waits == Waits::Ready);
            let due = waits(|entry| entry.waits == Waits::Due);
            assert_eq!((ready, due as u64), (self.ready.len(), self.scheduled));
            assert_eq!(self.jobs.len() - ready, self.timed.len());
            for (slot, entry) in &self.jobs {
                let is_there = match entry.waits {
                    Waits::Ready => self.ready.contains(&entry.place()),
                    Waits::Due => self.timed.contains(&(entry.due, slot)),
                    Waits::Lease(end) => self.timed.contains(&(end, slot)),
                };
                assert!(is_there, "{entry:?}");
            }
            assert_eq!(self.keys.len(), self.keys_end.len());
            let stats = self.stats(now);
            let all = stats.ready + stats.scheduled + stats.running;
            assert_eq!(all, self.jobs.len() as u64);
        }
    }

    fn keyed(period: u64) -> Push {
        Push::new("job", "x").dedupe_for("key", Duration::from_nanos(period))
    }

    #[test]
    fn keys_are_forgotten_when_their_period_is_over() {
        let mut jobs = Jobs::default();
        assert!(jobs.push(&keyed(10), 0).is_new());
        assert!(!jobs.push(&keyed(10), 9).is_new());
        assert!(jobs.push(&keyed(5), 10).is_new());
        assert!(jobs.push(&Push::new("job", "x"), 15).is_new());
        assert!(jobs.keys.is_empty() && jobs.keys_end.is_empty());
    }

    #[test]
    fn a_job_whose_lease_ended_has_its_old_place() {
        let mut jobs = Jobs::default();
        for at in 0..3 {
            jobs.push(&Push::new("job", "x"), at);
        }
        let mut first = Vec::new();
        jobs.claim(NonZeroUsize::MIN, 1, 5, 10, |job| first.push(job.id.clone()));
        let mut all = Vec::new();
        jobs.claim(MAX, 2, 10, 20, |job| all.push(job.id.clone()));
        assert_eq!((all.len(), &all[0]), (3, &first[0]));
        jobs.check(10);
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

            #[test]
            fn every_job_waits_for_one_thing_whatever_is_done(
                steps in proptest::collection::vec((0_u8..8, 0_u64..20, 0_usize..4), 1..60),
            ) {
                let mut jobs = Jobs::default();
                let (mut now, mut receipts) = (0, Vec::new());
                for (step, time, which) in steps {
                    let receipt: Option<Receipt> = receipts.get(which).cloned();
                    let after = Duration::from_nanos(time);
                    match (step, receipt) {
                        (0, _) => now += time,
                        (1, _) => {
                            let priority = i16::try_from(which).unwrap();
                            let push = Push::new("job", "x").delay(after).priority(priority);
                            jobs.push(&push, now);
                        }
                        (2, _) => {
                            jobs.push(&keyed(time), now);
                        }
                        (3, _) => {
                            let max = NonZeroUsize::new(which + 1).unwrap();
                            jobs.claim(max, 1, now, now + time, |job| {
                                receipts.insert(0, job.receipt());
                            });
                        }
                        (4, Some(receipt)) => {
                            jobs.ack(&receipt, 1);
                        }
                        (5, Some(receipt)) => {
                            let release = Release::unstarted(receipt).delay(after);
                            jobs.release(&release, 1, now);
                        }
                        (6, Some(receipt)) => {
                            let next = if time == 0 { Next::Dead } else { Next::Retry(after) };
                            jobs.fail(&Fail::new(receipt, "no", next), 1, now);
                        }
                        (_, Some(receipt)) => {
                            jobs.extend(&receipt, None, 1, now + time);
                        }
                        (_, None) => {}
                    }
                    jobs.check(now);
                }
            }
        }
    }
}
