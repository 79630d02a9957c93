//! One job's task: its handler until that ends, times out or is dropped.
//!
//! # Invariants
//! 1. The task's own [`Job`] goes last: the ledger hears that the job has stopped only when
//!    the handler's future is gone.
//! 2. What of theirs panics, the future's own drop too, is a failure of the job: given back it
//!    would count no attempt, and come again for ever.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{sleep, timeout};
use tracing::Instrument;

use super::ledger::Ledger;
use crate::handler::{Working, message_of};
use crate::job::{CancelReason, Held, Job};
use crate::telemetry;
use crate::verdict::Ended;

/// The task of a job. `own` is the task's clone of what the handler has been given.
pub(super) fn execute(
    own: Job,
    working: Working,
    key: usize,
    held: Arc<Held>,
    ledger: Arc<Ledger>,
    limit: Option<Duration>,
) -> impl Future<Output = ()> + Send {
    let span = telemetry::span(own.queue(), &held, own.header("traceparent"));
    async move {
        // Declared first, dropped last: invariant 1.
        let own = own;
        // The span of theirs too is entered within what catches.
        let working = AssertUnwindSafe(working.instrument(span)).catch_unwind();
        let ending = async {
            match limit {
                None => returned(working.await),
                // In a box: its timers would make the task of every job twice as large.
                Some(limit) => Box::pin(limited(working, limit, &held)).await,
            }
        };
        let ended = AssertUnwindSafe(ending).catch_unwind().await;
        let ended = ended.unwrap_or_else(|payload| Ended::Panicked(message_of(&*payload)));
        ledger.ended(key, &held, ended);
        drop(own);
    }
}

async fn limited(working: impl Future<Output = Caught>, limit: Duration, held: &Held) -> Ended {
    tokio::pin!(working);
    tokio::select! {
        biased;
        caught = &mut working => return returned(caught),
        () = sleep(limit) => {}
    }
    held.cancel(CancelReason::Timeout);
    match timeout(STOP_WITHIN, &mut working).await {
        Ok(caught) => returned(caught),
        Err(_) => Ended::TimedOut(limit),
    }
}

type Caught = Result<Result<(), crate::BoxError>, Box<dyn std::any::Any + Send>>;

fn returned(caught: Caught) -> Ended {
    match caught {
        Ok(result) => Ended::Returned(result),
        Err(payload) => Ended::Panicked(message_of(&*payload)),
    }
}

/// What a handler has after its timeout to end by itself.
const STOP_WITHIN: Duration = Duration::from_secs(1);
