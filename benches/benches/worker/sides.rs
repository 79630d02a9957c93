//! The sides that share a queue: the worker, and what one would write without it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use benches::{Took, production};
use lifecycle_worker::{Claimed, Job, Queue, Receipt, Worker};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::counted::{Count, Counted};

/// A worker under a lifecycle as in production: heartbeat, fencing and ledger on.
pub(crate) async fn worker(queue: impl Queue, jobs: u64, at_a_time: usize) -> Took {
    let count = Count::of(jobs);
    let queue = Counted { queue, count: count.clone() };
    run(Worker::new(queue, async |_job: Job| {}).concurrency(at_a_time), &count).await
}

/// The same, but so many more jobs are in flight from the first to the last of the others, and
/// their leases have to be extended again and again.
///
/// # Panics
/// When none was extended twice: their leases were too long for the round.
pub(crate) async fn worker_with_held(
    queue: impl Queue,
    jobs: u64,
    at_a_time: usize,
    held: u64,
) -> Took {
    let count = Count::of(jobs);
    let queue = Counted { queue, count: count.clone() };
    let at_a_time = at_a_time + usize::try_from(held).expect("few");
    let (begun, over) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
    let handler = move |_job: Job| {
        // Ordering: Relaxed, a number that no other job has.
        let nth = begun.fetch_add(1, Ordering::Relaxed);
        let over = over.clone();
        async move {
            if nth < held {
                drop(over.acquire().await.expect("it is not closed"));
            } else if nth + 1 == jobs {
                over.add_permits(1);
            }
        }
    };
    let took = run(Worker::new(queue, handler).concurrency(at_a_time), &count).await;
    let extended = count.extended();
    assert!(extended >= 2 * held, "{extended} leases of {held} jobs were extended");
    took
}

async fn run(worker: Worker, count: &Count) -> Took {
    let mut life = production();
    let handle = life.handle();
    life.spawn("jobs", worker);
    let running = AbortOnDropHandle::new(tokio::spawn(life.run()));
    count.ends().await;
    handle.shutdown("all jobs are done");
    let report = running.await.expect("it does not panic").expect("it runs");
    assert_eq!(report.exit_code(), 0, "{report}");
    count.took()
}

/// Claims so many, spawns a task for each, waits for all and acknowledges them: no heartbeat,
/// no ledger, nobody who could stop it.
pub(crate) async fn bare(queue: impl Queue, jobs: u64, at_a_time: usize) -> Took {
    looped(queue, jobs, move |queue| async move {
        let mut left = jobs;
        while left > 0 {
            let receipts = one_batch(&*queue, at_a_time).await;
            left -= receipts.len() as u64;
            queue.ack(&receipts).await;
        }
    })
    .await
}

/// The same, but it acknowledges on a task of its own while it claims the next.
pub(crate) async fn bare_ahead(queue: impl Queue, jobs: u64, at_a_time: usize) -> Took {
    looped(queue, jobs, move |queue| async move {
        let (mut left, mut last) = (jobs, None);
        while left > 0 {
            let receipts = one_batch(&*queue, at_a_time).await;
            left -= receipts.len() as u64;
            ended(last.take()).await;
            let queue = queue.clone();
            let ack = async move { drop(queue.ack(&receipts).await) };
            last = Some(AbortOnDropHandle::new(tokio::spawn(ack)));
        }
        ended(last).await;
    })
    .await
}

/// Times a loop on that queue.
async fn looped<Q, R>(queue: Q, jobs: u64, run: impl FnOnce(Arc<Counted<Q>>) -> R) -> Took
where
    Q: Queue,
    R: Future<Output = ()> + Send + 'static,
{
    let count = Count::of(jobs);
    let queue = Arc::new(Counted { queue, count: count.clone() });
    let looping = AbortOnDropHandle::new(tokio::spawn(run(queue.clone())));
    count.ends().await;
    looping.await.expect("it does not panic");
    queue.close().await.expect("it closes");
    count.took()
}

/// So many jobs, done on a task each.
async fn one_batch(queue: &impl Queue, at_a_time: usize) -> Vec<Receipt> {
    let most = NonZeroUsize::new(at_a_time).expect("one at least");
    let claimed = queue.claim(most, WAIT).await.expect("it claims");
    let tasks: Vec<_> = claimed.into_iter().map(|job| tokio::spawn(handle(job))).collect();
    let mut receipts = Vec::with_capacity(tasks.len());
    for task in tasks {
        receipts.push(task.await.expect("it does not panic"));
    }
    receipts
}

async fn ended(task: Option<AbortOnDropHandle<()>>) {
    if let Some(task) = task {
        task.await.expect("it does not panic");
    }
}

async fn handle(job: Claimed) -> Receipt {
    job.receipt
}

const WAIT: Duration = Duration::from_secs(5);
