//! What is special to the queue on RabbitMQ; what all queues promise is in the conformance suite.

mod copies;
mod faults;
mod race;
mod waits;

use std::num::NonZeroUsize;
use std::time::Duration;

use lifecycle_worker::conformance::suite;
use lifecycle_worker::{AmqpQueue, Claimed, Push, Queue, Receipt, Settled};
use tests::brokers::PrivateRabbit;

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
async fn work_off(queue: &AmqpQueue) -> usize {
    let mut count = 0;
    loop {
        let jobs = queue.claim(most(1000), Duration::from_millis(300)).await.unwrap();
        if jobs.is_empty() {
            return count;
        }
        assert!(all_done(&queue.ack(&receipts(&jobs)).await));
        count += jobs.len();
    }
}

/// One broker for all three kinds of queue, since it is long in starting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_conforms() {
    let broker = PrivateRabbit::start().await;
    for kind in [|queue| queue, AmqpQueue::classic, AmqpQueue::classic_with_priorities] {
        let report = suite(async |setting| {
            let connect = async || AmqpQueue::connect(&broker.url(), setting.name.as_str()).await;
            let first = kind(connect().await?);
            first.prepare().await?;
            Ok((first, kind(connect().await?)))
        })
        .await;
        report.assert_passed();
    }
}
