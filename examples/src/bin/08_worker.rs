//! A worker in ten lines: jobs from a SQLite file, a drain that finishes them or gives them back.
//!
//! Run with `cargo run -p examples --bin 08_worker`; stop with Ctrl-C or SIGTERM. The queue is
//! `QUEUE_URL` (`sqlite:mail.db`, in the current folder; `memory:` leaves nothing behind).

use std::time::Duration;

use lifecycle::{Lifecycle, Report};
use lifecycle_worker::{AnyQueue, BoxError, Job, Push, Queue, Worker};

#[tokio::main]
async fn main() -> Result<Report, Box<dyn std::error::Error>> {
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    let queue = AnyQueue::connect(&examples::queue::url("sqlite:mail.db")).await?;
    queue.prepare().await?;
    queue.push(&[Push::new("mail", "ada@example.org")]).await?;
    life.spawn("mail", Worker::new(queue, mail).concurrency(8));
    examples::say_ready();
    Ok(life.run().await?)
}

async fn mail(job: Job) -> Result<(), BoxError> {
    tokio::time::sleep(Duration::from_millis(200)).await; // the mail server
    tracing::info!(to = std::str::from_utf8(job.payload())?, attempt = job.attempt(), "sent");
    Ok(())
}
