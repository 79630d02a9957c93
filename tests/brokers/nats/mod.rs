//! What is special to the queue on NATS; what all queues promise is in the conformance suite.

mod faults;
mod gone;
mod large;

use std::num::NonZeroUsize;
use std::time::Duration;

use lifecycle_worker::conformance::suite;
use lifecycle_worker::{Claimed, NatsQueue, Push, Queue, Receipt, Settled};
use tests::brokers::PrivateNats;

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
async fn work_off(queue: &NatsQueue) -> usize {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_conforms() {
    let server = PrivateNats::start().await;
    let report = suite(async |setting| {
        let connect = async || NatsQueue::connect(&server.url(), setting.name.as_str()).await;
        let first = connect().await?.lease(setting.lease);
        first.prepare().await?;
        Ok((first, connect().await?.lease(setting.lease)))
    })
    .await;
    report.assert_passed();
}
