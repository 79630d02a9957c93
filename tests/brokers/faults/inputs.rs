//! What a worker is given: payloads of all sorts, very many jobs, a configuration that is wrong.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use lifecycle_worker::{Push, Queue};
use tempfile::TempDir;
use tests::brokers::{PrivatePostgres, PrivateRedis, free_port};
use tests::torture::{Broker, BrokerKind, Orders, sum};

use super::{ALL, Bench, SERVERS, started, told_to_stop};

#[tokio::test]
async fn payloads_are_any_bytes_and_json_of_another_type_is_a_dead_letter() {
    for kind in ALL {
        let bench = Bench::new(kind).await;
        let megabyte: Vec<u8> = (0..1_u32 << 20).map(|at| (at % 251) as u8).collect();
        let bodies = [Vec::new(), megabyte, vec![0xff, 0, 0xfe, 0x80], b"plain".to_vec()];
        let good = bodies.map(|body| Push::new("bytes", body.clone()).header("sum", sum(&body)));
        let bad = ["not json", "[1]", "{\"ms\": \"5\"}"].map(|body| Push::new("json", body));
        let fine = Push::new("json", "{\"ms\": 5}");
        // One after the other: nothing that is wrong is in the way of the next.
        bench.queue.push(&bad).await.unwrap();
        bench.queue.push(&good).await.unwrap();
        bench.queue.push(&[fine, Push::new("json", Bytes::from_static(b"\xff"))]).await.unwrap();
        let worker = bench.worker("first").await;
        bench.counts("all done or dead", |stats| (stats.done, stats.dead) == (5, 4)).await;
        let dead = bench.queue.dead(NonZeroUsize::new(9).unwrap()).await.unwrap();
        for job in dead {
            assert!(job.error.starts_with("the payload is not what it should be: "), "{job:?}");
            assert_eq!(job.attempts, 1, "{kind:?}: tried once: {job:?}");
        }
        let exit = told_to_stop(worker).await;
        assert_eq!(exit.code, Some(0), "{kind:?}: {}", exit.stderr);
    }
}

async fn many_ready_jobs(kind: BrokerKind) {
    let bench = Bench::with(kind, |orders| (orders.concurrency, orders.prefetch) = (50, 50)).await;
    let jobs = vec![Push::new("work", "1"); 2000];
    for _ in 0..50 {
        bench.queue.push(&jobs).await.unwrap();
    }
    let worker = bench.worker("first").await;
    bench.counts("some done", |stats| stats.done > 1000).await;
    let exit = told_to_stop(worker).await;
    assert_eq!(exit.code, Some(0), "{kind:?}: {}", exit.stderr);
    let stats = bench.queue.stats().await.unwrap();
    println!("{kind:?}: {stats:?}, {:?}", exit.said);
    assert_eq!((stats.done + stats.ready, stats.running), (100_000, 0), "{kind:?}");
    assert_eq!(stats.attempts, stats.done, "{kind:?}");
    super::sound(&[exit]);
}

#[tokio::test]
async fn load_of_100_000_ready_jobs_on_sqlite() {
    many_ready_jobs(BrokerKind::Sqlite).await;
}

#[tokio::test]
async fn load_of_100_000_ready_jobs_on_postgres() {
    many_ready_jobs(BrokerKind::Postgres).await;
}

#[tokio::test]
async fn load_of_100_000_ready_jobs_on_redis() {
    many_ready_jobs(BrokerKind::Redis).await;
}

/// It ends with 1 and says these words.
async fn is_refused(url: &str, words: &[&str]) {
    let folder = TempDir::new().unwrap();
    let exit = match started(&Orders::new(url), folder.path(), "refused").await {
        Err(exit) => *exit,
        // Some things are seen when the worker looks at its queue.
        Ok(worker) => worker.exit(Duration::from_secs(10)).await,
    };
    println!("{url}: {}", exit.stderr.trim());
    assert_eq!(exit.code, Some(1), "{url}: {}", exit.stderr);
    for word in words {
        assert!(exit.stderr.contains(word), "{url}: {word} is missing: {}", exit.stderr);
    }
    let panicked = exit.stderr.contains("panicked at");
    assert!(!panicked && exit.events.is_empty(), "{url}: {}", exit.stderr);
}

#[tokio::test]
async fn a_url_that_is_wrong_is_told_at_the_start() {
    is_refused("mysql://localhost/x", &["torture: ", "postgres"]).await;
    is_refused("jobs.db", &["torture: "]).await;
    is_refused("sqlite:///no/such/folder/jobs.db", &["torture: ", "/no/such/folder"]).await;
    is_refused("redis://:x:y:z", &["torture: "]).await;
    let nobody = format!("127.0.0.1:{}", free_port());
    let words = ["the broker cannot be reached", "refused"];
    is_refused(&format!("redis://{nobody}"), &words).await;
    is_refused(&format!("postgres://postgres@{nobody}/postgres"), &words).await;
}

#[tokio::test]
async fn a_password_that_is_wrong_is_told_at_the_start() {
    let redis = PrivateRedis::with_password("right").await;
    let words = ["the broker refused access"];
    is_refused(&redis.url().replace("right", "wrong"), &words).await;
    is_refused(&redis.url().replace(":right@", ""), &words).await;
    let postgres = PrivatePostgres::start_with_password("right").await;
    is_refused(&postgres.url_of("postgres:wrong"), &words).await;
    is_refused(&postgres.url_of("nobody:right"), &words).await;
}

#[tokio::test]
async fn a_database_that_is_not_prepared_is_told_at_the_start() {
    for kind in [BrokerKind::Sqlite, SERVERS[0], BrokerKind::Amqp, BrokerKind::Nats] {
        let broker = Broker::start(kind).await;
        is_refused(&broker.url(), &["not prepared", "prepare()"]).await;
    }
}
