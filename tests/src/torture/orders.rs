//! What a worker process is told, by its environment.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use lifecycle_worker::{
    AmqpQueue, AnyQueue, BoxError, NatsQueue, PostgresQueue, QueueError, RedisQueue, SqliteQueue,
    Unstoppable,
};

/// Who claims jobs in a worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimBy {
    /// The runner.
    Runner,
    /// A loop that `select!` drops when the signal comes: the control.
    Select,
}

impl ClaimBy {
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Runner, Self::Select].into_iter().find(|claim| claim.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Runner => "runner",
            Self::Select => "select",
        }
    }
}

/// What a worker process is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Orders {
    /// Where the jobs are.
    pub url: String,
    /// In which queue. Default: `torture`.
    pub queue: String,
    /// How long a claim lasts. Default: 5 s.
    pub lease: Duration,
    /// How long a call may take. Default: 5 s.
    pub call_bound: Duration,
    /// What it has from SIGTERM on. Default: 3 s.
    pub grace: Duration,
    /// How many jobs at a time. Default: 4.
    pub concurrency: usize,
    /// How many beyond. Default: none.
    pub prefetch: usize,
    /// How often a job is tried. Default: 25 times.
    pub attempts: u32,
    /// Who claims. Default: the runner.
    pub claim: ClaimBy,
    /// What becomes of jobs that do not stop.
    pub unstoppable: Unstoppable,
}

impl Orders {
    /// To work on the queue of that URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            queue: "torture".to_owned(),
            lease: Duration::from_secs(5),
            call_bound: Duration::from_secs(5),
            grace: Duration::from_secs(3),
            concurrency: 4,
            prefetch: 0,
            attempts: 25,
            claim: ClaimBy::Runner,
            unstoppable: Unstoppable::LeaveToLease,
        }
    }

    /// With that lease.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// The queue, as this process sees it: an identity of its own.
    ///
    /// # Errors
    /// What the queue says.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing was claimed.
    pub async fn connect(&self) -> Result<AnyQueue, QueueError> {
        let (url, name, lease, bound) = (&*self.url, &*self.queue, self.lease, self.call_bound);
        Ok(match url.split(':').next() {
            // Its lease is the connection.
            Some("amqp") => {
                AnyQueue::new(Box::pin(AmqpQueue::connect(url, name)).await?.call_bound(bound))
            }
            Some("nats") => {
                let queue = Box::pin(NatsQueue::connect(url, name)).await?;
                AnyQueue::new(queue.lease(lease).call_bound(bound))
            }
            Some("sqlite") => {
                let queue = Box::pin(SqliteQueue::connect(url, name)).await?;
                AnyQueue::new(queue.lease(lease).call_bound(bound))
            }
            Some("redis") => {
                let queue = Box::pin(RedisQueue::connect(url, name)).await?;
                AnyQueue::new(queue.lease(lease).call_bound(bound))
            }
            // Also what is no URL at all: the queue says what is wrong.
            _ => {
                let queue = Box::pin(PostgresQueue::connect(url, name)).await?;
                AnyQueue::new(queue.lease(lease).call_bound(bound))
            }
        })
    }

    /// As variables; the ledger's path is the process' own.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let anyway = self.unstoppable == Unstoppable::ReturnAnyway;
        vec![
            ("QUEUE_URL", self.url.clone()),
            ("TORTURE_QUEUE", self.queue.clone()),
            ("TORTURE_LEASE_MS", self.lease.as_millis().to_string()),
            ("TORTURE_CALL_BOUND_MS", self.call_bound.as_millis().to_string()),
            ("LIFECYCLE_GRACE_PERIOD", format!("{}ms", self.grace.as_millis())),
            ("TORTURE_CONCURRENCY", self.concurrency.to_string()),
            ("TORTURE_PREFETCH", self.prefetch.to_string()),
            ("TORTURE_ATTEMPTS", self.attempts.to_string()),
            ("TORTURE_CLAIM", self.claim.name().to_owned()),
            ("TORTURE_RETURN_ANYWAY", anyway.to_string()),
        ]
    }

    /// From this process' environment, and where to write the ledger.
    pub(super) fn from_env() -> Result<(Self, PathBuf), BoxError> {
        let text = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
        let count = |name: &str| -> Result<u64, BoxError> { Ok(text(name)?.parse()?) };
        let time = |name: &str| count(name).map(Duration::from_millis);
        let mut orders = Self::new(text("QUEUE_URL")?);
        orders.queue = text("TORTURE_QUEUE")?;
        orders.lease = time("TORTURE_LEASE_MS")?;
        orders.call_bound = time("TORTURE_CALL_BOUND_MS")?;
        orders.concurrency = usize::try_from(count("TORTURE_CONCURRENCY")?)?;
        orders.prefetch = usize::try_from(count("TORTURE_PREFETCH")?)?;
        orders.attempts = u32::try_from(count("TORTURE_ATTEMPTS")?)?;
        orders.claim = ClaimBy::named(&text("TORTURE_CLAIM")?).ok_or("TORTURE_CLAIM: who?")?;
        if text("TORTURE_RETURN_ANYWAY")? == "true" {
            orders.unstoppable = Unstoppable::ReturnAnyway;
        }
        Ok((orders, text("TORTURE_LEDGER")?.into()))
    }
}
