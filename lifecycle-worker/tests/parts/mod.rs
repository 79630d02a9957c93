//! What the tests of the runner share: a lifecycle of 30 s, a queue in memory, and a queue that
//! misbehaves on demand.
#![allow(dead_code, unreachable_pub, reason = "not every test file uses all of it")]

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle::Lifecycle;
use lifecycle::test_kit::TestKit;
use lifecycle_worker::{
    Capabilities, Claimed, DeadJob, Extend, Extended, Fail, Lease, MemoryQueue, Push, Pushed,
    Queue, QueueError, Receipt, Release, Settled, Settlement, Stats, Worker,
};
use tokio::sync::watch;
use tokio::time::Instant;

/// A lifecycle of that worker: grace 30 s, no lame duck since nobody listens; the drain ends
/// after 24.5 s or more, hooks begin at 26 s.
pub async fn started(worker: Worker) -> TestKit {
    let mut kit = TestKit::new(Lifecycle::builder().grace_period(Duration::from_secs(30)));
    kit.life().spawn("worker", worker);
    kit.start().await;
    kit
}

pub async fn push(queue: &impl Queue, count: usize) {
    let jobs: Vec<_> = (0..count).map(|n| Push::new("test", n.to_string())).collect();
    assert!(queue.push(&jobs).await.unwrap().iter().all(Pushed::is_new));
}

/// Everything that is said of settled jobs.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Settlement>>>, Arc<watch::Sender<usize>>);

impl Log {
    pub fn of(&self, worker: Worker) -> Worker {
        let log = self.clone();
        worker.on_settled(move |settlement| {
            log.0.lock().unwrap().push(settlement.clone());
            log.1.send_modify(|count| *count += 1);
        })
    }

    /// Waits for so many.
    pub async fn reaches(&self, count: usize) -> Vec<Settlement> {
        let limit = Duration::from_secs(3600);
        let mut seen = self.1.subscribe();
        let waited = tokio::time::timeout(limit, seen.wait_for(|seen| *seen >= count)).await;
        waited.expect("so many are settled in time").unwrap();
        self.all()
    }

    pub fn all(&self) -> Vec<Settlement> {
        self.0.lock().unwrap().clone()
    }

    /// `done:2`, by the outcome's name and the attempt, in the order of settling.
    pub fn outcomes(&self) -> Vec<String> {
        let word = |one: &Settlement| format!("{}:{}", one.outcome.name(), one.attempt);
        self.all().iter().map(word).collect()
    }
}

/// What a [`Faulty`] queue does to a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// It fails at once.
    Fails,
    /// It never answers.
    Hangs,
    /// It panics.
    Panics,
    /// It does what it was asked, and its answer is lost.
    IsNotHeard,
    /// It answers, and for nothing that it was asked.
    SaysNothing,
    /// It gives up after 5 s without an answer.
    TimesOut,
    /// It fails, with an error that cannot be shown.
    Unspeakable,
}

/// An error that panics when it is shown.
#[derive(Debug)]
pub struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no words")
    }
}

impl std::error::Error for Unspeakable {}

/// The faults of each call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub claim: Fault,
    pub interrupt: Fault,
    pub ack: Fault,
    pub release: Fault,
    pub extend: Fault,
    pub close: Fault,
    pub ping: Fault,
    pub push: Fault,
}

/// A queue in memory whose calls can be made to fail or to hang.
#[derive(Clone, Debug)]
pub struct Faulty {
    pub inner: MemoryQueue,
    pub faults: Arc<Mutex<Faults>>,
    /// Whether the connection is the lease.
    pub by_connection: bool,
    /// How often it was asked for jobs.
    pub claims: Arc<AtomicUsize>,
    /// How often it was asked to extend.
    pub extends: Arc<AtomicUsize>,
    /// The id of a job whose lease it says is lost.
    pub lost: Arc<Mutex<Option<String>>>,
    /// The id of a job that it refuses to settle, and with it all that are settled in one call.
    pub refused: Arc<Mutex<Option<String>>>,
    /// How long it takes for that.
    pub refuses_after: Duration,
    /// When it has.
    pub refusals: Arc<Mutex<Vec<Instant>>>,
}

impl Faulty {
    pub fn new(inner: MemoryQueue) -> Self {
        Self {
            inner,
            faults: Arc::default(),
            by_connection: false,
            claims: Arc::default(),
            extends: Arc::default(),
            lost: Arc::default(),
            refused: Arc::default(),
            refuses_after: Duration::ZERO,
            refusals: Arc::default(),
        }
    }

    /// Its jobs are held by the connection: `extend` says that it is lost if it is to fail.
    pub fn by_connection(self) -> Self {
        Self { by_connection: true, ..self }
    }

    pub fn set(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.faults.lock().unwrap());
    }

    fn refuses<'a>(&self, receipts: impl IntoIterator<Item = &'a Receipt>) -> bool {
        let refused = self.refused.lock().unwrap();
        receipts.into_iter().any(|receipt| refused.as_deref() == Some(receipt.id().as_str()))
    }

    async fn refuse<T>(&self, items: &[T]) -> Vec<Settled> {
        tokio::time::sleep(self.refuses_after).await;
        self.refusals.lock().unwrap().push(Instant::now());
        items.iter().map(|_| Settled::Retry(QueueError::Denied("not yours".into()))).collect()
    }

    async fn suffer(&self, which: impl Fn(&Faults) -> Fault) -> Result<(), QueueError> {
        let fault = which(&self.faults.lock().unwrap());
        match fault {
            Fault::None | Fault::IsNotHeard => Ok(()),
            Fault::Fails => Err(QueueError::unavailable("cut")),
            Fault::Unspeakable => Err(QueueError::unavailable(Unspeakable)),
            Fault::Hangs => std::future::pending().await,
            Fault::Panics => panic!("as it was told"),
            Fault::SaysNothing => Ok(()),
            Fault::TimesOut => {
                let bound = Duration::from_secs(5);
                tokio::time::sleep(bound).await;
                Err(QueueError::timed_out(bound))
            }
        }
    }
}

fn without_lease(job: Claimed) -> Claimed {
    let mut job = job;
    job.lease_ends = None;
    job
}

fn retry<T>(items: &[T]) -> Vec<Settled> {
    items.iter().map(|_| Settled::Retry(QueueError::unavailable("cut"))).collect()
}

impl Queue for Faulty {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = self.inner.capabilities();
        if self.by_connection {
            can.lease = Lease::Connection;
        }
        can
    }

    async fn ping(&self) -> Result<(), QueueError> {
        self.suffer(|faults| faults.ping).await?;
        self.inner.ping().await
    }

    async fn push(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        self.suffer(|faults| faults.push).await?;
        self.inner.push(jobs).await
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        self.suffer(|faults| faults.claim).await?;
        let claimed = self.inner.claim(max, wait).await?;
        Ok(match self.by_connection {
            true => claimed.into_iter().map(without_lease).collect(),
            false => claimed,
        })
    }

    async fn interrupt(&self) {
        if self.suffer(|faults| faults.interrupt).await.is_ok() {
            self.inner.interrupt().await;
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Settled> {
        if self.refuses(receipts) {
            return self.refuse(receipts).await;
        }
        let fault = self.faults.lock().unwrap().ack;
        match self.suffer(|_| fault).await {
            Ok(()) if fault == Fault::SaysNothing => Vec::new(),
            Ok(()) => match (self.inner.ack(receipts).await, fault) {
                (answers, Fault::IsNotHeard) if answers.iter().any(Settled::is_done) => {
                    retry(receipts)
                }
                (answers, _) => answers,
            },
            Err(_) if fault == Fault::Unspeakable => receipts
                .iter()
                .map(|_| Settled::Retry(QueueError::unavailable(Unspeakable)))
                .collect(),
            Err(_) => retry(receipts),
        }
    }

    async fn release(&self, jobs: &[Release]) -> Vec<Settled> {
        if self.refuses(jobs.iter().map(|job| &job.receipt)) {
            return self.refuse(jobs).await;
        }
        match self.suffer(|faults| faults.release).await {
            Ok(()) => self.inner.release(jobs).await,
            Err(_) => retry(jobs),
        }
    }

    async fn fail(&self, jobs: &[Fail]) -> Vec<Settled> {
        if self.refuses(jobs.iter().map(|job| &job.receipt)) {
            return self.refuse(jobs).await;
        }
        self.inner.fail(jobs).await
    }

    async fn extend(&self, jobs: &[Extend]) -> Vec<Extended> {
        if self.extends.fetch_add(1, Ordering::SeqCst) > 1000 {
            // Paused time stands still while somebody asks without end.
            return std::future::pending().await;
        }
        let lost = self.lost.lock().unwrap().clone();
        match self.suffer(|faults| faults.extend).await {
            Ok(()) if self.by_connection => jobs.iter().map(|_| Extended::Unsupported).collect(),
            Err(_) if self.by_connection => jobs.iter().map(|_| Extended::Lost).collect(),
            Ok(()) => {
                let answers = self.inner.extend(jobs).await.into_iter().zip(jobs);
                let is_lost = |job: &Extend| lost.as_deref() == Some(job.receipt.id().as_str());
                answers
                    .map(|(answer, job)| if is_lost(job) { Extended::Lost } else { answer })
                    .collect()
            }
            Err(_) => {
                jobs.iter().map(|_| Extended::Retry(QueueError::unavailable("cut"))).collect()
            }
        }
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        self.inner.stats().await
    }

    async fn dead(&self, max: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        self.inner.dead(max).await
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.suffer(|faults| faults.close).await?;
        self.inner.close().await
    }
}

/// The names of the events that are said on this thread.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    pub fn count(&self, name: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|heard| *heard == name).count()
    }
}

impl tracing::field::Visit for Heard {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

impl tracing::Subscriber for Heard {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
