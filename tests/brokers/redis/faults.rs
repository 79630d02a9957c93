//! Servers that are stopped, started again, paused or out of reach: bounded, and used again.

use std::time::Duration;

use lifecycle_worker::{Claimed, Extend, Extended, Push, Queue, QueueError, RedisQueue, Settled};
use tests::brokers::{PrivateRedis, Proxy};
use tokio::time::{Instant, sleep};

use super::{all_done, blocked, jobs, most, receipts, server_and_queue, work_off};

const BOUND: Duration = Duration::from_millis(300);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(3);

/// Every call ends within its bound and says that it does not know.
async fn nothing_works(queue: &RedisQueue, held: &[Claimed]) {
    let queue = queue.clone().call_bound(BOUND);
    let began = Instant::now();
    let error = queue.push(&[Push::new("mail", "maybe").dedupe("once")]).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    let error = queue.claim(most(1), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    assert!(matches!(queue.stats().await, Err(QueueError::Unavailable(_))));
    assert!(matches!(queue.ping().await, Err(QueueError::Unavailable(_))));
    let settled = queue.ack(&receipts(held)).await;
    assert_eq!(settled.len(), held.len());
    assert!(settled.iter().all(|settled| matches!(settled, Settled::Retry(_))), "{settled:?}");
    let extend: Vec<_> = receipts(held).into_iter().map(Extend::new).collect();
    let extended = queue.extend(&extend).await;
    assert!(extended.iter().all(|extended| matches!(extended, Extended::Retry(_))));
    queue.interrupt().await;
    // Six calls; those that only read may try twice within their bound.
    assert!(began.elapsed() < 6 * BOUND + SLACK, "{:?}", began.elapsed());
}

/// The same value works again, at the latest when a call has met the broken connection.
async fn works_again(queue: &RedisQueue, held: &[Claimed]) {
    let limit = Instant::now() + Duration::from_secs(10);
    while let Err(error) = queue.ping().await {
        assert!(!error.is_fatal() && Instant::now() < limit, "{error:?}");
        // Sleeps: the server is starting, and tells nobody.
        sleep(Duration::from_millis(10)).await;
    }
    assert!(all_done(&queue.ack(&receipts(held)).await));
    queue.push(&[Push::new("mail", "after")]).await.unwrap();
}

async fn held(queue: &RedisQueue) -> Vec<Claimed> {
    queue.push(&jobs(5)).await.unwrap();
    let held = queue.claim(most(3), Duration::ZERO).await.unwrap();
    assert_eq!(held.len(), 3);
    held
}

#[tokio::test]
async fn a_server_that_is_stopped_and_started_again() {
    let (mut redis, queue) = server_and_queue().await;
    let held = held(&queue).await;
    redis.stop().await;
    nothing_works(&queue, &held).await;
    redis.start_again().await;
    works_again(&queue, &held).await;
    // The script cache is gone with the old process, and nothing else.
    assert_eq!(work_off(&queue).await, 3);
    assert_eq!(queue.stats().await.unwrap().done, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_a_claim_that_waits() {
    let (mut redis, queue) = server_and_queue().await;
    let claiming = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.claim(most(1), Duration::from_secs(60)).await })
    };
    blocked(&redis, 1).await;
    let began = Instant::now();
    redis.restart().await;
    let error = claiming.await.unwrap().unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    works_again(&queue, &[]).await;
    assert_eq!(queue.claim(most(9), Duration::from_secs(9)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_has_forgotten_the_scripts() {
    let (redis, queue) = server_and_queue().await;
    let held = held(&queue).await;
    redis.cli(&["script", "flush"]).await;
    assert!(all_done(&queue.ack(&receipts(&held)).await));
    redis.cli(&["script", "flush"]).await;
    assert_eq!(work_off(&queue).await, 2);
}

#[tokio::test]
async fn a_server_that_is_paused_and_a_claim_that_it_answers_late() {
    let (redis, queue) = server_and_queue().await;
    let held = held(&queue).await;
    redis.pause();
    // The connection is open: this claim reaches the server, which answers when it goes on.
    let error = queue.clone().call_bound(BOUND).claim(most(2), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    nothing_works(&queue, &held).await;
    redis.resume();
    works_again(&queue, &held).await;
    // What the late answer took comes back at once, and not when its lease ends.
    let began = Instant::now();
    let mut payloads = Vec::new();
    while payloads.len() < 3 {
        for job in queue.claim(most(9), Duration::from_secs(9)).await.unwrap() {
            assert_eq!(job.attempt, 1);
            payloads.push(job.payload);
        }
    }
    payloads.sort();
    assert_eq!(payloads, ["3", "4", "after"]);
    let lease = queue.capabilities().lease_period().unwrap();
    assert!(began.elapsed() < lease / 2, "{:?}", began.elapsed());
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.running, stats.done, stats.attempts, stats.returns), (3, 3, 6, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_waits_on_a_paused_server_ends_when_it_is_interrupted() {
    let (redis, queue) = server_and_queue().await;
    let claiming = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.claim(most(1), Duration::from_secs(60)).await })
    };
    blocked(&redis, 1).await;
    redis.pause();
    let began = Instant::now();
    queue.interrupt().await;
    assert!(claiming.await.unwrap().unwrap().is_empty());
    assert!(
        began.elapsed() < queue.capabilities().interrupt_bound + SLACK,
        "{:?}",
        began.elapsed()
    );
    redis.resume();
    // The wait that was given up takes no wake-up for nobody.
    let waiting = queue.claim(most(1), Duration::from_secs(60));
    let pushing = async {
        blocked(&redis, 1).await;
        queue.push(&jobs(1)).await.unwrap();
        Instant::now()
    };
    let (jobs, pushed) = tokio::join!(waiting, pushing);
    assert_eq!(jobs.unwrap().len(), 1);
    // Sooner than it would have looked again by itself.
    assert!(pushed.elapsed() < Duration::from_secs(4), "{:?}", pushed.elapsed());
}

#[tokio::test]
async fn a_link_that_is_frozen_or_cut() {
    let redis = PrivateRedis::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let url = redis.url_at(proxy.port());
    let queue = RedisQueue::connect(&url, "mail").await.unwrap();
    let first = held(&queue).await;
    proxy.freeze();
    nothing_works(&queue, &first).await;
    proxy.thaw();
    works_again(&queue, &first).await;

    queue.push(&jobs(3)).await.unwrap();
    let second = queue.claim(most(1), Duration::ZERO).await.unwrap();
    proxy.cut();
    works_again(&queue, &second).await;

    // New connections get through while the old one stays half-open for ever.
    let third = queue.claim(most(1), Duration::ZERO).await.unwrap();
    proxy.freeze();
    let said = queue.clone().call_bound(BOUND).ack(&receipts(&third)).await;
    assert!(matches!(said[..], [Settled::Retry(_)]), "{said:?}");
    proxy.cut();
    proxy.thaw();
    works_again(&queue, &[]).await;
    // The acknowledgement may have arrived before the cut.
    let again = queue.ack(&receipts(&third)).await;
    assert!(matches!(again[..], [Settled::Done | Settled::Lost]), "{again:?}");
    work_off(&queue).await;
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.running), (0, 0));
}

#[tokio::test]
async fn closing_a_queue_whose_server_is_paused() {
    let (redis, queue) = server_and_queue().await;
    let queue = queue.call_bound(BOUND);
    redis.pause();
    assert!(queue.stats().await.is_err());
    let began = Instant::now();
    queue.close().await.unwrap();
    assert!(began.elapsed() < BOUND + SLACK, "{:?}", began.elapsed());
    redis.resume();
}
