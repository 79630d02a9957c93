//! Claiming: a short script, and between two of them a wait on the marker.
//!
//! # Invariants
//! 1. The script's answer is never thrown away: what comes after its bound is kept as *late*,
//!    and its jobs are released by a later call. Only a dropped claim or a broken connection
//!    leaves jobs to their leases.
//! 2. The wait is on a connection of its own, and on the marker alone: to lose it loses no job.
//! 3. A connection is kept only if nothing is under way on it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use redis::{RedisError, Value};
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::codec::{self, Taken};
use super::fault::Fault;
use super::link::{Limit, Node, Waiter};
use super::{JOBS_MOST, LOOK_AGAIN, RedisQueue, millis};
use crate::claimed::Claimed;
use crate::queue::Release;

/// The answers of claims that came after their bound, or may still come.
#[derive(Default)]
pub(super) struct Late {
    answers: Mutex<Vec<LateAnswer>>,
}

struct LateAnswer {
    lease_ends: Instant,
    answer: Answer,
}

impl Late {
    fn add(&self, late: LateAnswer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() < LATE_MOST {
            answers.push(late);
        }
    }

    fn take(&self) -> Vec<LateAnswer> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn clear(&self) {
        drop(self.take());
    }
}

/// Whether whoever asks is going to wait for the marker if there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Leave,
    Wait,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Interrupted,
    LookAgain,
}

impl RedisQueue {
    pub(super) async fn claim_up_to(
        &self,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Claimed>, Fault> {
        let wait = wait.min(WAIT_MOST);
        let ends = Instant::now() + wait;
        let interrupted = self.shared.interrupt.notified();
        tokio::pin!(interrupted);
        // From here on an interrupt is seen, also before the wait begins.
        interrupted.as_mut().enable();
        loop {
            let limit = self.limit().before(ends + self.call_bound);
            let then = if Instant::now() < ends { Then::Wait } else { Then::Leave };
            let Taken { jobs, next } = self.take_up_to(max, then, limit).await?;
            self.settle_late(limit).await;
            let now = Instant::now();
            if !jobs.is_empty() || now >= ends {
                return Ok(jobs);
            }
            let until = ends.min(now + LOOK_AGAIN.min(next.unwrap_or(LOOK_AGAIN)));
            let waited = Box::pin(self.wait(until, limit, interrupted.as_mut())).await?;
            if waited == Waited::Interrupted {
                return Ok(Vec::new());
            }
        }
    }

    /// Claims in several calls, where one would hold up the server.
    async fn take_up_to(&self, max: usize, then: Then, limit: Limit) -> Result<Taken, Fault> {
        let mut taken = self.take(max.min(JOBS_MOST), then, limit).await?;
        let mut full = taken.jobs.len() == JOBS_MOST;
        while full && taken.jobs.len() < max {
            let some = (max - taken.jobs.len()).min(JOBS_MOST);
            // What is there is not given up because of what is not.
            let Ok(more) = self.take(some, Then::Leave, limit).await else { break };
            full = more.jobs.len() == JOBS_MOST;
            taken.jobs.extend(more.jobs);
        }
        Ok(taken)
    }

    async fn take(&self, max: usize, then: Then, limit: Limit) -> Result<Taken, Fault> {
        let node = self.shared.link.node(limit).await?;
        let script = &self.shared.scripts.claim;
        let mut call = self.call(script);
        call.arg(millis(self.lease)).arg(max).arg(MOVED_MOST).arg(CLAIM_BYTES_MOST);
        call.arg(u8::from(then == Then::Wait));
        let lease_ends = Instant::now() + self.lease;
        let mut answer: Answer = Box::pin(node.script(script, call));
        let result = limit.hold(&mut answer).await;
        match &result {
            Err(Fault::TimedOut(_)) => self.shared.late.add(LateAnswer { lease_ends, answer }),
            _ => drop(answer),
        }
        if result.as_ref().is_err_and(Fault::breaks) {
            self.shared.link.lost(&node);
        }
        codec::taken(result?, lease_ends).ok_or(Fault::Shape)
    }

    /// Releases what late answers have brought; what has not come yet is kept while its leases
    /// last.
    pub(super) async fn settle_late(&self, limit: Limit) {
        for mut late in self.shared.late.take() {
            match (&mut late.answer).now_or_never() {
                Some(Ok(answer)) => {
                    let jobs = codec::taken(answer, late.lease_ends).map(|taken| taken.jobs);
                    let jobs = jobs.unwrap_or_default().into_iter();
                    let jobs: Vec<_> = jobs.map(|job| Release::unstarted(job.receipt)).collect();
                    // Whatever becomes of that, their leases cover them.
                    let released =
                        Box::pin(async { Ok::<_, Fault>(self.release_all(&jobs).await) });
                    drop(limit.hold(released).await);
                }
                Some(Err(_)) => {}
                None if late.lease_ends <= Instant::now() => {}
                None => self.shared.late.add(late),
            }
        }
    }

    /// Waits for the marker, until then at most, on a connection of its own.
    ///
    /// The end of the wait is kept here: an idle server looks at the times of its blocked
    /// clients ten times a second only.
    async fn wait(
        &self,
        until: Instant,
        limit: Limit,
        mut interrupted: Pin<&mut Notified<'_>>,
    ) -> Result<Waited, Fault> {
        let link = &self.shared.link;
        let opening = async {
            let node = link.node(limit).await?;
            let waiter = self.judge(&node, limit.hold(link.waiter(&node)).await)?;
            Ok::<_, Fault>((node, waiter))
        };
        let (node, waiter) = tokio::select! {
            biased;
            () = interrupted.as_mut() => return Ok(Waited::Interrupted),
            opened = opening => opened?,
        };
        let block = until.saturating_duration_since(Instant::now());
        let mut answer = self.pop_marker(&waiter, block + SERVER_LONGER);
        let waited = tokio::select! {
            biased;
            () = interrupted => Waited::Interrupted,
            popped = &mut answer => {
                let popped = popped.map_err(Fault::from);
                if popped.is_ok() || popped.as_ref().is_err_and(Fault::is_unblocked) {
                    self.shared.link.keep(waiter);
                } else {
                    self.judge(&node, popped)?;
                }
                return Ok(Waited::LookAgain);
            }
            () = sleep_until(until) => Waited::LookAgain,
        };
        self.end_wait(&node, waiter, answer, waited).await;
        Ok(waited)
    }

    fn judge<T>(&self, node: &Node, result: Result<T, Fault>) -> Result<T, Fault> {
        if result.as_ref().is_err_and(Fault::breaks) {
            self.shared.link.lost(node);
        }
        result
    }

    fn pop_marker(&self, waiter: &Waiter, block: Duration) -> Answer {
        let mut connection = waiter.connection.clone();
        let mut call = redis::cmd("BLPOP");
        call.arg(self.shared.keys.wake()).arg(format!("{:.3}", block.as_secs_f64()));
        Box::pin(async move { call.query_async(&mut connection).await })
    }

    /// Ends a wait that is under way on the server, so that it takes no marker for nobody, or
    /// closes its connection where that cannot be had in time.
    async fn end_wait(&self, node: &Node, waiter: Waiter, mut answer: Answer, waited: Waited) {
        let patience = Instant::now() + PATIENCE;
        let mut unblock = redis::cmd("CLIENT");
        unblock.arg("UNBLOCK").arg(waiter.id).arg("ERROR");
        while let Ok(Ok(_)) = timeout_at(patience, node.command(&unblock)).await {
            // The wait may not have reached the server before the request to end it.
            let again = patience.min(Instant::now() + ASK_AGAIN);
            match timeout_at(again, &mut answer).await {
                Ok(popped) => return self.ended(waiter, popped, waited).await,
                Err(_) if Instant::now() >= patience => return,
                Err(_) => {}
            }
        }
    }

    async fn ended(&self, waiter: Waiter, popped: Result<Value, RedisError>, waited: Waited) {
        let popped = popped.map_err(Fault::from);
        if popped.is_ok() || popped.as_ref().is_err_and(Fault::is_unblocked) {
            self.shared.link.keep(waiter);
        }
        if waited == Waited::Interrupted && matches!(popped, Ok(Value::Array(_))) {
            // It was for somebody who claims: put it up again if there is something to claim.
            let limit = Limit::of(PATIENCE);
            drop(self.take(0, Then::Leave, limit).await);
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Value, RedisError>> + Send>>;

/// What falls due in one claim becomes ready, so many of each kind at most.
const MOVED_MOST: usize = 1000;
/// What one call of the script hands out stops there.
const CLAIM_BYTES_MOST: usize = 16 << 20;
const LATE_MOST: usize = 8;
/// A day: longer waits are this long.
const WAIT_MOST: Duration = Duration::from_secs(24 * 3600);
/// How long an interrupted claim tries to leave its connection in order: twice that and some
/// is within the default interrupt bound.
const PATIENCE: Duration = Duration::from_millis(40);
/// How much longer the server is told to wait, in case nobody ends it.
const SERVER_LONGER: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(5);
