//! The control: a worker as it is often written. Its loop is dropped by `select!` when the
//! signal comes, with the claim that is under way and the jobs that it has claimed.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::Handle;
use lifecycle_worker::{AnyQueue, BoxError, Claimed, Queue};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::ledger::{Ledger, What};
use super::orders::Orders;

pub(super) async fn run(
    queue: AnyQueue,
    orders: Orders,
    ledger: Arc<Ledger>,
    handle: Handle,
) -> Result<(), BoxError> {
    tokio::select! {
        end = claim_and_work(&queue, &orders, &ledger) => end,
        () = handle.lame_duck() => Ok(()),
    }
}

async fn claim_and_work(
    queue: &AnyQueue,
    orders: &Orders,
    ledger: &Arc<Ledger>,
) -> Result<(), BoxError> {
    let mut working = JoinSet::new();
    loop {
        while working.len() >= orders.concurrency {
            working.join_next().await;
        }
        while working.try_join_next().is_some() {}
        let slots = NonZeroUsize::new(orders.concurrency - working.len()).ok_or("no slot")?;
        for job in queue.claim(slots, Duration::from_millis(100)).await? {
            working.spawn(work(queue.clone(), job, Arc::clone(ledger)));
        }
    }
}

async fn work(queue: AnyQueue, job: Claimed, ledger: Arc<Ledger>) {
    let id = job.receipt.id().to_string();
    ledger.note(&id, What::Start { attempt: job.attempt, returns: job.returns });
    let millis = std::str::from_utf8(&job.payload).ok().and_then(|text| text.parse().ok());
    sleep(Duration::from_millis(millis.unwrap_or(0))).await;
    ledger.note(&id, What::End);
    if queue.ack(&[job.receipt]).await.iter().all(lifecycle_worker::Settled::is_done) {
        ledger.note(&id, What::Settled("done".into()));
    }
}
