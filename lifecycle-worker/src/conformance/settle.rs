//! Checks: jobs that failed.

use std::time::Duration;

use tokio::time::Instant;

use super::bench::{Bench, Checked, all_done, dead, ensure, ensure_eq, failed, payloads, retry};
use crate::queue::Queue;

/// A job to be tried again is not claimable before its time, and its attempt counts.
pub(super) async fn fail_retry<Q: Queue>(bench: Bench<Q>) -> Checked {
    let (first, second) = (&bench.first, &bench.second);
    first.push_numbered(1).await?;
    let job = first.one().await?;
    let sent = Instant::now();
    all_done("fail", &first.fail(&[retry(&job, DELAY)]).await?)?;
    let job = second.not_before(sent + DELAY, "a job to be tried again").await?;
    ensure_eq("the attempt after a failure", job.attempt, 2)?;
    ensure_eq("the returns after a failure", job.returns, 0)?;
    all_done("fail", &second.fail(&[retry(&job, Duration::ZERO)]).await?)?;
    let Some(job) = first.soon().await? else {
        return failed("a job to be tried again at once is not claimable at once");
    };
    ensure_eq("the attempt after two failures", job.attempt, 3)?;
    first.done(&[&job]).await
}

/// A job that is dead is never delivered again, and stands in nobody's way.
pub(super) async fn fail_dead<Q: Queue>(bench: Bench<Q>) -> Checked {
    let (first, second) = (&bench.first, &bench.second);
    first.push_numbered(2).await?;
    let job = first.one().await?;
    all_done("fail", &first.fail(&[dead(&job)]).await?)?;
    let next = second.one().await?;
    ensure_eq("the job after a dead one", payloads(std::slice::from_ref(&next)), vec!["1".into()])?;
    second.done(&[&next]).await?;
    let waits = bench.can.lease_period().map_or(LATER, |period| period + bench.sweep());
    let again = second.claim(1, waits).await?;
    ensure(again.is_empty(), || "a dead job was delivered again".into())
}

const DELAY: Duration = Duration::from_millis(500);
const LATER: Duration = Duration::from_secs(1);
