//! A queue on RabbitMQ 3.10 or later, over AMQP 0-9-1: quorum queues, or classic ones.
//!
//! A job is a message, and what is known of it is in its headers. A claim is a consumer that
//! lives as long as the claim (`claim`). The lease is the connection: what a worker holds is
//! delivered again as soon as its connection ends. A job that is returned, tried again or dead
//! is written anew where it belongs, confirmed (`publish`), and then acknowledged
//! (`settle`); delays and
//! dead letters are queues and exchanges that only `prepare` creates (`topology`).
//!
//! Not here: what a worker does with a claim that fails (`runner`).
//!
//! # Invariants
//! 1. A delivery tag counts only on the channel that it came by: after the end of that, it is
//!    lost.
//! 2. Nothing delivered lies unseen in a buffer between two claims.
//! 3. Nothing is acknowledged before what is to replace it is confirmed.

mod claim;
mod fault;
mod held;
mod link;
mod message;
mod publish;
mod settle;
mod topology;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use tokio::sync::{Mutex, Notify, RwLock, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use self::fault::Fault;
use self::held::Held;
use self::link::{Link, Purpose};
use self::message::Content;
use self::settle::AT_ONCE;
use self::topology::{Kind, To};
use crate::capabilities::{Attempt, Capabilities, Lease, Place, ReleaseCapabilities};
use crate::claimed::{Claimed, Receipt};
use crate::error::QueueError;
use crate::push::{Push, Pushed};
use crate::queue::{Extend, Extended, Fail, Queue, Release, Settled};
use crate::stats::{DeadJob, Stats};

/// A queue on RabbitMQ 3.10 or later.
///
/// [`prepare`](Queue::prepare) declares a quorum queue of the queue's name
/// ([`classic`](Self::classic) for another kind), one for its dead letters (`{name}.dead`), and
/// the delays that all queues of the virtual host share (`lifecycle.delay.00` to `28`, and
/// `lifecycle.due`). It takes a user who may configure; workers need not.
///
/// A claim lasts as long as its connection. Who loses it has lost its jobs: they are delivered
/// again at once, and what the old claim says is [`Settled::Lost`]. A worker that answers no
/// heartbeat for 20 s (`?heartbeat=` in the URL, twice) is gone to the broker. A running job is
/// told within a second or so ([`CancelReason::LeaseLost`](crate::CancelReason)) and dropped a
/// second later; until then it may run beside its next delivery.
///
/// RabbitMQ itself ends a channel that has a message unacknowledged for longer than its
/// `consumer_timeout`, 30 min by default, and with that every claim of the process: set it above
/// the longest job (`rabbitmq.conf`: `consumer_timeout = 7200000`, in milliseconds).
///
/// A job that is returned or failed is written again behind the others, with its count of
/// attempts and returns and its checkpoint, and the old message is then acknowledged: no return
/// counts as an attempt. A process that is killed in between leaves the job twice, and so does one
/// that lives and loses its connection before the broker has confirmed the copy, or its channel,
/// which the broker ends when the copy of another job is not for this user. Attempts that
/// ended with their connection are counted: by the broker on a quorum queue, and on a classic
/// one by whoever gets the job next, which writes it again behind the others. After 100 such
/// ends a quorum queue makes the job a dead letter by itself. A checkpoint is kept when the job
/// is returned or has failed, and lost with the connection; or when it makes the message larger
/// than the broker's `max_message_size`.
///
/// A claim that waits on a quorum queue asks ten times a second whether there is a job
/// ([`poll`](Self::poll)): a consumer that is cancelled there while a job arrives would count an
/// attempt. It is cancelled only when it has what was ready, but for jobs that others were
/// quicker to take.
///
/// Delays are kept to 10 ms and are of 62 days at most: a longer one is refused by a push, and
/// cut for a failed or returned job. A delayed job is in quorum queues, whatever the kind of its
/// own, and may be there twice after a node has ended. A message has 64 KiB of headers at most,
/// a kind and a header's name 255 bytes; headers come in the order of their names, whatever that
/// of the push was.
///
/// RabbitMQ has no dedupe keys, counts only what is ready, and cannot list: such a push is
/// refused, and [`stats`](Queue::stats) and [`dead`](Queue::dead) are
/// [`Unsupported`](QueueError::Unsupported). Dead letters are in `{name}.dead`, with the error in
/// the header `x-lifecycle-error` and the attempts in `x-lifecycle-died-after`: one that is moved
/// back, by a shovel or by hand, begins with its first attempt again. A push is not all or nothing. A clone is the same queue and
/// the same identity.
///
/// # Examples
/// ```no_run
/// use lifecycle_worker::{AmqpQueue, Push, Queue, QueueError};
///
/// # async fn example() -> Result<(), QueueError> {
/// let queue = AmqpQueue::connect("amqp://guest:guest@127.0.0.1:5672/", "mail").await?;
/// queue.prepare().await?;
/// queue.push(&[Push::new("mail", "hello")]).await?;
/// # Ok(())
/// # }
/// # let _ = example;
/// ```
#[derive(Clone)]
#[must_use = "a queue does nothing by itself"]
pub struct AmqpQueue {
    shared: Arc<Shared>,
    kind: Kind,
    poll: Duration,
    call_bound: Duration,
}

/// What all clones have in common.
struct Shared {
    name: String,
    owner: Arc<str>,
    claims: Link,
    messages: Link,
    held: Held,
    /// Tells the claims that wait at that moment to end.
    interrupt: Notify,
    /// A prefetch and its consumer go together.
    consuming: Mutex<()>,
    /// Shared by the claims under way: a close waits for them.
    claiming: RwLock<()>,
}

impl AmqpQueue {
    /// The queue of that name on the broker of that URL:
    /// `amqp://[user:password@]host[:port][/virtual-host][?heartbeat=seconds]`.
    ///
    /// Without a virtual host it is `/`. `amqps://` needs the feature `amqp-tls`. A name has 150
    /// bytes at most: letters, digits, `-`, `_`, `.`, `:` and `/`.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is left but a connection that closes.
    /// # Errors
    /// [`Invalid`](QueueError::Invalid) for a URL or name that is none, or a virtual host that is
    /// not there, [`Denied`](QueueError::Denied) by the broker,
    /// [`Unavailable`](QueueError::Unavailable) if it cannot be reached within 5 s, and
    /// [`Unsupported`](QueueError::Unsupported) if what answers is no AMQP.
    pub async fn connect(url: &str, name: impl Into<String>) -> Result<Self, QueueError> {
        let (uri, name) = (link::parse(url)?, name.into());
        if !topology::is_name(&name) {
            let what = format!("{name:?} is no name of a queue: up to 150 letters, digits, -_.:/");
            return Err(QueueError::Invalid { what });
        }
        let shared = Shared {
            owner: Arc::from(Uuid::now_v7().to_string()),
            claims: Link::new(uri.clone(), Purpose::Claims),
            messages: Link::new(uri, Purpose::Messages),
            held: Held::default(),
            interrupt: Notify::new(),
            consuming: Mutex::default(),
            claiming: RwLock::default(),
            name,
        };
        let (shared, kind) = (Arc::new(shared), Kind::Quorum);
        let queue = Self { shared, kind, poll: POLL, call_bound: CALL_BOUND };
        queue.shared.claims.line(queue.call_bound).await?;
        Ok(queue)
    }

    /// A classic queue: kept by one node, and quicker. Default: a quorum queue.
    pub fn classic(self) -> Self {
        Self { kind: Kind::Classic, ..self }
    }

    /// A classic queue whose jobs have priorities: those from -128 to 127 are told apart, the
    /// others count as the nearest of these. It costs the broker some memory for each.
    pub fn classic_with_priorities(self) -> Self {
        Self { kind: Kind::ClassicWithPriorities, ..self }
    }

    /// How often a claim that waits on a quorum queue asks whether there is a job. Default:
    /// 100 ms. From 1 ms to an hour. A classic queue tells by itself.
    pub fn poll(self, poll: Duration) -> Self {
        Self { poll: poll.clamp(Duration::from_millis(1), Duration::from_secs(3600)), ..self }
    }

    /// How long a call may take, and a claim beyond its wait. Default: 5 s. At most a day.
    pub fn call_bound(self, call_bound: Duration) -> Self {
        Self { call_bound: call_bound.min(CALL_BOUND_MOST), ..self }
    }

    /// Asks on a channel of its own, which ends with the question.
    async fn ask(&self, question: Question) -> Result<(), Fault> {
        let asking = async {
            let channel = self.aside().await?;
            match question {
                Question::IsPrepared => topology::look(&channel, &self.shared.name).await,
                Question::Prepare => {
                    topology::prepare(&channel, &self.shared.name, self.kind).await
                }
            }
        };
        let bound = self.call_bound;
        timeout(bound, Box::pin(asking)).await.unwrap_or(Err(Fault::TimedOut(bound)))
    }

    /// A channel for a question, beside the jobs.
    async fn aside(&self) -> Result<Channel, Fault> {
        let line = self.shared.claims.line(self.call_bound).await?;
        match line.aside().await {
            Err(fault) if fault.is_of_channel() => {
                self.shared.claims.let_go(&line);
                self.shared.claims.line(self.call_bound).await?.aside().await
            }
            channel => channel,
        }
    }

    async fn push_all(&self, jobs: &[Push]) -> Result<Vec<Pushed>, Fault> {
        let contents = jobs.iter().map(|job| self.content(job));
        let contents = contents.collect::<Result<Vec<_>, _>>()?;
        let ids = contents.iter().map(|(_, content)| Pushed::New(content.id.clone())).collect();
        let queue = self.clone();
        let (tell, told) = oneshot::channel();
        // On a task: a push may be dropped, and what it has sent is confirmed all the same.
        tokio::spawn(async move {
            let pushed = queue.push_while_asked(&contents, &tell).await;
            // Whoever has given up is told nothing.
            drop(tell.send(pushed));
        });
        told.await.unwrap_or(Err(Fault::Closed))?;
        Ok(ids)
    }

    /// Begins with no more of them once nobody waits.
    async fn push_while_asked(
        &self,
        contents: &[(To, Content)],
        asked: &oneshot::Sender<Result<(), Fault>>,
    ) -> Result<(), Fault> {
        for some in contents.chunks(AT_ONCE) {
            // What follows waits for no connection.
            let _line = self.shared.messages.line(self.call_bound).await?;
            if asked.is_closed() {
                break;
            }
            let some: Vec<_> = some.iter().collect();
            let published = self.publish(&some).await;
            published.into_iter().collect::<Result<Vec<()>, _>>()?;
        }
        Ok(())
    }

    fn content(&self, job: &Push) -> Result<(To, Content), Fault> {
        let unsupported = |what: &str| Err(Fault::Unsupported(what.to_owned()));
        if job.dedupe_key().is_some() {
            return unsupported("RabbitMQ has no dedupe keys");
        }
        if !topology::can_wait(job.delayed_by()) {
            return Err(Fault::Invalid("a delay is of 62 days at most over AMQP".to_owned()));
        }
        let priority = match (self.kind, job.priority_value()) {
            (Kind::ClassicWithPriorities, priority) => Some(rank(priority)),
            (_, 0) => None,
            _ => return unsupported("a priority takes a queue with priorities, which is classic"),
        };
        Ok((To::Later(job.delayed_by()), Content::new(job, priority)?))
    }
}

enum Question {
    IsPrepared,
    Prepare,
}

impl fmt::Debug for AmqpQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpQueue")
            .field("name", &self.shared.name)
            .field("owner", &self.shared.owner)
            .field("kind", &self.kind)
            .field("poll", &self.poll)
            .field("call_bound", &self.call_bound)
            .finish_non_exhaustive()
    }
}

impl Queue for AmqpQueue {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn capabilities(&self) -> Capabilities {
        let mut release = ReleaseCapabilities::new(Place::Back, Attempt::NotCounted);
        release.delay = true;
        let mut can = Capabilities::new(Lease::Connection).with_release(release);
        can.delay = true;
        can.priority = self.kind == Kind::ClassicWithPriorities;
        can.checkpoint = true;
        can.with_call_bound(self.call_bound)
    }

    async fn prepare(&self) -> Result<(), QueueError> {
        Ok(self.ask(Question::Prepare).await?)
    }

    async fn ping(&self) -> Result<(), QueueError> {
        Ok(self.ask(Question::IsPrepared).await?)
    }

    async fn push(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        if self.shared.messages.is_closed() {
            return Err(QueueError::Closed);
        }
        let bound = self.call_bound;
        let pushing = timeout(bound, Box::pin(self.push_all(jobs))).await;
        Ok(pushing.unwrap_or(Err(Fault::TimedOut(bound)))?)
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        self.claim_up_to(max.get(), wait).await
    }

    async fn interrupt(&self) {
        self.shared.interrupt.notify_waiters();
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Settled> {
        self.ack_all(receipts).await
    }

    async fn release(&self, jobs: &[Release]) -> Vec<Settled> {
        self.release_all(jobs).await
    }

    async fn fail(&self, jobs: &[Fail]) -> Vec<Settled> {
        self.fail_all(jobs).await
    }

    async fn extend(&self, jobs: &[Extend]) -> Vec<Extended> {
        let is_ours = |job: &Extend| self.shared.held.is_ours(&job.receipt, &self.shared.owner);
        let one = |job| if is_ours(job) { Extended::Unsupported } else { Extended::Lost };
        jobs.iter().map(one).collect()
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        self.cannot("RabbitMQ counts only the jobs that are ready")
    }

    async fn dead(&self, _: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        self.cannot("RabbitMQ lists no messages: dead letters are in the queue {name}.dead")
    }

    async fn close(&self) -> Result<(), QueueError> {
        let shared = &self.shared;
        let until = Instant::now() + self.call_bound;
        shared.claims.refuse();
        // Claims under way have consumers, which have to end before the channel.
        // Bound: `until`.
        while Instant::now() < until {
            shared.interrupt.notify_waiters();
            if timeout(ASK_AGAIN, shared.claiming.write()).await.is_ok() {
                break;
            }
        }
        let left = || until.saturating_duration_since(Instant::now()).max(ASK_AGAIN);
        let closing =
            async { shared.claims.close(left()).await.and(shared.messages.close(left()).await) };
        let closed = timeout_at(until + ASK_AGAIN, closing).await;
        shared.held.clear();
        Ok(closed.unwrap_or(Err(Fault::TimedOut(self.call_bound)))?)
    }
}

impl AmqpQueue {
    fn cannot<T>(&self, what: &str) -> Result<T, QueueError> {
        if self.shared.claims.is_closed() {
            return Err(QueueError::Closed);
        }
        let what = what.replace("{name}", &self.shared.name);
        Err(QueueError::Unsupported { what })
    }
}

/// From 0 to 255, as AMQP has them.
fn rank(priority: i16) -> u8 {
    let middle = i16::from(u8::MAX / 2) + 1;
    u8::try_from(priority.clamp(-middle, middle - 1) + middle).unwrap_or(u8::MAX)
}

const POLL: Duration = Duration::from_millis(100);
const CALL_BOUND: Duration = Duration::from_secs(5);
const CALL_BOUND_MOST: Duration = Duration::from_secs(24 * 3600);
/// Of a close: a claim may not have begun to wait when it was told to end.
const ASK_AGAIN: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_told_apart_around_zero_and_keep_their_order() {
        let ranks = [i16::MIN, -128, -127, 0, 1, 127, i16::MAX].map(rank);
        assert_eq!(ranks, [0, 0, 1, 128, 129, 255, 255]);
    }
}
