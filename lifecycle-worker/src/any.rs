//! Any queue behind one type, so that it can be chosen at run time.

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::capabilities::Capabilities;
use crate::claimed::{Claimed, Receipt};
use crate::error::QueueError;
use crate::push::{Push, Pushed};
use crate::queue::{Extend, Extended, Fail, Queue, Release, Settled};
use crate::stats::{DeadJob, Stats};

/// Any [`Queue`], its type forgotten: one allocation a call. A clone is the same queue.
///
/// # Examples
/// ```
/// # #[cfg(feature = "memory")] {
/// use lifecycle_worker::{AnyQueue, MemoryQueue, Queue};
///
/// let queue = AnyQueue::new(MemoryQueue::new("mail"));
/// assert_eq!(queue.name(), "mail");
/// # }
/// ```
#[derive(Clone)]
pub struct AnyQueue {
    inner: Arc<dyn DynQueue>,
}

impl AnyQueue {
    /// That queue.
    #[must_use]
    pub fn new(queue: impl Queue) -> Self {
        Self { inner: Arc::new(queue) }
    }
}

impl fmt::Debug for AnyQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyQueue").field("name", &self.inner.name()).finish_non_exhaustive()
    }
}

impl Queue for AnyQueue {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn prepare(&self) -> Result<(), QueueError> {
        self.inner.prepare().await
    }

    async fn ping(&self) -> Result<(), QueueError> {
        self.inner.ping().await
    }

    async fn push(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        self.inner.push(jobs).await
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        self.inner.claim(max, wait).await
    }

    async fn interrupt(&self) {
        self.inner.interrupt().await;
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Settled> {
        self.inner.ack(receipts).await
    }

    async fn release(&self, jobs: &[Release]) -> Vec<Settled> {
        self.inner.release(jobs).await
    }

    async fn fail(&self, jobs: &[Fail]) -> Vec<Settled> {
        self.inner.fail(jobs).await
    }

    async fn extend(&self, jobs: &[Extend]) -> Vec<Extended> {
        self.inner.extend(jobs).await
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        self.inner.stats().await
    }

    async fn dead(&self, max: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        self.inner.dead(max).await
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.inner.close().await
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`Queue`] with its futures boxed.
trait DynQueue: Send + Sync + 'static {
    fn name(&self) -> &str;
    fn capabilities(&self) -> Capabilities;
    fn prepare(&self) -> Boxed<'_, Result<(), QueueError>>;
    fn ping(&self) -> Boxed<'_, Result<(), QueueError>>;
    fn push<'a>(&'a self, jobs: &'a [Push]) -> Boxed<'a, Result<Vec<Pushed>, QueueError>>;
    fn claim(
        &self,
        max: NonZeroUsize,
        wait: Duration,
    ) -> Boxed<'_, Result<Vec<Claimed>, QueueError>>;
    fn interrupt(&self) -> Boxed<'_, ()>;
    fn ack<'a>(&'a self, receipts: &'a [Receipt]) -> Boxed<'a, Vec<Settled>>;
    fn release<'a>(&'a self, jobs: &'a [Release]) -> Boxed<'a, Vec<Settled>>;
    fn fail<'a>(&'a self, jobs: &'a [Fail]) -> Boxed<'a, Vec<Settled>>;
    fn extend<'a>(&'a self, jobs: &'a [Extend]) -> Boxed<'a, Vec<Extended>>;
    fn stats(&self) -> Boxed<'_, Result<Stats, QueueError>>;
    fn dead(&self, max: NonZeroUsize) -> Boxed<'_, Result<Vec<DeadJob>, QueueError>>;
    fn close(&self) -> Boxed<'_, Result<(), QueueError>>;
}

impl<Q: Queue> DynQueue for Q {
    fn name(&self) -> &str {
        Queue::name(self)
    }

    fn capabilities(&self) -> Capabilities {
        Queue::capabilities(self)
    }

    fn prepare(&self) -> Boxed<'_, Result<(), QueueError>> {
        Box::pin(Queue::prepare(self))
    }

    fn ping(&self) -> Boxed<'_, Result<(), QueueError>> {
        Box::pin(Queue::ping(self))
    }

    fn push<'a>(&'a self, jobs: &'a [Push]) -> Boxed<'a, Result<Vec<Pushed>, QueueError>> {
        Box::pin(Queue::push(self, jobs))
    }

    fn claim(
        &self,
        max: NonZeroUsize,
        wait: Duration,
    ) -> Boxed<'_, Result<Vec<Claimed>, QueueError>> {
        Box::pin(Queue::claim(self, max, wait))
    }

    fn interrupt(&self) -> Boxed<'_, ()> {
        Box::pin(Queue::interrupt(self))
    }

    fn ack<'a>(&'a self, receipts: &'a [Receipt]) -> Boxed<'a, Vec<Settled>> {
        Box::pin(Queue::ack(self, receipts))
    }

    fn release<'a>(&'a self, jobs: &'a [Release]) -> Boxed<'a, Vec<Settled>> {
        Box::pin(Queue::release(self, jobs))
    }

    fn fail<'a>(&'a self, jobs: &'a [Fail]) -> Boxed<'a, Vec<Settled>> {
        Box::pin(Queue::fail(self, jobs))
    }

    fn extend<'a>(&'a self, jobs: &'a [Extend]) -> Boxed<'a, Vec<Extended>> {
        Box::pin(Queue::extend(self, jobs))
    }

    fn stats(&self) -> Boxed<'_, Result<Stats, QueueError>> {
        Box::pin(Queue::stats(self))
    }

    fn dead(&self, max: NonZeroUsize) -> Boxed<'_, Result<Vec<DeadJob>, QueueError>> {
        Box::pin(Queue::dead(self, max))
    }

    fn close(&self) -> Boxed<'_, Result<(), QueueError>> {
        Box::pin(Queue::close(self))
    }
}
