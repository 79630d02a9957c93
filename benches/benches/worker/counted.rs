//! A queue that notes when the first job was asked for and the last was acknowledged, for
//! both sides of a contest alike.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use benches::{Moment, Shape, Took};
use lifecycle_worker::{
    Capabilities, Claimed, DeadJob, Extend, Extended, Fail, Push, Pushed, Queue, QueueError,
    Receipt, Release, Settled, Stats,
};
use tokio::sync::Notify;
use tokio::time::timeout;

/// What was done of so many jobs.
#[derive(Debug)]
pub(crate) struct Count {
    jobs: u64,
    done: AtomicU64,
    claims: AtomicU64,
    acks: AtomicU64,
    extended: AtomicU64,
    began: OnceLock<Moment>,
    ended: OnceLock<Moment>,
    end: Notify,
}

impl Count {
    pub(crate) fn of(jobs: u64) -> Arc<Self> {
        Arc::new(Self {
            jobs,
            done: AtomicU64::new(0),
            claims: AtomicU64::new(0),
            acks: AtomicU64::new(0),
            extended: AtomicU64::new(0),
            began: OnceLock::new(),
            ended: OnceLock::new(),
            end: Notify::new(),
        })
    }

    pub(crate) fn begins(&self) {
        self.began.get_or_init(Moment::now);
    }

    pub(crate) fn done(&self, jobs: u64) {
        // Ordering: Relaxed, the end is told by `ended`.
        let before = self.done.fetch_add(jobs, Ordering::Relaxed);
        assert!(before + jobs <= self.jobs, "a job was done twice");
        if before + jobs == self.jobs {
            self.ended.get_or_init(Moment::now);
            self.end.notify_one();
        }
    }

    /// Waits until all are done. One waits.
    pub(crate) async fn ends(&self) {
        let ended = timeout(LIMIT, self.end.notified()).await;
        // Ordering: Relaxed, for a message.
        let done = self.done.load(Ordering::Relaxed);
        assert!(ended.is_ok(), "{done} of {} jobs were done within {LIMIT:?}", self.jobs);
    }

    /// How many leases were extended.
    pub(crate) fn extended(&self) -> u64 {
        // Ordering: Relaxed, a count.
        self.extended.load(Ordering::Relaxed)
    }

    /// Of all jobs, from the beginning.
    pub(crate) fn took(&self) -> Took {
        self.took_by(self.jobs)
    }

    /// Of all jobs but the first, with which it began.
    pub(crate) fn took_since_the_first(&self) -> Took {
        self.took_by(self.jobs - 1)
    }

    fn took_by(&self, jobs: u64) -> Took {
        let (began, ended) = self.began.get().zip(self.ended.get()).expect("it has ended");
        // Ordering: Relaxed both, nobody counts any more.
        let shape = Shape {
            claims: self.claims.load(Ordering::Relaxed),
            acks: self.acks.load(Ordering::Relaxed),
        };
        began.to(ended, jobs, (shape.claims > 0).then_some(shape))
    }
}

/// That queue, its calls counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted<Q> {
    pub(crate) queue: Q,
    pub(crate) count: Arc<Count>,
}

impl<Q: Queue> Queue for Counted<Q> {
    fn name(&self) -> &str {
        self.queue.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.queue.capabilities()
    }

    async fn ping(&self) -> Result<(), QueueError> {
        self.queue.ping().await
    }

    async fn push(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        self.queue.push(jobs).await
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        self.count.begins();
        let claimed = self.queue.claim(max, wait).await;
        if claimed.as_ref().is_ok_and(|claimed| !claimed.is_empty()) {
            // Ordering: Relaxed, a count.
            self.count.claims.fetch_add(1, Ordering::Relaxed);
        }
        claimed
    }

    async fn interrupt(&self) {
        self.queue.interrupt().await;
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Settled> {
        let settled = self.queue.ack(receipts).await;
        assert!(settled.iter().all(Settled::is_done), "{settled:?}");
        // Ordering: Relaxed, a count.
        self.count.acks.fetch_add(1, Ordering::Relaxed);
        self.count.done(settled.len() as u64);
        settled
    }

    async fn release(&self, jobs: &[Release]) -> Vec<Settled> {
        self.queue.release(jobs).await
    }

    async fn fail(&self, jobs: &[Fail]) -> Vec<Settled> {
        self.queue.fail(jobs).await
    }

    async fn extend(&self, jobs: &[Extend]) -> Vec<Extended> {
        // Ordering: Relaxed, a count.
        self.count.extended.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        self.queue.extend(jobs).await
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        self.queue.stats().await
    }

    async fn dead(&self, max: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        self.queue.dead(max).await
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.queue.close().await
    }
}

const LIMIT: Duration = Duration::from_secs(60);
