//! What a queue is to a worker: claim, settle, and nothing that a worker decides.
//!
//! Not here: who calls it when (`runner`), what is kept of a job (`claimed`, `push`), queues
//! themselves (`queues`).
//!
//! # Invariants
//! 1. A claim is never dropped by the runner while it may still get an answer.
//! 2. Settling is fenced: a receipt that is not the job's newest is told [`Settled::Lost`].
//! 3. Settling twice with one receipt is safe: the second answer is `Lost` or `Done`.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::capabilities::Capabilities;
use crate::claimed::{Claimed, Receipt};
use crate::error::QueueError;
use crate::push::{Push, Pushed};
use crate::stats::{DeadJob, Stats};

/// A place that jobs come from and go back to.
///
/// One value is one claiming identity: what it claims is its own until it is settled or its
/// lease ends. Two processes, or two runs of one, are never the same. A clone of a queue of
/// ours is the same identity.
///
/// Every call but [`claim`](Self::claim) ends within [`Capabilities::call_bound`], if need be
/// with an error: the broker may be stopped, paused or out of reach. Calls that take several
/// receipts answer for each of them, in their order.
///
/// # Examples
/// `examples/src/bin/10_own_queue.rs` is one, its trait in less than a hundred lines,
/// `12_folder_queue.rs` one on files that processes share; both pass the suite that the feature
/// `conformance` has for every queue.
pub trait Queue: Send + Sync + 'static {
    /// The queue's name, for logs, metrics and the report.
    fn name(&self) -> &str;

    /// What it can do, as data. The same for the whole life of the value.
    fn capabilities(&self) -> Capabilities;

    /// Creates what it needs where it lies (tables, topology), or brings that up to date.
    ///
    /// Nothing else creates anything. Doing it again, or in two processes at once, is safe.
    ///
    /// # Errors
    /// [`QueueError`], whatever stands in the way.
    fn prepare(&self) -> impl Future<Output = Result<(), QueueError>> + Send {
        async { Ok(()) }
    }

    /// Whether it can be used: reached, let in, prepared.
    ///
    /// # Errors
    /// [`QueueError`], by what is missing.
    fn ping(&self) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Adds jobs, in their order, and says so only when the broker has them.
    ///
    /// Where the broker can, all or none.
    ///
    /// # Errors
    /// [`QueueError`]; whether the jobs were added is then not known
    /// ([`Push::dedupe`] makes it safe to try again).
    fn push(&self, jobs: &[Push]) -> impl Future<Output = Result<Vec<Pushed>, QueueError>> + Send;

    /// Takes up to `max` jobs, and waits up to `wait` for the first.
    ///
    /// **Not cancel safe**, and it need not be: the runner drives it to its end on a task of
    /// its own. It has to end within `wait` and [`Capabilities::call_bound`], and soon after
    /// [`interrupt`](Self::interrupt). A job whose lease has ended is claimed like any other.
    ///
    /// # Errors
    /// [`QueueError`]; the runner tries again after a while.
    fn claim(
        &self,
        max: NonZeroUsize,
        wait: Duration,
    ) -> impl Future<Output = Result<Vec<Claimed>, QueueError>> + Send;

    /// Asks a claim that waits to end now, with what it has. It says nothing to later claims:
    /// the runner asks again until its claim has ended.
    fn interrupt(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The jobs are done: forget them.
    fn ack(&self, receipts: &[Receipt]) -> impl Future<Output = Vec<Settled>> + Send;

    /// Gives jobs back unharmed, since the worker leaves: as if they had not been claimed, as
    /// far as [`Capabilities::release`] allows.
    fn release(&self, jobs: &[Release]) -> impl Future<Output = Vec<Settled>> + Send;

    /// The jobs failed: they are to be tried again later, or never.
    fn fail(&self, jobs: &[Fail]) -> impl Future<Output = Vec<Settled>> + Send;

    /// Extends leases by the queue's period from now, and saves checkpoints with the jobs.
    fn extend(&self, jobs: &[Extend]) -> impl Future<Output = Vec<Extended>> + Send;

    /// How many jobs there are, by what they wait for.
    ///
    /// # Errors
    /// [`QueueError`]; [`Unsupported`](QueueError::Unsupported) where the broker cannot say,
    /// as it stands here.
    fn stats(&self) -> impl Future<Output = Result<Stats, QueueError>> + Send {
        async { Err(QueueError::Unsupported { what: "nobody counts these jobs".to_owned() }) }
    }

    /// The dead letters, the newest first, `max` at most.
    ///
    /// # Errors
    /// [`QueueError`]; [`Unsupported`](QueueError::Unsupported) where the broker cannot say,
    /// as it stands here.
    fn dead(
        &self,
        max: NonZeroUsize,
    ) -> impl Future<Output = Result<Vec<DeadJob>, QueueError>> + Send {
        let _all_the_same = max;
        async { Err(QueueError::Unsupported { what: "dead letters are not kept".to_owned() }) }
    }

    /// Returns when everything said so far has reached the broker, and lets go of it. The last
    /// call; calling it again does nothing.
    ///
    /// # Errors
    /// [`QueueError`]; what was settled and confirmed is settled all the same.
    fn close(&self) -> impl Future<Output = Result<(), QueueError>> + Send;
}

/// A job to be given back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Release {
    /// Which claim of which job.
    pub receipt: Receipt,
    /// Whether a handler had begun.
    pub start: Start,
    /// What the handler has saved since the claim, if anything.
    pub checkpoint: Option<bytes::Bytes>,
    /// How long nobody is to claim it. Default: nothing.
    pub delay: Duration,
}

/// Whether a handler had begun with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// It had.
    Started,
    /// No handler has seen it.
    Unstarted,
}

impl Release {
    /// Gives back a job that no handler has seen, claimable at once.
    #[must_use]
    pub fn unstarted(receipt: Receipt) -> Self {
        Self { receipt, start: Start::Unstarted, checkpoint: None, delay: Duration::ZERO }
    }

    /// Gives back a job that a handler had begun, with what it saved.
    #[must_use]
    pub fn started(receipt: Receipt, checkpoint: Option<bytes::Bytes>) -> Self {
        Self { receipt, start: Start::Started, checkpoint, delay: Duration::ZERO }
    }

    /// Nobody is to claim it for so long.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// A job that failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fail {
    /// Which claim of which job.
    pub receipt: Receipt,
    /// Why, in words that are kept with the job.
    pub error: String,
    /// What the handler has saved since the claim, if anything.
    pub checkpoint: Option<bytes::Bytes>,
    /// What is to become of it.
    pub next: Next,
}

/// What becomes of a job that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// Never deliver it again; keep it with its error.
    Dead,
    /// Deliver it again, not before so long.
    Retry(Duration),
}

impl Fail {
    /// The job of that claim failed, and what comes next.
    #[must_use]
    pub fn new(receipt: Receipt, error: impl Into<String>, next: Next) -> Self {
        Self { receipt, error: error.into(), checkpoint: None, next }
    }
}

/// A lease to be extended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Extend {
    /// Which claim of which job.
    pub receipt: Receipt,
    /// What the handler has saved since it was last told, if anything.
    pub checkpoint: Option<bytes::Bytes>,
}

impl Extend {
    /// Extends that lease.
    #[must_use]
    pub fn new(receipt: Receipt) -> Self {
        Self { receipt, checkpoint: None }
    }
}

/// What became of an attempt to settle.
#[derive(Debug)]
#[non_exhaustive]
pub enum Settled {
    /// The broker has it (or will, where [`Capabilities::confirmed`] says that it does not
    /// answer).
    Done,
    /// The claim is not the job's newest: somebody else has it, or it is settled. Never to be
    /// tried again.
    Lost,
    /// Not known: to be tried again while the lease lasts. After an error that
    /// [is fatal](QueueError::is_fatal) the job is told apart from others; refused then too, its
    /// lease is not extended any more.
    Retry(QueueError),
    /// This broker cannot: the lease covers the job.
    Unsupported,
}

impl Settled {
    /// Whether the broker has it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Whether the claim is not the job's newest.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost)
    }
}

/// What became of an attempt to extend a lease.
#[derive(Debug)]
#[non_exhaustive]
pub enum Extended {
    /// The claim is not the job's newest.
    Lost,
    /// Not known: to be tried again while the lease lasts.
    Retry(QueueError),
    /// This broker knows no time: the claim lasts as long as its connection.
    Unsupported,
    /// The lease ends then, by this process' clock, at the earliest.
    Until(Instant),
}

impl<Q: Queue> Queue for Arc<Q> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    async fn prepare(&self) -> Result<(), QueueError> {
        (**self).prepare().await
    }

    async fn ping(&self) -> Result<(), QueueError> {
        (**self).ping().await
    }

    async fn push(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        (**self).push(jobs).await
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        (**self).claim(max, wait).await
    }

    async fn interrupt(&self) {
        (**self).interrupt().await;
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Settled> {
        (**self).ack(receipts).await
    }

    async fn release(&self, jobs: &[Release]) -> Vec<Settled> {
        (**self).release(jobs).await
    }

    async fn fail(&self, jobs: &[Fail]) -> Vec<Settled> {
        (**self).fail(jobs).await
    }

    async fn extend(&self, jobs: &[Extend]) -> Vec<Extended> {
        (**self).extend(jobs).await
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        (**self).stats().await
    }

    async fn dead(&self, max: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        (**self).dead(max).await
    }

    async fn close(&self) -> Result<(), QueueError> {
        (**self).close().await
    }
}
