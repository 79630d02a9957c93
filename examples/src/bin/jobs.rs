//! A queue from the command line: pushes jobs that take their time, works on them, counts them.
//!
//! Run with `cargo run -p examples --bin jobs -- push --count 100 --ms 50`, then `.. work`, and
//! stop it with Ctrl-C or SIGTERM; `.. stats` and `.. dead` say how the queue stands. The queue
//! is `QUEUE_URL` (`sqlite:jobs.db`, in the current folder); what it needs is created on first
//! use. stdout has JSON and nothing else, logs and the report go to stderr.

use std::error::Error;
use std::io::{self, Write, stdout};
use std::num::NonZeroUsize;
use std::process::{ExitCode, Termination};
use std::time::Duration;

use clap::{Parser, Subcommand};
use examples::queue;
use lifecycle::{Handle, Lifecycle, Phase, component_fn};
use lifecycle_worker::{
    AnyQueue, BoxError, Job, JobError, Push, Queue, Settlement, SettlementKind, Worker,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Jobs on the queue that QUEUE_URL names.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists dead letters, the newest first, a JSON object a line.
    Dead {
        /// How many at most.
        #[arg(long, default_value = "100")]
        count: NonZeroUsize,
    },
    /// Pushes jobs; prints how many.
    Push(Pushing),
    /// Prints how many jobs there are, as a JSON object.
    Stats,
    /// Works on jobs; prints each that is done and acknowledged, a JSON object a line.
    Work(Working),
}

#[derive(clap::Args)]
struct Pushing {
    /// How many.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// How long each takes, in milliseconds.
    #[arg(long, default_value_t = 0)]
    ms: u64,
    /// What kind of job each is.
    #[arg(long, default_value = "work")]
    kind: String,
    /// The payload, in place of the one that says how long it takes.
    #[arg(long, conflicts_with = "ms")]
    payload: Option<String>,
    /// Prints the id of each job too, a JSON object a line.
    #[arg(long)]
    ids: bool,
}

#[derive(clap::Args)]
struct Working {
    /// How many jobs at a time.
    #[arg(long, default_value = "10")]
    concurrency: NonZeroUsize,
    /// How long a claim lasts unless it is extended, in place of the queue's own period.
    #[arg(long, value_parser = humantime::parse_duration)]
    lease: Option<Duration>,
    /// How long a claim waits for a job before it begins anew.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5s")]
    claim_wait: Duration,
}

#[derive(Deserialize, Serialize)]
struct Work {
    ms: u64,
}

/// What is printed of a job that is done.
#[derive(Serialize)]
struct Done<'a> {
    id: &'a str,
    attempt: u32,
    worker: u32,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Args { command } = Args::parse();
    let mut url = queue::url("sqlite:jobs.db");
    match command {
        Command::Dead { count } => {
            let queue = open(&url).await?;
            for job in queue.dead(count).await? {
                let payload = String::from_utf8_lossy(&job.payload);
                print(&json!({
                    "id": job.id.as_str(), "kind": job.kind, "attempts": job.attempts,
                    "error": job.error, "payload": payload,
                }))?;
            }
            queue.close().await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Stats => {
            let queue = open(&url).await?;
            print(&queue.stats().await?)?;
            queue.close().await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Push(pushing) => {
            let life = Lifecycle::from_env()?;
            examples::init_logs_to_stderr();
            let queue = open(&url).await?;
            let push = component_fn(move |handle| push(handle, queue, pushing));
            Ok(life.run_once("push", push).await?.report())
        }
        Command::Work(working) => {
            let life = Lifecycle::from_env()?;
            examples::init_logs_to_stderr();
            if let Some(lease) = working.lease {
                let separator = if url.contains('?') { '&' } else { '?' };
                url.push_str(&format!("{separator}lease={}ms", lease.as_millis()));
            }
            work(life, open(&url).await?, &working).await
        }
    }
}

async fn open(url: &str) -> Result<AnyQueue, Box<dyn Error>> {
    let queue = queue::connect(url).await?;
    queue::prepare(&queue).await?;
    Ok(queue)
}

/// In batches; told to stop it finishes the one under way and says how far it has come.
async fn push(handle: Handle, queue: AnyQueue, pushing: Pushing) -> Result<(), BoxError> {
    let Pushing { count, ms, kind, payload, ids } = pushing;
    let job = match payload {
        Some(payload) => Push::new(kind, payload),
        None => Push::json(kind, &Work { ms })?,
    };
    let mut pushed = 0;
    while pushed < count {
        if handle.phase() >= Phase::LameDuck {
            return Err(format!("stopped when {pushed} of {count} jobs were pushed").into());
        }
        let batch = vec![job.clone(); BATCH.min(count - pushed)];
        let answers = queue.push(&batch).await?;
        pushed += batch.len();
        for id in answers.iter().filter(|_| ids).filter_map(|pushed| pushed.id()) {
            print(&json!({ "id": id.as_str() }))?;
        }
    }
    print(&json!({ "pushed": pushed }))?;
    Ok(queue.close().await?)
}

async fn work(
    mut life: Lifecycle,
    queue: AnyQueue,
    working: &Working,
) -> Result<ExitCode, Box<dyn Error>> {
    // Several on one machine is what this is for: each has probes only where it is told so.
    if std::env::var_os("LIFECYCLE_PROBE_ADDR").is_some() {
        life.serve_probes().await?;
    }
    let handle = life.handle();
    let worker = Worker::new(queue, sleep)
        .concurrency(working.concurrency.get())
        .claim_wait(working.claim_wait)
        .on_settled(move |job| say_done(job, &handle));
    life.check(worker.readiness("queue"));
    life.spawn("work", worker);
    eprintln!("ready");
    Ok(life.run().await?.report())
}

/// What every job does, whatever its kind.
async fn sleep(job: Job) -> Result<(), JobError> {
    let Work { ms } = job.json()?;
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Ok(())
}

/// After the queue has confirmed it. A reader that does not read holds the worker up; one that
/// is gone ends it.
fn say_done(job: &Settlement, handle: &Handle) {
    if job.outcome != SettlementKind::Done {
        return;
    }
    let done = Done { id: job.id.as_str(), attempt: job.attempt, worker: std::process::id() };
    if let Err(error) = print(&done) {
        handle.shutdown(format!("nobody reads what is done: {error}"));
    }
}

/// One line, flushed.
fn print(value: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(value)?;
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

const BATCH: usize = 500;
