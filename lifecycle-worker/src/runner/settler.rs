//! Tells the queue what became of jobs: in batches, again until it answers.
//!
//! Not here: when something is told again, and how long (`todo`).
//!
//! # Invariants
//! 1. One batch at a time: what ends while the queue answers is the next batch.
//! 2. Nothing is told again after an answer that came when its lease had ended by our clock.
//! 3. What the queue refuses of one job delays no other by more than a call.

use std::cell::LazyCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::slice::from_ref;
use std::sync::Arc;
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::claimer::reached;
use super::ledger::{Entry, Ledger};
use super::todo::{Missed, Todo, Turn, What, pause_before};
use super::{Settings, while_it_changes};
use crate::any::AnyQueue;
use crate::claimed::Receipt;
use crate::error::QueueError;
use crate::handler::message_of;
use crate::job::Held;
use crate::queue::{Fail, Next, Queue, Release, Settled, Start};
use crate::settlement::{Settlement, SettlementKind};
use crate::sync::locked;
use crate::telemetry;

/// Runs until it is dropped: the worker's stop waits for the ledger to be empty.
pub(super) async fn run(queue: AnyQueue, ledger: Arc<Ledger>, settings: Arc<Settings>) {
    let failed_at = Instant::now();
    let mut settler = Settler { queue, ledger, settings, todo: Vec::new(), failures: 0, failed_at };
    loop {
        settler.wait().await;
        settler.settle().await;
    }
}

/// What is told at one time, by what it is.
#[derive(Default)]
struct Portion {
    acks: Vec<Todo>,
    fails: Vec<Todo>,
    releases: Vec<Todo>,
    alone: Vec<Todo>,
    /// Not any more.
    over: Vec<Todo>,
}

struct Settler {
    queue: AnyQueue,
    ledger: Arc<Ledger>,
    settings: Arc<Settings>,
    /// To be told, or to be told again.
    todo: Vec<Todo>,
    /// In a row, in which the queue had no answer for anybody.
    failures: u32,
    /// The last of them.
    failed_at: Instant,
}

impl Settler {
    /// Until something is to be told.
    async fn wait(&mut self) {
        loop {
            let due = self.due();
            // What has failed has failed before now: no look at the clock for what is new.
            if due.is_some_and(|at| at <= self.failed_at || at <= Instant::now()) {
                break;
            }
            // What is new since the look has left its permit.
            tokio::select! {
                () = self.ledger.for_settler.notified() => {}
                () = reached(due) => {}
            }
        }
        if self.settings.concurrency > 1 {
            // Those that end at the same moment make one batch.
            while_it_changes(|| self.ledger.todo_count()).await;
        }
    }

    /// When something is to be told; never, with nothing.
    fn due(&self) -> Option<Instant> {
        let state = locked(&self.ledger.state);
        let end = state.end;
        let is_return = |todo: &Todo| matches!(todo.what, What::Release(_));
        let again_at = self.failed_at + pause_before(self.failures, end);
        let new = (!state.todo.is_empty()).then(|| {
            // A return has little time, and comes seldom.
            let is_urgent = self.failures == 0 || state.todo.iter().any(is_return);
            if is_urgent { self.failed_at } else { again_at }
        });
        drop(state);
        let again = self.todo.iter().map(|todo| todo.due(end).unwrap_or(again_at).max(again_at));
        again.chain(new).min()
    }

    async fn settle(&mut self) {
        let Portion { acks, fails, releases, alone, over } = self.portion();
        self.leave(over);
        if fails.is_empty() && releases.is_empty() && alone.is_empty() {
            // Nearly always: what four calls at one time would cost is spared.
            let answers = self.ack(&acks).await;
            return self.note(acks, answers);
        }
        let one_by_one = join_all(alone.iter().map(|todo| self.one(todo)));
        let (acked, failed, released, one_by_one) =
            tokio::join!(self.ack(&acks), self.fail(&fails), self.release(&releases), one_by_one);
        let answers = acked.into_iter().chain(failed).chain(released);
        let answers = answers.chain(one_by_one.into_iter().flatten()).collect();
        self.note([acks, fails, releases, alone].into_iter().flatten(), answers);
    }

    /// What is to be told now; the rest stays.
    fn portion(&mut self) -> Portion {
        let (end, now) = (self.ledger.take_todo(&mut self.todo), LazyCell::new(Instant::now));
        let acks = Vec::with_capacity(self.todo.len());
        let mut portion = Portion { acks, ..Portion::default() };
        let mut later = Vec::new();
        for todo in self.todo.drain(..) {
            let turn = if todo.is_new() { Turn::WithOthers } else { todo.turn(*now, end) };
            match (turn, &todo.what) {
                (Turn::Over, _) => portion.over.push(todo),
                (Turn::Alone, _) if portion.alone.len() < ALONE_MOST => portion.alone.push(todo),
                (Turn::Alone | Turn::Later, _) => later.push(todo),
                (Turn::WithOthers, What::Ack) => portion.acks.push(todo),
                (Turn::WithOthers, What::Fail { .. }) => portion.fails.push(todo),
                (Turn::WithOthers, What::Release(_)) => portion.releases.push(todo),
            }
        }
        self.todo.append(&mut later);
        portion
    }

    async fn one(&self, todo: &Todo) -> Vec<Settled> {
        match todo.what {
            What::Ack => self.ack(from_ref(todo)).await,
            What::Fail { .. } => self.fail(from_ref(todo)).await,
            What::Release(_) => self.release(from_ref(todo)).await,
        }
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
        let mut call = pin!(AssertUnwindSafe(call).catch_unwind());
        // An answer at once needs no timer.
        let call = match poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
            Poll::Ready(answers) => Ok(answers),
            Poll::Pending => timeout(limit, call).await,
        };
        let (mut answers, why) = match call {
            Ok(Ok(answers)) => (answers, "too few answers".to_owned()),
            Ok(Err(payload)) => (Vec::new(), format!("it panicked: {}", message_of(&*payload))),
            Err(_) => (Vec::new(), format!("no answer within {} ms", limit.as_millis())),
        };
        answers.resize_with(count, || Settled::Retry(QueueError::unavailable(why.as_str())));
        answers
    }

    /// What is told no more: the queue gives it out again when its lease ends.
    fn leave(&self, over: Vec<Todo>) {
        if over.is_empty() {
            return;
        }
        let (mut settled, mut gone) = (Vec::with_capacity(over.len()), Vec::new());
        let mut state = locked(&self.ledger.state);
        for todo in over {
            let Some(entry) = state.entry(todo.key, &todo.held) else {
                gone.push(todo);
                continue;
            };
            let lease_ends = entry.lease_ends;
            state.tally.lost(lease_ends);
            settled.push((state.remove(todo.key), todo, SettlementKind::LeftToLease));
        }
        let wakes = !settled.is_empty() && std::mem::take(&mut state.wants_slot);
        drop(state);
        if wakes {
            self.ledger.for_claimer.notify_one();
        }
        self.tell(settled);
    }

    /// What the queue has answered, one by one.
    fn note(&mut self, told: impl IntoIterator<Item = Todo>, answers: Vec<Settled>) {
        let mut settled = Vec::with_capacity(answers.len());
        let (mut again, mut refused): (Vec<QueueError>, Vec<(Arc<Held>, QueueError)>) =
            (Vec::new(), Vec::new());
        // Dropped outside of the lock too.
        let (mut unsaid, mut gone) = (Vec::new(), Vec::new());
        let any_answer = answers.iter().any(|answer| !matches!(answer, Settled::Retry(_)));
        let (now, mut is_away) = (LazyCell::new(Instant::now), false);
        let mut state = locked(&self.ledger.state);
        let end = state.end;
        for (mut todo, answer) in told.into_iter().zip(answers) {
            let Some(entry) = state.entry(todo.key, &todo.held) else {
                gone.push((todo, answer));
                continue;
            };
            let lease_ends = entry.lease_ends;
            let kind = match (answer, &todo.what) {
                (Settled::Done, What::Ack) => SettlementKind::Done,
                (Settled::Done, What::Fail { next: Next::Dead, .. }) => SettlementKind::Dead,
                (Settled::Done, What::Fail { .. }) => SettlementKind::Retried,
                (Settled::Done, What::Release(_)) => SettlementKind::Returned,
                (Settled::Lost, _) => SettlementKind::Lost,
                (Settled::Unsupported, _) => SettlementKind::LeftToLease,
                (Settled::Retry(error), _) => {
                    let missed = Missed::of(&error, any_answer);
                    is_away |= missed == Missed::All;
                    let is_again = todo.missed(missed, *now, lease_ends, end);
                    if missed != Missed::ForGood {
                        again.push(error);
                    } else if !entry.is_refused && (todo.is_refused() || !is_again) {
                        entry.is_refused = true;
                        refused.push((Arc::clone(&todo.held), error));
                    } else {
                        unsaid.push(error);
                    }
                    if is_again {
                        self.todo.push(todo);
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
        self.failures = if is_away { self.failures.saturating_add(1) } else { 0 };
        if is_away {
            self.failed_at = *now;
        }
        self.say(&again, &refused);
        self.tell(settled);
    }

    /// What the queue did not take.
    fn say(&self, again: &[QueueError], refused: &[(Arc<Held>, QueueError)]) {
        let queue = self.queue.name();
        if let Some(error) = again.last() {
            telemetry::not_settled(queue, again.len(), error);
        }
        for (held, error) in refused {
            telemetry::refused(queue, held, error);
        }
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

/// How many are told one by one at the same time.
const ALONE_MOST: usize = 16;
