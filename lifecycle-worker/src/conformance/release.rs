//! Checks: jobs that are given back.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::basics::{PARKED, UNTIL_PARKED, woken};
use super::bench::{
    Bench, Checked, all_done, ensure, ensure_eq, failed, kept_undeclared, payloads, receipt,
    release as unstarted, skipped,
};
use crate::capabilities::{Attempt, Place, ReleaseCapabilities};
use crate::queue::{Queue, Release};

/// A job given back is claimable by the other at once, its attempt counted as declared.
pub(super) async fn release<Q: Queue>(bench: Bench<Q>) -> Checked {
    let (first, second) = (&bench.first, &bench.second);
    first.push_numbered(1).await?;
    let mut job = first.one().await?;
    let Some(declared) = bench.can.release else {
        let settled = first.release(&[unstarted(&job)]).await?;
        let is_kept = settled.iter().all(|one| one.is_done());
        if is_kept && second.at_once().await?.is_some() {
            return kept_undeclared("a release");
        }
        return skipped("release is not declared");
    };
    let counts = u32::from(declared.attempt == Attempt::Counted);
    let ways = [
        (first, second, Release::unstarted as fn(_) -> Release, "an unstarted job"),
        (second, first, |receipt| Release::started(receipt, None), "a started job"),
        (first, second, Release::unstarted, "an unstarted job, again"),
    ];
    for (round, (from, to, way, what)) in (1..).zip(ways) {
        all_done("release", &from.release(&[way(receipt(&job))]).await?)?;
        let Some(again) = to.soon().await? else {
            return failed(format!("{what} that was released is not claimable at once"));
        };
        ensure_eq("the id of a released job", again.receipt.id(), job.receipt.id())?;
        ensure_eq(&format!("the attempt of {what}"), again.attempt, 1 + counts * round)?;
        // A broker that counts deliveries, whatever becomes of them, may not tell returns apart.
        let returns = if counts == 1 { again.returns.max(round) } else { again.returns };
        ensure_eq(&format!("the returns of {what}"), returns, round)?;
        job = again;
    }
    second.done(&[&job]).await
}

/// A claim that waits has the job soon after it was given back.
pub(super) async fn release_wakes_claim<Q: Queue>(bench: Bench<Q>) -> Checked {
    declared(&bench)?;
    bench.first.push_numbered(1).await?;
    let job = bench.first.one().await?;
    let parked = bench.second.park(PARKED);
    sleep(UNTIL_PARKED).await;
    all_done("release", &bench.first.release(&[unstarted(&job)]).await?)?;
    woken(parked, "release").await
}

/// Jobs given back land where it was declared.
pub(super) async fn release_place<Q: Queue>(bench: Bench<Q>) -> Checked {
    let expected = match declared(&bench)?.place {
        Place::Original => ["0", "1", "2", "3"],
        Place::Front => ["1", "0", "2", "3"],
        Place::Back => ["2", "3", "0", "1"],
        Place::Unordered => return skipped("a released job may land anywhere"),
    };
    bench.first.push_numbered(4).await?;
    let held = bench.first.gather(2).await?;
    for job in &held {
        all_done("release", &bench.first.release(&[unstarted(job)]).await?)?;
    }
    let claimed = bench.second.gather(4).await?;
    let seen = payloads(&claimed);
    ensure(seen == expected, || format!("0 and 1 were released, and the order is {seen:?}"))?;
    bench.second.done(&claimed.iter().collect::<Vec<_>>()).await
}

/// A job given back with a delay is not claimable before.
pub(super) async fn release_delay<Q: Queue>(bench: Bench<Q>) -> Checked {
    let can = declared(&bench)?;
    bench.first.push_numbered(1).await?;
    let job = bench.first.one().await?;
    let sent = Instant::now();
    let settled = bench.first.release(&[unstarted(&job).delay(DELAY)]).await?;
    if can.delay {
        all_done("release", &settled)?;
        let what = "a job released with a delay";
        let job = bench.second.not_before(sent + DELAY, what).await?;
        return bench.second.done(&[&job]).await;
    }
    let is_done = settled.iter().all(|one| one.is_done());
    let was_in_time = sent.elapsed() < DELAY / 2;
    if is_done && was_in_time && bench.second.at_once().await?.is_none() {
        return kept_undeclared("the delay of a release");
    }
    skipped("release.delay is not declared")
}

fn declared<Q: Queue>(bench: &Bench<Q>) -> Checked<ReleaseCapabilities> {
    bench.can.release.map_or_else(|| skipped("release is not declared"), Ok)
}

const DELAY: Duration = Duration::from_millis(500);
