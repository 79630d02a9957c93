//! What is special to the queue on Redis; what all queues promise is in the conformance suite.

mod cluster;
mod connect;
mod faults;
mod full;
mod load;
mod race;
mod seeds;
mod tls;
mod wake;

use std::num::NonZeroUsize;
use std::time::Duration;

use lifecycle_worker::{Claimed, Push, Queue, Receipt, RedisQueue, Settled};
use tests::brokers::PrivateRedis;
use tokio::time::{Instant, sleep};

async fn server_and_queue() -> (PrivateRedis, RedisQueue) {
    let redis = PrivateRedis::start().await;
    let queue = RedisQueue::connect(&redis.url(), "mail").await.unwrap();
    (redis, queue)
}

fn most(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

fn jobs(count: usize) -> Vec<Push> {
    (0..count).map(|at| Push::new("mail", at.to_string())).collect()
}

fn receipts(jobs: &[Claimed]) -> Vec<Receipt> {
    jobs.iter().map(|job| job.receipt.clone()).collect()
}

fn all_done(settled: &[Settled]) -> bool {
    settled.iter().all(Settled::is_done)
}

/// Claims and acknowledges until nothing is claimable; how many that were.
async fn work_off(queue: &RedisQueue) -> usize {
    let mut count = 0;
    loop {
        let jobs = queue.claim(most(1000), Duration::ZERO).await.unwrap();
        if jobs.is_empty() {
            return count;
        }
        assert!(all_done(&queue.ack(&receipts(&jobs)).await));
        count += jobs.len();
    }
}

/// Asks the server until so many of its clients are blocked.
async fn blocked(redis: &PrivateRedis, count: usize) {
    let wanted = format!("blocked_clients:{count}\r");
    let limit = Instant::now() + Duration::from_secs(10);
    while !redis.cli(&["info", "clients"]).await.contains(&wanted) {
        assert!(Instant::now() < limit, "never {count} blocked clients");
        // Sleeps: the server tells nobody when a client blocks.
        sleep(Duration::from_millis(5)).await;
    }
}
