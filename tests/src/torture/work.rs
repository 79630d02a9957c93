//! What the jobs of the tests do, by their kind.
//!
//! | kind | payload | does |
//! |---|---|---|
//! | `work` | milliseconds | waits so long; knows of no token |
//! | `once` | milliseconds | the same, but nothing when it has been begun before |
//! | `polite` | milliseconds | waits so long, or until it is told to stop: it saves a checkpoint, with which it is done at once |
//! | `block` | milliseconds | as `once`, blocks another thread so long, which keeps the job |
//! | `spin` | milliseconds | as `once`, keeps the runtime's thread busy so long |
//! | `abort` | | kills its process |
//! | `json` | `{"ms": 5}` | waits so long |
//! | `bytes` | any | is done when the header `sum` is the payload's |

use std::sync::Arc;
use std::time::Duration;

use lifecycle_worker::{BoxError, Job, JobError};
use tokio::time::sleep;

use super::ledger::{Ledger, What, now_ns};

/// Does what the job says, and writes down when.
pub(super) async fn carry_out(job: Job, ledger: Arc<Ledger>) -> Result<(), BoxError> {
    let execution = Execution::begin(&job, ledger);
    let result = match job.kind() {
        "work" => {
            sleep(millis(&job)?).await;
            Ok(())
        }
        "once" => {
            sleep(first_millis(&job)?).await;
            Ok(())
        }
        "polite" => polite(&job).await,
        "block" => return block(job, execution).await,
        "spin" => {
            let until = now_ns() + u64::try_from(first_millis(&job)?.as_nanos())?;
            while now_ns() < until {
                std::hint::spin_loop();
            }
            Ok(())
        }
        "abort" => std::process::abort(),
        "json" => json(&job).await,
        "bytes" => bytes(&job),
        kind => Err(JobError::dead(format!("no such kind: {kind}")).into()),
    };
    execution.end();
    result
}

fn millis(job: &Job) -> Result<Duration, BoxError> {
    Ok(Duration::from_millis(std::str::from_utf8(job.payload())?.parse()?))
}

/// Nothing, when it has been begun before.
fn first_millis(job: &Job) -> Result<Duration, BoxError> {
    if job.attempt() + job.returns() > 1 { Ok(Duration::ZERO) } else { millis(job) }
}

async fn polite(job: &Job) -> Result<(), BoxError> {
    if job.saved().is_some() {
        return Ok(());
    }
    let time = millis(job)?;
    tokio::select! {
        () = sleep(time) => Ok(()),
        reason = job.cancelled() => {
            job.checkpoint(reason.name());
            Err(JobError::Stopped.into())
        }
    }
}

/// The thread keeps the job, as it should: it runs as long as the thread does.
async fn block(job: Job, execution: Execution) -> Result<(), BoxError> {
    let until = now_ns() + u64::try_from(first_millis(&job)?.as_nanos())?;
    let blocking = tokio::task::spawn_blocking(move || {
        // Bound: each turn waits for what is left.
        while let Some(left) = until.checked_sub(now_ns()).filter(|left| *left > 0) {
            std::thread::park_timeout(Duration::from_nanos(left));
        }
        execution.end();
        drop(job);
    });
    Ok(blocking.await?)
}

async fn json(job: &Job) -> Result<(), BoxError> {
    let fields: std::collections::HashMap<String, u64> = job.json()?;
    sleep(Duration::from_millis(fields.get("ms").copied().unwrap_or(0))).await;
    Ok(())
}

fn bytes(job: &Job) -> Result<(), BoxError> {
    if job.header("sum") != Some(&*sum(job.payload())) {
        return Err(JobError::dead("the payload is not what was pushed").into());
    }
    Ok(())
}

/// A short text that two payloads hardly share: length and a hash (FNV-1a).
#[must_use]
pub fn sum(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{}-{hash:x}", bytes.len())
}

/// One execution of a job; dropped before its end, it was stopped.
struct Execution {
    id: String,
    ledger: Arc<Ledger>,
    has_ended: bool,
}

impl Execution {
    fn begin(job: &Job, ledger: Arc<Ledger>) -> Self {
        let id = job.id().to_string();
        ledger.note(&id, What::Start { attempt: job.attempt(), returns: job.returns() });
        Self { id, ledger, has_ended: false }
    }

    fn end(mut self) {
        self.ledger.note(&self.id, What::End);
        self.has_ended = true;
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if !self.has_ended {
            self.ledger.note(&self.id, What::Stop);
        }
    }
}
