//! Settling: a copy that is confirmed, then an acknowledgement, and an answer for each job.
//!
//! A job that is returned or tried again is written anew and its delivery then acknowledged: a
//! bare `basic.nack` could neither say how often it was returned or failed nor keep a
//! checkpoint, and looks to the next worker like the end of a connection. When a process is
//! killed between the two, or the connection that publishes is lost before the confirm comes, the
//! job is there twice: at least once.
//!
//! Not here: which jobs are ours (`held`), how a copy is written (`publish`).
//!
//! # Invariants
//! 1. An acknowledgement is sent after the copy is confirmed, and answered for after a call on
//!    the same channel has been answered: the broker reads a channel in order.
//! 2. What was begun runs to its end on a task of its own: whoever waits for it may give up, and
//!    hears of the same outcome when it asks again.

use std::sync::Arc;

use futures_util::future::join_all;
use lapin::options::{BasicAckOptions, BasicNackOptions, ChannelFlowOptions};
use tokio::time::{Instant, timeout_at};

use super::AmqpQueue;
use super::fault::Fault;
use super::held::{Answer, Batch, Move, Outcome};
use super::link::Line;
use super::message::Content;
use super::topology::To;
use crate::claimed::Receipt;
use crate::queue::{Fail, Next, Release, Settled};

impl AmqpQueue {
    pub(super) async fn ack_all(&self, receipts: &[Receipt]) -> Vec<Settled> {
        self.settle(receipts, |receipt| receipt, |_, _| None).await
    }

    pub(super) async fn release_all(&self, jobs: &[Release]) -> Vec<Settled> {
        let copy = |job: &Release, content: &Content| {
            let checkpoint = job.checkpoint.clone().or_else(|| content.checkpoint.clone());
            let returns = content.returns.saturating_add(1);
            let content = Content { checkpoint, returns, ..content.clone() };
            Some((To::Later(job.delay), content))
        };
        self.settle(jobs, |job| &job.receipt, copy).await
    }

    pub(super) async fn fail_all(&self, jobs: &[Fail]) -> Vec<Settled> {
        let copy = |job: &Fail, content: &Content| {
            let checkpoint = job.checkpoint.clone().or_else(|| content.checkpoint.clone());
            let attempts = content.attempts.saturating_add(1);
            let error = Some(job.error.clone());
            let content = Content { checkpoint, attempts, error, ..content.clone() };
            Some(match job.next {
                Next::Dead => (To::Dead, content.dead()),
                Next::Retry(delay) => (To::Later(delay), content),
            })
        };
        self.settle(jobs, |job| &job.receipt, copy).await
    }

    async fn settle<T>(
        &self,
        jobs: &[T],
        receipt: impl Fn(&T) -> &Receipt,
        plan: impl Fn(&T, &Content) -> Option<(To, Content)>,
    ) -> Vec<Settled> {
        if self.shared.claims.is_closed() {
            return jobs.iter().map(|_| Settled::Retry(Fault::Closed.into())).collect();
        }
        let until = Instant::now() + self.call_bound;
        let Batch { moves, answers, tell } =
            self.shared.held.begin(jobs, &self.shared.owner, receipt, plan);
        if !moves.is_empty() {
            let queue = self.clone();
            tokio::spawn(async move {
                let outcomes = queue.carry_out(moves).await;
                // Nobody waits when the call has been given up; it is settled all the same.
                drop(tell.send(outcomes.into()));
            });
        }
        let mut settled = Vec::with_capacity(answers.len());
        for answer in answers {
            settled.push(match answer {
                Answer::Lost => Settled::Lost,
                Answer::Later(outcomes, at) => match timeout_at(until, outcomes).await {
                    Ok(told) => outcome(told.as_deref().and_then(|told| told.get(at))),
                    Err(_) => Settled::Retry(Fault::TimedOut(self.call_bound).into()),
                },
            });
        }
        settled
    }

    /// Copies, acknowledges, and tells what came of each, however long it takes: a broker that
    /// answers nothing ends with its heartbeats.
    pub(super) async fn carry_out(&self, moves: Vec<Move>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(moves.len());
        for some in moves.chunks(AT_ONCE) {
            let copies: Vec<_> = some.iter().filter_map(|job| job.copy.as_ref()).collect();
            let mut copied = self.publish(&copies).await.into_iter();
            let mut told: Vec<_> = some
                .iter()
                .map(|job| match job.copy.as_ref().and_then(|_| copied.next()) {
                    None | Some(Ok(())) => Outcome::Done,
                    Some(Err(fault)) => Outcome::Failed(fault),
                })
                .collect();
            acknowledge(some, &mut told).await;
            let ended = some.iter().map(|job| job.number).zip(told.iter().cloned());
            self.shared.held.end(ended);
            outcomes.extend(told);
        }
        outcomes
    }

    /// Gives deliveries back that no copy could be written of: the broker has them again, with an
    /// attempt counted.
    pub(super) async fn nack(&self, moves: &[(u64, Arc<Line>, u64)]) {
        // lapin's own default is to discard.
        let options = BasicNackOptions { requeue: true, multiple: false };
        let nacks = moves.iter().map(|(_, line, tag)| line.channel.basic_nack(*tag, options));
        // A channel that is down gives them back by itself.
        drop(join_all(nacks).await);
        self.shared.held.end(moves.iter().map(|(number, ..)| (*number, Outcome::Lost)));
    }
}

/// Acknowledges those of which nothing has failed.
async fn acknowledge(moves: &[Move], told: &mut [Outcome]) {
    let good = |told: &Outcome| matches!(told, Outcome::Done);
    let acks =
        moves.iter().zip(&*told).filter(|(_, told)| good(told)).map(|(job, _)| {
            job.line.channel.basic_ack(job.tag, BasicAckOptions { multiple: false })
        });
    let acked = join_all(acks).await;
    let mut reached: Vec<(u64, bool)> = Vec::new();
    for (job, _) in moves.iter().zip(&*told).filter(|(_, told)| good(told)) {
        if reached.iter().all(|(number, _)| *number != job.line.number) {
            // Changes nothing, and is answered behind all that was said on the channel.
            let options = ChannelFlowOptions { active: true };
            let answered = job.line.channel.channel_flow(options).await.is_ok();
            reached.push((job.line.number, answered));
        }
    }
    let mut acked = acked.into_iter();
    for (job, told) in moves.iter().zip(told).filter(|(_, told)| good(told)) {
        let sent = acked.next().is_some_and(|ack| ack.is_ok());
        let answered = reached.contains(&(job.line.number, true));
        // The channel is down, and the job with it back at the broker.
        if !sent || !answered {
            *told = Outcome::Lost;
        }
    }
}

fn outcome(told: Option<&Outcome>) -> Settled {
    match told {
        Some(Outcome::Done) => Settled::Done,
        Some(Outcome::Failed(fault)) => Settled::Retry(fault.clone().into()),
        Some(Outcome::Lost) => Settled::Lost,
        None => Settled::Retry(Fault::Closed.into()),
    }
}

/// Under way at one time.
pub(super) const AT_ONCE: usize = 500;
