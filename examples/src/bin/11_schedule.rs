//! Jobs at times of the day: a clock that enqueues, a worker that works, in as many processes
//! as you like.
//!
//! Run with `cargo run -p examples --bin 11_schedule`, twice in the same folder: each tick is
//! worked on once, by one of them. Kill one: the other goes on, and what neither has seen is
//! enqueued by whoever starts within the hour. `QUEUE_URL` names the file.
#![allow(clippy::print_stdout, reason = "examples log to stdout, as factor XI has it")]

use std::error::Error;

use lifecycle::{Lifecycle, Report};
use lifecycle_worker::{Job, Missed, Push, Queue, Schedule, SqliteQueue, Worker};

async fn work(job: Job) {
    // The tick's own time: the job may run later, or again.
    let tick = job.header("schedule-tick").unwrap_or("no tick");
    println!("{} for {tick}", job.kind());
}

#[tokio::main]
async fn main() -> Result<Report, Box<dyn Error>> {
    let mut life = Lifecycle::from_env()?; // signals are caught from here on
    examples::init_logs();
    life.serve_probes().await?;
    let url = std::env::var("QUEUE_URL").unwrap_or_else(|_| "sqlite:schedule.db".to_owned());
    let queue = SqliteQueue::connect(&url, "jobs").await?;
    queue.prepare().await?;
    let schedule = Schedule::new(queue.clone())?
        .missed(Missed::Once)
        .every("report", "0 3 * * *", "Europe/Berlin", Push::new("report", "daily"))?
        .every("invoices", "0 9 L * *", "America/New_York", Push::new("invoices", ""))?
        .every("pulse", "*/2 * * * * *", "UTC", Push::new("pulse", ""))?;
    life.check(schedule.readiness("clock"));
    life.spawn("clock", schedule).spawn("worker", Worker::new(queue, work));
    examples::say_ready();
    Ok(life.run().await?)
}
