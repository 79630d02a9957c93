//! Claiming: a consumer that lives as long as its claim.
//!
//! Its prefetch is what was asked for. When jobs have come, or the claim is to end, the consumer
//! is cancelled and its stream is read to its end. So every delivery is handed out, nothing lies
//! unseen in a buffer, and nothing is prefetched between two claims. `basic.get` can not wait, and
//! takes one job a call; a consumer that stays would take jobs for slots that are not free.
//!
//! A classic queue sends the answer to a cancel behind all that it has delivered. A quorum queue
//! does not: what crosses the cancel it takes back, and counts as a delivery. There a consumer
//! takes no more than are ready, and is cancelled when it has them and can get no more; while
//! nothing is ready, the claim asks for the count from time to time.
//!
//! # Invariants
//! 1. What was delivered is handed out, or given back.
//! 2. A claim ends by its own bound, or with its connection.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::Consumer;
use lapin::message::Delivery;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use tokio::sync::futures::Notified;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::AmqpQueue;
use super::fault::Fault;
use super::held::{Move, Outcome};
use super::link::Line;
use super::message::{Content, Delivered};
use super::topology::{self, Kind, To};
use crate::claimed::{Claimed, Receipt};
use crate::error::QueueError;
use crate::queue::Release;
use crate::queues::handover::handed_over;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Delivered,
    /// Told to end, or nobody waits for it any more.
    Ended,
    Over,
}

/// What ends a wait before its time.
struct Signals<'a> {
    interrupted: Pin<Box<Notified<'a>>>,
    gone: oneshot::Receiver<()>,
}

impl Signals<'_> {
    async fn told(&mut self) {
        tokio::select! {
            () = self.interrupted.as_mut() => {}
            _ = &mut self.gone => {}
        }
    }
}

impl AmqpQueue {
    pub(super) async fn claim_up_to(
        &self,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Claimed>, QueueError> {
        if self.shared.claims.is_closed() {
            return Err(QueueError::Closed);
        }
        let wait = wait.min(WAIT_MOST);
        let ends = Instant::now() + wait;
        // Dropped with this future, which ends the wait of the task.
        let (_here, gone) = oneshot::channel();
        let (queue, undoing) = (self.clone(), self.clone());
        let work = Box::pin(async move { Ok(queue.take(max, ends, gone).await?) });
        let undo = |jobs| async move { undoing.give_back(jobs).await };
        handed_over(wait + self.call_bound, WAIT_MOST, work, undo).await
    }

    async fn take(
        &self,
        max: usize,
        ends: Instant,
        gone: oneshot::Receiver<()>,
    ) -> Result<Vec<Claimed>, Fault> {
        let _claiming = self.shared.claiming.read().await;
        let mut interrupted = Box::pin(self.shared.interrupt.notified());
        // From here on an interrupt is seen, also before the wait begins.
        interrupted.as_mut().enable();
        let mut signals = Signals { interrupted, gone };
        // Bound: `ends`, and each turn waits for it or for a delivery.
        loop {
            let line = self.shared.claims.line(self.call_bound).await?;
            let (waited, delivered) = match self.kind {
                Kind::Quorum => self.take_ready(&line, max, ends, &mut signals).await?,
                Kind::Classic | Kind::ClassicWithPriorities => {
                    self.consume(&line, max, 1, || ends, &mut signals).await?
                }
            };
            if self.shared.claims.is_closed() {
                // The end of the channel gives them back.
                return Err(Fault::Closed);
            }
            let jobs = self.sort_out(&line, delivered).await;
            if !jobs.is_empty() || waited == Waited::Ended || Instant::now() >= ends {
                return Ok(jobs);
            }
        }
    }

    /// Takes what is ready; if nothing is, waits until it is time to look again.
    async fn take_ready(
        &self,
        line: &Line,
        max: usize,
        ends: Instant,
        signals: &mut Signals<'_>,
    ) -> Result<(Waited, Vec<Delivery>), Fault> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let name = topology::short(&self.shared.name)?;
        let queue = line.channel.queue_declare(name, passive, FieldTable::default()).await?;
        let ready = usize::try_from(queue.message_count()).unwrap_or(usize::MAX);
        let now = Instant::now();
        if ready > 0 {
            let most = max.min(ready);
            // Others may have taken them.
            let starved = || Instant::now() + STARVED;
            return self.consume(line, most, most, starved, signals).await;
        }
        let waited = tokio::select! {
            biased;
            () = signals.told() => Waited::Ended,
            () = sleep_until(ends.min(now + self.poll)) => Waited::Over,
        };
        Ok((waited, Vec::new()))
    }

    /// Takes up to `max` jobs by a consumer that waits for `enough` of them, until then at most, as
    /// it is told when the consumer is there.
    async fn consume(
        &self,
        line: &Line,
        max: usize,
        enough: usize,
        until: impl FnOnce() -> Instant,
        signals: &mut Signals<'_>,
    ) -> Result<(Waited, Vec<Delivery>), Fault> {
        let max = u16::try_from(max).unwrap_or(u16::MAX);
        let mut consumer = self.start(line, max).await?;
        let until = until();
        let mut delivered = Vec::new();
        let mut waited = Waited::Delivered;
        while waited == Waited::Delivered && delivered.len() < enough.min(max.into()) {
            waited = tokio::select! {
                biased;
                () = signals.told() => Waited::Ended,
                next = consumer.next() => {
                    delivered.push(next.ok_or(Fault::Revoked)??);
                    Waited::Delivered
                }
                () = sleep_until(until) => Waited::Over,
            };
        }
        drain(line, consumer, &mut delivered).await?;
        Ok((waited, delivered))
    }

    async fn start(&self, line: &Line, prefetch: u16) -> Result<Consumer, Fault> {
        let name = topology::short(&self.shared.name)?;
        // A prefetch is that of the consumers that come after it.
        let _one = self.shared.consuming.lock().await;
        line.channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        Ok(line.channel.basic_consume(name, "".into(), options, none).await?)
    }

    /// The jobs among what was delivered; those whose rescue the broker does not count are
    /// written again with it, and come later.
    async fn sort_out(&self, line: &Arc<Line>, delivered: Vec<Delivery>) -> Vec<Claimed> {
        let (mut jobs, mut uncounted) = (Vec::with_capacity(delivered.len()), Vec::new());
        for mut delivery in delivered {
            let tag = delivery.delivery_tag;
            let (mut content, how) = Content::read(&mut delivery);
            match how {
                Delivered::First => {}
                Delivered::Again(count) => {
                    content.attempts = content.attempts.saturating_add(count);
                }
                Delivered::AgainUncounted => {
                    content.attempts = content.attempts.saturating_add(1);
                    let number = self.shared.held.add(line, tag, content.clone());
                    let (line, copy) = (Arc::clone(line), Some((To::Ready, content)));
                    uncounted.push(Move { number, line, tag, copy });
                    continue;
                }
            }
            let id = content.id.clone();
            let number = self.shared.held.add(line, tag, content.clone());
            let receipt = Receipt::new(id, number).with_text(Arc::clone(&self.shared.owner));
            jobs.push(content.claimed(receipt));
        }
        if !uncounted.is_empty() {
            self.copy_or_nack(uncounted).await;
        }
        jobs
    }

    /// Gives jobs back that nobody has taken.
    async fn give_back(&self, jobs: Vec<Claimed>) {
        let jobs: Vec<_> = jobs.into_iter().map(|job| Release::unstarted(job.receipt)).collect();
        let plan = |_: &Release, content: &Content| {
            let returns = content.returns.saturating_add(1);
            Some((To::Ready, Content { returns, ..content.clone() }))
        };
        let owner = &self.shared.owner;
        let batch = self.shared.held.begin(&jobs, owner, |job| &job.receipt, plan);
        self.copy_or_nack(batch.moves).await;
    }

    async fn copy_or_nack(&self, moves: Vec<Move>) {
        let places: Vec<_> =
            moves.iter().map(|job| (job.number, Arc::clone(&job.line), job.tag)).collect();
        let outcomes = self.carry_out(moves).await;
        let failed = places.into_iter().zip(outcomes);
        let failed = failed.filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
        let failed: Vec<_> = failed.map(|(place, _)| place).collect();
        self.nack(&failed).await;
    }
}

/// Cancels the consumer and takes all that it has been sent.
async fn drain(
    line: &Line,
    mut consumer: Consumer,
    delivered: &mut Vec<Delivery>,
) -> Result<(), Fault> {
    line.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
    // Bound: the broker has answered that nothing more comes.
    while let Some(delivery) = consumer.next().await {
        delivered.push(delivery?);
    }
    Ok(())
}

/// A day: longer waits are this long.
const WAIT_MOST: Duration = Duration::from_secs(24 * 3600);
/// What is ready and not taken by others is delivered within that once there is a consumer.
const STARVED: Duration = Duration::from_millis(50);
