//! Tells the queue what became of jobs: in batches, again until it answers.
//!
//! # Invariants
//! 1. One batch at a time: what ends while the queue answers is the next batch.
//! 2. Nothing is told after its lease has ended by our clock.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until, timeout};

use super::ledger::{Entry, Ledger, Todo, What};
use super::{Settings, while_it_changes};
use crate::any::AnyQueue;
use crate::claimed::Receipt;
use crate::error::QueueError;
use crate::handler::message_of;
use crate::queue::{Fail, Next, Queue, Release, Settled, Start};
use crate::settlement::{Settlement, SettlementKind};
use crate::sync::locked;
use crate::telemetry;

/// Runs until it is dropped: the worker's stop waits for the ledger to be empty.
pub(super) async fn run(queue: AnyQueue, ledger: Arc<Ledger>, settings: Arc<Settings>) {
    let mut settler = Settler { queue, ledger, settings, todo: Vec::new(), failures: 0 };
    loop {
        settler.wait().await;
        settler.settle().await;
    }
}

struct Settler {
    queue: AnyQueue,
    ledger: Arc<Ledger>,
    settings: Arc<Settings>,
    /// To be told, or to be told again.
    todo: Vec<Todo>,
    /// In a row.
    failures: u32,
}

impl Settler {
    async fn wait(&mut self) {
        if self.failures == 0 {
            self.ledger.for_settler.notified().await;
            // Those that end at the same moment make one batch.
            while_it_changes(|| self.ledger.todo_count()).await;
        } else {
            sleep_until(Instant::now() + pause(self.failures)).await;
        }
    }

    async fn settle(&mut self) {
        self.ledger.take_todo(&mut self.todo);
        if self.todo.is_empty() {
            self.failures = 0;
            return;
        }
        let mut acks = Vec::with_capacity(self.todo.len());
        let (mut fails, mut releases) = (Vec::new(), Vec::new());
        for todo in self.todo.drain(..) {
            match &todo.what {
                What::Ack => acks.push(todo),
                What::Fail { .. } => fails.push(todo),
                What::Release(_) => releases.push(todo),
            }
        }
        let (acked, failed, released) =
            tokio::join!(self.ack(&acks), self.fail(&fails), self.release(&releases));
        let answers = acked.into_iter().chain(failed).chain(released);
        let all = acks.into_iter().chain(fails).chain(releases);
        self.note(all, answers);
    }

    async fn ack(&self, todo: &[Todo]) -> Vec<Settled> {
        if todo.is_empty() {
            return Vec::new();
        }
        let receipts: Vec<Receipt> = todo.iter().map(|todo| todo.held.receipt.clone()).collect();
        self.answers(todo.len(), self.queue.ack(&receipts)).await
    }

    async fn fail(&self, todo: &[Todo]) -> Vec<Settled> {
        if todo.is_empty() {
            return Vec::new();
        }
        let fail = |todo: &Todo| {
            let (error, next) = match &todo.what {
                What::Fail { error, next } => (error.clone(), *next),
                What::Ack | What::Release(_) => (String::new(), Next::Dead),
            };
            let checkpoint = todo.held.checkpoint();
            Fail { checkpoint, ..Fail::new(todo.held.receipt.clone(), error, next) }
        };
        let fails: Vec<_> = todo.iter().map(fail).collect();
        self.answers(todo.len(), self.queue.fail(&fails)).await
    }

    async fn release(&self, todo: &[Todo]) -> Vec<Settled> {
        if todo.is_empty() {
            return Vec::new();
        }
        let release = |todo: &Todo| {
            let receipt = todo.held.receipt.clone();
            match todo.what {
                What::Release(Start::Started) => Release::started(receipt, todo.held.checkpoint()),
                _ => Release::unstarted(receipt),
            }
        };
        let releases: Vec<_> = todo.iter().map(release).collect();
        self.answers(todo.len(), self.queue.release(&releases)).await
    }

    /// As many answers as were asked for, whatever the queue does: one that panics, breaks its
    /// own bound or answers for too few is asked again. What is said twice is settled once.
    async fn answers(
        &self,
        count: usize,
        call: impl Future<Output = Vec<Settled>>,
    ) -> Vec<Settled> {
        let limit = self.queue.capabilities().call_bound.saturating_mul(2);
        let call = timeout(limit, AssertUnwindSafe(call).catch_unwind());
        let (mut answers, why) = match call.await {
            Ok(Ok(answers)) => (answers, "too few answers".to_owned()),
            Ok(Err(payload)) => (Vec::new(), format!("it panicked: {}", message_of(&*payload))),
            Err(_) => (Vec::new(), format!("no answer within {} ms", limit.as_millis())),
        };
        answers.resize_with(count, || Settled::Retry(QueueError::unavailable(why.as_str())));
        answers
    }

    /// What the queue has answered, one by one.
    fn note(&mut self, all: impl Iterator<Item = Todo>, answers: impl Iterator<Item = Settled>) {
        let mut settled = Vec::with_capacity(all.size_hint().0);
        let mut again = None;
        let now = Instant::now();
        let mut state = locked(&self.ledger.state);
        for (todo, answer) in all.zip(answers) {
            let Some(entry) = state.entry(todo.key, &todo.held) else { continue };
            let lease_ends = entry.lease_ends;
            let kind = match (answer, &todo.what) {
                (Settled::Done, What::Ack) => SettlementKind::Done,
                (Settled::Done, What::Fail { next: Next::Dead, .. }) => SettlementKind::Dead,
                (Settled::Done, What::Fail { .. }) => SettlementKind::Retried,
                (Settled::Done, What::Release(_)) => SettlementKind::Returned,
                (Settled::Lost, _) => SettlementKind::Lost,
                (Settled::Unsupported, _) => SettlementKind::LeftToLease,
                (Settled::Retry(error), _) => {
                    if lease_ends.is_none_or(|ends| ends > now) {
                        again = Some(error);
                        self.todo.push(Todo { was_told: true, ..todo });
                        continue;
                    }
                    SettlementKind::LeftToLease
                }
            };
            let tally = &mut state.tally;
            match (kind, &todo.what) {
                (SettlementKind::Returned, What::Release(start)) => tally.returned(*start),
                (SettlementKind::Lost, _) if todo.was_told => tally.settled_perhaps(),
                (SettlementKind::Lost | SettlementKind::LeftToLease, _) => tally.lost(lease_ends),
                _ => tally.finished(),
            }
            // Dropped outside of the lock: a guard wakes who waits for it.
            settled.push((state.remove(todo.key), todo, kind));
        }
        let wakes = !settled.is_empty() && std::mem::take(&mut state.wants_slot);
        drop(state);
        if wakes {
            // It may have waited for answers, not for a slot.
            self.ledger.for_claimer.notify_one();
        }
        self.failures = match &again {
            Some(error) => {
                telemetry::not_settled(self.queue.name(), self.todo.len(), error);
                self.failures.saturating_add(1)
            }
            None => 0,
        };
        self.tell(settled);
    }

    fn tell(&self, settled: Vec<(Entry, Todo, SettlementKind)>) {
        let queue = self.queue.name();
        for (entry, Todo { held, what, .. }, kind) in settled {
            drop(entry);
            let error = match &what {
                What::Fail { error, .. } => Some(error.as_str()),
                What::Ack | What::Release(_) => None,
            };
            telemetry::settled(queue, &held, kind, error);
            if let (SettlementKind::Returned, What::Release(start)) = (kind, &what) {
                telemetry::returned(*start);
            }
            if let Some(on_settled) = &self.settings.on_settled {
                let settlement = Settlement {
                    id: held.receipt.id().clone(),
                    kind: held.kind.to_string(),
                    attempt: held.attempt,
                    outcome: kind,
                    error: error.map(str::to_owned),
                };
                // A panic of theirs is no reason to settle nothing more.
                if catch_unwind(AssertUnwindSafe(|| on_settled(&settlement))).is_err() {
                    telemetry::callback_panicked(queue);
                }
            }
        }
        self.ledger.changed.notify_one();
    }
}

/// How long to wait before the queue is told again.
fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(5);
    PAUSE_FIRST * (1 << doublings)
}

const PAUSE_FIRST: Duration = Duration::from_millis(25);
