//! What is special to the SQL queues, on both of them: identities, leases, sizes, dropped calls.

mod common;
mod full;
mod latin1;
mod postgres;
mod sqlite;
mod tls;

use std::collections::HashSet;
use std::time::Duration;

use lifecycle_worker::{Extend, Fail, Next, PostgresQueue, Push, Queue, Release, SqliteQueue};
use tests::brokers::PrivatePostgres;
use tokio::time::Instant;

use self::common::{File, conserved, jobs, most, ours, polled, postgres_pool, sqlite_pool};

/// Two values on one database, by turns and at once.
async fn never_share(one: impl Queue, other: impl Queue) {
    one.prepare().await.unwrap();
    one.push(&jobs(200)).await.unwrap();
    async fn drain(queue: &impl Queue) -> Vec<String> {
        let mut ids = Vec::new();
        loop {
            let claimed = queue.claim(most(7), Duration::ZERO).await.unwrap();
            if claimed.is_empty() {
                return ids;
            }
            ids.extend(claimed.iter().map(|job| job.receipt.id().to_string()));
            tokio::task::yield_now().await;
        }
    }
    // Each has some, also when the other is much faster then.
    let first = one.claim(most(7), Duration::ZERO).await.unwrap();
    let second = other.claim(most(7), Duration::ZERO).await.unwrap();
    let turns: Vec<_> =
        first.iter().chain(&second).map(|job| job.receipt.id().to_string()).collect();
    let (mine, theirs) = tokio::join!(drain(&one), drain(&other));
    // One that found only what the other held locked may have ended early.
    let rest = drain(&one).await;
    assert_eq!(turns.len(), 14);
    let all: Vec<_> = [turns, mine, theirs, rest].concat();
    assert_eq!((all.len(), all.iter().collect::<HashSet<_>>().len()), (200, 200));
    assert_eq!(one.stats().await.unwrap().attempts, 200);
}

#[tokio::test]
async fn two_values_on_one_database_never_get_the_same_job() {
    let server = PrivatePostgres::start().await;
    let one = PostgresQueue::connect(&server.url(), "mail").await.unwrap();
    never_share(one, PostgresQueue::connect(&server.url(), "mail").await.unwrap()).await;
    let file = File::new();
    let one = SqliteQueue::connect(&file.url(), "mail").await.unwrap();
    never_share(one, SqliteQueue::connect(&file.url(), "mail").await.unwrap()).await;
}

/// `old` has a lease of 2 s, into which three claims fit on any machine, `new` a long one.
async fn fences(old: impl Queue, new: impl Queue) {
    old.prepare().await.unwrap();
    old.push(&jobs(2)).await.unwrap();
    let first = old.claim(most(1), Duration::ZERO).await.unwrap().remove(0);
    let second = old.claim(most(1), Duration::ZERO).await.unwrap().remove(0);
    assert!(new.claim(most(1), Duration::ZERO).await.unwrap().is_empty());
    let said = new.ack(std::slice::from_ref(&first.receipt)).await;
    assert!(said[0].is_lost(), "somebody else's receipt: {said:?}");

    // The claim waits for the end of a lease, not for its poll.
    let began = Instant::now();
    let taken = new.claim(most(1), Duration::from_secs(30)).await.unwrap().remove(0);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(taken.receipt.id(), first.receipt.id());
    assert_eq!((taken.attempt, taken.returns), (2, 0), "a rescue counts");
    assert!(taken.receipt.number() > first.receipt.number());

    let late = first.receipt.clone();
    assert!(old.ack(std::slice::from_ref(&late)).await[0].is_lost());
    assert!(old.release(&[Release::unstarted(late.clone())]).await[0].is_lost());
    assert!(old.fail(&[Fail::new(late.clone(), "late", Next::Dead)]).await[0].is_lost());
    let extended = old.extend(&[Extend::new(late)]).await.remove(0);
    assert!(matches!(extended, lifecycle_worker::Extended::Lost), "{extended:?}");

    // Nobody has taken the second one: its late acknowledgement still holds.
    let settles = [second.receipt.clone()];
    assert!(old.ack(&settles).await[0].is_done());
    assert!(old.ack(&settles).await[0].is_lost());
    assert!(new.ack(&[taken.receipt]).await[0].is_done());
    let stats = new.stats().await.unwrap();
    assert_eq!((stats.done, stats.attempts, stats.running, stats.ready), (2, 3, 0, 0));

    // The counters of who leaves are kept.
    old.close().await.unwrap();
    old.close().await.unwrap();
    assert_eq!(new.stats().await.unwrap(), stats);
    assert!(old.ping().await.is_err());
}

#[tokio::test]
async fn an_owner_whose_lease_has_ended_settles_nothing_that_was_claimed_again() {
    let lease = Duration::from_secs(2);
    let postgres = async {
        let server = PrivatePostgres::start().await;
        let old = PostgresQueue::connect(&server.url(), "mail").await.unwrap().lease(lease);
        let new = PostgresQueue::connect(&server.url(), "mail").await.unwrap();
        fences(old, new.poll(Duration::from_secs(60))).await;
    };
    let sqlite = async {
        let file = File::new();
        let old = SqliteQueue::connect(&file.url(), "mail").await.unwrap().lease(lease);
        let new = SqliteQueue::connect(&file.url(), "mail").await.unwrap();
        fences(old, new.poll(Duration::from_secs(60))).await;
    };
    // Together, since each waits for the end of a lease.
    tokio::join!(postgres, sqlite);
}

async fn keeps_bytes(queue: impl Queue) {
    queue.prepare().await.unwrap();
    let payloads = [vec![], vec![0xff, 0xfe, 0, 0x80], vec![7; 1 << 20], vec![9; 4 << 20]];
    let pushes =
        payloads.iter().map(|bytes| Push::new("k\u{fc}", bytes.clone()).header("a", "1\0"));
    queue.push(&pushes.collect::<Vec<_>>()).await.unwrap();
    let claimed = queue.claim(most(9), Duration::ZERO).await.unwrap();
    let found: Vec<_> = claimed.iter().map(|job| job.payload.to_vec()).collect();
    assert!(found == payloads, "{:?}", found.iter().map(Vec::len).collect::<Vec<_>>());
    assert_eq!(claimed[0].headers, [("a".to_owned(), "1\0".to_owned())]);
    assert_eq!(&*claimed[0].kind, "k\u{fc}");

    // Zero bytes: kept in a checkpoint, replaced in an error, refused in a kind.
    let checkpoint = Some(bytes::Bytes::from_static(b"\0\xff"));
    let released = Release::started(claimed[0].receipt.clone(), checkpoint.clone());
    assert!(queue.release(&[released]).await[0].is_done());
    let again = queue.claim(most(1), Duration::ZERO).await.unwrap().remove(0);
    assert_eq!((again.checkpoint, again.returns, again.attempt), (checkpoint, 1, 1));
    let failed = queue.fail(&[Fail::new(again.receipt, "a\0b", Next::Dead)]).await;
    assert!(failed[0].is_done());
    assert_eq!(queue.dead(most(5)).await.unwrap()[0].error, "a\u{fffd}b");
    let error = queue.push(&[Push::new("a\0b", "")]).await.unwrap_err();
    assert_eq!(error.to_string(), r#"the kind of a job has a zero byte: "a\0b""#);
}

#[tokio::test]
async fn payloads_are_any_bytes_and_megabytes() {
    let server = PrivatePostgres::start().await;
    keeps_bytes(PostgresQueue::connect(&server.url(), "mail").await.unwrap()).await;
    let file = File::new();
    keeps_bytes(SqliteQueue::connect(&file.url(), "mail").await.unwrap()).await;
}

/// 100 000 ready, half of them of another priority, and 20 000 that are not yet due.
async fn stays_fast(queue: impl Queue, analyze: impl AsyncFnOnce()) {
    queue.prepare().await.unwrap();
    let later = Push::new("later", "").priority(9).delay(Duration::from_secs(3600));
    queue.push(&vec![later; 20_000]).await.unwrap();
    for round in 0..10 {
        let job = |at: usize| Push::new("now", "x").priority(i16::from(at % 2 == 1));
        let batch: Vec<_> = (0..10_000).map(job).collect();
        assert_eq!(queue.push(&batch).await.unwrap().len(), 10_000, "round {round}");
    }
    // What the database has learned of the table must not lead it astray.
    analyze().await;
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let began = Instant::now();
        let claimed = queue.claim(most(10), Duration::ZERO).await.unwrap();
        assert_eq!(claimed.len(), 10);
        slowest = slowest.max(began.elapsed());
    }
    let began = Instant::now();
    let claimed = queue.claim(most(5_000), Duration::ZERO).await.unwrap();
    println!("{}: 10 jobs in {slowest:?} at most, 5000 in {:?}", queue.name(), began.elapsed());
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    let began = Instant::now();
    let receipts: Vec<_> = claimed.into_iter().map(|job| job.receipt).collect();
    let said = queue.ack(&receipts).await;
    println!("{}: 5000 acknowledged in {:?}", queue.name(), began.elapsed());
    assert!(said.len() == 5_000 && said.iter().all(lifecycle_worker::Settled::is_done));
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.scheduled, stats.running), (94_500, 20_000, 500));
    assert_eq!((stats.done, stats.attempts), (5_000, 5_500));
}

#[tokio::test]
async fn load_100_000_ready_jobs_are_claimed_fast() {
    let server = PrivatePostgres::start().await;
    let queue = PostgresQueue::connect(&server.url(), "postgres").await.unwrap();
    let pool = postgres_pool(&server.url()).await;
    let analyze = async move || {
        sqlx::raw_sql("ANALYZE").execute(&pool).await.unwrap();
    };
    stays_fast(queue.call_bound(Duration::from_secs(60)), analyze).await;
    let file = File::new();
    let queue = SqliteQueue::connect(&file.url(), "sqlite").await.unwrap();
    let pool = sqlite_pool(&file.url()).await;
    let analyze = async move || {
        sqlx::raw_sql("ANALYZE").execute(&pool).await.unwrap();
    };
    stays_fast(queue.call_bound(Duration::from_secs(60)), analyze).await;
}

/// A pool of one connection: whatever a dropped call left on it, the next call meets.
async fn drops_lose_nothing(queue: &impl Queue) {
    queue.prepare().await.unwrap();
    queue.push(&jobs(8)).await.unwrap();
    for polls in 0..12 {
        drop(polled(polls, queue.ping()).await);
        drop(polled(polls, queue.prepare()).await);
        drop(polled(polls, queue.stats()).await);
        drop(polled(polls, queue.dead(most(3))).await);
        let _ = polled(polls, queue.interrupt()).await;
        let jobs = polled(polls, queue.claim(most(3), Duration::from_millis(5))).await;
        let claimed = jobs.transpose().unwrap().unwrap_or_default();
        let receipts: Vec<_> = claimed.into_iter().map(|job| job.receipt).collect();
        let extends: Vec<_> = receipts.iter().cloned().map(Extend::new).collect();
        drop(polled(polls, queue.extend(&extends)).await);
        let retry = Next::Retry(Duration::ZERO);
        let fails = receipts.iter().take(1).map(|r| Fail::new(r.clone(), "no", retry));
        let fails: Vec<_> = fails.collect();
        drop(polled(polls, queue.fail(&fails)).await);
        let releases: Vec<_> = receipts.into_iter().map(Release::unstarted).collect();
        drop(polled(polls, queue.release(&releases)).await);
        queue.ping().await.unwrap();
        // What is still claimed is so by receipts that are known here.
        queue.release(&releases).await;
        conserved(queue, 8).await;
    }
    let pushed = polled(1, queue.push(&jobs(1))).await;
    assert!(pushed.is_none());
    queue.ping().await.unwrap();
    drop(polled(1, queue.close()).await);
    // The first close goes on without its future, and the second has nothing to do.
    queue.close().await.unwrap();
    assert!(queue.ping().await.is_err());
}

/// Cancels: PostgresQueue::connect, SqliteQueue::connect
#[tokio::test]
async fn a_call_dropped_after_any_number_of_polls_leaves_the_pool_usable() {
    let server = PrivatePostgres::start().await;
    let url = server.url();
    let pool = postgres_pool(&url).await;
    drops_lose_nothing(&PostgresQueue::from_pool(pool.clone(), "mail").unwrap()).await;
    assert_eq!(ours(&pool).await, 0, "no transaction is left open");
    let file = File::new();
    let pool = sqlite_pool(&file.url()).await;
    drops_lose_nothing(&SqliteQueue::from_pool(pool, "mail").unwrap()).await;
    for polls in 0..12 {
        drop(polled(polls, PostgresQueue::connect(&url, "mail")).await);
        drop(polled(polls, SqliteQueue::connect(&file.url(), "mail")).await);
    }
    PostgresQueue::connect(&url, "mail").await.unwrap().ping().await.unwrap();
    SqliteQueue::connect(&file.url(), "mail").await.unwrap().ping().await.unwrap();
}

async fn prepares_once(queues: Vec<impl Queue>) {
    for queue in &queues {
        for error in [
            queue.ping().await.unwrap_err(),
            queue.claim(most(1), Duration::ZERO).await.unwrap_err(),
            queue.push(&jobs(1)).await.unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.starts_with("not prepared: "), "{text}");
            assert!(text.ends_with("call `prepare()`"), "{text}");
        }
    }
    let prepared = futures_util::future::join_all(queues.iter().map(Queue::prepare)).await;
    assert!(prepared.iter().all(Result::is_ok), "{prepared:?}");
    queues[0].push(&jobs(1)).await.unwrap();
    queues[1].prepare().await.unwrap();
    assert_eq!(queues[2].stats().await.unwrap().ready, 1, "prepared again, and nothing is lost");
}

#[tokio::test]
async fn several_prepare_at_once_and_before_that_nothing_works() {
    let server = PrivatePostgres::start().await;
    let (file, mut ours, mut theirs) = (File::new(), Vec::new(), Vec::new());
    for _ in 0..4 {
        ours.push(PostgresQueue::connect(&server.url(), "mail").await.unwrap());
        theirs.push(SqliteQueue::connect(&file.url(), "mail").await.unwrap());
    }
    prepares_once(ours).await;
    prepares_once(theirs).await;
}
