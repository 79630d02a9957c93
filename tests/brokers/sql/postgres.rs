//! The PostgreSQL queue and its server: notifications, outages, credentials.

use std::error::Error;
use std::time::Duration;

use lifecycle_worker::{PostgresQueue, Push, Queue, QueueError, Settled};
use sqlx::{PgPool, Row};
use tests::brokers::{PrivatePostgres, free_port};
use tokio::time::{Instant, sleep};

use super::common::{jobs, most, postgres_pool};

const A_MINUTE: Duration = Duration::from_secs(60);
/// What a busy machine may add to the bound of a call.
const SLACK: Duration = Duration::from_secs(3);

/// Waits until somebody listens, other than that session.
async fn listening(pool: &PgPool, except: i32) -> i32 {
    let text = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND pid <> $1";
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let found = sqlx::query(text).bind(except).fetch_optional(pool).await.unwrap();
        if let Some(row) = found {
            return row.get(0);
        }
        assert!(Instant::now() < limit, "nobody listens");
        // Sleeps: a server tells nobody that a session listens.
        sleep(Duration::from_millis(5)).await;
    }
}

/// How long a claim that waits needs to see a push.
async fn latency(waiting: &PostgresQueue, pushing: &PostgresQueue) -> Duration {
    let queue = waiting.clone();
    let claim = tokio::spawn(async move { queue.claim(most(1), A_MINUTE).await });
    // Sleeps: nothing tells that a claim waits.
    sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    pushing.push(&jobs(1)).await.unwrap();
    let claimed = claim.await.unwrap().unwrap();
    assert_eq!(claimed.len(), 1);
    let latency = began.elapsed();
    assert!(waiting.ack(&[claimed[0].receipt.clone()]).await[0].is_done());
    latency
}

#[tokio::test]
async fn a_notification_wakes_a_claim_and_not_its_poll() {
    let server = PrivatePostgres::start().await;
    let pool = postgres_pool(&server.url()).await;
    let waiting = PostgresQueue::connect(&server.url(), "mail").await.unwrap().poll(A_MINUTE);
    let pushing = PostgresQueue::connect(&server.url(), "mail").await.unwrap();
    pushing.prepare().await.unwrap();
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        slowest = slowest.max(latency(&waiting, &pushing).await);
    }
    println!("a waiting claim had a pushed job after {slowest:?} at most");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");

    // Its connection is cut: it listens again, and notifications count again.
    let session = listening(&pool, 0).await;
    sqlx::query("SELECT pg_terminate_backend($1)").bind(session).execute(&pool).await.unwrap();
    listening(&pool, session).await;
    let again = latency(&waiting, &pushing).await;
    assert!(again < Duration::from_secs(2), "{again:?}");

    // A delayed job is seen when it is due, by whoever waited before it was pushed.
    let claim = tokio::spawn(async move { waiting.claim(most(1), A_MINUTE).await });
    // Sleeps: nothing tells that a claim waits.
    sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    let delay = Duration::from_millis(300);
    pushing.push(&[Push::new("mail", "").delay(delay)]).await.unwrap();
    assert_eq!(claim.await.unwrap().unwrap().len(), 1);
    let seen = began.elapsed();
    assert!(seen >= delay && seen < Duration::from_secs(2), "{seen:?}");
}

#[tokio::test]
async fn an_interrupt_ends_a_waiting_claim_and_close_lets_go() {
    let server = PrivatePostgres::start().await;
    let pool = postgres_pool(&server.url()).await;
    let queue = PostgresQueue::from_pool(pool.clone(), "mail").unwrap().poll(A_MINUTE);
    queue.prepare().await.unwrap();
    let waiting = queue.clone();
    let claim = tokio::spawn(async move { waiting.claim(most(1), A_MINUTE).await });
    listening(&pool, 0).await;
    // It may not wait yet: the runner, too, asks until the claim has ended.
    while !claim.is_finished() {
        queue.interrupt().await;
        tokio::task::yield_now().await;
    }
    assert!(claim.await.unwrap().unwrap().is_empty());
    queue.close().await.unwrap();
    assert!(matches!(queue.claim(most(1), A_MINUTE).await, Err(QueueError::Closed)));
    let ours = sqlx::query("SELECT 1").fetch_one(&pool).await;
    ours.expect("a pool that is not the queue's stays open");
    let limit = Instant::now() + Duration::from_secs(10);
    let text = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%LISTEN %'
        AND pid <> pg_backend_pid()";
    while sqlx::query(text).fetch_one(&pool).await.unwrap().get::<i64, _>(0) > 0 {
        assert!(Instant::now() < limit, "it still listens");
        // Sleeps: a server tells nobody that a session has ended.
        sleep(Duration::from_millis(5)).await;
    }
}

fn said(error: &QueueError) -> String {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    format!("{error}: {source}")
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_right_are_denied() {
    let server = PrivatePostgres::start_with_password("secret").await;
    let error = PostgresQueue::connect(&server.url_of("postgres:wrong"), "mail").await;
    let error = error.unwrap_err();
    assert!(matches!(error, QueueError::Denied(_)) && error.is_fatal(), "{error:?}");
    assert!(said(&error).contains("password authentication failed"), "{}", said(&error));

    let owner = PostgresQueue::connect(&server.url(), "mail").await.unwrap();
    owner.prepare().await.unwrap();
    let pool = postgres_pool(&server.url()).await;
    let role = "CREATE ROLE guest LOGIN PASSWORD 'guest'";
    sqlx::raw_sql(role).execute(&pool).await.unwrap();
    let guest = PostgresQueue::connect(&server.url_of("guest:guest"), "mail").await.unwrap();
    for error in [
        guest.ping().await.unwrap_err(),
        guest.prepare().await.unwrap_err(),
        guest.claim(most(1), Duration::ZERO).await.unwrap_err(),
    ] {
        assert!(matches!(error, QueueError::Denied(_)), "{error:?}");
        assert!(said(&error).contains("permission denied"), "{}", said(&error));
    }

    // Who may use the tables and create nothing can prepare what is there.
    let grants = "GRANT USAGE ON SCHEMA lifecycle_worker TO guest;
        GRANT ALL ON ALL TABLES IN SCHEMA lifecycle_worker TO guest;
        GRANT ALL ON ALL SEQUENCES IN SCHEMA lifecycle_worker TO guest";
    sqlx::raw_sql(grants).execute(&pool).await.unwrap();
    guest.prepare().await.unwrap();
    guest.push(&jobs(1)).await.unwrap();
    assert_eq!(guest.claim(most(2), Duration::ZERO).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_wrong_url_says_what_is_wrong() {
    let server = PrivatePostgres::start().await;
    for (url, words) in [
        ("redis://localhost", "begins with postgres://"),
        ("postgres://localhost:port/", "none of PostgreSQL"),
        ("postgres://localhost/?sslmode=none", "none of PostgreSQL"),
    ] {
        let error = PostgresQueue::connect(url, "mail").await.unwrap_err();
        assert!(matches!(error, QueueError::Invalid { .. }), "{url}: {error:?}");
        assert!(error.to_string().contains(words), "{url}: {error}");
    }
    let missing = format!("postgres://postgres@127.0.0.1:{}/none", port(&server));
    let error = PostgresQueue::connect(&missing, "mail").await.unwrap_err();
    assert!(matches!(error, QueueError::Invalid { .. }), "{error:?}");
    assert_eq!(error.to_string(), r#"database "none" does not exist"#);

    let nobody = format!("postgres://postgres@127.0.0.1:{}/postgres", free_port());
    let began = Instant::now();
    let error = PostgresQueue::connect(&nobody, "mail").await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    assert!(said(&error).contains("refused"), "{}", said(&error));
    // A connection that was waited for would take 5 s.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let error = PostgresQueue::connect(&server.url(), "").await.unwrap_err();
    assert_eq!(error.to_string(), "a queue's name has 1 to 255 bytes, none of them zero");
}

fn port(server: &PrivatePostgres) -> String {
    server.url().rsplit(':').next().unwrap().trim_end_matches("/postgres").to_owned()
}

/// Every call fails as something that waiting mends, within the bound.
async fn all_unavailable(queue: &PostgresQueue, receipt: &lifecycle_worker::Receipt) {
    let bound = queue.capabilities().call_bound + SLACK;
    let began = Instant::now();
    let within = |what: &str| {
        assert!(began.elapsed() < bound, "{what} took {:?}", began.elapsed());
    };
    let calls = async {
        let claim = async {
            let error = queue.claim(most(1), Duration::ZERO).await.unwrap_err();
            within("claim");
            error
        };
        let push = async { queue.push(&jobs(1)).await.unwrap_err() };
        let ping = async { queue.ping().await.unwrap_err() };
        let stats = async { queue.stats().await.unwrap_err() };
        let ack = async { queue.ack(std::slice::from_ref(receipt)).await.remove(0) };
        tokio::join!(claim, push, ping, stats, ack)
    };
    let (claim, push, ping, stats, ack) = calls.await;
    within("all");
    for error in [claim, push, ping, stats] {
        assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    }
    assert!(matches!(ack, Settled::Retry(QueueError::Unavailable(_))), "{ack:?}");
}

#[tokio::test]
async fn a_server_that_was_stopped_or_paused_is_used_again() {
    let mut server = PrivatePostgres::start().await;
    let queue = PostgresQueue::connect(&server.url(), "mail").await.unwrap();
    let bounded = queue.clone().call_bound(Duration::from_secs(1));
    queue.prepare().await.unwrap();
    queue.push(&jobs(3)).await.unwrap();
    let job = queue.claim(most(1), Duration::ZERO).await.unwrap().remove(0);

    server.stop().await;
    all_unavailable(&bounded, &job.receipt).await;
    server.start_again().await;
    works_again(&queue).await;
    assert!(queue.ack(std::slice::from_ref(&job.receipt)).await[0].is_done());

    let job = queue.claim(most(1), Duration::ZERO).await.unwrap().remove(0);
    server.pause();
    all_unavailable(&bounded, &job.receipt).await;
    server.resume();
    works_again(&queue).await;
    let _ = queue.ack(std::slice::from_ref(&job.receipt)).await;
    // The claim that was sent while the server slept is answered, and its job given back; the
    // push that was sent then may have been done.
    let limit = Instant::now() + Duration::from_secs(10);
    while queue.stats().await.unwrap().running > 0 {
        assert!(Instant::now() < limit, "{:?}", queue.stats().await);
        // Sleeps: what came for nobody is given back by a task that tells nobody.
        sleep(Duration::from_millis(20)).await;
    }
    assert!(queue.stats().await.unwrap().ready >= 1);

    // A close while it is away says so, in time, and it is closed.
    server.stop().await;
    let began = Instant::now();
    assert!(bounded.close().await.is_err());
    assert!(began.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", began.elapsed());
    queue.close().await.unwrap();
}

async fn works_again(queue: &PostgresQueue) {
    let limit = Instant::now() + Duration::from_secs(20);
    while let Err(error) = queue.ping().await {
        assert!(!error.is_fatal(), "{error:?}");
        assert!(Instant::now() < limit, "{error:?}");
    }
    queue.push(&jobs(1)).await.unwrap();
}

#[tokio::test]
async fn an_older_or_newer_schema_is_told_apart() {
    let server = PrivatePostgres::start().await;
    let queue = PostgresQueue::connect(&server.url(), "mail").await.unwrap();
    queue.prepare().await.unwrap();
    let pool = postgres_pool(&server.url()).await;
    let run = async |text: &'static str| sqlx::raw_sql(text).execute(&pool).await.unwrap();
    run("INSERT INTO lifecycle_worker.version (version) VALUES (99)").await;
    for error in [queue.ping().await.unwrap_err(), queue.prepare().await.unwrap_err()] {
        assert!(matches!(error, QueueError::Unsupported { .. }), "{error:?}");
    }
    run("DELETE FROM lifecycle_worker.version").await;
    let error = queue.ping().await.unwrap_err();
    assert!(matches!(error, QueueError::NotPrepared { .. }), "{error:?}");
    run("INSERT INTO lifecycle_worker.version (version) VALUES (1);
        ALTER TABLE lifecycle_worker.jobs DROP COLUMN returns")
    .await;
    let error = queue.claim(most(1), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, QueueError::NotPrepared { .. }), "{error:?}");
}
