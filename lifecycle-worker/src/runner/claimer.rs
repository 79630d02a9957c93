//! Claims jobs for free slots and starts them.
//!
//! # Invariants
//! 1. A claim that is not answered at once runs on a task of its own and is never dropped while
//!    it may get an answer; what arrives after the worker has gone quiet is given back unseen.
//! 2. A job is claimed only when the handler is ready for one and a slot is free, but for those
//!    that [`Worker::prefetch`](crate::Worker::prefetch) asks for.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use lifecycle::{Gate, Handle};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::execute::execute;
use super::ledger::Ledger;
use super::{CLAIM_WAIT_LEAST, Settings, Standing, one_turn, while_it_changes};
use crate::any::AnyQueue;
use crate::claimed::Claimed;
use crate::error::{BoxError, QueueError, chain};
use crate::fate::Standing as Fate;
use crate::handler::AnyHandler;
use crate::job::{Held, Job};
use crate::queue::Queue;
use crate::telemetry;
use crate::verdict::Ended;

pub(super) struct Claimer {
    pub(super) queue: AnyQueue,
    pub(super) handler: Box<dyn AnyHandler>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) settings: Arc<Settings>,
    pub(super) standing: Standing,
    pub(super) gate: Gate,
    pub(super) handle: Handle,
    /// Claimed and not started.
    buffer: VecDeque<(usize, Arc<Held>)>,
    claim: Option<Claim>,
    is_ready: bool,
    /// In a row.
    failures: u32,
    resume_at: Option<Instant>,
    /// When it shows that it is alive, busy with long jobs.
    alive: Pin<Box<Sleep>>,
}

type Answer = Result<Vec<Claimed>, QueueError>;

enum Claim {
    /// At once.
    Answered(Answer),
    Asked(JoinHandle<Answer>),
}

enum Event {
    /// It is to show that it is alive: every now and then while no claim does.
    Alive,
    Changed,
    Claimed(Answer),
    Ready(Result<(), BoxError>),
    Resume,
}

impl Claimer {
    pub(super) fn new(
        queue: AnyQueue,
        handler: Box<dyn AnyHandler>,
        ledger: Arc<Ledger>,
        settings: Arc<Settings>,
        standing: Standing,
        handle: Handle,
    ) -> Self {
        let gate = handle.gate(lifecycle::Kind::Job);
        let alive = Box::pin(sleep(settings.claim_wait));
        Self {
            queue,
            handler,
            ledger,
            settings,
            standing,
            gate,
            handle,
            buffer: VecDeque::new(),
            claim: None,
            is_ready: false,
            failures: 0,
            resume_at: None,
            alive,
        }
    }

    /// Runs until the worker is quiet and the last claim is answered.
    ///
    /// Fails when the handler will never be ready again, or the queue can not be used.
    pub(super) async fn run(mut self) -> Result<(), BoxError> {
        let end = loop {
            if self.ledger.is_quiet() {
                break Ok(());
            }
            if let Err(error) = self.start_jobs().await {
                break Err(error);
            }
            self.claim_if_room().await;
            let answer = self.claim.take_if(|claim| matches!(claim, Claim::Answered(_)));
            let at_once = answer.is_some();
            let event = match answer {
                Some(Claim::Answered(answer)) => Event::Claimed(answer),
                Some(Claim::Asked(_)) | None => self.event().await,
            };
            match event {
                Event::Alive => {
                    self.handle.beat();
                    self.alive.as_mut().reset(Instant::now() + self.settings.claim_wait);
                }
                // Others may end at the same moment: one claim for all of them.
                Event::Changed if self.settings.concurrency > 1 => one_turn().await,
                Event::Changed => {}
                Event::Resume => self.resume_at = None,
                Event::Ready(Ok(())) => self.is_ready = true,
                Event::Ready(Err(error)) => break Err(error),
                Event::Claimed(Ok(jobs)) => {
                    if jobs.is_empty() && at_once {
                        // A queue that does not wait must not keep this thread to itself.
                        self.resume_at = Some(Instant::now() + CLAIM_WAIT_LEAST);
                    }
                    self.claimed(jobs);
                }
                Event::Claimed(Err(error)) if error.is_fatal() => break Err(error.into()),
                Event::Claimed(Err(error)) => self.failed(&error),
            }
        };
        self.leave().await;
        end
    }

    /// The next thing to happen.
    ///
    /// What is dropped here is only the waiting: the claim is on its own task.
    async fn event(&mut self) -> Event {
        let has_slot = self.ledger.busy() < self.settings.concurrency;
        let asks = !self.is_ready && has_slot && self.resume_at.is_none();
        let Self { ledger, claim, handler, resume_at, alive, .. } = self;
        tokio::select! {
            biased;
            () = ledger.for_claimer.notified() => Event::Changed,
            claimed = answer(claim), if claim.is_some() => Event::Claimed(claimed),
            ready = poll_fn(|cx| handler.poll_ready(cx)), if asks => Event::Ready(ready),
            () = reached(*resume_at), if resume_at.is_some() => Event::Resume,
            // One timer for all events: to arm one for each would cost more than the event.
            () = alive.as_mut(), if claim.is_none() => Event::Alive,
        }
    }

    async fn start_jobs(&mut self) -> Result<(), BoxError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut slots = self.settings.concurrency.saturating_sub(self.ledger.busy());
        let mut started = Vec::with_capacity(slots.min(self.buffer.len()));
        while slots > 0 && !self.buffer.is_empty() {
            if !self.is_ready {
                let handler = &mut self.handler;
                match poll_fn(|cx| Poll::Ready(handler.poll_ready(cx))).await {
                    Poll::Ready(Ok(())) => self.is_ready = true,
                    Poll::Ready(Err(error)) => {
                        self.ledger.started(started);
                        return Err(error);
                    }
                    // The wait in `event` polls it again, and keeps this task's waker.
                    Poll::Pending => break,
                }
            }
            let Some((key, held)) = self.buffer.pop_front() else { break };
            if !held.fate.start() {
                continue;
            }
            if self.settings.retry.is_over(held.attempt) {
                self.ledger.ended_unseen(key, &held, Ended::Exhausted);
                continue;
            }
            slots -= 1;
            self.is_ready = false;
            started.push(self.start(key, held));
        }
        self.ledger.started(started);
        if self.settings.concurrency > 1 {
            // Jobs that end at once make room for as many in one claim: else two claims of half
            // the slots would take turns.
            while_it_changes(|| self.ledger.used()).await;
        }
        Ok(())
    }

    fn start(
        &mut self,
        key: usize,
        held: Arc<Held>,
    ) -> (usize, Arc<Held>, tokio::task::AbortHandle) {
        let job = Job::of(Arc::clone(&held), Arc::clone(&self.ledger), key);
        let working = self.handler.call(job.clone());
        let (ledger, limit) = (Arc::clone(&self.ledger), self.settings.job_timeout);
        let task = tokio::spawn(execute(job, working, key, Arc::clone(&held), ledger, limit));
        (key, held, task.abort_handle())
    }

    async fn claim_if_room(&mut self) {
        let is_claiming = self.claim.is_some();
        // While a claim is under way a slot matters only to what waits for one.
        let wants_slot = !is_claiming || !self.buffer.is_empty();
        let most = self.settings.concurrency.saturating_add(self.settings.prefetch);
        let room = self.ledger.room(most, wants_slot);
        let may_claim = self.is_ready || self.settings.prefetch > 0;
        if is_claiming || !may_claim || self.resume_at.is_some() {
            return;
        }
        let Some(max) = NonZeroUsize::new(room) else { return };
        let (queue, wait) = (self.queue.clone(), self.settings.claim_wait);
        let mut claim = Box::pin(async move {
            let claim = AssertUnwindSafe(queue.claim(max, wait)).catch_unwind();
            // What a panic says is in the log; the claim may be tried again.
            claim.await.unwrap_or_else(|_| Err(QueueError::unavailable("the claim panicked")))
        });
        // A queue that has what is asked for at hand needs no task for that.
        self.claim = Some(match poll_fn(|cx| Poll::Ready(claim.as_mut().poll(cx))).await {
            Poll::Ready(answer) => Claim::Answered(answer),
            Poll::Pending => Claim::Asked(tokio::spawn(claim)),
        });
    }

    fn claimed(&mut self, jobs: Vec<Claimed>) {
        if self.standing.answered() {
            telemetry::reachable(self.queue.name());
        }
        self.failures = 0;
        self.handle.beat();
        // Those whose lease is lost have left the ledger, and would gather here.
        self.buffer.retain(|(_, held)| held.fate.standing() == Fate::Unstarted);
        self.ledger.take(jobs, &self.gate, &mut self.buffer);
    }

    fn failed(&mut self, error: &QueueError) {
        let pause = pause(self.failures, fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        self.standing.failed(chain(error));
        self.handle.beat();
        telemetry::unreachable(self.queue.name(), error, pause);
        self.resume_at = Some(Instant::now() + pause);
    }

    /// Gives back what no handler has seen, also what still arrives.
    async fn leave(mut self) {
        self.ledger.give_back(self.buffer.drain(..));
        let (queue, claim) = (self.queue.clone(), &mut self.claim);
        let answered = tokio::select! {
            claimed = answer(claim), if claim.is_some() => claimed,
            () = interrupting(&queue), if claim.is_some() => return,
            else => return,
        };
        match answered {
            Ok(jobs) => {
                let mut taken = Vec::with_capacity(jobs.len());
                self.ledger.take(jobs, &self.gate, &mut taken);
                self.ledger.give_back(taken);
            }
            Err(error) => {
                telemetry::unreachable(queue.name(), &error, Duration::ZERO);
                if error.is_unanswered() {
                    self.ledger.claim_is_uncertain();
                }
            }
        }
    }
}

/// Made only where it is waited for: a timer and a look at the clock for each event would cost
/// more than the event.
pub(super) async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The claim's end; asked for only while there is a claim.
async fn answer(claim: &mut Option<Claim>) -> Answer {
    if let Some(Claim::Asked(task)) = claim {
        let answer = task.await.unwrap_or_else(|error| Err(QueueError::unavailable(error)));
        *claim = Some(Claim::Answered(answer));
    }
    match claim.take() {
        Some(Claim::Answered(answer)) => answer,
        Some(Claim::Asked(_)) | None => std::future::pending().await,
    }
}

/// Asks the claim to end, again and again: it may not have begun to wait the first time.
async fn interrupting(queue: &AnyQueue) {
    let mut pause = INTERRUPT_AGAIN;
    // One that panics would again: then its claim is only waited for.
    while AssertUnwindSafe(queue.interrupt()).catch_unwind().await.is_ok() {
        sleep(pause).await;
        pause = (pause * 2).min(INTERRUPT_AGAIN_MOST);
    }
    std::future::pending().await
}

/// How long to wait after so many failures: from 0.1 s doubling to 5 s, half of it drawn.
pub(crate) fn pause(failures: u32, draw: f64) -> Duration {
    let grown = (PAUSE_FIRST * (1 << failures.min(10))).min(PAUSE_MOST);
    grown.mul_f64(0.5 + draw / 2.0)
}

const INTERRUPT_AGAIN: Duration = Duration::from_millis(5);
const INTERRUPT_AGAIN_MOST: Duration = Duration::from_millis(100);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds_and_no_further() {
        assert_eq!(pause(0, 0.0), Duration::from_millis(50));
        assert_eq!(pause(3, 1.0), Duration::from_millis(800));
        assert_eq!(pause(u32::MAX, 1.0), Duration::from_secs(5));
    }
}
