//! A job as its handler sees it: what to do, how long, and when to stop.
//!
//! Not here: the receipt, which no handler holds (`runner`).
//!
//! # Invariants
//! 1. A job counts as stopped only when its handler's future and every clone of its [`Job`]
//!    are gone: whoever works for it keeps one.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::claimed::{Claimed, JobId, Receipt};
use crate::fate::Fate;
use crate::push::Push;
use crate::runner::Ledger;
use crate::sync::locked;

/// A job under way. A clone is the same job.
///
/// Keep it, or a clone, with whatever works for the job: while one is left the job counts as
/// running, and is not returned to the queue (a blocking call cannot be aborted, and a job
/// that is returned while it still runs would run twice).
///
/// # Examples
/// A handler that stops at the hard stop and goes on there in its next attempt:
/// ```
/// use lifecycle_worker::{Job, JobError};
///
/// async fn import(job: Job) -> Result<(), JobError> {
///     let from = job.saved().and_then(|bytes| std::str::from_utf8(bytes).ok()?.parse().ok());
///     for row in from.unwrap_or(0)..1_000_000_u32 {
///         if job.is_cancelled() {
///             job.checkpoint(row.to_string());
///             return Err(JobError::Stopped);
///         }
///         // import the row
/// #       if row > 3 { break }
///     }
///     Ok(())
/// }
/// # let _ = import;
/// ```
#[derive(Clone)]
pub struct Job {
    handle: Arc<JobHandle>,
}

/// Why a job is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelReason {
    /// Its lease could not be extended, or the broker has given it to somebody else: what it
    /// does from here on may be done twice, and is not acknowledged.
    LeaseLost,
    /// The hard stop: save a checkpoint, return until the deadline or be dropped. Its worker
    /// returns it to the queue.
    Shutdown {
        /// When it is dropped.
        deadline: Instant,
    },
    /// It takes longer than [`Worker::job_timeout`](crate::Worker::job_timeout): return soon
    /// or be dropped. It has failed, unless it still returns `Ok`.
    Timeout,
}

impl CancelReason {
    /// The name used in logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::LeaseLost => "lease_lost",
            Self::Shutdown { .. } => "shutdown",
            Self::Timeout => "timeout",
        }
    }
}

/// What a worker holds of a job.
pub(crate) struct Held {
    pub(crate) receipt: Receipt,
    pub(crate) kind: Arc<str>,
    pub(crate) attempt: u32,
    pub(crate) fate: Fate,
    queue: Arc<str>,
    payload: Bytes,
    headers: Vec<(String, String)>,
    returns: u32,
    saved: Option<Bytes>,
    cancel: OnceLock<CancelReason>,
    cancelled: Notify,
    checkpoint: Mutex<Checkpoint>,
}

/// What the handler has saved, and whether the queue has been told.
#[derive(Default)]
struct Checkpoint {
    bytes: Option<Bytes>,
    is_told: bool,
}

/// What all clones of a [`Job`] share; its end is the job's.
struct JobHandle {
    held: Arc<Held>,
    /// Whom to tell, under which key; none for a job of a test's.
    worker: Option<(Arc<Ledger>, usize)>,
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if let Some((ledger, key)) = &self.worker {
            ledger.stopped(*key, &self.held);
        }
    }
}

impl Held {
    pub(crate) fn new(queue: Arc<str>, claimed: Claimed) -> Self {
        let Claimed { receipt, kind, payload, headers, attempt, returns, checkpoint, .. } = claimed;
        Self {
            receipt,
            kind,
            attempt,
            fate: Fate::new(),
            queue,
            payload,
            headers,
            returns,
            saved: checkpoint,
            cancel: OnceLock::new(),
            cancelled: Notify::new(),
            checkpoint: Mutex::default(),
        }
    }

    /// Tells the handler to stop; the first reason stays.
    pub(crate) fn cancel(&self, reason: CancelReason) {
        if self.cancel.set(reason).is_ok() {
            self.cancelled.notify_waiters();
        }
    }

    pub(crate) fn cancel_reason(&self) -> Option<CancelReason> {
        self.cancel.get().copied()
    }

    /// What was saved since the claim.
    pub(crate) fn checkpoint(&self) -> Option<Bytes> {
        locked(&self.checkpoint).bytes.clone()
    }

    /// What was saved since the queue was told last.
    pub(crate) fn untold_checkpoint(&self) -> Option<Bytes> {
        let checkpoint = locked(&self.checkpoint);
        checkpoint.bytes.clone().filter(|_| !checkpoint.is_told)
    }

    /// The queue has these.
    pub(crate) fn told(&self, bytes: &Bytes) {
        let mut checkpoint = locked(&self.checkpoint);
        checkpoint.is_told = checkpoint.bytes.as_ref() == Some(bytes);
    }
}

impl Job {
    pub(crate) fn of(held: Arc<Held>, ledger: Arc<Ledger>, key: usize) -> Self {
        Self { handle: Arc::new(JobHandle { held, worker: Some((ledger, key)) }) }
    }

    /// A job of no queue, for a test of a handler: a first attempt with what `push` has.
    #[must_use]
    pub fn for_test(push: &Push) -> Self {
        let receipt = Receipt::new(JobId::new("test"), 1);
        let claimed = Claimed::new(receipt, push.kind(), push.payload().clone());
        let held = Held::new("test".into(), claimed.headers(push.headers().to_vec()));
        Self { handle: Arc::new(JobHandle { held: Arc::new(held), worker: None }) }
    }

    /// Its id, unique in its queue.
    #[must_use]
    pub fn id(&self) -> &JobId {
        self.held().receipt.id()
    }

    /// The queue's name.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.held().queue
    }

    /// What is to be done.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.held().kind
    }

    /// With what.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.held().payload
    }

    /// The payload as JSON.
    ///
    /// # Errors
    /// [`JobError::Dead`](crate::JobError::Dead) when it is none of that type: trying again
    /// cannot help.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, crate::JobError> {
        serde_json::from_slice(self.payload()).map_err(|error| {
            crate::JobError::dead("the payload is not what it should be").because(error)
        })
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = &self.held().headers;
        headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// All headers, in the order they were pushed; those of RabbitMQ by name.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.held().headers
    }

    /// Which attempt this is, from 1. Returns at a shutdown do not count where the broker
    /// allows it; a worker that vanished does.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.held().attempt
    }

    /// How often it was returned by workers that had to leave.
    #[must_use]
    pub fn returns(&self) -> u32 {
        self.held().returns
    }

    /// What an earlier attempt has saved by [`checkpoint`](Self::checkpoint).
    #[must_use]
    pub fn saved(&self) -> Option<&Bytes> {
        self.held().saved.as_ref()
    }

    /// Saves how far the job has come, for its next attempt; the last word counts.
    ///
    /// It reaches the queue with the next extension of the lease (a third of its period at the
    /// latest), and with the job's return or failure; it is gone with the job when that is
    /// done. Queues say by [`Capabilities::checkpoint`](crate::Capabilities::checkpoint)
    /// whether they keep it.
    pub fn checkpoint(&self, bytes: impl Into<Bytes>) {
        *locked(&self.held().checkpoint) = Checkpoint { bytes: Some(bytes.into()), is_told: false };
    }

    /// Why it is told to stop, if it is.
    #[must_use]
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.held().cancel_reason()
    }

    /// Whether it is told to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel_reason().is_some()
    }

    /// Tells it to stop, as a worker would: for a test of a handler.
    pub fn cancel_for_test(&self, reason: CancelReason) {
        self.held().cancel(reason);
    }

    /// Resolves when it is told to stop, with the reason.
    ///
    /// # Cancel safety
    /// Cancel safe: call again to keep waiting.
    pub async fn cancelled(&self) -> CancelReason {
        let held = self.held();
        loop {
            // The order matters: a reason given after this line is not missed.
            let woken = held.cancelled.notified();
            if let Some(reason) = held.cancel_reason() {
                return reason;
            }
            woken.await;
        }
    }

    fn held(&self) -> &Held {
        &self.handle.held
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", self.id())
            .field("queue", &self.queue())
            .field("kind", &self.kind())
            .field("attempt", &self.attempt())
            .field("payload_len", &self.payload().len())
            .field("cancel_reason", &self.cancel_reason())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("receipt", &self.receipt)
            .field("fate", &self.fate.standing())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use tokio_test::{assert_pending, assert_ready_eq, task};

    use super::*;

    #[test]
    fn a_job_is_told_once_and_the_first_reason_stays() {
        let job = Job::for_test(&Push::new("mail", "x").header("a", "1"));
        let mut cancelled = task::spawn(job.cancelled());
        assert_pending!(cancelled.poll());
        job.cancel_for_test(CancelReason::Timeout);
        job.cancel_for_test(CancelReason::LeaseLost);
        assert!(cancelled.is_woken());
        assert_ready_eq!(cancelled.poll(), CancelReason::Timeout);
        assert_ready_eq!(task::spawn(job.cancelled()).poll(), CancelReason::Timeout);
        assert_eq!((job.header("a"), job.header("b")), (Some("1"), None));
    }

    #[test]
    fn a_checkpoint_is_told_once_and_again_when_it_changes() {
        let job = Job::for_test(&Push::new("mail", ""));
        assert_eq!(job.held().untold_checkpoint(), None);
        job.checkpoint("1");
        let told = job.held().untold_checkpoint().expect("saved");
        job.checkpoint("2");
        job.held().told(&told);
        assert_eq!(job.held().untold_checkpoint(), Some("2".into()), "saved in the meantime");
        job.held().told(&"2".into());
        assert_eq!(job.held().untold_checkpoint(), None);
        assert_eq!(job.held().checkpoint(), Some("2".into()));
    }
}
