//! A queue in memory: for tests and examples, since it ends with its process.
//!
//! Not here: what is done with a job (`jobs`).
//!
//! # Invariants
//! 1. No lock is held across an await, and a claim takes jobs only in the poll that returns
//!    them: a claim that is dropped has taken nothing.
//! 2. A claim that finds nothing looks again after it has said that it waits, so no push falls
//!    in between.

mod jobs;

use std::fmt;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use self::jobs::Jobs;
use crate::capabilities::{Capabilities, Lease};
use crate::claimed::{Claimed, Receipt};
use crate::error::QueueError;
use crate::push::{Push, Pushed};
use crate::queue::{Extend, Extended, Fail, Queue, Release, Settled};
use crate::stats::{DeadJob, Stats};

/// A queue in memory, with all that a database can do: leases end, by tokio's clock, which
/// tests can pause.
///
/// A clone is the same claiming identity; [`claimant`](Self::claimant) makes another one on the
/// same jobs. They are gone with the last of them.
///
/// # Examples
/// ```
/// # use std::num::NonZeroUsize;
/// # use std::time::Duration;
/// use lifecycle_worker::{MemoryQueue, Push, Queue};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), lifecycle_worker::QueueError> {
/// let queue = MemoryQueue::new("mail");
/// queue.push(&[Push::new("welcome", "ada")]).await?;
/// let jobs = queue.claim(NonZeroUsize::MIN, Duration::ZERO).await?;
/// assert!(queue.ack(&[jobs[0].receipt.clone()]).await[0].is_done());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
    me: Arc<Claimant>,
    lease: Duration,
}

/// What all claiming identities share.
struct Shared {
    name: String,
    began: Instant,
    jobs: Mutex<Jobs>,
    /// There is something new for those who wait.
    news: Notify,
}

/// One claiming identity.
struct Claimant {
    number: u64,
    interrupt: Notify,
    closed: OnceLock<()>,
}

impl MemoryQueue {
    /// An empty queue of that name, with a lease of 30 s.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let shared = Shared {
            name: name.into(),
            began: Instant::now(),
            jobs: Mutex::default(),
            news: Notify::new(),
        };
        Self { shared: Arc::new(shared), me: Arc::new(Claimant::new()), lease: LEASE }
    }

    /// With that lease for what this value and its clones claim, a hundred years at most.
    /// Default: 30 s.
    #[must_use]
    pub fn lease(self, period: Duration) -> Self {
        Self { lease: period.min(Duration::from_nanos(FAR)), ..self }
    }

    /// Another claiming identity on the same jobs, as if of another process. It is open, also
    /// when this one is closed.
    #[must_use]
    pub fn claimant(&self) -> Self {
        Self { me: Arc::new(Claimant::new()), ..self.clone() }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // A panic in here is a bug of ours; what others have put in is still theirs.
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        ns(self.shared.began.elapsed())
    }

    fn at(&self, at: u64) -> Instant {
        self.shared.began + Duration::from_nanos(at)
    }

    fn open(&self) -> Result<(), QueueError> {
        if self.me.closed.get().is_some() { Err(QueueError::Closed) } else { Ok(()) }
    }

    /// Takes what can be taken now.
    fn take(&self, max: NonZeroUsize) -> Vec<Claimed> {
        let mut claimed = Vec::new();
        let now = self.now();
        let end = now.saturating_add(ns(self.lease)).min(FAR);
        let ends = self.at(end);
        self.jobs().claim(max, self.me.number, now, end, |job| {
            let claim = Claimed::new(job.receipt(), job.kind.clone(), job.payload.clone());
            let claim = claim.headers(job.headers.clone()).checkpoint(job.checkpoint.clone());
            claimed.push(claim.attempt(job.attempts).returns(job.returns).lease_ends(ends));
        });
        claimed
    }

    /// Settles each of `items`, if this identity is open.
    fn settle<T>(
        &self,
        items: &[T],
        mut one: impl FnMut(&mut Jobs, &T, u64) -> bool,
    ) -> Vec<Settled> {
        if self.open().is_err() {
            return items.iter().map(|_| Settled::Retry(QueueError::Closed)).collect();
        }
        let now = self.now();
        let mut jobs = self.jobs();
        let answer = |was_held| if was_held { Settled::Done } else { Settled::Lost };
        items.iter().map(|item| answer(one(&mut jobs, item, now))).collect()
    }
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("MemoryQueue");
        shown.field("name", &self.shared.name).field("claimant", &self.me.number);
        shown.field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Queue for MemoryQueue {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::full(Lease::Timed { period: self.lease, longest: None })
    }

    async fn ping(&self) -> Result<(), QueueError> {
        self.open()
    }

    async fn push(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        self.open()?;
        let pushed = {
            let now = self.now();
            let mut all = self.jobs();
            jobs.iter().map(|job| all.push(job, now)).collect()
        };
        self.shared.news.notify_waiters();
        Ok(pushed)
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        self.open()?;
        let claimed = self.take(max);
        if !claimed.is_empty() || wait.is_zero() {
            return Ok(claimed);
        }
        let until = self.at(self.now().saturating_add(ns(wait)).min(FAR));
        let mut interrupt = pin!(self.me.interrupt.notified());
        interrupt.as_mut().enable();
        // Bound: until `until`.
        loop {
            let mut news = pin!(self.shared.news.notified());
            news.as_mut().enable();
            self.open()?;
            let claimed = self.take(max);
            if !claimed.is_empty() || Instant::now() >= until {
                return Ok(claimed);
            }
            let next = self.jobs().next().map_or(until, |at| self.at(at.min(FAR)).min(until));
            tokio::select! {
                () = news => {}
                () = sleep_until(next) => {}
                () = &mut interrupt => {
                    self.open()?;
                    return Ok(Vec::new());
                }
            }
        }
    }

    async fn interrupt(&self) {
        self.me.interrupt.notify_waiters();
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Settled> {
        self.settle(receipts, |jobs, receipt, _| jobs.ack(receipt, self.me.number))
    }

    async fn release(&self, jobs: &[Release]) -> Vec<Settled> {
        let settled = self.settle(jobs, |all, job, now| all.release(job, self.me.number, now));
        self.shared.news.notify_waiters();
        settled
    }

    async fn fail(&self, jobs: &[Fail]) -> Vec<Settled> {
        let settled = self.settle(jobs, |all, job, now| all.fail(job, self.me.number, now));
        self.shared.news.notify_waiters();
        settled
    }

    async fn extend(&self, jobs: &[Extend]) -> Vec<Extended> {
        if self.open().is_err() {
            return jobs.iter().map(|_| Extended::Retry(QueueError::Closed)).collect();
        }
        let end = self.now().saturating_add(ns(self.lease)).min(FAR);
        let mut all = self.jobs();
        let one = |job: &Extend| {
            let checkpoint = job.checkpoint.as_ref();
            if all.extend(&job.receipt, checkpoint, self.me.number, end) {
                Extended::Until(self.at(end))
            } else {
                Extended::Lost
            }
        };
        jobs.iter().map(one).collect()
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        self.open()?;
        Ok(self.jobs().stats(self.now()))
    }

    async fn dead(&self, max: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        self.open()?;
        Ok(self.jobs().dead(max))
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.me.closed.get_or_init(|| ());
        self.me.interrupt.notify_waiters();
        Ok(())
    }
}

impl Claimant {
    fn new() -> Self {
        Self { number: fastrand::u64(..), interrupt: Notify::new(), closed: OnceLock::new() }
    }
}

/// In nanoseconds; what is further away than [`FAR`] is that far.
fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(FAR).min(FAR)
}

const LEASE: Duration = Duration::from_secs(30);
/// A hundred years: nothing waits longer, and no sum of it and a time of today overflows.
const FAR: u64 = 100 * 365 * 24 * 3600 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;
    use crate::queue::Next;

    const SECOND: Duration = Duration::from_secs(1);
    const ONE: NonZeroUsize = NonZeroUsize::MIN;

    async fn with_jobs(count: usize) -> MemoryQueue {
        let queue = MemoryQueue::new("test");
        let jobs: Vec<_> = (0..count).map(|at| Push::new("job", at.to_string())).collect();
        assert_eq!(queue.push(&jobs).await.unwrap().len(), count);
        queue
    }

    async fn claim(queue: &MemoryQueue, wait: Duration) -> Option<Claimed> {
        queue.claim(ONE, wait).await.unwrap().pop()
    }

    fn release(job: &Claimed) -> Release {
        Release::unstarted(job.receipt.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_waits_is_woken_by_a_push_a_release_and_a_retry() {
        let queue = with_jobs(0).await;
        let other = queue.claimant();
        let mut waits = task::spawn(queue.claim(ONE, SECOND));
        assert_pending!(waits.poll());
        other.push(&[Push::new("job", "x")]).await.unwrap();
        assert!(waits.is_woken());
        let job = assert_ready!(waits.poll()).unwrap().remove(0);
        let mut waits = task::spawn(other.claim(ONE, SECOND));
        assert_pending!(waits.poll());
        assert!(queue.release(&[release(&job)]).await[0].is_done());
        assert!(waits.is_woken());
        let job = assert_ready!(waits.poll()).unwrap().remove(0);
        let mut waits = task::spawn(queue.claim(ONE, SECOND));
        assert_pending!(waits.poll());
        let retry = Fail::new(job.receipt, "no", Next::Retry(Duration::ZERO));
        assert!(other.fail(&[retry]).await[0].is_done());
        assert!(waits.is_woken());
        assert_eq!(assert_ready!(waits.poll()).unwrap()[0].attempt, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_waits_has_what_becomes_due_when_it_does_and_ends_in_time() {
        let queue = with_jobs(0).await.lease(3 * SECOND);
        let began = Instant::now();
        assert!(claim(&queue, SECOND).await.is_none());
        assert_eq!(began.elapsed(), SECOND);
        queue.push(&[Push::new("job", "x").delay(2 * SECOND)]).await.unwrap();
        let job = claim(&queue, 10 * SECOND).await.unwrap();
        assert_eq!((began.elapsed(), job.attempt), (3 * SECOND, 1));
        assert_eq!(job.lease_ends, Some(began + 6 * SECOND));
        let again = claim(&queue.claimant(), 10 * SECOND).await.unwrap();
        assert_eq!((began.elapsed(), again.attempt, again.returns), (6 * SECOND, 2, 0));
        assert!(queue.ack(&[job.receipt]).await[0].is_lost());
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupt_ends_the_claim_that_waits_and_no_later_one() {
        let queue = with_jobs(0).await;
        let mut waits = task::spawn(queue.claim(ONE, SECOND));
        assert_pending!(waits.poll());
        queue.claimant().interrupt().await;
        assert!(!waits.is_woken(), "another identity's");
        queue.clone().interrupt().await;
        assert!(assert_ready!(waits.poll()).unwrap().is_empty());
        let mut waits = task::spawn(queue.claim(ONE, SECOND));
        assert_pending!(waits.poll());
        queue.close().await.unwrap();
        assert!(matches!(assert_ready!(waits.poll()), Err(QueueError::Closed)));
        assert!(queue.claimant().ping().await.is_ok(), "another identity's");
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_is_dropped_has_taken_nothing() {
        let queue = with_jobs(0).await;
        let mut waits = task::spawn(queue.claim(ONE, SECOND));
        assert_pending!(waits.poll());
        queue.push(&[Push::new("job", "x")]).await.unwrap();
        assert!(waits.is_woken());
        drop(waits);
        assert_eq!(claim(&queue, Duration::ZERO).await.unwrap().attempt, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_ended_is_good_until_another_claims() {
        let queue = with_jobs(2).await.lease(SECOND);
        let jobs = queue.claim(NonZeroUsize::new(2).unwrap(), SECOND).await.unwrap();
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(queue.stats().await.unwrap().ready, 2);
        let extended = queue.extend(&[Extend::new(jobs[0].receipt.clone())]).await;
        let until = Instant::now() + SECOND;
        assert!(matches!(extended[0], Extended::Until(at) if at == until), "{extended:?}");
        assert_eq!(queue.stats().await.unwrap().running, 1);
        assert!(queue.ack(&[jobs[1].receipt.clone()]).await[0].is_done());
        assert!(queue.ack(&[jobs[0].receipt.clone()]).await[0].is_done());
        assert_eq!(queue.stats().await.unwrap().done, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receipt_is_its_identity_s_own_and_a_clone_s() {
        let queue = with_jobs(1).await;
        let job = claim(&queue, Duration::ZERO).await.unwrap();
        assert!(queue.claimant().ack(std::slice::from_ref(&job.receipt)).await[0].is_lost());
        assert!(queue.clone().ack(std::slice::from_ref(&job.receipt)).await[0].is_done());
        // The next job has its slot, and as many claims.
        queue.push(&[Push::new("job", "y")]).await.unwrap();
        let next = claim(&queue, Duration::ZERO).await.unwrap();
        assert_eq!(next.receipt.number(), job.receipt.number());
        assert!(queue.ack(&[job.receipt]).await[0].is_lost());
        assert!(queue.ack(&[next.receipt]).await[0].is_done());
    }

    #[tokio::test(start_paused = true)]
    async fn no_duration_is_too_long() {
        let queue = MemoryQueue::new("test").lease(Duration::MAX);
        let never = Push::new("job", "x").delay(Duration::MAX).dedupe_for("x", Duration::MAX);
        let pushed = queue.push(&[never.clone(), never, Push::new("job", "y")]).await.unwrap();
        assert_eq!([true, false, true], [0, 1, 2].map(|at: usize| pushed[at].is_new()));
        let job = claim(&queue, Duration::MAX).await.unwrap();
        assert!(job.lease_ends.unwrap() > Instant::now() + 1000 * SECOND);
        let back = release(&job).delay(Duration::MAX);
        assert!(queue.release(&[back]).await[0].is_done());
        assert_eq!(queue.stats().await.unwrap().scheduled, 2);
        assert!(claim(&queue, 100 * SECOND).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_are_gone_with_the_last_handle() {
        struct Told {
            _alive: Arc<()>,
        }
        impl AsRef<[u8]> for Told {
            fn as_ref(&self) -> &[u8] {
                b"payload"
            }
        }
        let alive = Arc::new(());
        let queue = MemoryQueue::new("test");
        let other = queue.claimant();
        let payload = Bytes::from_owner(Told { _alive: alive.clone() });
        queue.push(&[Push::new("job", payload)]).await.unwrap();
        queue.close().await.unwrap();
        drop(queue);
        assert_eq!(Arc::strong_count(&alive), 2, "the other identity has it");
        assert_eq!(&*claim(&other, Duration::ZERO).await.unwrap().payload, b"payload");
        drop(other);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
