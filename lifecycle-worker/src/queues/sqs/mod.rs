//! A queue on Amazon SQS.
//!
//! Not here: URLs (`address`), what a message is (`message`), requests (`calls`), what is held
//! and until when (`held`).
//!
//! # Invariants
//! 1. A claim is settled by this process only while its lease lasts by its own clock (`held`):
//!    SQS itself takes old receipt handles.
//! 2. A poll is never dropped by us: it ends by itself, within [`SqsQueue::poll`].

mod address;
mod calls;
mod fault;
mod held;
mod message;
mod queue;
mod settle;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use tokio::sync::{OnceCell, watch};
use tokio::time::timeout;

use self::address::{Address, dead_name, is_name};
use self::calls::Calls;
use self::held::Held;
use crate::error::QueueError;

/// A queue on Amazon SQS, standard or FIFO (its name then ends in `.fifo`).
///
/// A clone is the same claiming identity.
///
/// # What SQS cannot do
/// - **Lower the count of receives**: a return by the stop of a worker is a delivery like any
///   other ([`Attempt::Counted`](crate::Attempt::Counted)), and returns are not counted apart. A
///   redrive policy with `maxReceiveCount` 1 makes each job that a deploy returns a dead letter.
///   Let the worker decide what is dead ([`Worker::retry`](crate::Worker::retry)), or set it well
///   above the attempts.
/// - **Interrupt a poll**: the stop waits for it. So a claim polls for 2 s at most at a time
///   ([`poll`](Self::poll)), and looks between polls whether it is told to end: that fits into a
///   grace period of 5 s.
/// - **Tell an old receipt handle from the newest**: a claim is settled only while its lease
///   lasts by this process' clock. A standard queue may still deliver a message twice.
/// - **Keep anything with a message**: no checkpoints; an error is kept with dead letters alone.
/// - **Priorities, exact counts, a list of dead letters; dedupe keys of a chosen period**, so
///   no [`Schedule`](crate::Schedule) either.
///
/// Times are whole seconds, rounded up; a push is delayed by 15 minutes at most (not at all on
/// FIFO queues). A retry or a return is delayed by 12 hours at most, less the time since the claim:
/// what is longer is cut. A job is 252 KiB at most with its headers; payloads that
/// are no text are a third larger there. No claim lasts longer than 12 hours.
///
/// # Dead letters
/// Go to a queue of their own, `NAME-dead`, as copies with the attributes `error` and
/// `attempts`; then the original is deleted. A crash in between may leave two.
///
/// # FIFO queues
/// The group is the job's header `group`, or its kind. A group is blocked while a message of it
/// is claimed, and a claim takes one message, since SQS may give out several of a group at once. [`Push::dedupe`](crate::Push::dedupe) is its deduplication id, good for the five
/// minutes that SQS knows, and a duplicate is answered like a new job: hence not declared.
///
/// # Tests
/// Ours run against moto, a mock of AWS in Python. It deviates: it takes a change of visibility of
/// a message that is visible, which SQS refuses; it keeps the order of standard queues, which
/// SQS does not promise; and it may give one message to two that ask at the same moment, which
/// SQS does seldom. What the errors of AWS itself look like, no test of ours shows.
///
/// # Examples
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), lifecycle_worker::QueueError> {
/// use lifecycle_worker::{Queue, SqsQueue};
///
/// // Credentials by the environment: variables, profile, web identity, ECS, instance.
/// let queue = SqsQueue::connect("sqs:mail?region=eu-central-1").await?;
/// queue.prepare().await?; // creates `mail` and `mail-dead` where they are missing
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SqsQueue {
    shared: Arc<Shared>,
    calls: Calls,
    lease: Duration,
    poll: Duration,
}

/// What clones share.
struct Shared {
    address: Address,
    urls: OnceCell<Urls>,
    held: Held,
    /// How often it was told to end a claim.
    interrupts: watch::Sender<u64>,
    is_closed: watch::Sender<bool>,
}

/// Where its messages and its dead letters are.
#[derive(Debug)]
struct Urls {
    main: String,
    dead: String,
}

impl SqsQueue {
    /// The queue of a URL: `sqs:NAME?region=REGION` on AWS, with region (if it has none) and
    /// credentials by the environment; `sqs://KEY:SECRET@HOST:PORT/ACCOUNT/NAME?region=REGION`
    /// elsewhere, over TLS with `&tls=true`. Nothing is asked yet but the environment.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is left.
    /// # Errors
    /// [`QueueError::Invalid`] for a URL that is none; [`QueueError::Unavailable`] when the
    /// environment does not answer within 5 s (an instance is asked for its region).
    pub async fn connect(url: &str) -> Result<Self, QueueError> {
        let address = Address::parse(url)?;
        let tls = Provider::Rustls(CryptoMode::Ring);
        let http = aws_smithy_http_client::Builder::new().tls_provider(tls).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
        if let Some(region) = &address.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some((key, secret)) = &address.keys {
            let keys = Credentials::new(key, secret, None, None, "url");
            loader = loader.credentials_provider(SharedCredentialsProvider::new(keys));
        }
        if let Some(endpoint) = &address.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        // A send that is tried again behind our back may be there twice.
        let loading = Box::pin(loader.retry_config(RetryConfig::disabled()).load());
        let loaded = timeout(CALL_BOUND, loading).await;
        let config = loaded.map_err(|_| QueueError::timed_out(CALL_BOUND))?;
        Ok(Self::new(Client::new(&config), address, None))
    }

    /// The queue of that URL of SQS', through a client of yours. A client that tries again by
    /// itself may send a job twice: turn that off.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] for a URL that does not end in a queue's name.
    pub fn from_client(client: Client, queue_url: impl Into<String>) -> Result<Self, QueueError> {
        let main = queue_url.into();
        let name = main.rsplit('/').next().unwrap_or_default().to_owned();
        let Some(folder) = main.strip_suffix(&name).filter(|_| is_name(&name)) else {
            let what = format!("the URL of a queue ends in its name, and {main:?} does not");
            return Err(QueueError::Invalid { what });
        };
        let dead = format!("{folder}{}", dead_name(&name));
        let address = Address { name, ..Address::default() };
        Ok(Self::new(client, address, Some(Urls { main, dead })))
    }

    fn new(client: Client, address: Address, urls: Option<Urls>) -> Self {
        let shared = Shared {
            address,
            urls: OnceCell::new_with(urls),
            held: Held::default(),
            interrupts: watch::Sender::new(0),
            is_closed: watch::Sender::new(false),
        };
        let calls = Calls { client, bound: CALL_BOUND };
        Self { shared: Arc::new(shared), calls, lease: LEASE, poll: POLL }
    }

    /// With that lease (the visibility timeout), from a second to 12 hours. Default: 30 s, as
    /// SQS has it.
    #[must_use]
    pub fn lease(self, period: Duration) -> Self {
        Self { lease: period.clamp(SECOND, LONGEST), ..self }
    }

    /// With polls of so many whole seconds, 20 at most: how long the stop may have to wait for
    /// one. Never longer than a quarter of the lease. Default: 2 s.
    #[must_use]
    pub fn poll(self, poll: Duration) -> Self {
        Self { poll: Duration::from_secs(poll.as_secs().min(POLL_MOST)), ..self }
    }

    /// With that bound on every call. Default: 5 s.
    #[must_use]
    pub fn call_bound(self, bound: Duration) -> Self {
        let calls = Calls { bound: bound.min(LONGEST), ..self.calls };
        Self { calls, ..self }
    }

    /// How long a poll lasts: its lease counts from before it, so it must not use that up.
    fn longest_poll(&self) -> Duration {
        Duration::from_secs(self.poll.min(self.lease / 4).as_secs())
    }
}

impl fmt::Debug for SqsQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsQueue")
            .field("name", &self.shared.address.name)
            .field("lease", &self.lease)
            .field("poll", &self.poll)
            .finish_non_exhaustive()
    }
}

const SECOND: Duration = Duration::from_secs(1);
const CALL_BOUND: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_secs(2);
/// As SQS has it.
const POLL_MOST: u64 = 20;
/// No claim lasts longer, and no visibility timeout either.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
