//! A queue on Redis 7.0 or later, clusters included: sorted sets, hashes and short scripts.
//!
//! A job is a hash. Its place is a member of one of four sorted sets: ready, scheduled, leased,
//! dead. The member itself is the order (priority, when it is due, when it was pushed), so a job
//! that is returned lands where it was. Every change is one script on the server, fenced by the
//! queue's owner and the claim's number, with the server's own clock.
//!
//! No streams: before Redis 8.8 a stream cannot take back that a delivery counts, and has
//! neither delays nor priorities; no `BLMOVE` of jobs either, since a claim whose future is
//! dropped would take one that nobody sees. Instead, a claim that finds nothing waits on a
//! *marker*, which is harmless to lose, on a connection of its own, and then claims by a script.
//! The marker is one entry of a list while there is something to claim.
//!
//! Not here: what a worker does with a claim that fails (`runner`).
//!
//! # Invariants
//! 1. A job is a member of one set at most; its hash is there until it is acknowledged.
//! 2. A claim's number of a job only grows, and each settling asks for it and the owner.
//! 3. The marker's list has one entry at most.
//! 4. A script handles 500 jobs or 4 MB of theirs at most (a claim 16 MB), and moves 1 000 that
//!    fall due.

mod claim;
mod codec;
mod fault;
mod link;
mod push;
mod scripts;
mod settle;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use redis::{Client, Cmd, Script, Value};
use tokio::sync::Notify;
use uuid::Uuid;

use self::claim::Late;
use self::fault::Fault;
use self::link::{Limit, Link};
use self::scripts::{Keys, Scripts};
use crate::capabilities::{Capabilities, Lease};
use crate::claimed::{Claimed, Receipt};
use crate::error::QueueError;
use crate::push::{Push, Pushed};
use crate::queue::{Extend, Extended, Fail, Queue, Release, Settled};
use crate::stats::{DeadJob, Stats};

/// A queue on Redis 7.0 or later, a cluster or a server.
///
/// All keys are named `lifecycle:{name}:..`, which in a cluster puts them on one node: several
/// queues spread over several nodes, one does not. Jobs outlive a restart of the server as far
/// as its persistence goes (`appendonly yes`), and its memory policy has to be `noeviction`. At its
/// `maxmemory` the server refuses pushes ([`Unavailable`](QueueError::Unavailable)); what is
/// there is claimed and settled all the same, which makes room. Dead letters are kept until somebody deletes them: the members of `lifecycle:{name}:dead`,
/// and the hashes `lifecycle:{name}:job:` with the last 36 characters of each.
///
/// A push is all or nothing for every 500 jobs or 4 MB. Jobs are claimed in the order of
/// priority, then of when they were due, then of their push; where more than 1 000 fall due
/// between two claims, the order is that within each thousand.
///
/// A claim that waits is woken by the push, and looks again by itself every 5 s, in case a
/// wake-up went to a worker that has just vanished. That is all it does while idle.
///
/// A connection that broke is opened again by the next call; the call that it broke under says
/// [`Unavailable`](QueueError::Unavailable). A clone is the same queue and the same identity.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use lifecycle_worker::{Push, Queue, QueueError, RedisQueue};
///
/// # async fn example() -> Result<(), QueueError> {
/// let queue = RedisQueue::connect("redis://127.0.0.1/", "mail").await?;
/// let queue = queue.lease(Duration::from_secs(60));
/// queue.push(&[Push::new("mail", "hello").priority(1)]).await?;
/// # Ok(())
/// # }
/// # let _ = example;
/// ```
#[derive(Clone)]
#[must_use = "a queue does nothing by itself"]
pub struct RedisQueue {
    shared: Arc<Shared>,
    lease: Duration,
    call_bound: Duration,
}

/// What all clones have in common.
struct Shared {
    name: String,
    owner: String,
    keys: Keys,
    scripts: Scripts,
    link: Link,
    /// Tells the claims that wait at that moment to end.
    interrupt: Notify,
    late: Late,
}

impl RedisQueue {
    /// The queue of that name on the server of that URL:
    /// `redis://[[user]:password@]host[:port][/database]`, or `redis+unix:///path`.
    ///
    /// The URL of one node of a cluster will do, as long as that node is there at the start and
    /// whenever the link is lost: it alone is asked where the queue is then
    /// ([`cluster`](Self::cluster) takes several). `rediss://` needs the feature `redis-tls`
    /// and a process-wide provider of cryptography, which the program installs.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is left but a connection that closes.
    /// # Errors
    /// [`Invalid`](QueueError::Invalid) for a URL or name that is none,
    /// [`Denied`](QueueError::Denied) by the server, [`Unavailable`](QueueError::Unavailable)
    /// if it cannot be reached within 5 s, and [`Unsupported`](QueueError::Unsupported) if it
    /// is older than 7.0 or no Redis.
    pub async fn connect(url: &str, name: impl Into<String>) -> Result<Self, QueueError> {
        Self::open(vec![client(url)?], name.into()).await
    }

    /// The queue of that name on that client's server: for certificates and other settings that
    /// have no place in a URL.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is left but a connection that closes.
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_client(client: Client, name: impl Into<String>) -> Result<Self, QueueError> {
        Self::open(vec![client], name.into()).await
    }

    /// The queue of that name in a cluster of which some nodes have these URLs.
    ///
    /// The node that has the queue is found through the first that answers, at the start and
    /// whenever it is lost: after a failover, or when its slot has moved. One that says nothing for
    /// its share of the time that a call may take is not waited for alone: the next is asked beside
    /// it. While a slot is on its way, calls may fail with
    /// [`Unavailable`](QueueError::Unavailable).
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is left but a connection that closes.
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn cluster(
        urls: impl IntoIterator<Item: AsRef<str>>,
        name: impl Into<String>,
    ) -> Result<Self, QueueError> {
        let seeds = urls.into_iter().map(|url| client(url.as_ref())).collect::<Result<_, _>>()?;
        Self::open(seeds, name.into()).await
    }

    async fn open(seeds: Vec<Client>, name: String) -> Result<Self, QueueError> {
        if name.is_empty() || name.contains(['{', '}']) {
            let what = format!("{name:?} is no name of a queue: one character or more, no braces");
            return Err(QueueError::Invalid { what });
        }
        if seeds.is_empty() {
            let what = "a cluster takes the URL of one node or more".to_owned();
            return Err(QueueError::Invalid { what });
        }
        let keys = Keys::new(&name);
        let shared = Shared {
            owner: Uuid::now_v7().to_string(),
            link: Link::new(seeds, keys.wake().to_owned()),
            keys,
            scripts: Scripts::new(),
            interrupt: Notify::new(),
            late: Late::default(),
            name,
        };
        let queue = Self { shared: Arc::new(shared), lease: LEASE, call_bound: CALL_BOUND };
        queue.shared.link.node(queue.limit()).await?;
        Ok(queue)
    }

    /// How long a claim lasts unless it is extended. Default: 30 s. From 1 ms to a year.
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease: lease.clamp(Duration::from_millis(1), LEASE_MOST), ..self }
    }

    /// How long a call may take, and a claim beyond its wait. Default: 5 s. At most a day.
    pub fn call_bound(self, call_bound: Duration) -> Self {
        Self { call_bound: call_bound.min(CALL_BOUND_MOST), ..self }
    }

    fn limit(&self) -> Limit {
        Limit::of(self.call_bound)
    }

    /// The call of that script, without its own arguments.
    fn call(&self, script: &Script) -> Cmd {
        self.shared.keys.call(script, &self.shared.owner, millis(LOOK_AGAIN))
    }

    /// Runs a script once.
    async fn run(&self, script: &Arc<Script>, call: Cmd, limit: Limit) -> Result<Value, Fault> {
        let node = self.shared.link.node(limit).await?;
        let answer = limit.hold(Box::pin(node.script(script, call))).await;
        if answer.as_ref().is_err_and(Fault::breaks) {
            self.shared.link.lost(&node);
        }
        answer
    }

    /// Runs a script that only reads: once more if the connection turns out to be broken.
    async fn read(&self, script: &Arc<Script>, call: Cmd, limit: Limit) -> Result<Value, Fault> {
        match self.run(script, call.clone(), limit).await {
            Err(fault) if fault.breaks() => self.run(script, call, limit).await,
            answer => answer,
        }
    }
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueue")
            .field("name", &self.shared.name)
            .field("owner", &self.shared.owner)
            .field("lease", &self.lease)
            .field("call_bound", &self.call_bound)
            .finish_non_exhaustive()
    }
}

impl Queue for RedisQueue {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::full(Lease::Timed { period: self.lease, longest: None })
            .with_call_bound(self.call_bound)
    }

    /// There is nothing to create: looks whether the queue can be used.
    async fn prepare(&self) -> Result<(), QueueError> {
        self.ping().await
    }

    async fn ping(&self) -> Result<(), QueueError> {
        self.stats().await.map(|_| ())
    }

    async fn push(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        Ok(self.push_all(jobs).await?)
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        Ok(Box::pin(self.claim_up_to(max.get(), wait)).await?)
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
        let script = &self.shared.scripts.stats;
        let answer = self.read(script, self.call(script), self.limit()).await?;
        Ok(codec::stats(answer).ok_or(Fault::Shape)?)
    }

    async fn dead(&self, max: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        let (script, limit) = (&self.shared.scripts.dead, self.limit());
        let (mut from, mut dead) = (0, Vec::new());
        while from < max.get() {
            let mut call = self.call(script);
            call.arg(from).arg((max.get() - from).min(JOBS_MOST)).arg(BYTES_MOST);
            let answer = self.read(script, call, limit).await?;
            let (seen, jobs) = codec::dead(answer).ok_or(Fault::Shape)?;
            dead.extend(jobs);
            if seen == 0 {
                break;
            }
            from += seen;
        }
        Ok(dead)
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.shared.interrupt.notify_waiters();
        if !self.shared.link.is_closed() {
            self.settle_late(self.limit()).await;
        }
        self.shared.link.close();
        self.shared.late.clear();
        Ok(())
    }
}

fn client(url: &str) -> Result<Client, QueueError> {
    let client = Client::open(url).map_err(|error| {
        // The URL itself may have a password in it.
        let tls = url.starts_with("rediss:") || url.starts_with("valkeys:");
        let what = match tls && cfg!(not(feature = "redis-tls")) {
            true => "a rediss:// URL needs the feature `redis-tls`".to_owned(),
            false => format!("not a URL like redis://user:password@host:6379/0 ({error})"),
        };
        QueueError::Invalid { what }
    })?;
    #[cfg(feature = "redis-tls")]
    check_provider(&client)?;
    Ok(client)
}

/// Without a provider the client would panic where two are built in.
#[cfg(feature = "redis-tls")]
fn check_provider(client: &Client) -> Result<(), QueueError> {
    let tls = matches!(client.get_connection_info().addr(), redis::ConnectionAddr::TcpTls { .. });
    if tls && rustls::crypto::CryptoProvider::get_default().is_none() {
        let what = "rediss:// needs a provider of cryptography: \
                    rustls::crypto::ring::default_provider().install_default()";
        return Err(QueueError::Invalid { what: what.to_owned() });
    }
    Ok(())
}

/// In whole milliseconds, rounded up: what is asked for is waited for.
fn millis(time: Duration) -> u64 {
    let whole = time.as_nanos().div_ceil(1_000_000);
    u64::try_from(whole).unwrap_or(u64::MAX).min(MILLIS_MOST)
}

const LEASE: Duration = Duration::from_secs(30);
const LEASE_MOST: Duration = Duration::from_secs(365 * 24 * 3600);
const CALL_BOUND: Duration = Duration::from_secs(5);
const CALL_BOUND_MOST: Duration = Duration::from_secs(24 * 3600);

/// Who waits looks again after so long: the longest that a lost wake-up can matter.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Of one script call, so that the server is not held up: for some 10 us a job.
const JOBS_MOST: usize = 500;
/// Of one script call.
const BYTES_MOST: usize = 4 << 20;
/// A hundred years: a time that the members' digits have place for.
const MILLIS_MOST: u64 = 100 * 365 * 24 * 3600 * 1000;
