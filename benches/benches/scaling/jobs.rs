//! Jobs at a time: what a job costs a worker on the queue in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use benches::Moment;
use lifecycle_worker::{Job, MemoryQueue, Push, Queue as _, Settlement, SettlementKind, Worker};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::parts::{LIMIT, builder};

/// Microseconds a job on the wall, and of the processors; from the start of the worker to the
/// last acknowledgement that the queue has confirmed, the pushing apart.
pub(crate) fn measure(runtime: &Runtime, at_a_time: u64) -> Vec<f64> {
    runtime.block_on(async {
        let queue = MemoryQueue::new("jobs");
        let all: Vec<_> = (0..JOBS).map(|job| Push::new("number", job.to_string())).collect();
        queue.push(&all).await.expect("it takes jobs");
        let (done, all_done) = (AtomicU64::new(0), Arc::new(Notify::new()));
        let told = all_done.clone();
        let at_a_time = usize::try_from(at_a_time).expect("few");
        let worker = Worker::new(queue, work).concurrency(at_a_time).on_settled(
            move |settlement: &Settlement| {
                assert_eq!(settlement.outcome, SettlementKind::Done);
                // Ordering: Relaxed, the callbacks of a worker come one after the other.
                if done.fetch_add(1, Ordering::Relaxed) + 1 == JOBS {
                    told.notify_one();
                }
            },
        );
        let mut life = builder().build().expect("the control thread starts");
        life.spawn("jobs", worker);
        let handle = life.handle();
        let began = Moment::now();
        let running = tokio::spawn(life.run());
        timeout(LIMIT, all_done.notified()).await.expect("all jobs are done");
        let took = began.to(&Moment::now(), JOBS, None);
        handle.shutdown("all jobs are done");
        let report = running.await.expect("it does not panic").expect("it runs");
        assert_eq!(report.exit_code(), 0, "{report}");
        let each = |time: std::time::Duration| time.as_secs_f64() * 1e6 / JOBS as f64;
        vec![each(took.wall), each(took.used)]
    })
}

/// It lets the others have their turn, so that many are under way at once.
async fn work(_job: Job) {
    tokio::task::yield_now().await;
}

const JOBS: u64 = 20_000;
