//! A handler as a tower service: at most eight jobs at a time, ten begun in a second, of them four
//! mails and one report at a time, with two seconds each. What the limits of all hold back stays
//! in the queue, where other workers can have it; what waits for its kind keeps a slot.
//!
//! Run with `cargo run -p examples --bin 09_tower_worker`; stop with Ctrl-C or SIGTERM. It pushes
//! thirty mails, the last of which takes too long: it fails, and is tried again later. Every tenth
//! is followed by a report. The queue is `QUEUE_URL` (`memory:`).

use std::future::Future;
use std::time::Duration;

use examples::queue;
use lifecycle::{Lifecycle, Report};
use lifecycle_worker::{BoxError, Job, JobError, Push, Queue, Worker};
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt};

type Work = BoxCloneSyncService<Job, (), BoxError>;

#[tokio::main]
async fn main() -> Result<Report, Box<dyn std::error::Error>> {
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    let queue = queue::connect(&queue::url("memory:")).await?;
    queue::prepare(&queue).await?;
    let mut jobs = Vec::new();
    for number in 1..=30 {
        jobs.push(Push::new("mail", if number == 30 { "5000" } else { "100" }));
        if number % 10 == 0 {
            jobs.push(Push::new("report", "300"));
        }
    }
    queue.push(&jobs).await?;
    let (mails, reports) = (at_most(4, mail), at_most(1, report));
    let of_its_kind = move |job: Job| {
        let kind = match job.kind() {
            "mail" => Ok(mails.clone()),
            "report" => Ok(reports.clone()),
            other => Err(JobError::dead(format!("no such kind: {other}"))),
        };
        // A clone shares its limit with the others.
        async move { kind?.oneshot(job).await }
    };
    let service = ServiceBuilder::new()
        .concurrency_limit(8)
        .rate_limit(10, Duration::from_secs(1))
        .service_fn(of_its_kind);
    life.spawn("mail", Worker::new(queue, service));
    examples::say_ready();
    Ok(life.run().await?)
}

/// So many at a time; the two seconds begin when it has its turn.
fn at_most<F>(count: usize, work: fn(Job) -> F) -> Work
where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let limits = ServiceBuilder::new().concurrency_limit(count).timeout(Duration::from_secs(2));
    BoxCloneSyncService::new(limits.service_fn(work))
}

async fn mail(job: Job) -> Result<(), BoxError> {
    let ms = std::str::from_utf8(job.payload())?.parse()?;
    tokio::time::sleep(Duration::from_millis(ms)).await;
    tracing::info!(id = %job.id(), "sent");
    Ok(())
}

async fn report(job: Job) -> Result<(), BoxError> {
    tracing::info!(id = %job.id(), "report begun");
    let ms = std::str::from_utf8(job.payload())?.parse()?;
    tokio::time::sleep(Duration::from_millis(ms)).await;
    tracing::info!(id = %job.id(), "report written");
    Ok(())
}
