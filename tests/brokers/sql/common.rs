//! What the tests of the SQL queues share.

use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use lifecycle_worker::{Push, Queue};
use sqlx::{PgPool, Row, SqlitePool};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// A folder for a SQLite file.
pub(crate) struct File(TempDir);

impl File {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}", self.0.path().join("jobs.db").display())
    }
}

pub(crate) fn most(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

pub(crate) fn jobs(number: usize) -> Vec<Push> {
    (0..number).map(|at| Push::new("mail", at.to_string())).collect()
}

/// The future after so many polls: its answer, or none and it is dropped.
pub(crate) async fn polled<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// So many jobs are in the queue and nobody holds one, soon.
pub(crate) async fn conserved(queue: &impl Queue, ready: u64) {
    conserved_but(queue, ready, 0).await;
}

/// So many jobs are in the queue and so many are held, soon.
pub(crate) async fn conserved_but(queue: &impl Queue, ready: u64, running: u64) {
    let limit = Instant::now() + Duration::from_secs(5);
    loop {
        let stats = queue.stats().await.unwrap();
        if stats.ready == ready && stats.running == running {
            return;
        }
        assert!(Instant::now() < limit, "{stats:?}");
        // Sleeps: what came for nobody is given back by a task that tells nobody.
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn postgres_pool(url: &str) -> PgPool {
    sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(url).await.unwrap()
}

pub(crate) async fn sqlite_pool(url: &str) -> SqlitePool {
    let url = format!("{url}?mode=rwc");
    sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect(&url).await.unwrap()
}

/// How many sessions of the server are idle in a transaction.
pub(crate) async fn ours(pool: &PgPool) -> i64 {
    let text = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    sqlx::query(text).fetch_one(pool).await.unwrap().get(0)
}
