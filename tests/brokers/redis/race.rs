//! Claims that are interrupted or dropped at any moment, and claims of others.

use std::slice::from_ref;
use std::time::Duration;

use lifecycle_worker::{Extend, Extended, Fail, Next, Push, Queue, Release};
use lifecycle_worker::{RedisQueue, Settled};
use tests::brokers::PrivateRedis;
use tokio::time::{Instant, sleep, timeout};

use super::{all_done, most, receipts, server_and_queue, work_off};

const ROUNDS: usize = 400;

fn moment() -> Duration {
    Duration::from_micros(fastrand::u64(0..3000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_interrupted_at_any_moment_lose_and_strand_nothing() {
    let (redis, queue) = server_and_queue().await;
    let bound = queue.capabilities().interrupt_bound;
    let (mut done, mut empty, mut slow, mut slowest) = (0, 0, 0, Duration::ZERO);
    for _ in 0..ROUNDS {
        let claiming = {
            let queue = queue.clone();
            tokio::spawn(async move { queue.claim(most(10), Duration::from_secs(60)).await })
        };
        let pushing = async {
            // Sleeps: the moment is what is tested.
            sleep(moment()).await;
            queue.push(&[Push::new("mail", "x")]).await.unwrap();
        };
        let interrupting = async {
            // Sleeps: the moment is what is tested.
            sleep(moment()).await;
            let began = Instant::now();
            while !claiming.is_finished() {
                queue.interrupt().await;
                // Sleeps: as the runner does between two requests.
                sleep(Duration::from_millis(1)).await;
            }
            began.elapsed()
        };
        let ((), took) = tokio::join!(pushing, interrupting);
        slow += usize::from(took > bound);
        slowest = slowest.max(took);
        let jobs = claiming.await.unwrap().unwrap();
        assert!(all_done(&queue.ack(&receipts(&jobs)).await));
        empty += usize::from(jobs.is_empty());
        // Each round begins with nothing to claim.
        let rest = work_off(&queue).await;
        assert_eq!(jobs.len() + rest, 1);
        done += jobs.len();
    }
    eprintln!("{empty} claims of {ROUNDS} ended empty; slowest stop {slowest:?}");
    assert_eq!(done + empty, ROUNDS);
    assert!(empty > 0 && done > 0, "{empty} and {done}: the moments never differ");
    assert!(slow <= ROUNDS / 20, "{slow} of {ROUNDS} took longer than {bound:?}");
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.scheduled, stats.running), (0, 0, 0));
    assert_eq!((stats.done, stats.attempts, stats.returns), (ROUNDS as u64, ROUNDS as u64, 0));
    // One connection for commands, and one to wait on.
    few_clients(&redis, 2).await;
}

/// Asks the server until so many clients are left at most, and this one.
async fn few_clients(redis: &PrivateRedis, most: usize) {
    let limit = Instant::now() + Duration::from_secs(5);
    loop {
        let said = redis.cli(&["info", "clients"]).await;
        let count = said.lines().find_map(|line| line.strip_prefix("connected_clients:"));
        if count.unwrap().trim().parse::<usize>().unwrap() <= most + 1 {
            return;
        }
        assert!(Instant::now() < limit, "connections are left: {said}");
    }
}

/// Cancels: RedisQueue::connect, RedisQueue::from_client, RedisQueue::cluster
#[tokio::test]
async fn constructors_that_are_dropped_leave_nothing() {
    let (redis, queue) = server_and_queue().await;
    let url = redis.url();
    for polls in 0..40 {
        let limit = Duration::from_micros(50 * polls);
        let client = redis::Client::open(url.as_str()).unwrap();
        drop(timeout(limit, RedisQueue::connect(&url, "mail")).await);
        drop(timeout(limit, RedisQueue::from_client(client, "mail")).await);
        drop(timeout(limit, RedisQueue::cluster([&url], "mail")).await);
    }
    queue.ping().await.unwrap();
    few_clients(&redis, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_that_are_dropped_leave_no_more_than_their_leases_cover() {
    let (_redis, queue) = server_and_queue().await;
    let queue = queue.lease(Duration::from_millis(400));
    let mut done = 0;
    for _ in 0..ROUNDS {
        queue.push(&[Push::new("mail", "x")]).await.unwrap();
        if let Ok(jobs) = timeout(moment() / 2, queue.claim(most(1), Duration::from_secs(9))).await
        {
            let jobs = jobs.unwrap();
            assert!(all_done(&queue.ack(&receipts(&jobs)).await));
            done += jobs.len();
        }
    }
    let began = Instant::now();
    while done < ROUNDS {
        let jobs = queue.claim(most(100), Duration::from_secs(2)).await.unwrap();
        assert!(!jobs.is_empty(), "{done} of {ROUNDS} came back");
        assert!(all_done(&queue.ack(&receipts(&jobs)).await));
        done += jobs.len();
    }
    assert!(began.elapsed() < Duration::from_secs(2), "after {:?}", began.elapsed());
    assert_eq!(queue.stats().await.unwrap().done, ROUNDS as u64);
}

#[tokio::test]
async fn a_claim_that_is_no_longer_the_newest_settles_nothing() {
    let (redis, other) = server_and_queue().await;
    let queue = RedisQueue::connect(&redis.url(), "mail").await.unwrap();
    let queue = queue.lease(Duration::from_millis(50));
    queue.push(&[Push::new("mail", "x")]).await.unwrap();
    let old = queue.claim(most(1), Duration::ZERO).await.unwrap().remove(0).receipt;
    // A wait that ends with the lease of another, and not with its own end.
    let began = Instant::now();
    let new = other.claim(most(1), Duration::from_secs(20)).await.unwrap().remove(0);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!((new.attempt, new.receipt.number()), (2, 2));

    let lost = |settled: Vec<Settled>| settled.iter().all(Settled::is_lost);
    let checkpoint = Some("old".into());
    assert!(lost(queue.ack(from_ref(&old)).await));
    assert!(lost(queue.release(&[Release::started(old.clone(), checkpoint)]).await));
    assert!(lost(queue.fail(&[Fail::new(old.clone(), "old", Next::Dead)]).await));
    assert!(matches!(queue.extend(&[Extend::new(old)]).await[..], [Extended::Lost]));
    // The number alone is not enough either: the owner is another.
    assert!(lost(queue.ack(from_ref(&new.receipt)).await));
    assert!(matches!(
        other.extend(&[Extend::new(new.receipt.clone())]).await[..],
        [Extended::Until(_)]
    ));
    // A clone is the same identity.
    let clone = other.clone();
    assert!(all_done(&clone.ack(from_ref(&new.receipt)).await));
    assert!(lost(other.ack(&[new.receipt]).await));
    let stats = other.stats().await.unwrap();
    assert_eq!((stats.done, stats.dead, stats.returns, stats.attempts), (1, 0, 0, 2));
}

#[tokio::test]
async fn a_claim_whose_lease_has_ended_settles_as_long_as_nobody_else_has_the_job() {
    let (redis, other) = server_and_queue().await;
    let queue = RedisQueue::connect(&redis.url(), "mail").await.unwrap();
    let queue = queue.lease(Duration::from_millis(1));
    queue.push(&super::jobs(2)).await.unwrap();
    let jobs = queue.claim(most(2), Duration::ZERO).await.unwrap();
    // Sleeps: only time ends a lease.
    sleep(Duration::from_millis(5)).await;
    let stats = other.stats().await.unwrap();
    assert_eq!((stats.ready, stats.running), (2, 0));
    // The other's claim puts both back, and takes the first.
    let taken = other.claim(most(1), Duration::ZERO).await.unwrap();
    assert_eq!(&taken[0].payload[..], b"0");
    let settled = queue.ack(&receipts(&jobs)).await;
    assert!(matches!(settled[..], [Settled::Lost, Settled::Done]), "{settled:?}");
    assert!(all_done(&other.ack(&receipts(&taken)).await));
    let stats = other.stats().await.unwrap();
    assert_eq!((stats.ready, stats.running, stats.done, stats.attempts), (0, 0, 2, 3));
}

#[tokio::test]
async fn an_identity_that_claims_again_settles_by_its_newest_claim_alone() {
    let (_redis, queue) = server_and_queue().await;
    let queue = queue.lease(Duration::from_millis(20));
    queue.push(&super::jobs(1)).await.unwrap();
    let old = queue.claim(most(1), Duration::ZERO).await.unwrap().remove(0).receipt;
    let new = queue.lease(Duration::from_secs(30));
    let job = new.claim(most(1), Duration::from_secs(20)).await.unwrap().remove(0).receipt;
    assert_eq!((old.number(), job.number()), (1, 2));
    assert!(new.ack(from_ref(&old)).await[0].is_lost());
    assert!(all_done(&new.release(&[Release::unstarted(job)]).await));
    let again = new.claim(most(1), Duration::ZERO).await.unwrap().remove(0);
    // The number goes on, whatever becomes of the attempts.
    assert_eq!((again.receipt.number(), again.attempt), (3, 2));
    assert!(all_done(&new.ack(&[again.receipt]).await));
}
