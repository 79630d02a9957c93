//! A handler as a tower service: at most four mails at a time, ten a second, two seconds each.
//! What the limits hold back stays in the queue, where other workers can have it.
//!
//! Run with `cargo run -p examples --bin 09_tower_worker`; stop with Ctrl-C or SIGTERM. It pushes
//! thirty jobs, the last of which takes too long: it fails, and is tried again later. The queue is
//! `QUEUE_URL` (`memory:`).

use std::time::Duration;

use examples::queue;
use lifecycle::{Lifecycle, Report};
use lifecycle_worker::{BoxError, Job, Push, Queue, Worker};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<Report, Box<dyn std::error::Error>> {
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    let queue = queue::connect(&queue::url("memory:")).await?;
    queue::prepare(&queue).await?;
    let takes_ms = |number| if number == 30 { "5000" } else { "100" };
    let jobs: Vec<_> = (1..=30).map(|number| Push::new("mail", takes_ms(number))).collect();
    queue.push(&jobs).await?;
    let service = ServiceBuilder::new()
        .concurrency_limit(4)
        .rate_limit(10, Duration::from_secs(1))
        .timeout(Duration::from_secs(2))
        .service_fn(mail);
    life.spawn("mail", Worker::new(queue, service));
    examples::say_ready();
    Ok(life.run().await?)
}

async fn mail(job: Job) -> Result<(), BoxError> {
    let ms = std::str::from_utf8(job.payload())?.parse()?;
    tokio::time::sleep(Duration::from_millis(ms)).await;
    tracing::info!(id = %job.id(), "sent");
    Ok(())
}
