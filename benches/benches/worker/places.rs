//! Where jobs lie: in memory, in a file in memory, on private servers. None of them waits for a
//! disk, but for a file where no folder in memory is to be had.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use lifecycle_worker::{MemoryQueue, PostgresQueue, Push, Queue, RedisQueue, SqliteQueue};
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;
use tests::brokers::{PrivatePostgres, PrivateRedis};

/// A broker.
pub(crate) trait Place: 'static {
    type Queue: Queue;
    const NAME: &'static str;
    /// How many jobs a round has: one at a time, and many.
    const JOBS: [u64; 2];

    /// Starts it.
    async fn start() -> Self
    where
        Self: Sized;

    /// What it is, and in which setting.
    fn setting(&self) -> String;

    /// A queue of that name, prepared.
    async fn queue(&self, name: &str) -> Self::Queue;

    /// Does what would otherwise be done while somebody is timed.
    async fn tidy(&self) {}
}

/// A new queue with that many jobs in it.
pub(crate) async fn filled<P: Place>(place: &P, jobs: u64) -> P::Queue {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    // Ordering: Relaxed, a number that nobody else has.
    let name = format!("jobs-{}", NAMES.fetch_add(1, Ordering::Relaxed));
    let queue = place.queue(&name).await;
    push(&queue, jobs).await;
    place.tidy().await;
    queue
}

/// A new queue in memory with that many jobs in it.
pub(crate) async fn memory(jobs: u64) -> MemoryQueue {
    let queue = MemoryQueue::new("jobs");
    push(&queue, jobs).await;
    queue
}

async fn push(queue: &impl Queue, jobs: u64) {
    let all: Vec<_> = (0..jobs).map(|job| Push::new("number", job.to_string())).collect();
    for some in all.chunks(1_000) {
        queue.push(some).await.expect("it takes jobs");
    }
}

/// A file in a folder of its own, with SQLite's own write-ahead log.
pub(crate) struct Sqlite(TempDir);

impl Place for Sqlite {
    type Queue = SqliteQueue;
    const NAME: &'static str = "sqlite";
    const JOBS: [u64; 2] = [500, 5_000];

    async fn start() -> Self {
        let folder =
            if Path::new(IN_MEMORY).is_dir() { TempDir::new_in(IN_MEMORY) } else { TempDir::new() };
        Self(folder.expect("a folder"))
    }

    fn setting(&self) -> String {
        if self.0.path().starts_with(IN_MEMORY) {
            format!("SQLite's file in memory ({IN_MEMORY})")
        } else {
            "SQLite's file on a disk, which both sides wait for".to_owned()
        }
    }

    async fn queue(&self, name: &str) -> SqliteQueue {
        // A file each: what the last round has left costs nobody.
        let url = format!("sqlite://{}", self.0.path().join(name).display());
        let queue = SqliteQueue::connect(&url, name).await.expect("a file");
        queue.prepare().await.expect("it is prepared");
        queue
    }
}

/// A server whose log is not synced.
pub(crate) struct Postgres {
    server: PrivatePostgres,
    pool: PgPool,
    version: String,
}

impl Postgres {
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) async fn run(&self, statement: &str) {
        let ran = sqlx::query(AssertSqlSafe(statement)).execute(&self.pool).await;
        ran.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

impl Place for Postgres {
    type Queue = PostgresQueue;
    const NAME: &'static str = "postgres";
    const JOBS: [u64; 2] = [500, 7_000];

    async fn start() -> Self {
        let server = PrivatePostgres::start().await;
        let pool = Box::pin(PgPool::connect(&server.url())).await.expect("a connection");
        let version = sqlx::query_scalar("show server_version").fetch_one(&pool).await;
        let this = Self { server, pool, version: version.expect("it has a version") };
        // It would come when it likes; `tidy` comes before each side.
        this.run("alter system set autovacuum = off").await;
        this.run("select pg_reload_conf()").await;
        this
    }

    fn setting(&self) -> String {
        format!("PostgreSQL {} (fsync=off)", self.version)
    }

    async fn queue(&self, name: &str) -> PostgresQueue {
        let queue = PostgresQueue::connect(&self.server.url(), name).await.expect("a server");
        queue.prepare().await.expect("it is prepared");
        queue
    }

    async fn tidy(&self) {
        self.run("vacuum analyze").await;
    }
}

/// A server without a file.
pub(crate) struct Redis {
    server: PrivateRedis,
    version: String,
}

impl Redis {
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Forgets what rounds have left.
    pub(crate) async fn empty(&self) {
        self.server.cli(&["flushall"]).await;
    }
}

impl Place for Redis {
    type Queue = RedisQueue;
    const NAME: &'static str = "redis";
    // More than 8 000 due jobs stop a worker of apalis-redis, and all sides do as many.
    const JOBS: [u64; 2] = [2_000, 7_000];

    async fn start() -> Self {
        let server = PrivateRedis::with(&["--appendonly", "no"], None).await;
        let info = server.cli(&["info", "server"]).await;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        let version = version.expect("it has a version").trim().to_owned();
        Self { server, version }
    }

    fn setting(&self) -> String {
        format!("Redis {} (no file)", self.version)
    }

    async fn queue(&self, name: &str) -> RedisQueue {
        self.empty().await;
        let queue = RedisQueue::connect(&self.server.url(), name).await.expect("a server");
        queue.prepare().await.expect("it is prepared");
        queue
    }
}

/// Where Linux has files in memory.
const IN_MEMORY: &str = "/dev/shm";
