//! Claiming: short pulls, each read to its end.
//!
//! A first pull takes what is there and hardly waits. If that is nothing, pulls for one job wait
//! at the server, 200 ms each: to drop a pull, or to unsubscribe from it, would strand what is on
//! its way until the lease ends (the client forgets a subscription before the server has
//! answered), and the server knows no other way to end one. So an interrupt ends the claim when
//! the pull under way has ended.
//!
//! # Invariants
//! 1. A pull is read until the server says that it is over, or, when it has forgotten the pull
//!    (some versions do, now and then), until it has answered something else after the pull's end.
//! 2. A lease is counted from before its pull was sent.
//! 3. Every pull expires. One that does not wait is kept by the server nonetheless when what was
//!    there goes to another at that moment: without an end it would never be answered.

use std::num::NonZeroUsize;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{Message, StatusCode, Subject};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::message::Content;
use super::{CONSUMER_API, NatsQueue, fault};
use crate::claimed::{Claimed, Receipt};
use crate::error::QueueError;
use crate::queue::Release;
use crate::queues::handover::handed_over;

impl NatsQueue {
    pub(super) async fn claim_up_to(
        &self,
        max: NonZeroUsize,
        wait: Duration,
    ) -> Result<Vec<Claimed>, QueueError> {
        self.open()?;
        let wait = wait.min(WAIT_MOST);
        let ends = Instant::now() + wait;
        // Dropped with this future, which ends the wait of the task.
        let (_here, gone) = oneshot::channel();
        let (queue, undoing) = (self.clone(), self.clone());
        let work = async move { Box::pin(queue.take(max.get(), ends, gone)).await };
        let undo = |jobs: Vec<Claimed>| async move {
            let jobs = jobs.into_iter().map(|job| Release::unstarted(job.receipt));
            // Whatever becomes of that, their leases cover them.
            drop(undoing.release_all(&jobs.collect::<Vec<_>>()).await);
        };
        handed_over(wait + self.call_bound, WAIT_MOST, work, undo).await
    }

    async fn take(
        &self,
        max: usize,
        ends: Instant,
        mut gone: oneshot::Receiver<()>,
    ) -> Result<Vec<Claimed>, QueueError> {
        let _claiming = self.shared.claiming.read().await;
        let interrupted = self.shared.interrupt.notified();
        tokio::pin!(interrupted);
        // From here on an interrupt is seen, also before the wait begins.
        interrupted.as_mut().enable();
        let consumer = self.within(&[CONSUMER_API], Box::pin(self.consumer())).await?;
        let mut jobs = self.pull(&consumer, max, None).await?;
        // Bound: `ends`, which each pull comes nearer to.
        while jobs.is_empty() && Instant::now() < ends {
            let told = interrupted.as_mut().now_or_never().is_some();
            if told || (&mut gone).now_or_never().is_some() || self.open().is_err() {
                break;
            }
            let left = ends.saturating_duration_since(Instant::now());
            let pull = left.clamp(PULL_LEAST, PULL);
            jobs = self.pull(&consumer, 1, Some(pull)).await?;
            if !jobs.is_empty() && max > 1 {
                // What is there already is not given up because of what is not.
                let more = self.pull(&consumer, max - 1, None).await;
                jobs.extend(more.unwrap_or_default());
            }
        }
        Ok(jobs)
    }

    /// Asks for jobs, and takes all that the server sends for that.
    async fn pull(
        &self,
        consumer: &PullConsumer,
        max: usize,
        wait: Option<Duration>,
    ) -> Result<Vec<Claimed>, QueueError> {
        self.connected()?;
        let client = &self.shared.client;
        let inbox = Subject::from(client.new_inbox());
        let refused = self.shared.refusals.of(&[CONSUMER_API]);
        tokio::pin!(refused);
        let mut answers = client.subscribe(inbox.clone()).await.map_err(QueueError::unavailable)?;
        let (batch, no_wait) = (max.min(PULL_JOBS_MOST), wait.is_none());
        let waits = wait.unwrap_or(PULL_BRIEF);
        let request =
            BatchConfig { batch, expires: Some(waits), no_wait, ..BatchConfig::default() };
        let lease_ends = Instant::now() + self.lease;
        consumer.request_batch(request, inbox).await.map_err(QueueError::unavailable)?;
        let until = Instant::now() + waits + PULL_LATE;
        let mut jobs = Vec::new();
        while jobs.len() < batch {
            let left = until.saturating_duration_since(Instant::now());
            let answer = timeout(left, answers.next()).await;
            if answer.is_err()
                && let Some(error) = refused.as_mut().now_or_never()
            {
                return Err(error);
            }
            let message = match answer {
                Ok(Some(message)) => message,
                Err(_) if self.answers(consumer).await => {
                    // What was sent before that answer is here.
                    match answers.next().now_or_never().flatten() {
                        Some(message) => message,
                        None => break,
                    }
                }
                // The connection is gone, or nobody answers: what came before is ours.
                Ok(None) | Err(_) if !jobs.is_empty() => break,
                Ok(None) | Err(_) => return Err(QueueError::timed_out(self.call_bound)),
            };
            match message.status.unwrap_or(StatusCode::OK) {
                StatusCode::OK => jobs.extend(self.claimed(message, lease_ends)),
                StatusCode::IDLE_HEARTBEAT => {}
                StatusCode::NOT_FOUND | StatusCode::TIMEOUT => break,
                _ if !jobs.is_empty() => break,
                status => {
                    self.forget_consumer();
                    if status.as_u16() == fault::NO_RESPONDERS {
                        // Nobody has the consumer: it is not there, or has no leader just now.
                        self.within(&[CONSUMER_API], Box::pin(self.consumer())).await?;
                    }
                    let said = message.description.as_ref().map(|text| text.as_ref());
                    return Err(fault::of_status(status.as_u16(), said));
                }
            }
        }
        Ok(jobs)
    }

    /// Whether the server says anything.
    async fn answers(&self, consumer: &PullConsumer) -> bool {
        matches!(timeout(self.call_bound, consumer.get_info()).await, Ok(Ok(_)))
    }

    fn claimed(&self, message: Message, lease_ends: Instant) -> Option<Claimed> {
        let reply = message.reply.clone()?;
        let (delivered, sequence) = delivery(reply.as_str())?;
        let content = Content::read(message.headers.as_ref(), message.payload, sequence);
        let attempt = u32::try_from(delivered).unwrap_or(u32::MAX);
        let receipt = Receipt::new(content.id.clone(), delivered);
        let claimed = Claimed::new(receipt.clone(), content.kind.clone(), content.payload.clone())
            .attempt(attempt)
            .headers(content.headers.clone())
            .lease_ends(lease_ends);
        self.shared.held.add(&receipt, reply, content, attempt, lease_ends);
        Some(claimed)
    }
}

/// How often it was delivered, and its place in the stream, as the reply subject has them:
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>..`, or with domain and account behind
/// `ACK`.
pub(super) fn delivery(reply: &str) -> Option<(u64, u64)> {
    let parts: Vec<_> = reply.split('.').collect();
    let from = match parts.len() {
        9 => 4,
        11.. => 6,
        _ => return None,
    };
    Some((parts[from].parse().ok()?, parts[from + 1].parse().ok()?))
}

/// How long a pull waits at the server: an interrupt waits for its end.
pub(super) const PULL: Duration = Duration::from_millis(200);
const PULL_LEAST: Duration = Duration::from_millis(5);
/// Of a pull that takes what is there: how long it stays if that goes to others.
const PULL_BRIEF: Duration = Duration::from_millis(10);
/// How long after its end a pull's last word may come before somebody asks.
const PULL_LATE: Duration = Duration::from_millis(100);
/// Of one pull; a claim of more has more claims to follow.
const PULL_JOBS_MOST: usize = 1000;
/// A day: longer waits are this long.
const WAIT_MOST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_subject_says_which_delivery_it_is() {
        let reply = "$JS.ACK.lifecycle-mail.workers.3.7.9.1700000000000000000.0";
        assert_eq!(delivery(reply), Some((3, 7)));
        let reply = "$JS.ACK.hub.ACC.lifecycle-mail.workers.3.7.9.1700000000000000000.0.x";
        assert_eq!(delivery(reply), Some((3, 7)));
        assert_eq!(delivery("_INBOX.x"), None);
    }
}
