//! A worker's life: started, quiet at the cause, drained, and what is left given back.
//!
//! # Invariants
//! 1. Every wait ends at a deadline of the lifecycle's.
//! 2. A started job is given back only when its handler has stopped, unless
//!    [`Unstoppable::ReturnAnyway`] was asked for.
//! 3. The heartbeat and the settler outlive the last job.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use lifecycle::{Handle, Phase, QueueJobs};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::claimer::Claimer;
use super::ledger::Ledger;
use super::{Settings, Standing, heartbeat, settler};
use crate::any::AnyQueue;
use crate::error::{BoxError, QueueError, chain};
use crate::handler::{AnyHandler, message_of};
use crate::job::CancelReason;
use crate::queue::Queue;
use crate::sync::locked;
use crate::telemetry;
use crate::worker::Unstoppable;

/// Runs a worker from its start to its last word.
pub(crate) async fn run(
    queue: AnyQueue,
    handler: Box<dyn AnyHandler>,
    settings: Settings,
    standing: Standing,
    handle: Handle,
) -> Result<(), BoxError> {
    match first_look(&queue, &standing, &handle).await {
        Look::Fatal(error) => return Err(error),
        Look::Leaving => return close(&queue, &handle).await,
        Look::Go => {}
    }
    let settings = Arc::new(settings);
    let ledger = Arc::new(Ledger::new(queue.name().into(), settings.retry));
    let claimer = Claimer::new(
        queue.clone(),
        handler,
        Arc::clone(&ledger),
        Arc::clone(&settings),
        standing,
        handle.clone(),
    );
    let mut worker = Running {
        claimer: Some(Task::spawn(claimer.run())),
        heart: Task::spawn(heartbeat::run(queue.clone(), Arc::clone(&ledger))),
        settler: Task::spawn(settler::run(
            queue.clone(),
            Arc::clone(&ledger),
            Arc::clone(&settings),
        )),
        claim_deadline: Instant::now(),
        queue,
        ledger,
        settings,
        handle,
        failure: None,
        number: fastrand::u64(..),
    };
    worker.serve().await;
    worker.quiet().await;
    worker.cancel().await;
    worker.last_word().await
}

enum Look {
    Fatal(BoxError),
    Go,
    Leaving,
}

/// What waiting does not mend is said at the start; a broker that is away is waited for.
async fn first_look(queue: &AnyQueue, standing: &Standing, handle: &Handle) -> Look {
    let bound = queue.capabilities().call_bound.saturating_mul(2);
    tokio::select! {
        () = handle.lame_duck() => Look::Leaving,
        answer = timeout(bound, queue.ping()) => match answer
            .unwrap_or_else(|_| Err(QueueError::timed_out(bound)))
        {
            Ok(()) => {
                standing.answered();
                Look::Go
            }
            Err(error) if error.is_fatal() => Look::Fatal(error.into()),
            Err(error) => {
                standing.failed(chain(&error));
                telemetry::unreachable(queue.name(), &error, Duration::ZERO);
                Look::Go
            }
        },
    }
}

/// A task that ends with who waits for it.
struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Running {
    queue: AnyQueue,
    ledger: Arc<Ledger>,
    settings: Arc<Settings>,
    handle: Handle,
    /// Until it has ended.
    claimer: Option<Task<Result<(), BoxError>>>,
    /// When a claim that was under way at the cause is no more waited for.
    claim_deadline: Instant,
    heart: Task<()>,
    settler: Task<()>,
    failure: Option<BoxError>,
    /// Tells this worker's reports from those of another on a queue of that name.
    number: u64,
}

impl Running {
    /// Until the cause. A task that ends by itself is one.
    async fn serve(&mut self) {
        let handle = self.handle.clone();
        let Some(claimer) = &mut self.claimer else { return };
        tokio::select! {
            () = handle.lame_duck() => return,
            end = &mut claimer.0 => self.claimer_has_ended(end),
            // They run until they are dropped: an end of theirs is a panic.
            Err(error) = &mut self.heart.0 => self.broke(&error),
            Err(error) = &mut self.settler.0 => self.broke(&error),
        }
        let reason = format!("the worker of {} cannot go on", self.ledger.queue());
        self.handle.shutdown(reason);
        self.handle.lame_duck().await;
    }

    /// No new claims; what runs finishes, until the hard stop.
    async fn quiet(&mut self) {
        locked(&self.ledger.state).tally.begin();
        telemetry::quiet(self.queue.name(), self.ledger.used());
        self.ledger.quiet();
        let handle = self.handle.clone();
        let capabilities = self.queue.capabilities();
        let bound = capabilities.call_bound.saturating_add(capabilities.interrupt_bound);
        let claim_deadline = Instant::now() + bound;
        let ledger = Arc::clone(&self.ledger);
        tokio::select! {
            () = handle.cancelled() => {}
            () = async {
                // A claim that hangs beyond its bound is uncertain, and nothing waits for it.
                timeout_at(claim_deadline, self.claimer_ends()).await.unwrap_or_default();
                until(&ledger, Ledger::is_empty).await;
            } => {}
        }
        self.claim_deadline = claim_deadline;
    }

    /// What is left is told to stop, dropped and given back.
    async fn cancel(&mut self) {
        if self.ledger.is_empty() && self.claimer.is_none() {
            return;
        }
        let deadline = self.abort_at();
        self.ledger.cancel_all(CancelReason::Shutdown { deadline });
        // Should nothing of this process come to say more. A later word replaces it.
        self.report();
        // A further signal moves the deadlines: Closing then comes before this one.
        let closing = self.handle.reached(Phase::Closing);
        self.wait(deadline, closing, |ledger| ledger.running_count() == 0).await;
        self.ledger.abort_all();
        let (join_by, never) = (self.join_by(), std::future::pending());
        self.wait(join_by, never, |ledger| ledger.running_count() == 0).await;
        if self.settings.unstoppable == Unstoppable::ReturnAnyway {
            self.ledger.give_back_anyway();
        }
        let end_by = self.end_by();
        timeout_at(self.claim_deadline.min(end_by), self.claimer_ends()).await.unwrap_or_default();
        self.wait(end_by, std::future::pending(), Ledger::is_empty).await;
    }

    /// Closes the queue when nobody needs it any more, and reports.
    async fn last_word(mut self) -> Result<(), BoxError> {
        // Components that this one drains after may still push.
        self.handle.draining().await;
        let by = self.end_by().min(Instant::now() + self.queue.capabilities().call_bound);
        // Before too: whatever becomes of the close, the report has it.
        self.report();
        close_until(&self.queue, by).await;
        self.failure.take().map_or(Ok(()), Err)
    }

    fn report(&self) {
        let state = locked(&self.ledger.state);
        let left = state.entries.iter().map(|(_, entry)| entry.lease_ends);
        let mut jobs = state.tally.report(self.ledger.queue(), left);
        drop(state);
        // Its claim is not answered.
        jobs.claims_uncertain += u64::from(self.claimer.is_some());
        self.handle.report_jobs(jobs.told_by(self.number));
    }

    /// Waits for `done`, until the deadline or `or`.
    async fn wait(
        &self,
        deadline: Instant,
        or: impl Future<Output = ()>,
        done: impl Fn(&Ledger) -> bool,
    ) {
        tokio::select! {
            () = until(&self.ledger, done) => {}
            () = sleep_until(deadline) => {}
            () = or => {}
        }
    }

    async fn claimer_ends(&mut self) {
        let Some(claimer) = &mut self.claimer else { return };
        let end = (&mut claimer.0).await;
        self.claimer_has_ended(end);
    }

    fn claimer_has_ended(&mut self, end: Result<Result<(), BoxError>, JoinError>) {
        self.claimer = None;
        match end {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.failure = Some(error),
            Err(error) => self.broke(&error),
        }
    }

    /// A task of this worker's own has panicked.
    fn broke(&mut self, error: &JoinError) {
        let queue = self.ledger.queue();
        self.failure = Some(format!("the worker of {queue} cannot go on: {error}").into());
    }

    /// When handlers are dropped: early enough in the cancel window to return their jobs.
    fn abort_at(&self) -> Instant {
        let now = Instant::now();
        let ends = self.handle.deadline(Phase::Cancelling).unwrap_or(now);
        now + ends.saturating_duration_since(now).mul_f64(WINDOW_OF_HANDLERS)
    }

    /// When handlers that were dropped count as not to be stopped.
    fn join_by(&self) -> Instant {
        let (now, end_by) = (Instant::now(), self.end_by());
        now + end_by.saturating_duration_since(now) / 2
    }

    /// When the worker must be gone: it is dropped at six tenths of what is left for closing.
    fn end_by(&self) -> Instant {
        let deadline = |phase| self.handle.deadline(phase).unwrap_or_else(Instant::now);
        let (began, exit_by) = (deadline(Phase::Cancelling), deadline(Phase::Closing));
        began + exit_by.saturating_duration_since(began).mul_f64(SHARE_OF_CLOSING)
    }
}

/// The last word, also of one that is dropped since its time is over.
impl Drop for Running {
    fn drop(&mut self) {
        // Not of one whose owner drops it long before: by the report its leases are over.
        let is_stopping = locked(&self.ledger.state).tally.is_counting();
        if is_stopping {
            self.report();
        }
    }
}

async fn close(queue: &AnyQueue, handle: &Handle) -> Result<(), BoxError> {
    handle.draining().await;
    let by = Instant::now() + queue.capabilities().call_bound;
    handle.report_jobs(QueueJobs::new(queue.name()).told_by(fastrand::u64(..)));
    close_until(queue, by).await;
    Ok(())
}

async fn close_until(queue: &AnyQueue, by: Instant) {
    let closing = AssertUnwindSafe(queue.close()).catch_unwind();
    let error = match timeout_at(by, closing).await {
        Ok(Err(payload)) => {
            QueueError::unavailable(format!("it panicked: {}", message_of(&*payload)))
        }
        Ok(Ok(Err(error))) => error,
        Ok(Ok(Ok(()))) | Err(_) => return,
    };
    telemetry::not_closed(queue.name(), &error);
}

/// Waits until the ledger is as `done` wants it.
async fn until(ledger: &Ledger, done: impl Fn(&Ledger) -> bool) {
    loop {
        let mut changed = pin!(ledger.changed.notified());
        // Armed before the look: a change in between wakes.
        changed.as_mut().enable();
        if done(ledger) {
            return;
        }
        changed.await;
    }
}

const WINDOW_OF_HANDLERS: f64 = 0.8;
const SHARE_OF_CLOSING: f64 = 0.55;
