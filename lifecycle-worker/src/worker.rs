//! [`Worker`]: a queue and what works on its jobs, as a component.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::{Check, Component, Handle, Role};
use tokio::sync::Semaphore;

use crate::any::AnyQueue;
use crate::error::BoxError;
use crate::handler::{AnyHandler, Handler, erase};
use crate::queue::Queue;
use crate::retry::Retry;
use crate::runner::{self, Settings, Standing};
use crate::settlement::Settlement;

/// Takes jobs from a queue, works on them, and returns those that it cannot finish.
///
/// A component of a [`lifecycle::Lifecycle`]. At the cause it is quiet at once: it claims no
/// more, and what it has claimed and not begun goes back. Jobs under way finish, their leases
/// extended, until the hard stop; then they are told ([`Job::cancelled`](crate::Job::cancelled)),
/// dropped after four fifths of the cancel window, and returned when they have stopped. It
/// closes the queue at its end, when everything that it drains
/// [`after`](lifecycle::Spawned::after) has ended.
///
/// # Examples
/// ```
/// # #[cfg(feature = "memory")] #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lifecycle::Lifecycle;
/// use lifecycle_worker::{BoxError, Job, MemoryQueue, Push, Queue, Worker};
///
/// async fn mail(job: Job) -> Result<(), BoxError> {
///     println!("to {}", std::str::from_utf8(job.payload())?);
///     Ok(())
/// }
///
/// let mut life = Lifecycle::builder().build_local()?;
/// let queue = MemoryQueue::new("mail");
/// queue.push(&[Push::new("mail", "ada@example.org")]).await?;
/// let handle = life.handle();
/// let worker = Worker::new(queue, mail)
///     .concurrency(8)
///     .on_settled(move |job| handle.shutdown(format!("{} is done", job.id)));
/// life.spawn("mail", worker);
/// assert_eq!(life.run().await?.exit_code(), 0);
/// # Ok(()) }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
#[must_use = "a worker does nothing until it is spawned"]
pub struct Worker {
    queue: AnyQueue,
    handler: Box<dyn AnyHandler>,
    settings: Settings,
    standing: Standing,
}

/// What becomes of a job whose handler has not stopped when it was dropped: one that blocks
/// its thread, or has left a clone of its [`Job`](crate::Job) with something that goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unstoppable {
    /// It is left alone: the queue gives it out again when its lease ends, an attempt more.
    /// Nothing runs twice, unless it works on past that.
    #[default]
    LeaveToLease,
    /// It is returned all the same, for jobs that may run twice at once.
    ReturnAnyway,
}

impl Worker {
    /// Works on the jobs of `queue` by `handler`, an async function or a tower service.
    pub fn new<Kind: 'static>(queue: impl Queue, handler: impl Handler<Kind>) -> Self {
        let settings = Settings {
            concurrency: CONCURRENCY,
            prefetch: 0,
            retry: Retry::new(),
            job_timeout: None,
            claim_wait: CLAIM_WAIT,
            unstoppable: Unstoppable::default(),
            on_settled: None,
        };
        let (queue, handler) = (AnyQueue::new(queue), erase(handler));
        Self { queue, handler, settings, standing: Standing::default() }
    }

    /// So many jobs at a time, one at least, and at most as many as a tokio semaphore has
    /// permits. Default: 10 (Sidekiq's was that for long).
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.settings.concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Claims so many jobs beyond the free slots, which wait for one. Default: none, so that a
    /// job that is claimed runs. At most as many as [`concurrency`](Self::concurrency) may be.
    pub fn prefetch(mut self, prefetch: usize) -> Self {
        self.settings.prefetch = prefetch.min(Semaphore::MAX_PERMITS);
        self
    }

    /// How often a job is tried, and how long between.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// How long a job may take. Then it is told, and dropped a second later: it has failed.
    /// Default: as long as its lease is extended.
    pub fn job_timeout(mut self, limit: Duration) -> Self {
        self.settings.job_timeout = Some(limit);
        self
    }

    /// How long a claim waits for a first job before it begins anew: how often an idle worker
    /// is heard of ([`heartbeat`](lifecycle::Spawned::heartbeat) wants a longer limit).
    /// Default: 5 s; 10 ms at least, which is also the pause after a queue has said at once,
    /// without waiting for anything, that it has nothing.
    pub fn claim_wait(mut self, wait: Duration) -> Self {
        self.settings.claim_wait = wait.max(runner::CLAIM_WAIT_LEAST);
        self
    }

    /// What becomes of a job whose handler does not stop when it is dropped.
    pub fn unstoppable(mut self, unstoppable: Unstoppable) -> Self {
        self.settings.unstoppable = unstoppable;
        self
    }

    /// Calls back when the queue has answered for a job: after its acknowledgement, return or
    /// failure is confirmed. It must not block: the next answers wait for it.
    pub fn on_settled(mut self, callback: impl Fn(&Settlement) + Send + Sync + 'static) -> Self {
        self.settings.on_settled = Some(Arc::new(Box::new(callback)));
        self
    }

    /// A readiness check: it passes once the queue has answered, and fails while the queue
    /// cannot be reached. Register it with [`Lifecycle::check`](lifecycle::Lifecycle::check).
    ///
    /// It asks the queue nothing: it shows how the last claim went.
    pub fn readiness(&self, name: impl Into<String>) -> Check {
        let standing = self.standing.clone();
        Check::readiness(name, move || standing.clone().check()).interval(READINESS_INTERVAL)
    }
}

impl Component for Worker {
    fn run(self, handle: Handle) -> impl Future<Output = Result<(), BoxError>> + Send + 'static {
        runner::run(self.queue, self.handler, self.settings, self.standing, handle)
    }

    fn role(&self) -> Role {
        Role::Worker
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("queue", &self.queue)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

const CONCURRENCY: usize = 10;
const CLAIM_WAIT: Duration = Duration::from_secs(5);
const READINESS_INTERVAL: Duration = Duration::from_secs(1);
