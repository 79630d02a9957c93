//! The two sides that share a queue: the worker, and what one would write without it.

use std::num::NonZeroUsize;
use std::time::Duration;

use benches::{Took, production};
use lifecycle_worker::{Claimed, Job, Queue, Receipt, Worker};

use crate::counted::{Count, Counted};

/// A worker under a lifecycle as in production: heartbeat, fencing and ledger on.
pub(crate) async fn worker(queue: impl Queue, jobs: u64, at_a_time: usize) -> Took {
    let mut life = production();
    let (handle, count) = (life.handle(), Count::of(jobs));
    let queue = Counted { queue, count: count.clone() };
    life.spawn("jobs", Worker::new(queue, async |_job: Job| {}).concurrency(at_a_time));
    let running = tokio::spawn(life.run());
    count.ends().await;
    handle.shutdown("all jobs are done");
    let report = running.await.expect("it does not panic").expect("it runs");
    assert_eq!(report.exit_code(), 0, "{report}");
    count.took()
}

/// Claims so many, spawns a task for each, waits for all and acknowledges them: no heartbeat,
/// no ledger, nobody who could stop it.
pub(crate) async fn bare(queue: impl Queue, jobs: u64, at_a_time: usize) -> Took {
    let count = Count::of(jobs);
    let queue = Counted { queue, count: count.clone() };
    let looping = tokio::spawn(async move {
        let most = NonZeroUsize::new(at_a_time).expect("one at least");
        let mut left = jobs;
        while left > 0 {
            let claimed = queue.claim(most, WAIT).await.expect("it claims");
            left -= claimed.len() as u64;
            let tasks: Vec<_> = claimed.into_iter().map(|job| tokio::spawn(handle(job))).collect();
            let mut receipts = Vec::with_capacity(tasks.len());
            for task in tasks {
                receipts.push(task.await.expect("it does not panic"));
            }
            queue.ack(&receipts).await;
        }
        queue.close().await.expect("it closes");
    });
    count.ends().await;
    looping.await.expect("it does not panic");
    count.took()
}

async fn handle(job: Claimed) -> Receipt {
    job.receipt
}

const WAIT: Duration = Duration::from_secs(5);
