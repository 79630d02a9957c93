//! An admin process (factor XII): a backfill that stops as the service does, with the same
//! signals, deadlines, exit codes and report.
//!
//! Run with `cargo run -p examples --bin 05_admin -- 100`: a hundred batches of 50 ms. On
//! SIGTERM it finishes the batch under way, says where to go on, and exits with 0; run it
//! again with `05_admin 100 FROM`. A batch that outlasts the grace is cut: exit code 3.

use std::error::Error;
use std::time::Duration;

use lifecycle::{Handle, Lifecycle, Phase, Report, component_fn};

#[tokio::main]
async fn main() -> Result<Report, Box<dyn Error>> {
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u32>());
    let batches = args.next().transpose()?.unwrap_or(100);
    let from = args.next().transpose()?.unwrap_or(0);
    life.on_close("database", async { tracing::info!("connection closed") });
    let job = component_fn(move |handle| backfill(handle, from, batches));
    examples::say_ready();
    Ok(life.run_once("backfill", job).await?)
}

async fn backfill(
    handle: Handle,
    from: u32,
    batches: u32,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    for batch in from..batches {
        // Asked to stop, it begins no further batch.
        if handle.phase() >= Phase::LameDuck {
            tracing::info!(next = batch, of = batches, "stopped between two batches");
            handle.note(format!("{batch} of {batches} batches done; go on from {batch}"));
            return Ok(());
        }
        // One transaction, committed whole or not at all.
        tokio::time::sleep(BATCH_TAKES).await;
    }
    tracing::info!(batches, "done");
    Ok(())
}

const BATCH_TAKES: Duration = Duration::from_millis(50);
