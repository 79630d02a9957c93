//! The worker process: `torture worker`, which the tests start and end.
#![allow(clippy::print_stdout, reason = "who has started it waits for the word `ready`")]

use std::sync::Arc;

use lifecycle::{Handle, Lifecycle, Report, component_fn};
use lifecycle_worker::{BoxError, Job, Retry, Worker};

use super::ledger::{Ledger, What};
use super::orders::{ClaimBy, Orders};
use super::select;
use super::work::carry_out;

/// Works on a queue until it is told to stop; [`Orders`] are taken from the environment.
///
/// # Errors
/// When it is told nonsense, or the queue cannot be used.
///
/// # Cancel safety
/// Not cancel safe: what it has claimed is left to its lease.
pub async fn work() -> Result<Report, BoxError> {
    let mut life = Lifecycle::from_env()?;
    let filter = tracing_subscriber::EnvFilter::new("warn");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let (orders, path) = Orders::from_env()?;
    let queue = orders.connect().await?;
    let ledger = Arc::new(Ledger::create(&path)?);
    let work = {
        let ledger = Arc::clone(&ledger);
        move |job: Job| carry_out(job, Arc::clone(&ledger))
    };
    match orders.claim {
        ClaimBy::Runner => {
            let worker = Worker::new(queue, work)
                .concurrency(orders.concurrency)
                .prefetch(orders.prefetch)
                .retry(Retry::new().attempts(orders.attempts))
                .unstoppable(orders.unstoppable)
                .on_settled(move |job| {
                    let outcome = job.outcome.name().to_owned();
                    ledger.note(job.id.as_str(), What::Settled(outcome));
                });
            life.spawn("worker", worker);
        }
        ClaimBy::Select => {
            let run = move |handle: Handle| select::run(queue, orders, ledger, handle);
            life.spawn("worker", component_fn(run));
        }
    }
    println!("ready");
    Ok(life.run().await?)
}
