//! Extends leases in batches, and stops jobs whose lease cannot be extended.
//!
//! It runs from the first claim until the last job is settled, whatever the phase, also for
//! jobs that no handler has seen. With nothing held it has no timer. Where the connection is the
//! lease there is nothing to extend, but the queue is asked every second whether it still is.
//!
//! # Invariants
//! 1. What is due for a lease does not wait for the queue: an extension that hangs keeps no job
//!    running past its lease.
//! 2. One extension at a time, and after one that failed none for a twelfth of the period: then
//!    it is tried again, whenever the next look would be.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout};

use super::ledger::Ledger;
use crate::any::AnyQueue;
use crate::capabilities::Lease;
use crate::error::QueueError;
use crate::fate::Standing;
use crate::handler::message_of;
use crate::job::{CancelReason, Held};
use crate::lease::{Due, due, next_look};
use crate::queue::{Extend, Extended, Queue, Start};
use crate::sync::locked;
use crate::telemetry;

/// Runs until it is dropped.
pub(super) async fn run(queue: AnyQueue, ledger: Arc<Ledger>) {
    let capabilities = queue.capabilities();
    let period = capabilities.lease_period().unwrap_or(NOMINAL).min(PERIOD_MOST);
    let is_connection = capabilities.lease == Lease::Connection;
    // Extending is safe to give up: it is said again.
    let bound = capabilities.call_bound.max(period / 3);
    let (extending, not_before) = (None, None);
    let mut heart = Heart { queue, ledger, period, is_connection, bound, extending, not_before };
    let mut next: Option<Instant> = None;
    loop {
        let Heart { extending, ledger, .. } = &mut heart;
        tokio::select! {
            () = ledger.for_heart.notified(), if next.is_none() => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            answer = joined(extending), if extending.is_some() => heart.note(answer),
        }
        next = heart.look();
    }
}

type Batch = Vec<(usize, Arc<Held>, Extended)>;

struct Heart {
    queue: AnyQueue,
    ledger: Arc<Ledger>,
    period: Duration,
    /// Whether leases know no time.
    is_connection: bool,
    bound: Duration,
    extending: Option<JoinHandle<Batch>>,
    /// After an extension that failed, or a question whether the connection is up.
    not_before: Option<Instant>,
}

async fn joined(extending: &mut Option<JoinHandle<Batch>>) -> Batch {
    match extending {
        // Also a panic in the answers' own code has extended nothing.
        Some(task) => task.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        if let Some(task) = &self.extending {
            task.abort();
        }
    }
}

impl Heart {
    /// Does what is due, and says when to look again; never, with nothing held.
    fn look(&mut self) -> Option<Instant> {
        let (now, period) = (Instant::now(), self.period);
        let (mut extend, mut tell, mut abort, mut lost) = (vec![], vec![], vec![], vec![]);
        let mut next: Option<Duration> = None;
        let mut state = locked(&self.ledger.state);
        let is_free = self.extending.is_none();
        // How long what is to be extended has to wait.
        let rest = self.not_before.map(|at| at.saturating_duration_since(now));
        let rest = rest.filter(|rest| is_free && !rest.is_zero());
        let can_extend = is_free && rest.is_none();
        for (key, entry) in &mut state.entries {
            let standing = entry.held.fate.standing();
            if matches!(standing, Standing::Returned | Standing::Lost) || entry.is_refused {
                continue;
            }
            let Some(ends) = entry.lease_ends else {
                if self.is_connection {
                    if can_extend && !entry.is_extending {
                        entry.is_extending = true;
                        extend.push((key, Arc::clone(&entry.held)));
                    }
                    let ask = period / 12;
                    next = Some(next.map_or(ask, |next| next.min(ask)));
                }
                continue;
            };
            let left = ends.saturating_duration_since(now);
            let what = due(left, period);
            if what == Due::GiveUp {
                if let Some(start) = entry.held.fate.lose() {
                    lost.push((key, Arc::clone(&entry.held), start));
                    abort.extend(entry.abort.clone());
                }
                continue;
            }
            if what >= Due::Extend && can_extend && !entry.is_extending {
                entry.is_extending = true;
                extend.push((key, Arc::clone(&entry.held)));
            }
            if what == Due::Tell && standing == Standing::Running {
                tell.push(Arc::clone(&entry.held));
            }
            let mut look = next_look(left, period);
            if what >= Due::Extend {
                look = rest.map_or(look, |rest| rest.min(look));
            }
            next = Some(next.map_or(look, |next| next.min(look)));
        }
        state.is_heart_idle = next.is_none();
        drop(state);
        self.stop(&tell, &abort, lost);
        if !extend.is_empty() {
            self.extend(extend);
        }
        next.map(|next| now + next)
    }

    fn stop(
        &self,
        tell: &[Arc<Held>],
        abort: &[AbortHandle],
        lost: Vec<(usize, Arc<Held>, Start)>,
    ) {
        tell.iter().for_each(|held| held.cancel(CancelReason::LeaseLost));
        for (key, held, start) in lost {
            telemetry::lease_over(self.queue.name(), &held);
            held.cancel(CancelReason::LeaseLost);
            // One that a handler has is forgotten when that is gone.
            if start == Start::Unstarted {
                self.ledger.forget_lost(key, &held);
            }
        }
        abort.iter().for_each(AbortHandle::abort);
    }

    fn extend(&mut self, batch: Vec<(usize, Arc<Held>)>) {
        let (queue, bound) = (self.queue.clone(), self.bound);
        self.extending = Some(tokio::spawn(async move {
            let extends: Vec<_> = batch
                .iter()
                .map(|(_, held)| Extend {
                    checkpoint: held.untold_checkpoint(),
                    ..Extend::new(held.receipt.clone())
                })
                .collect();
            let asked = AssertUnwindSafe(queue.extend(&extends)).catch_unwind();
            let (answers, panicked) = match timeout(bound, asked).await {
                Ok(Ok(answers)) => (answers, None),
                Ok(Err(payload)) => (Vec::new(), Some(message_of(&*payload))),
                Err(_) => (Vec::new(), None),
            };
            for ((_, held), (extend, answer)) in batch.iter().zip(extends.iter().zip(&answers)) {
                if let (Some(bytes), Extended::Until(_)) = (&extend.checkpoint, answer) {
                    held.told(bytes);
                }
            }
            let mut answers = answers.into_iter();
            let answered = batch.into_iter().map(|(key, held)| {
                let none = || {
                    Extended::Retry(match &panicked {
                        Some(said) => QueueError::unavailable(format!("it panicked: {said}")),
                        None => QueueError::timed_out(bound),
                    })
                };
                (key, held, answers.next().unwrap_or_else(none))
            });
            answered.collect()
        }));
    }

    /// What the queue has answered.
    fn note(&mut self, batch: Batch) {
        self.extending = None;
        let (mut lost, mut abort, mut failed, mut failures) = (vec![], vec![], None, 0);
        let is_broken = batch.is_empty();
        let mut state = locked(&self.ledger.state);
        // Also those of a batch that panicked.
        for (_, entry) in &mut state.entries {
            entry.is_extending = false;
        }
        for (key, held, answer) in batch {
            let Some(entry) = state.entry(key, &held) else { continue };
            match answer {
                Extended::Until(ends) => entry.lease_ends = Some(ends),
                Extended::Unsupported => entry.lease_ends = None,
                Extended::Retry(error) => {
                    failures += 1;
                    failed = Some(error);
                }
                Extended::Lost => {
                    let standing = held.fate.standing();
                    if standing == Standing::Unstarted
                        && let Some(start) = held.fate.lose()
                    {
                        abort.extend(entry.abort.clone());
                        lost.push((key, held, start));
                    } else if standing == Standing::Running {
                        // Told at once, given up at the next look but one.
                        let ends = Instant::now() + self.period / 6;
                        let before = entry.lease_ends.unwrap_or(ends);
                        entry.lease_ends = Some(before.min(ends));
                    }
                }
            }
        }
        drop(state);
        let rests = self.is_connection || is_broken || failed.is_some();
        self.not_before = rests.then(|| Instant::now() + self.period / 12);
        if let Some(error) = failed {
            telemetry::not_extended(self.queue.name(), failures, &error);
        }
        self.stop(&[], &abort, lost);
    }
}

/// The period that stands for a lease which is the connection: a twelfth of it is how often the
/// queue is asked, and what a job has from being told that it is lost until it is dropped.
const NOMINAL: Duration = Duration::from_secs(12);
/// Longer leases are extended when a year is left, whatever their queue makes of one without
/// end; and no sum with a time of today overflows.
const PERIOD_MOST: Duration = Duration::from_secs(365 * 24 * 3600);
