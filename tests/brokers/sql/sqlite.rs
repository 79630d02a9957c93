//! The SQLite queue and its file: other tables in it, other processes at it, wrong paths.

use std::time::Duration;

use lifecycle_worker::{Queue, QueueError, SqliteQueue};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Row, SqlSafeStr};
use tokio::time::Instant;

use super::common::{File, jobs, most, sqlite_pool};

/// What a busy machine may add: less than the 5 s that a call waits without its bound.
const SLACK: Duration = Duration::from_secs(3);

#[tokio::test]
async fn an_applications_own_tables_and_migrations_stay_apart() {
    let file = File::new();
    let pool = sqlite_pool(&file.url()).await;
    let text = "CREATE TABLE jobs (id INTEGER PRIMARY KEY)".into_sql_str();
    let migration = Migration::new(1, "theirs".into(), MigrationType::Simple, text, false);
    let theirs = Migrator::with_migrations(vec![migration]);
    theirs.run(&pool).await.unwrap();
    let queue = SqliteQueue::connect(&file.url(), "mail").await.unwrap();
    queue.prepare().await.unwrap();
    theirs.run(&pool).await.unwrap();
    queue.push(&jobs(1)).await.unwrap();
    let row = sqlx::query("SELECT (SELECT count(*) FROM jobs)").fetch_one(&pool).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
    let mode = sqlx::query("PRAGMA journal_mode").fetch_one(&pool).await.unwrap();
    assert_eq!(mode.get::<String, _>(0), "wal");
}

#[tokio::test]
async fn a_claim_sees_what_another_value_pushed_and_a_clone_at_once() {
    let file = File::new();
    let minute = Duration::from_secs(60);
    let waiting = SqliteQueue::connect(&file.url(), "mail").await.unwrap();
    waiting.prepare().await.unwrap();
    for (poll, other) in [
        (Duration::from_millis(50), SqliteQueue::connect(&file.url(), "mail").await.unwrap()),
        (minute, waiting.clone()),
    ] {
        let queue = waiting.clone().poll(poll);
        let claim = tokio::spawn(async move { queue.claim(most(1), minute).await });
        // Sleeps: nothing tells that a claim waits.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let began = Instant::now();
        other.push(&jobs(1)).await.unwrap();
        assert_eq!(claim.await.unwrap().unwrap().len(), 1);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_wrong_url_says_what_is_wrong() {
    for url in ["postgres://localhost", "jobs.db", "sqlite::memory:"] {
        let error = SqliteQueue::connect(url, "mail").await.unwrap_err();
        assert!(matches!(error, QueueError::Invalid { .. }), "{url}: {error:?}");
        assert!(error.to_string().contains("sqlite:"), "{url}: {error}");
    }
    let began = Instant::now();
    let error = SqliteQueue::connect("sqlite:///no/such/folder/jobs.db", "mail").await.unwrap_err();
    assert!(matches!(error, QueueError::Invalid { .. }), "{error:?}");
    assert_eq!(error.to_string(), "/no/such/folder/jobs.db: unable to open database file");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(&path, "no database, but a text that is long enough for a header".repeat(20))
        .unwrap();
    let error = SqliteQueue::connect(&format!("sqlite://{}", path.display()), "mail").await;
    let expected = format!("{}: file is not a database", path.display());
    assert_eq!(error.unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn a_file_that_somebody_keeps_locked_is_unavailable_in_time() {
    let file = File::new();
    let queue = SqliteQueue::connect(&file.url(), "mail").await.unwrap();
    let bound = Duration::from_millis(300);
    let bounded = queue.clone().call_bound(bound);
    queue.prepare().await.unwrap();
    queue.push(&jobs(2)).await.unwrap();
    let job = queue.claim(most(1), Duration::ZERO).await.unwrap().remove(0);
    let pool = sqlite_pool(&file.url()).await;
    let lock = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let began = Instant::now();
    let error = bounded.claim(most(1), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    let said = bounded.ack(std::slice::from_ref(&job.receipt)).await.remove(0);
    assert!(matches!(said, lifecycle_worker::Settled::Retry(_)), "{said:?}");
    assert!(began.elapsed() < 2 * bound + SLACK, "{:?}", began.elapsed());
    queue.ping().await.expect("who only reads is not kept");
    lock.rollback().await.unwrap();
    // The claim that waited got a job after all, for nobody: it is given back.
    super::common::conserved_but(&queue, 1, 1).await;
    assert!(queue.ack(&[job.receipt]).await[0].is_done());
}
