//! Two identities of a queue under test, with every call bounded and every surprise told.
//!
//! Not here: what is checked.

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::pace::Pace;
use crate::capabilities::{Capabilities, Lease};
use crate::claimed::{Claimed, JobId, Receipt};
use crate::error::{QueueError, chain};
use crate::push::{Push, Pushed};
use crate::queue::{Extend, Extended, Fail, Next, Queue, Release, Settled};

/// Why a check ends before its end.
#[derive(Debug)]
pub(super) enum Stop {
    Failed(String),
    Skipped(String),
}

pub(super) type Checked<T = ()> = Result<T, Stop>;

/// The check fails, with what was seen.
pub(super) fn failed<T>(seen: impl Into<String>) -> Checked<T> {
    Err(Stop::Failed(seen.into()))
}

/// The check says nothing of this queue.
pub(super) fn skipped<T>(why: impl Into<String>) -> Checked<T> {
    Err(Stop::Skipped(why.into()))
}

/// What was not declared was kept all the same.
pub(super) fn kept_undeclared<T>(what: &str) -> Checked<T> {
    failed(format!("{what} is kept, and not declared"))
}

pub(super) fn ensure(holds: bool, seen: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { failed(seen()) }
}

#[allow(clippy::needless_pass_by_value, reason = "most of what is compared is made for it")]
pub(super) fn ensure_eq<T: PartialEq + fmt::Debug>(what: &str, seen: T, expected: T) -> Checked {
    ensure(seen == expected, || format!("{what}: {seen:?}, expected {expected:?}"))
}

/// The queue under test, as two processes have it.
pub(super) struct Bench<Q> {
    pub(super) first: Party<Q>,
    pub(super) second: Party<Q>,
    pub(super) can: Capabilities,
}

impl<Q> Clone for Bench<Q> {
    fn clone(&self) -> Self {
        Self { first: self.first.clone(), second: self.second.clone(), can: self.can }
    }
}

impl<Q: Queue> Bench<Q> {
    pub(super) fn new(first: Q, second: Q, pace: &Pace) -> Self {
        let can = first.capabilities();
        let party = |who, queue| Party { who, queue: Arc::new(queue), can, pace: pace.clone() };
        Self { first: party("first", first), second: party("second", second), can }
    }

    /// Closes both, whatever they answer: what closing has to do is a check of its own.
    pub(super) async fn close(&self) {
        let bound = self.can.call_bound + SLACK;
        let both = async { tokio::join!(self.first.queue.close(), self.second.queue.close()) };
        drop(timeout(bound, both).await);
    }

    /// Lets all that the first identity has end: by time, or with its connection.
    pub(super) async fn end_leases(&self) -> Checked {
        match self.can.lease {
            Lease::Timed { period, .. } => sleep(period).await,
            Lease::Connection => self.first.close().await?,
        }
        Ok(())
    }

    /// How long a job may take to be claimable after its lease has ended; after the end of a
    /// connection that is a call.
    pub(super) fn sweep(&self) -> Duration {
        self.can.lease_period().unwrap_or(self.can.call_bound) + SLACK
    }
}

/// One claiming identity of the queue under test.
pub(super) struct Party<Q> {
    who: &'static str,
    pub(super) queue: Arc<Q>,
    can: Capabilities,
    pace: Pace,
}

impl<Q> Clone for Party<Q> {
    fn clone(&self) -> Self {
        let (queue, pace) = (self.queue.clone(), self.pace.clone());
        Self { who: self.who, queue, can: self.can, pace }
    }
}

impl<Q: Queue> Party<Q> {
    /// What a call answers, if it does within the queue's bound and `wait`.
    pub(super) async fn within<T>(
        &self,
        call: &str,
        wait: Duration,
        future: impl Future<Output = T>,
    ) -> Checked<T> {
        let bound = wait + self.can.call_bound + SLACK;
        let began = Instant::now();
        let answer = timeout(bound, future).await;
        self.pace.lost(began.elapsed().saturating_sub(wait));
        match answer {
            Ok(answer) => Ok(answer),
            Err(_) => {
                let (who, bound) = (self.who, bound.as_millis());
                failed(format!("{call} of the {who} identity: no answer within {bound} ms"))
            }
        }
    }

    pub(super) async fn try_push(&self, jobs: &[Push]) -> Checked<Result<Vec<Pushed>, QueueError>> {
        self.within("push", Duration::ZERO, self.queue.push(jobs)).await
    }

    pub(super) async fn push_all(&self, jobs: &[Push]) -> Checked<Vec<Pushed>> {
        let pushed = self.answer("push", self.try_push(jobs).await?)?;
        ensure_eq("answers to a push", pushed.len(), jobs.len())?;
        Ok(pushed)
    }

    /// Pushes jobs that have to be new.
    pub(super) async fn push(&self, jobs: &[Push]) -> Checked<Vec<JobId>> {
        let pushed = self.push_all(jobs).await?;
        let ids: Vec<_> = pushed.iter().filter_map(|one| one.id().cloned()).collect();
        ensure_eq("new jobs of a push", ids.len(), jobs.len())?;
        Ok(ids)
    }

    /// Pushes so many jobs, with payloads "0", "1" and so on.
    pub(super) async fn push_numbered(&self, count: usize) -> Checked<Vec<JobId>> {
        let jobs: Vec<_> = (0..count).map(|at| Push::new("check", at.to_string())).collect();
        self.push(&jobs).await
    }

    pub(super) async fn claim(&self, max: usize, wait: Duration) -> Checked<Vec<Claimed>> {
        let claimed = self.claim_only(max, wait).await?;
        if claimed.is_empty() {
            // A queue that does not wait must not turn the suite's loops into busy ones.
            sleep(PAUSE).await;
        }
        Ok(claimed)
    }

    /// Claims, and does nothing else.
    pub(super) async fn claim_only(&self, max: usize, wait: Duration) -> Checked<Vec<Claimed>> {
        let most = NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        let answer = self.within("claim", wait, self.queue.claim(most, wait)).await?;
        let claimed = self.answer("claim", answer)?;
        ensure(claimed.len() <= max, || format!("a claim of {max} gave {}", claimed.len()))?;
        Ok(claimed)
    }

    /// Claims on a task of its own: what it answered, and when.
    pub(super) fn park(&self, wait: Duration) -> JoinHandle<Checked<(Vec<Claimed>, Instant)>> {
        let party = self.clone();
        tokio::spawn(async move {
            let claimed = party.claim(1, wait).await?;
            Ok((claimed, Instant::now()))
        })
    }

    /// Claims until it has `count` jobs, which have to come within `patience`.
    pub(super) async fn gather_in(
        &self,
        count: usize,
        patience: Duration,
    ) -> Checked<Vec<Claimed>> {
        let until = Instant::now() + patience;
        let mut all = Vec::new();
        // Bound: `until`, and a claim that is empty has waited for it or asks again.
        while all.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            let claimed = self.claim(count - all.len(), left).await?;
            if claimed.is_empty() && left.is_zero() {
                let (who, found, waited) = (self.who, all.len(), patience.as_millis());
                return failed(format!(
                    "the {who} identity got {found} of {count} jobs in {waited} ms"
                ));
            }
            all.extend(claimed);
        }
        Ok(all)
    }

    pub(super) async fn gather(&self, count: usize) -> Checked<Vec<Claimed>> {
        self.gather_in(count, self.can.call_bound + SLACK).await
    }

    pub(super) async fn one(&self) -> Checked<Claimed> {
        match self.gather(1).await?.pop() {
            Some(claimed) => Ok(claimed),
            None => failed("no job"),
        }
    }

    /// The job that is claimable now, if one is. How slow the claims themselves are says nothing.
    pub(super) async fn at_once(&self) -> Checked<Option<Claimed>> {
        let mut claimed = self.claim(1, PROMPT).await?;
        if claimed.is_empty() {
            claimed = self.claim(1, Duration::ZERO).await?;
        }
        Ok(claimed.pop())
    }

    /// The job that has to be claimable now: a broker on a busy machine may show it later.
    pub(super) async fn soon(&self) -> Checked<Option<Claimed>> {
        let half = self.can.lease_period().map_or(SLACK, |period| period / 2);
        // Before a lease that the job may have ends by itself.
        let until = Instant::now() + SLACK.min(half);
        // Bound: `until`.
        loop {
            let mut claimed = self.claim(1, PROMPT).await?;
            if !claimed.is_empty() || Instant::now() >= until {
                return Ok(claimed.pop());
            }
        }
    }

    /// That nothing is claimable.
    pub(super) async fn none(&self, after: &str) -> Checked {
        let claimed = self.claim(1, PROMPT).await?;
        ensure(claimed.is_empty(), || format!("after {after} {} is claimable", shown(&claimed)))
    }

    /// The job that becomes claimable at `due`, by a clock that may differ a little, not before.
    pub(super) async fn not_before(&self, due: Instant, what: &str) -> Checked<Claimed> {
        let early = due - TOLERANCE;
        // Bound: `early`.
        while Instant::now() + PROMPT < early {
            let claimed = self.claim(1, PROMPT / 2).await?;
            let ahead = early.saturating_duration_since(Instant::now()).as_millis();
            // A claim may have lasted until it was time.
            if let Some(claimed) = claimed.into_iter().next() {
                ensure(ahead == 0, || format!("{what}: claimable {ahead} ms too early"))?;
                return Ok(claimed);
            }
        }
        let claimed = self.one().await?;
        let ahead = early.saturating_duration_since(Instant::now());
        ensure(ahead.is_zero(), || {
            format!("{what}: claimable {} ms too early", ahead.as_millis())
        })?;
        let late = Instant::now().saturating_duration_since(due);
        ensure(late <= LATE_MOST, || format!("{what}: claimable {} ms late", late.as_millis()))?;
        Ok(claimed)
    }

    pub(super) async fn ack(&self, jobs: &[&Claimed]) -> Checked<Vec<Settled>> {
        let receipts: Vec<_> = jobs.iter().map(|job| job.receipt.clone()).collect();
        let settled = self.within("ack", Duration::ZERO, self.queue.ack(&receipts)).await?;
        ensure_eq("answers to an ack", settled.len(), jobs.len())?;
        Ok(settled)
    }

    pub(super) async fn release(&self, jobs: &[Release]) -> Checked<Vec<Settled>> {
        let settled = self.within("release", Duration::ZERO, self.queue.release(jobs)).await?;
        ensure_eq("answers to a release", settled.len(), jobs.len())?;
        Ok(settled)
    }

    pub(super) async fn fail(&self, jobs: &[Fail]) -> Checked<Vec<Settled>> {
        let settled = self.within("fail", Duration::ZERO, self.queue.fail(jobs)).await?;
        ensure_eq("answers to a fail", settled.len(), jobs.len())?;
        Ok(settled)
    }

    pub(super) async fn extend(&self, jobs: &[Extend]) -> Checked<Vec<Extended>> {
        let extended = self.within("extend", Duration::ZERO, self.queue.extend(jobs)).await?;
        ensure_eq("answers to an extend", extended.len(), jobs.len())?;
        Ok(extended)
    }

    /// Acknowledges jobs that this identity has.
    pub(super) async fn done(&self, jobs: &[&Claimed]) -> Checked {
        all_done("ack", &self.ack(jobs).await?)
    }

    /// Gives jobs back, as a queue without returns can too: as a failure that is tried again.
    pub(super) async fn give_back(&self, jobs: &[&Claimed]) -> Checked {
        if self.can.release.is_some() {
            let jobs: Vec<_> = jobs.iter().map(|job| Release::unstarted(receipt(job))).collect();
            return all_done("release", &self.release(&jobs).await?);
        }
        let retry = |job: &&Claimed| Fail::new(receipt(job), "back", Next::Retry(Duration::ZERO));
        let jobs: Vec<_> = jobs.iter().map(retry).collect();
        all_done("fail", &self.fail(&jobs).await?)
    }

    pub(super) async fn close(&self) -> Checked {
        let answer = self.within("close", Duration::ZERO, self.queue.close()).await?;
        self.answer("close", answer)
    }

    /// What a call answered, which must be no error.
    pub(super) fn answer<T>(&self, call: &str, answer: Result<T, QueueError>) -> Checked<T> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => failed(format!("{call} of the {} identity: {}", self.who, chain(&error))),
        }
    }

    /// That a receipt that is not the newest is told so.
    pub(super) fn lost(&self, call: &str, settled: &[Settled]) -> Checked {
        let fits = |one: &Settled| one.is_lost() || (!self.can.confirmed && one.is_done());
        let surprise = settled.iter().find(|one| !fits(one));
        surprise.map_or(Ok(()), |one| failed(format!("a lost claim's {call} answers {one:?}")))
    }
}

/// That all have been settled.
pub(super) fn all_done(call: &str, settled: &[Settled]) -> Checked {
    let surprise = settled.iter().find(|one| !one.is_done());
    surprise.map_or(Ok(()), |one| failed(format!("{call} of a held job answers {one:?}")))
}

pub(super) fn receipt(job: &Claimed) -> Receipt {
    job.receipt.clone()
}

pub(super) fn release(job: &Claimed) -> Release {
    Release::unstarted(receipt(job))
}

pub(super) fn retry(job: &Claimed, after: Duration) -> Fail {
    Fail::new(receipt(job), "it failed", Next::Retry(after))
}

pub(super) fn dead(job: &Claimed) -> Fail {
    Fail::new(receipt(job), "it is dead", Next::Dead)
}

pub(super) fn ids(jobs: &[Claimed]) -> Vec<JobId> {
    jobs.iter().map(|job| job.receipt.id().clone()).collect()
}

pub(super) fn payloads(jobs: &[Claimed]) -> Vec<String> {
    jobs.iter().map(|job| String::from_utf8_lossy(&job.payload).into_owned()).collect()
}

/// Jobs by id and payload.
fn shown(jobs: &[Claimed]) -> String {
    let one = |job: &Claimed| {
        format!("job {} ({})", job.receipt.id(), String::from_utf8_lossy(&job.payload))
    };
    jobs.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Until then, however late it is.
pub(super) async fn until(at: Instant) {
    sleep_until(at).await;
}

/// What scheduling may add to the queue's own bounds.
pub(super) const SLACK: Duration = Duration::from_secs(1);
/// Within this a job that is ready is claimable.
pub(super) const PROMPT: Duration = Duration::from_millis(100);
/// How far the broker's clock may be from this process' over a check.
pub(super) const TOLERANCE: Duration = Duration::from_millis(20);
/// How late a job that became due may be.
const LATE_MOST: Duration = Duration::from_secs(3);
pub(super) const PAUSE: Duration = Duration::from_millis(1);
/// Longer than any check lasts.
pub(super) const LONG: Duration = Duration::from_secs(3600);
