//! A queue in memory that is broken in one way.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lifecycle_worker::{
    Capabilities, Claimed, DeadJob, Dedupe, Extend, Extended, Fail, JobId, MemoryQueue, Next, Push,
    Pushed, Queue, QueueError, Receipt, Release, Settled, Stats,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// In which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    AckAnswersInReverse,
    AckByAnyoneCounts,
    AckByOldClaimCounts,
    AckOfManyIsCut,
    AckTwiceIsRetry,
    CheckpointIsDropped,
    ClaimIsNotWoken,
    ClaimIsNotWokenByRelease,
    ClaimReverses,
    ClaimWaitsTooLittle,
    ClaimsTwice,
    CloseDoesNothing,
    /// No fault: a broker of connections, which does not answer.
    ConnectionIsLease,
    DeadComesAgain,
    DeadIsOldestFirst,
    DedupeForgets,
    DelayIsIgnored,
    ExtendByAnyoneCounts,
    ExtendDoesNothing,
    FailByAnyoneCounts,
    HeadersAreDropped,
    InterruptDoesNothing,
    InterruptLosesJob,
    LeaseNeverEnds,
    LeaseIsNotTold,
    NameDiffers,
    None,
    NoDeadLetters,
    NoDedupe,
    NoRelease,
    NoStats,
    PanicsOnEmptyAck,
    PriorityIsIgnored,
    ReleaseByAnyoneCounts,
    ReleaseCounts,
    ReleaseDelayIsIgnored,
    RetryComesEarly,
    /// No fault: a broker that is far away.
    Slow,
    StatsForgetReturns,
}

/// One claiming identity of it.
pub(crate) struct Broken {
    inner: MemoryQueue,
    fault: Fault,
    declared: Capabilities,
    /// Whether it is the first of the two.
    is_first: bool,
    shared: Arc<Shared>,
    interrupted: AtomicBool,
    interrupt: Notify,
}

/// What both identities know.
#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    pushed: Notify,
}

#[derive(Default)]
struct Seen {
    /// The newest claim of each job: its receipt, whose it is, when its lease ends.
    newest: HashMap<JobId, (Receipt, MemoryQueue, Instant)>,
    claims: usize,
    jobs: usize,
    again: Option<Claimed>,
    has_acked: bool,
}

impl Broken {
    /// Two identities of a queue that is broken in that way and declares what `declare` makes of
    /// the truth.
    pub(crate) fn pair(
        name: String,
        lease: Duration,
        fault: Fault,
        declare: fn(Capabilities) -> Capabilities,
    ) -> (Self, Self) {
        let honest = MemoryQueue::new(name).lease(lease);
        let declared = declare(honest.capabilities());
        let never_ends = fault == Fault::LeaseNeverEnds || declared.lease_period().is_none();
        let lease = if never_ends { HOUR } else { lease };
        let first = honest.lease(lease);
        let second = first.claimant();
        let shared = Arc::new(Shared::default());
        let identity = |inner, is_first| Self {
            inner,
            fault,
            declared,
            is_first,
            shared: shared.clone(),
            interrupted: AtomicBool::new(false),
            interrupt: Notify::new(),
        };
        (identity(first, true), identity(second, false))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.seen.lock().expect("nothing panics that holds it")
    }

    /// The way to the broker, or back.
    async fn travel(&self) {
        if self.fault == Fault::Slow {
            sleep(TRAVEL).await;
        }
    }

    fn period(&self) -> Duration {
        self.declared.lease_period().unwrap_or(HOUR)
    }

    /// Looks now, and then only now and then.
    async fn claim_now_and_then(
        &self,
        max: NonZeroUsize,
        wait: Duration,
    ) -> Result<Vec<Claimed>, QueueError> {
        let until = Instant::now() + wait;
        loop {
            let claimed = self.inner.claim(max, Duration::ZERO).await?;
            let left = until.saturating_duration_since(Instant::now());
            if !claimed.is_empty() || left.is_zero() {
                return Ok(claimed);
            }
            tokio::select! {
                () = sleep(left.min(SELDOM)) => {}
                () = self.interrupt.notified() => return Ok(Vec::new()),
                () = self.shared.pushed.notified(),
                    if self.fault == Fault::ClaimIsNotWokenByRelease => {}
            }
        }
    }

    /// Notes what was claimed, and gives a job of a long run twice.
    fn note(&self, claimed: &mut Vec<Claimed>, max: NonZeroUsize) {
        let mut seen = self.seen();
        seen.claims += usize::from(!claimed.is_empty());
        seen.jobs += claimed.len();
        for job in claimed.iter() {
            let ends = Instant::now() + self.period();
            let newest = (job.receipt.clone(), self.inner.clone(), ends);
            seen.newest.insert(job.receipt.id().clone(), newest);
        }
        if self.fault == Fault::ClaimsTwice && seen.jobs > 1000 && seen.claims > 50 {
            let first = claimed.first().cloned();
            if claimed.len() < max.get() {
                claimed.extend(seen.again.take());
            }
            seen.again = seen.again.take().or(first);
        }
    }

    /// Acknowledges whatever claim is the newest, if it is the other identity's or its own.
    async fn ack_newest(&self, receipt: &Receipt) -> Settled {
        let newest = self.seen().newest.get(receipt.id()).cloned();
        let Some((newest, holder, _)) = newest else { return Settled::Lost };
        let settled = holder.ack(&[newest]).await.remove(0);
        if settled.is_done() {
            self.seen().newest.remove(receipt.id());
        }
        settled
    }

    /// The newest claim of a job, and whose it is, if it is the other identity's.
    fn of_other(&self, receipt: &Receipt) -> Option<(Receipt, MemoryQueue)> {
        let newest = self.seen().newest.get(receipt.id()).cloned();
        let (newest, holder, _) = newest?;
        (!is_same(&holder, &self.inner)).then_some((newest, holder))
    }

    fn is_held_by_self(&self, receipt: &Receipt) -> bool {
        let seen = self.seen();
        let newest = seen.newest.get(receipt.id());
        newest.is_some_and(|(_, holder, _)| is_same(holder, &self.inner))
    }

    async fn ack_one(&self, receipt: &Receipt) -> Settled {
        let is_own = self.is_held_by_self(receipt);
        match self.fault {
            Fault::AckByAnyoneCounts if !is_own => self.ack_newest(receipt).await,
            Fault::AckByOldClaimCounts if is_own => self.ack_newest(receipt).await,
            Fault::AckTwiceIsRetry => {
                let settled = self.inner.ack(std::slice::from_ref(receipt)).await.remove(0);
                let seen = self.seen();
                let is_newest = seen.newest.get(receipt.id()).is_some_and(|n| n.0 == *receipt);
                if settled.is_lost() && is_newest {
                    return Settled::Retry(QueueError::unavailable("try again"));
                }
                settled
            }
            _ => self.inner.ack(std::slice::from_ref(receipt)).await.remove(0),
        }
    }

    /// The job as this queue lets it in.
    fn changed(&self, job: &Push) -> Push {
        let fault = self.fault;
        let mut changed = Push::new(job.kind(), job.payload().clone());
        if fault != Fault::HeadersAreDropped {
            for (name, value) in job.headers() {
                changed = changed.header(name, value);
            }
        }
        if fault != Fault::DelayIsIgnored {
            changed = changed.delay(job.delayed_by());
        }
        if fault != Fault::PriorityIsIgnored {
            changed = changed.priority(job.priority_value());
        }
        let forgets = fault == Fault::DedupeForgets && self.seen().has_acked;
        match job.dedupe_key() {
            Some(Dedupe { key, period, .. }) if !forgets && fault != Fault::NoDedupe => {
                changed.dedupe_for(key, *period)
            }
            _ => changed,
        }
    }
}

impl Queue for Broken {
    fn name(&self) -> &str {
        if self.fault == Fault::NameDiffers && !self.is_first {
            return "other";
        }
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.declared
    }

    async fn ping(&self) -> Result<(), QueueError> {
        self.travel().await;
        self.inner.ping().await
    }

    async fn push(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        self.travel().await;
        let jobs: Vec<_> = jobs.iter().map(|job| self.changed(job)).collect();
        let pushed = self.inner.push(&jobs).await;
        self.shared.pushed.notify_waiters();
        pushed
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        self.travel().await;
        self.interrupted.store(false, Relaxed);
        let mut claimed = match self.fault {
            Fault::ClaimIsNotWoken | Fault::ClaimIsNotWokenByRelease => {
                self.claim_now_and_then(max, wait).await?
            }
            Fault::ClaimWaitsTooLittle => {
                self.inner.claim(max, wait.min(Duration::from_millis(20))).await?
            }
            _ => self.inner.claim(max, wait).await?,
        };
        self.note(&mut claimed, max);
        self.travel().await;
        match self.fault {
            Fault::ClaimReverses => claimed.reverse(),
            Fault::InterruptLosesJob if self.interrupted.load(Relaxed) => claimed.clear(),
            Fault::LeaseNeverEnds => {
                for job in &mut claimed {
                    job.lease_ends = Some(Instant::now() + self.period());
                }
            }
            Fault::ConnectionIsLease | Fault::LeaseIsNotTold => {
                claimed.iter_mut().for_each(|job| job.lease_ends = None);
            }
            Fault::ReleaseCounts => {
                claimed.iter_mut().for_each(|job| job.attempt += job.returns);
            }
            _ => {}
        }
        Ok(claimed)
    }

    async fn interrupt(&self) {
        self.travel().await;
        self.interrupted.store(true, Relaxed);
        self.interrupt.notify_waiters();
        if self.fault != Fault::InterruptDoesNothing {
            self.inner.interrupt().await;
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Settled> {
        self.travel().await;
        assert!(self.fault != Fault::PanicsOnEmptyAck || !receipts.is_empty(), "nothing to ack");
        self.seen().has_acked = true;
        let mut settled = Vec::new();
        for receipt in receipts {
            settled.push(self.ack_one(receipt).await);
        }
        match self.fault {
            Fault::AckAnswersInReverse => settled.reverse(),
            Fault::AckOfManyIsCut => settled.truncate(500),
            Fault::ConnectionIsLease => return unanswered(receipts),
            _ => {}
        }
        settled
    }

    async fn release(&self, jobs: &[Release]) -> Vec<Settled> {
        self.travel().await;
        let mut jobs = jobs.to_vec();
        for job in &mut jobs {
            match self.fault {
                Fault::CheckpointIsDropped => job.checkpoint = None,
                Fault::ReleaseDelayIsIgnored => job.delay = Duration::ZERO,
                _ => {}
            }
        }
        if self.fault == Fault::NoRelease {
            return jobs.iter().map(|_| Settled::Unsupported).collect();
        }
        let mut settled = self.inner.release(&jobs).await;
        if self.fault == Fault::ReleaseByAnyoneCounts {
            for (job, settled) in jobs.iter_mut().zip(&mut settled) {
                let Some((newest, holder)) = self.of_other(&job.receipt) else { continue };
                job.receipt = newest;
                *settled = holder.release(std::slice::from_ref(job)).await.remove(0);
            }
        }
        if self.fault == Fault::ConnectionIsLease { unanswered(&jobs) } else { settled }
    }

    async fn fail(&self, jobs: &[Fail]) -> Vec<Settled> {
        self.travel().await;
        let mut jobs = jobs.to_vec();
        let mut again = 0;
        for job in &mut jobs {
            match (self.fault, job.next) {
                (Fault::CheckpointIsDropped, _) => job.checkpoint = None,
                (Fault::RetryComesEarly, Next::Retry(_)) => job.next = Next::Retry(Duration::ZERO),
                (Fault::DeadComesAgain, Next::Dead) => again += 1,
                _ => {}
            }
        }
        let mut settled = self.inner.fail(&jobs).await;
        if self.fault == Fault::FailByAnyoneCounts {
            for (job, settled) in jobs.iter_mut().zip(&mut settled) {
                let Some((newest, holder)) = self.of_other(&job.receipt) else { continue };
                job.receipt = newest;
                *settled = holder.fail(std::slice::from_ref(job)).await.remove(0);
            }
        }
        for _ in 0..again {
            let job = Push::new("again", "x").delay(Duration::from_secs(1));
            // A queue that is closed has nothing more to get wrong.
            drop(self.inner.push(&[job]).await);
        }
        if self.fault == Fault::ConnectionIsLease { unanswered(&jobs) } else { settled }
    }

    async fn extend(&self, jobs: &[Extend]) -> Vec<Extended> {
        self.travel().await;
        if self.fault == Fault::ConnectionIsLease {
            return jobs.iter().map(|_| Extended::Unsupported).collect();
        }
        let mut extended = Vec::new();
        for job in jobs {
            let mut job = job.clone();
            if self.fault == Fault::CheckpointIsDropped {
                job.checkpoint = None;
            }
            let seen = self.seen().newest.get(job.receipt.id()).cloned();
            let mut inner = match (self.fault, seen) {
                (Fault::ExtendDoesNothing, Some((.., ends))) => {
                    self.inner.clone().lease(ends.saturating_duration_since(Instant::now()))
                }
                _ => self.inner.clone(),
            };
            if self.fault == Fault::ExtendByAnyoneCounts
                && let Some((newest, holder)) = self.of_other(&job.receipt)
            {
                (job.receipt, inner) = (newest, holder);
            }
            extended.push(match inner.extend(&[job]).await.remove(0) {
                Extended::Until(_) if self.fault != Fault::Slow => {
                    Extended::Until(Instant::now() + self.period())
                }
                other => other,
            });
        }
        extended
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        self.travel().await;
        let mut stats = self.inner.stats().await?;
        match self.fault {
            Fault::NoStats => return Err(QueueError::Unsupported { what: "stats".into() }),
            Fault::StatsForgetReturns => stats.returns = 0,
            _ => {}
        }
        Ok(stats)
    }

    async fn dead(&self, max: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        self.travel().await;
        let mut dead = self.inner.dead(max).await?;
        match self.fault {
            Fault::NoDeadLetters => {
                return Err(QueueError::Unsupported { what: "dead letters".into() });
            }
            Fault::DeadIsOldestFirst => dead.reverse(),
            _ => {}
        }
        Ok(dead)
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.travel().await;
        if self.fault == Fault::CloseDoesNothing && self.is_first {
            return Ok(());
        }
        if self.fault == Fault::ConnectionIsLease {
            // Its jobs are claimable again, their attempts counted; what is settled is Lost.
            let own = |(receipt, holder, _): &(Receipt, MemoryQueue, Instant)| {
                let back = Fail::new(receipt.clone(), "gone", Next::Retry(Duration::ZERO));
                is_same(holder, &self.inner).then_some(back)
            };
            let held: Vec<_> = self.seen().newest.values().filter_map(own).collect();
            drop(self.inner.fail(&held).await);
        }
        self.inner.close().await
    }
}

fn is_same(one: &MemoryQueue, other: &MemoryQueue) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

fn unanswered<T>(items: &[T]) -> Vec<Settled> {
    items.iter().map(|_| Settled::Done).collect()
}

/// Longer than any check lasts.
const HOUR: Duration = Duration::from_secs(3600);
const TRAVEL: Duration = Duration::from_millis(30);
/// How often a queue looks that is told of nothing.
const SELDOM: Duration = Duration::from_millis(2500);
