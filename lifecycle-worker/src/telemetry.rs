//! Every log event and metric, its name and fields.
//!
//! INFO for what belongs to an orderly stop, WARN for what somebody should look at, ERROR for
//! what does not mend itself, DEBUG for each job.

use std::time::Duration;

use tracing::{Span, debug, error, info, info_span, warn};

use crate::error::{QueueError, chain};
use crate::job::Held;
use crate::queue::Start;
use crate::settlement::SettlementKind;

/// The span that a handler runs in.
pub(crate) fn span(queue: &str, held: &Held, traceparent: Option<&str>) -> Span {
    info_span!(
        "job",
        queue,
        kind = &*held.kind,
        id = held.receipt.id().as_str(),
        attempt = held.attempt,
        traceparent
    )
}

pub(crate) fn settled(queue: &str, held: &Held, kind: SettlementKind, error: Option<&str>) {
    count(queue, kind);
    let (id, name, attempt) = (held.receipt.id().as_str(), &*held.kind, held.attempt);
    match kind {
        SettlementKind::Done => debug!(queue, kind = name, id, attempt, "job.finished"),
        SettlementKind::Retried => warn!(queue, kind = name, id, attempt, error, "job.failed"),
        SettlementKind::Dead => warn!(queue, kind = name, id, attempt, error, "job.dead"),
        SettlementKind::Returned => info!(queue, kind = name, id, attempt, "job.returned"),
        SettlementKind::Lost | SettlementKind::LeftToLease => {
            let outcome = kind.name();
            warn!(queue, kind = name, id, attempt, outcome, "job.lost");
        }
    }
}

pub(crate) fn lease_over(queue: &str, held: &Held) {
    count(queue, SettlementKind::Lost);
    let (id, kind) = (held.receipt.id().as_str(), &*held.kind);
    warn!(queue, kind, id, attempt = held.attempt, outcome = "lease_over", "job.lost");
}

pub(crate) fn not_settled(queue: &str, jobs: usize, error: &QueueError) {
    warn!(queue, jobs, error = chain(error), "queue.not_told");
}

/// It says that it will never take what was told of that job.
pub(crate) fn refused(queue: &str, held: &Held, error: &QueueError) {
    let (id, kind) = (held.receipt.id().as_str(), &*held.kind);
    error!(queue, kind, id, attempt = held.attempt, error = chain(error), "job.refused");
}

pub(crate) fn not_extended(queue: &str, jobs: usize, error: &QueueError) {
    warn!(queue, jobs, error = chain(error), "queue.not_extended");
}

pub(crate) fn unreachable(queue: &str, error: &QueueError, retry_in: Duration) {
    let retry_in_ms = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
    warn!(queue, error = chain(error), retry_in_ms, "queue.unreachable");
}

pub(crate) fn reachable(queue: &str) {
    info!(queue, "queue.reachable");
}

pub(crate) fn quiet(queue: &str, in_flight: usize) {
    info!(queue, in_flight, "worker.quiet");
}

pub(crate) fn callback_panicked(queue: &str) {
    warn!(queue, "worker.callback_panicked");
}

pub(crate) fn not_closed(queue: &str, error: &QueueError) {
    warn!(queue, error = chain(error), "queue.not_closed");
}

/// What became of so many ticks of a schedule: `enqueued`, `duplicate` (another clock was
/// first), `failed` to be pushed for now, or `missed`.
#[cfg(feature = "schedule")]
pub(crate) fn ticks(queue: &str, name: &str, outcome: &'static str, ticks: usize) {
    if ticks == 0 {
        return;
    }
    count_ticks(name, outcome, ticks);
    match outcome {
        "missed" => warn!(queue, schedule = name, ticks, "schedule.missed"),
        "enqueued" => info!(queue, schedule = name, ticks, "schedule.enqueued"),
        _ => debug!(queue, schedule = name, ticks, outcome, "schedule.ticked"),
    }
}

#[cfg(all(feature = "metrics", feature = "schedule"))]
fn count_ticks(name: &str, outcome: &'static str, ticks: usize) {
    let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
    metrics::counter!(TICKS, "schedule" => name.to_owned(), "outcome" => outcome).increment(ticks);
}

#[cfg(all(not(feature = "metrics"), feature = "schedule"))]
fn count_ticks(_name: &str, _outcome: &'static str, _ticks: usize) {}

#[cfg(feature = "metrics")]
fn count(queue: &str, kind: SettlementKind) {
    metrics::counter!(JOBS, "queue" => queue.to_owned(), "outcome" => kind.name()).increment(1);
}

#[cfg(not(feature = "metrics"))]
fn count(_queue: &str, _kind: SettlementKind) {}

/// A job was returned before its handler had begun, or half done.
#[cfg(feature = "metrics")]
pub(crate) fn returned(start: Start) {
    let reason = match start {
        Start::Started => "started",
        Start::Unstarted => "unstarted",
    };
    metrics::counter!(RETURNED, "reason" => reason).increment(1);
}

#[cfg(not(feature = "metrics"))]
pub(crate) fn returned(_start: Start) {}

#[cfg(feature = "metrics")]
const JOBS: &str = "lifecycle_jobs_total";
#[cfg(feature = "metrics")]
const RETURNED: &str = "lifecycle_jobs_returned_total";
#[cfg(all(feature = "metrics", feature = "schedule"))]
const TICKS: &str = "lifecycle_schedule_ticks_total";
