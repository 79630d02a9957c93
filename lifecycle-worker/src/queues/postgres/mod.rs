//! A queue in a PostgreSQL schema of its own, `lifecycle_worker`.
//!
//! Not here: what the SQL queues share (`sql`), the statements (`statements`).
//!
//! # Invariants
//! 1. Each call is one autocommit statement. There is no transaction that a dropped future
//!    could leave open on a pooled connection, and a statement is whole or not at all.
//! 2. The claiming statement runs on a task of its own to its end: what it brings for a claim
//!    that was dropped or waited too long is released.
//! 3. Every settle is fenced on (queue, owner, id, claim number).
//! 4. Time is the database's; only leases are counted here too, from before the statement.
//!
//! # Schema
//! | table | a row is | columns |
//! |---|---|---|
//! | `jobs` | a job | `id`, `queue`, `kind`, `payload`, `headers` (JSON pairs), `priority`, `due` (its place, and not before), `state` (0 waiting, 1 claimed, 2 dead), `owner`, `lease_ends`, `claim` (number of claims), `attempts`, `returns`, `checkpoint`, `error`, `died` |
//! | `dedupe` | a key that is remembered | `queue`, `key`, `expires` |
//! | `counters` | what one owner did, or all who left (`''`) | `queue`, `owner`, `done`, `attempts`, `returns`, `touched` |
//! | `version` | a migration that was applied | `version`, `applied` |
//!
//! # Decisions
//! Waiting jobs have one partial index, in the order in which they are claimed. The claim walks
//! it level by level (a level is a priority), so that neither 100 000 ready jobs nor 100 000
//! that are not yet due make it slower.
//!
//! A job whose lease has ended is taken by the same claim; nothing sweeps. Where claims meet,
//! `SKIP LOCKED` lets each have other jobs; one that finds only locked ones looks again soon.
//!
//! Counters are a row for each owner, since one row for all would make workers wait for each
//! other; [`Queue::close`] folds it into a common one, and with it those of owners that were
//! not heard of for a day.
//!
//! Push, release and retry notify in their statement. PostgreSQL serialises commits that notify,
//! which bounds single pushes to some thousands a second; a batch notifies once.
//!
//! Migrations are one `DO` block under an advisory lock, with their own bookkeeping: a user's
//! migrations do not meet it, and a user without the right to create a schema can prepare what
//! is there already.

mod calls;
mod connection;
mod listen;
mod statements;

use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::PgPool;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query as Statement;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::capabilities::Capabilities;
use crate::claimed::{Claimed, Receipt};
use crate::error::QueueError;
use crate::push::{Push, Pushed};
use crate::queue::{Extend, Extended, Fail, Queue, Release, Settled};
use crate::queues::sql::{self, Key, Parking, Settings};
use crate::stats::{DeadJob, Stats};

/// A queue in a PostgreSQL database (13 or later), in tables of its own.
///
/// Several queues, each by its name, may lie in one database. A clone is the same claiming
/// identity; a second value is another one. The database has to be prepared once
/// ([`Queue::prepare`]), by whoever may create a schema there.
///
/// A claim that waits is woken by `NOTIFY`, and looks by itself every [`poll`](Self::poll), when
/// the next job is due, and when a lease ends. Behind a pooler that ends sessions between
/// statements nobody can listen, and the poll is what is left; it has to keep track of prepared
/// statements (PgBouncer from 1.21 on, with `max_prepared_statements`), for without that they are
/// another client's now and then, and each such call fails.
///
/// The database's encoding should be UTF8. In another a push whose kind, headers or dedupe key it
/// cannot write is refused; an error that it cannot write is kept in ASCII.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use lifecycle_worker::{PostgresQueue, Push, Queue};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = PostgresQueue::connect("postgres://app@localhost/app", "mail")
///     .await?
///     .lease(Duration::from_secs(60));
/// queue.prepare().await?;
/// queue.push(&[Push::new("welcome", "ada@example.org")]).await?;
/// # Ok(())
/// # }
/// # let _ = example;
/// ```
#[derive(Clone)]
#[must_use = "a queue does nothing by itself"]
pub struct PostgresQueue {
    shared: Arc<Shared>,
    settings: Settings,
}

impl PostgresQueue {
    /// Connects to that database, for the queue of that name.
    ///
    /// The pool is this queue's own: up to 8 connections, and one to listen with. One connection
    /// is made at once, to tell early what is wrong; it creates nothing. `?sslmode=verify-full`
    /// and its sisters need the feature `postgres-tls`: by default (`prefer`) the connection is
    /// encrypted where feature and server can, and nothing is verified.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing was claimed, and the connection is closed.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] for a URL or a name that is none, or a database that does not
    /// exist or a server that has no TLS where that is asked for, [`QueueError::Unsupported`] for
    /// TLS without its feature, [`QueueError::Denied`] for wrong credentials, [`QueueError::Unavailable`] when
    /// nobody answers within 5 s.
    pub async fn connect(url: &str, queue: impl Into<String>) -> Result<Self, QueueError> {
        let name = sql::queue_name(queue.into())?;
        let pool = connection::pool(connection::options(url)?).await?;
        Ok(Self::new(pool, name, Pool::Ours))
    }

    /// The queue of that name in a pool that the caller has: [`Queue::close`] leaves it open.
    ///
    /// Its transactions have to be read committed, PostgreSQL's default. The queue wants a
    /// connection or two of it at a time, and makes one beside it to listen with.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] for a name that is empty or longer than 255 bytes.
    pub fn from_pool(pool: PgPool, queue: impl Into<String>) -> Result<Self, QueueError> {
        Ok(Self::new(pool, sql::queue_name(queue.into())?, Pool::Theirs))
    }

    fn new(pool: PgPool, name: Arc<str>, whose: Pool) -> Self {
        let shared = Shared {
            pool,
            whose,
            name,
            owner: sql::new_owner(),
            parking: Arc::default(),
            listener: Mutex::default(),
            forgot: Mutex::default(),
            closed: OnceLock::new(),
        };
        Self { shared: Arc::new(shared), settings: Settings::new(POLL) }
    }

    /// How long a claim lasts unless it is extended. Default: 30 s. At least 1 ms.
    pub fn lease(self, lease: Duration) -> Self {
        Self { settings: self.settings.lease(lease), ..self }
    }

    /// How long a call may take. Default: 5 s.
    pub fn call_bound(self, call_bound: Duration) -> Self {
        Self { settings: self.settings.call_bound(call_bound), ..self }
    }

    /// How often a claim that waits looks for jobs unasked, in case a notification was lost.
    /// Default: 1 s.
    pub fn poll(self, poll: Duration) -> Self {
        Self { settings: self.settings.poll(poll), ..self }
    }

    /// A statement's rows within the call's bound.
    fn rows(
        &self,
        statement: Statement<'static, sqlx::Postgres, PgArguments>,
    ) -> BoxFuture<'_, Result<Vec<PgRow>, QueueError>> {
        // In a box: a statement on its way is some kilobytes.
        Box::pin(async move {
            self.open()?;
            connection::rows(&self.shared.pool, statement, self.settings.call_bound).await
        })
    }

    fn open(&self) -> Result<(), QueueError> {
        if self.shared.closed.get().is_some() { Err(QueueError::Closed) } else { Ok(()) }
    }

    fn start_listening(&self) {
        let mut listener = self.shared.listener();
        if listener.is_none() && self.open().is_ok() {
            let shared = &self.shared;
            let (name, parking) = (Arc::clone(&shared.name), Arc::clone(&shared.parking));
            let task = listen::listen(shared.pool.connect_options(), name, parking);
            *listener = Some(tokio::spawn(task).abort_handle());
        }
    }

    async fn shut(self) -> Result<(), QueueError> {
        let end = Instant::now() + self.settings.call_bound;
        let shared = &self.shared;
        shared.parking.interrupt();
        if let Some(listener) = shared.listener().take() {
            listener.abort();
        }
        let fold = sqlx::query(statements::FOLD).bind(shared.name.to_string());
        let fold = fold.bind(shared.owner.clone());
        let folded = connection::rows(&shared.pool, fold, self.settings.call_bound / 2).await;
        let closed = match shared.whose {
            // What is still on its way ends first, within the bound.
            Pool::Ours => tokio::time::timeout_at(end, shared.pool.close()).await.is_ok(),
            Pool::Theirs => true,
        };
        match folded {
            // Who has never prepared has nothing to fold.
            Ok(_) | Err(QueueError::NotPrepared { .. }) if closed => Ok(()),
            Ok(_) | Err(QueueError::NotPrepared { .. }) => {
                Err(QueueError::timed_out(self.settings.call_bound))
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for PostgresQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresQueue")
            .field("name", &self.shared.name)
            .field("owner", &self.shared.owner)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Queue for PostgresQueue {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn capabilities(&self) -> Capabilities {
        self.settings.capabilities()
    }

    async fn prepare(&self) -> Result<(), QueueError> {
        let migrate = sqlx::query(sqlx::AssertSqlSafe(statements::migrate())).persistent(false);
        sql::within(self.settings.call_bound, async {
            self.rows(migrate).await?;
            self.ping().await?;
            self.forget_keys().await
        })
        .await
    }

    async fn ping(&self) -> Result<(), QueueError> {
        let rows = self.rows(sqlx::query(statements::VERSION)).await?;
        sql::check_version(calls::value(&rows)?, calls::VERSION)
    }

    async fn push(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        self.push_all(jobs).await
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        sql::claim(self, &self.shared.parking, self.settings.poll, max, wait).await
    }

    async fn interrupt(&self) {
        self.shared.parking.interrupt();
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Settled> {
        let keys: Vec<_> = receipts.iter().map(sql::key).collect();
        let touched = self.touch(self.keyed(statements::ACK, &keys)).await;
        sql::settled(&keys, &touched)
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
        let name = self.shared.name.to_string();
        let rows = self.rows(sqlx::query(statements::STATS).bind(name)).await?;
        calls::stats(&rows)
    }

    async fn dead(&self, max: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        let statement = sqlx::query(statements::DEAD).bind(self.shared.name.to_string());
        let rows = self.rows(statement.bind(calls::limit(max))).await?;
        rows.iter().map(calls::dead).collect()
    }

    async fn close(&self) -> Result<(), QueueError> {
        if self.shared.closed.set(()).is_err() {
            return Ok(());
        }
        // On a task, since the next call does nothing: dropped, it goes on.
        let closing = tokio::spawn(self.clone().shut());
        match timeout(self.settings.call_bound, closing).await {
            Ok(Ok(closed)) => closed,
            Ok(Err(_)) => Err(sql::no_answer()),
            Err(_) => Err(QueueError::timed_out(self.settings.call_bound)),
        }
    }
}

/// What the clones of one value share.
struct Shared {
    pool: PgPool,
    whose: Pool,
    name: Arc<str>,
    owner: String,
    parking: Arc<Parking>,
    listener: Mutex<Option<AbortHandle>>,
    /// When keys were last cleaned.
    forgot: Mutex<Option<Instant>>,
    closed: OnceLock<()>,
}

impl Shared {
    fn listener(&self) -> std::sync::MutexGuard<'_, Option<AbortHandle>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(listener) = self.listener().take() {
            listener.abort();
        }
    }
}

/// Who made the pool, and so who closes it.
#[derive(Clone, Copy)]
enum Pool {
    Ours,
    Theirs,
}

/// What a statement that settles touched.
type Touched = Result<HashSet<Key>, QueueError>;

const POLL: Duration = Duration::from_secs(1);
