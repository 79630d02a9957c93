//! A queue on NATS JetStream: a work-queue stream with one pull consumer that all workers share.
//!
//! A job is a message, and what is known of it is in a header. A claim is a pull (`claim`), its
//! lease the consumer's `ack_wait`, which `+WPI` extends. A return is a NAK: the server counts
//! each delivery, whatever becomes of it. The server does not fence, so that this side has to
//! (`held`).
//!
//! Not here: what a worker does with a claim that fails (`runner`).
//!
//! # Invariants
//! 1. Only `prepare` creates or changes a stream or a consumer.
//! 2. A dead letter is confirmed in its stream before the job is ended.
//! 3. Nothing is said of a job after its lease has ended by this process' clock.

mod claim;
mod connect;
mod fault;
mod held;
mod message;
mod push;
mod refusal;
mod settle;
mod topology;

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::context::ContextBuilder;
use tokio::sync::{Notify, RwLock};
use tokio::time::{Instant, timeout};

use self::claim::PULL;
use self::held::Held;
use self::refusal::Refusals;
use self::topology::Names;
use crate::capabilities::{Attempt, Capabilities, Lease, Place, ReleaseCapabilities};
use crate::claimed::{Claimed, Receipt};
use crate::error::QueueError;
use crate::push::{Push, Pushed};
use crate::queue::{Extend, Extended, Fail, Queue, Release, Settled};
use crate::stats::{DeadJob, Stats};

/// A queue on NATS JetStream, of a server of 2.9 or later.
///
/// [`prepare`](Queue::prepare) creates the stream `lifecycle-{name}` with the consumer `workers`,
/// and the stream `lifecycle_dead-{name}` of its dead letters, or brings them up to date; but for
/// the lease, which the workers that run have from the consumer: it is changed by deleting that.
///
/// The server counts deliveries: a return counts as an attempt, and
/// [`Claimed::returns`](crate::Claimed::returns) is always 0. Give a job more attempts than it
/// may meet deploys. It does not fence either: what this side says of a claim goes out only while
/// the lease lasts by its own clock, and a message that is longer than that on its way could meet
/// the next claim. Choose a [`lease`](Self::lease) well above the network's delays.
///
/// There are no priorities, no delays of a push, and no checkpoints, and [`stats`](Queue::stats)
/// are [`Unsupported`](QueueError::Unsupported). A dedupe key is remembered by the stream for one
/// period that all have in common ([`dedupe_period`](Self::dedupe_period)): a push that asks for
/// another is refused, and since a period cannot be chosen by job, the queue does not declare
/// that it can. A job is smaller than the server's `max_payload`, 1 MiB by default: with its
/// headers, and half a KiB of which a dead letter has need. The errors of jobs that are tried again are not kept.
///
/// A claim that waits asks the server five times a second: that is all it does while idle. The
/// client connects again by itself. A clone is the same queue and the same identity.
///
/// # Examples
/// ```no_run
/// use lifecycle_worker::{NatsQueue, Push, Queue, QueueError};
///
/// # async fn example() -> Result<(), QueueError> {
/// let queue = NatsQueue::connect("nats://127.0.0.1", "mail").await?;
/// queue.prepare().await?;
/// queue.push(&[Push::new("mail", "hello").dedupe("welcome-ada")]).await?;
/// # Ok(())
/// # }
/// # let _ = example;
/// ```
#[derive(Clone)]
#[must_use = "a queue does nothing by itself"]
pub struct NatsQueue {
    shared: Arc<Shared>,
    lease: Duration,
    dedupe_period: Duration,
    replicas: usize,
    call_bound: Duration,
}

/// What all clones have in common.
struct Shared {
    name: String,
    names: Names,
    client: Client,
    refusals: Refusals,
    held: Held,
    state: Mutex<Known>,
    /// Tells the claims that wait at that moment to end.
    interrupt: Notify,
    /// Shared by the claims under way: a close waits for them.
    claiming: RwLock<()>,
}

/// What is known of the consumer, and whether the queue is closed.
#[derive(Default)]
struct Known {
    closed: bool,
    consumer: Option<PullConsumer>,
}

impl NatsQueue {
    /// The queue of that name on the server of that URL: `nats://[user:password@]host[:port]`, or
    /// `nats://token@host`.
    ///
    /// `tls://` needs the feature `nats-tls`. A name has 100 characters at most: ASCII letters,
    /// digits, `-` and `_`.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is left but a connection that closes.
    /// # Errors
    /// [`Invalid`](QueueError::Invalid) for a URL or name that is none,
    /// [`Denied`](QueueError::Denied) by the server, [`Unavailable`](QueueError::Unavailable) if
    /// it cannot be reached within 5 s, and [`Unsupported`](QueueError::Unsupported) if it is
    /// older than 2.9 or has no JetStream.
    pub async fn connect(url: &str, name: impl Into<String>) -> Result<Self, QueueError> {
        let (address, name) = (connect::address(url)?, name.into());
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if !(1..=NAME_MOST).contains(&name.len()) || !name.chars().all(is_plain) {
            let what =
                format!("{name:?} is no name of a queue: up to 100 letters, digits, - and _");
            return Err(QueueError::Invalid { what });
        }
        let refusals = Refusals::new();
        let client = connect::open(address, CALL_BOUND, &refusals).await?;
        let shared = Shared {
            names: Names::of(&name),
            name,
            client,
            refusals,
            held: Held::default(),
            state: Mutex::default(),
            interrupt: Notify::new(),
            claiming: RwLock::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            lease: LEASE,
            dedupe_period: DEDUPE_PERIOD,
            replicas: 1,
            call_bound: CALL_BOUND,
        })
    }

    /// How long a claim lasts unless it is extended: the consumer's `ack_wait`. Default: 30 s.
    /// From half a second to a year.
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease: lease.clamp(LEASE_LEAST, LEASE_MOST), ..self }
    }

    /// How long the stream remembers dedupe keys, all of them. Default: a day, as
    /// [`Push::dedupe`] asks for. From 1 s to a year.
    pub fn dedupe_period(self, period: Duration) -> Self {
        Self { dedupe_period: period.clamp(Duration::from_secs(1), LEASE_MOST), ..self }
    }

    /// How many servers of a cluster keep the streams. Default: 1. From 1 to 5.
    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas: replicas.clamp(1, 5), ..self }
    }

    /// How long a call may take, and a claim beyond its wait. Default: 5 s. At most a day.
    pub fn call_bound(self, call_bound: Duration) -> Self {
        Self { call_bound: call_bound.min(CALL_BOUND_MOST), ..self }
    }

    fn context(&self) -> Context {
        let builder = ContextBuilder::new().timeout(self.call_bound).ack_timeout(self.call_bound);
        builder.build(self.shared.client.clone())
    }

    fn open(&self) -> Result<(), QueueError> {
        if self.known(|known| known.closed) { Err(QueueError::Closed) } else { Ok(()) }
    }

    /// That there is a connection: what is sent without one goes out later, when it may mean
    /// something else.
    fn connected(&self) -> Result<(), QueueError> {
        match self.shared.client.connection_state() {
            State::Connected => Ok(()),
            _ => Err(QueueError::unavailable("the connection is lost, and not yet opened again")),
        }
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        // Nothing here can panic halfway.
        look(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A call that sends to those subjects, or to such as begin like them.
    async fn within<T>(
        &self,
        subjects: &[&str],
        asking: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        self.open()?;
        let bound = self.call_bound;
        let refused = self.shared.refusals.of(subjects);
        let asking = timeout(bound, asking);
        tokio::select! {
            biased;
            said = asking => said.unwrap_or_else(|_| Err(QueueError::timed_out(bound))),
            error = refused => Err(error),
        }
    }
}

impl fmt::Debug for NatsQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsQueue")
            .field("name", &self.shared.name)
            .field("lease", &self.lease)
            .field("call_bound", &self.call_bound)
            .finish_non_exhaustive()
    }
}

impl Queue for NatsQueue {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn capabilities(&self) -> Capabilities {
        let mut release = ReleaseCapabilities::new(Place::Unordered, Attempt::Counted);
        release.delay = true;
        let lease = Lease::Timed { period: self.lease, longest: None };
        let mut can = Capabilities::new(lease).with_release(release);
        can.dead_letters = true;
        can.with_call_bound(self.call_bound).with_interrupt_bound(PULL + INTERRUPT_SPARE)
    }

    async fn prepare(&self) -> Result<(), QueueError> {
        self.within(&[STREAM_API, CONSUMER_API], Box::pin(self.create())).await
    }

    async fn ping(&self) -> Result<(), QueueError> {
        self.within(
            &[STREAM_API, CONSUMER_API],
            Box::pin(async {
                self.forget_consumer();
                self.consumer().await?;
                let dead = &self.shared.names.dead_stream;
                self.context().get_stream(dead).await.map(|_| ()).map_err(fault::of_api)
            }),
        )
        .await
    }

    async fn push(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        self.within(&[&self.shared.names.subject], Box::pin(self.push_all(jobs))).await
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        self.claim_up_to(max, wait).await
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
        self.extend_all(jobs).await
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        self.open()?;
        let what = "NATS counts neither what is done nor what waits to be tried again".to_owned();
        Err(QueueError::Unsupported { what })
    }

    async fn dead(&self, max: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        self.within(&[STREAM_API], Box::pin(self.letters(max.get()))).await
    }

    async fn close(&self) -> Result<(), QueueError> {
        if self.known(|known| std::mem::replace(&mut known.closed, true)) {
            return Ok(());
        }
        let until = Instant::now() + self.call_bound;
        // Bound: `until`. A claim under way ends with its pull.
        while Instant::now() < until {
            self.shared.interrupt.notify_waiters();
            if timeout(ASK_AGAIN, self.shared.claiming.write()).await.is_ok() {
                break;
            }
        }
        self.shared.held.clear();
        let client = &self.shared.client;
        let left = until.saturating_duration_since(Instant::now()).max(ASK_AGAIN);
        match timeout(left, async { client.flush().await.and(Ok(client.drain().await)) }).await {
            Ok(said) => said.map(|_| ()).map_err(QueueError::unavailable),
            Err(_) => Err(QueueError::timed_out(self.call_bound)),
        }
    }
}

const STREAM_API: &str = "$JS.API.STREAM.";
const CONSUMER_API: &str = "$JS.API.CONSUMER.";
const NAME_MOST: usize = 100;
const LEASE: Duration = Duration::from_secs(30);
const LEASE_LEAST: Duration = Duration::from_millis(500);
const LEASE_MOST: Duration = Duration::from_secs(365 * 24 * 3600);
/// The default of [`Push::dedupe`].
const DEDUPE_PERIOD: Duration = Duration::from_secs(24 * 3600);
const CALL_BOUND: Duration = Duration::from_secs(5);
const CALL_BOUND_MOST: Duration = Duration::from_secs(24 * 3600);
/// What the end of a pull may be late.
const INTERRUPT_SPARE: Duration = Duration::from_millis(100);
/// Of a close: a claim may not have begun to wait when it was told to end.
const ASK_AGAIN: Duration = Duration::from_millis(5);
