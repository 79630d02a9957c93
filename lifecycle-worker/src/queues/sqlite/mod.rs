//! A queue in a SQLite file, shared by the processes of one machine.
//!
//! Not here: what the SQL queues share (`sql`), the statements (`statements`).
//!
//! # Invariants
//! 1. What writes is one `BEGIN IMMEDIATE` transaction on a task of its own, to its end. A call
//!    that is dropped, or waits too long, leaves no transaction open.
//! 2. Jobs that such a transaction brings for a claim that nobody waits for are released.
//! 3. Every settle is fenced on (queue, owner, id, claim number).
//! 4. Idle claims only read.
//!
//! # Schema
//! | table `lifecycle_worker_..` | a row is | columns |
//! |---|---|---|
//! | `jobs` | a job | `id`, `queue`, `kind`, `payload`, `headers` (JSON pairs), `priority`, `due` (its place, and not before), `state` (0 waiting, 1 claimed, 2 dead), `owner`, `lease_ends`, `claim` (number of claims), `attempts`, `returns`, `checkpoint`, `error`, `died` |
//! | `dedupe` | a key that is remembered | `queue`, `key`, `expires` |
//! | `counters` | what one owner did, or all who left (`''`) | `queue`, `owner`, `done`, `attempts`, `returns`, `touched` |
//! | `version` | a migration that was applied | `version` |
//!
//! # Decisions
//! `synchronous` is FULL and not NORMAL: in WAL mode, NORMAL survives the end of a process and
//! not that of the machine, and a push has said that the file has the job. It costs an fsync a
//! transaction; a batch is one.
//!
//! A claim looks with two index seeks and without a transaction, and begins one only when
//! something is due: idle workers do not keep others from writing. The transaction takes the
//! priorities one by one, so that jobs that are not yet due are never walked over.
//!
//! Time is the machine's clock, which all processes on a file share. When somebody sets it
//! forward, leases end early; the fence then tells the first worker that its job is lost. When
//! somebody sets it back, all that was pushed before waits for as long as the clock needs to come
//! there again, for `due` is both the place of a job and the time before which it is not claimed;
//! leases that were given before last longer by as much.
//!
//! The version lies in a table of our own, and not in `user_version` or sqlx's table: those are
//! the application's, which may keep its own tables in the same file.

mod calls;
mod connection;
mod statements;
mod work;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use sqlx::{Row as _, SqlitePool};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use self::connection::{Work, now};
use crate::capabilities::Capabilities;
use crate::claimed::{Claimed, Receipt};
use crate::error::QueueError;
use crate::push::{Push, Pushed};
use crate::queue::{Extend, Extended, Fail, Queue, Release, Settled};
use crate::queues::sql::{self, Parking, Settings};
use crate::stats::{DeadJob, Stats};

/// A queue in a SQLite file, in tables of its own.
///
/// Several queues, each by its name, may lie in one file, and several processes of one machine
/// may use it at once; over a network file system they must not (SQLite's locks do not hold
/// there). Times are the machine's clock: set back by an hour, it hides jobs that were ready for
/// that hour, and those whose worker vanished; step it by NTP's slewing, not by hand. A clone is
/// the same claiming identity; a second value is another one. The file has to
/// be prepared once ([`Queue::prepare`]).
///
/// A claim that waits is woken at once by what a clone does, and sees what others push within
/// [`poll`](Self::poll).
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use lifecycle_worker::{Push, Queue, SqliteQueue};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = SqliteQueue::connect("sqlite:///var/lib/app/jobs.db", "mail")
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
pub struct SqliteQueue {
    shared: Arc<Shared>,
    settings: Settings,
}

impl SqliteQueue {
    /// Opens that file, for the queue of that name; creates the file if it is missing, and
    /// nothing in it.
    ///
    /// The pool is this queue's own: WAL, `synchronous = FULL`, 5 s of waiting for others' locks.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing was claimed. The file may have been created.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] for a URL or a name that is none, a folder that does not exist,
    /// or a file that is no database; [`QueueError::Denied`] for a file that may not be written;
    /// [`QueueError::Unavailable`] when others keep it locked for 5 s.
    pub async fn connect(url: &str, queue: impl Into<String>) -> Result<Self, QueueError> {
        let name = sql::queue_name(queue.into())?;
        let options = connection::options(url)?;
        // Boxed: the futures of callers would have all of the driver's in them.
        let pool = Box::pin(connection::pool(options.clone())).await?;
        Ok(Self::new(pool, connection::writing(options), name, Pool::Ours))
    }

    /// The queue of that name in a pool that the caller has: [`Queue::close`] leaves it open.
    ///
    /// Journal mode, `synchronous` and the busy timeout are then the caller's. WAL, FULL, and
    /// some seconds are what [`connect`](Self::connect) has.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] for a name that is empty or longer than 255 bytes.
    pub fn from_pool(pool: SqlitePool, queue: impl Into<String>) -> Result<Self, QueueError> {
        Ok(Self::new(pool.clone(), pool, sql::queue_name(queue.into())?, Pool::Theirs))
    }

    fn new(pool: SqlitePool, writing: SqlitePool, name: Arc<str>, whose: Pool) -> Self {
        let shared = Shared {
            pool,
            writing,
            whose,
            name,
            owner: sql::new_owner(),
            parking: Parking::default(),
            writer: Arc::new(Semaphore::new(1)),
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

    /// How often a claim that waits looks for what other processes pushed. Default: 50 ms.
    /// At least 1 ms.
    pub fn poll(self, poll: Duration) -> Self {
        Self { settings: self.settings.poll(poll), ..self }
    }

    /// What a transaction says, within the call's bound.
    async fn write<T: Send + 'static>(&self, work: Work<T>) -> Result<T, QueueError> {
        self.open()?;
        let (pool, writer) = (&self.shared.writing, &self.shared.writer);
        connection::write(pool, writer, self.settings.call_bound, work).await
    }

    fn open(&self) -> Result<(), QueueError> {
        if self.shared.closed.get().is_some() { Err(QueueError::Closed) } else { Ok(()) }
    }

    async fn shut(self) -> Result<(), QueueError> {
        let end = Instant::now() + self.settings.call_bound;
        let shared = &self.shared;
        shared.parking.interrupt();
        let (name, owner) = (Arc::clone(&shared.name), shared.owner.clone());
        let fold: Work<()> = Box::new(|connection| Box::pin(work::fold(connection, name, owner)));
        // Behind all that was begun before it: there is one writer.
        let bound = self.settings.call_bound / 2;
        let folded = connection::write(&shared.writing, &shared.writer, bound, fold).await;
        let closed = match shared.whose {
            Pool::Ours => {
                let closing = async { tokio::join!(shared.writing.close(), shared.pool.close()) };
                timeout_at(end, closing).await.is_ok()
            }
            Pool::Theirs => true,
        };
        match folded {
            // Who has never prepared has nothing to fold.
            Ok(()) | Err(QueueError::NotPrepared { .. }) if closed => Ok(()),
            Ok(()) | Err(QueueError::NotPrepared { .. }) => {
                Err(QueueError::timed_out(self.settings.call_bound))
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for SqliteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteQueue")
            .field("name", &self.shared.name)
            .field("owner", &self.shared.owner)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Queue for SqliteQueue {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn capabilities(&self) -> Capabilities {
        self.settings.capabilities()
    }

    async fn prepare(&self) -> Result<(), QueueError> {
        sql::within(self.settings.call_bound, async {
            let name = Arc::clone(&self.shared.name);
            let migrate: Work<()> =
                Box::new(|connection| Box::pin(work::migrate(connection, name)));
            self.write(migrate).await?;
            self.ping().await
        })
        .await
    }

    async fn ping(&self) -> Result<(), QueueError> {
        let row = self.read(sqlx::query(statements::VERSION)).await?;
        sql::check_version(row.try_get(0).map_err(|error| sql::unreadable(&error))?, VERSION)
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
        let statement = sqlx::query(statements::STATS).bind(self.shared.name.to_string());
        calls::stats(&self.read(statement.bind(now())).await?)
    }

    async fn dead(&self, max: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        let statement = sqlx::query(statements::DEAD).bind(self.shared.name.to_string());
        let rows = self.read_all(statement.bind(calls::limit(max.get()))).await?;
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
    pool: SqlitePool,
    /// For transactions: a pool of its own, where the pools are ours.
    writing: SqlitePool,
    whose: Pool,
    name: Arc<str>,
    owner: String,
    parking: Parking,
    writer: Arc<Semaphore>,
    /// When keys were last cleaned.
    forgot: Mutex<Option<Instant>>,
    closed: OnceLock<()>,
}

/// Who made the pool, and so who closes it.
#[derive(Clone, Copy)]
enum Pool {
    Ours,
    Theirs,
}

/// The version that this program knows.
const VERSION: i64 = statements::MIGRATIONS.len() as i64;
const POLL: Duration = Duration::from_millis(50);
