//! Checks: many jobs at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::bench::{
    Bench, Checked, Party, SLACK, all_done, ensure, ensure_eq, failed, receipt, release, retry,
};
use crate::capabilities::Lease;
use crate::claimed::Claimed;
use crate::queue::{Extend, Extended, Queue};

/// Two identities that claim at the same time never share a job.
pub(super) async fn concurrent_claims<Q: Queue>(bench: Bench<Q>) -> Checked {
    for _ in 0..JOBS / BATCH {
        bench.first.push_numbered(BATCH).await?;
    }
    let (of_both, patience) = (Arc::new(watch::Sender::new(0)), bench.can.call_bound + SLACK);
    let claims = [&bench.first, &bench.second].map(|party| {
        let (party, of_both) = (party.clone(), of_both.clone());
        tokio::spawn(async move { claim_and_ack(&party, &of_both, patience).await })
    });
    let mut all = HashSet::new();
    let mut count = 0;
    for claims in claims {
        let Ok(claimed) = claims.await else { return failed("a claim panicked") };
        for job in claimed? {
            count += 1;
            ensure_eq("the attempt of a job", job.attempt, 1)?;
            all.insert(job.receipt.id().clone());
        }
    }
    ensure_eq("jobs claimed", all.len(), JOBS)?;
    ensure(count == JOBS, || format!("{} of {JOBS} jobs were claimed twice", count - JOBS))
}

async fn claim_and_ack<Q: Queue>(
    party: &Party<Q>,
    of_both: &watch::Sender<usize>,
    patience: Duration,
) -> Checked<Vec<Claimed>> {
    let (mut all, mut last) = (Vec::new(), Instant::now());
    // Bound: each job comes once, and a queue that gives more is caught; `patience`.
    while all.len() <= JOBS {
        let claimed = party.claim(20, Duration::from_millis(300)).await?;
        if claimed.is_empty() {
            if *of_both.borrow() >= JOBS || last.elapsed() >= patience {
                break;
            }
            continue;
        }
        last = Instant::now();
        of_both.send_modify(|count| *count += claimed.len());
        let settled = party.ack(&claimed.iter().collect::<Vec<_>>()).await?;
        // One of two that share a job is told so; that they do is told by the count.
        let surprise = settled.iter().find(|one| !one.is_done() && !one.is_lost());
        if let Some(one) = surprise {
            return failed(format!("ack of a held job answers {one:?}"));
        }
        all.extend(claimed);
    }
    Ok(all)
}

/// Calls take thousands of jobs and receipts, and answer for each.
pub(super) async fn many_receipts<Q: Queue>(bench: Bench<Q>) -> Checked {
    let party = &bench.first;
    party.push_numbered(MANY).await?;
    let jobs = party.gather(MANY).await?;
    let extends: Vec<_> = jobs.iter().map(|job| Extend::new(receipt(job))).collect();
    let extended = party.extend(&extends).await?;
    if let Lease::Timed { .. } = bench.can.lease {
        let held = extended.iter().filter(|one| matches!(one, Extended::Until(_))).count();
        ensure_eq("leases extended", held, MANY)?;
    }
    let (acked, rest) = jobs.split_at(MANY / 3);
    let (broken, returned) = rest.split_at(MANY / 3);
    party.done(&acked.iter().collect::<Vec<_>>()).await?;
    let fails: Vec<_> = broken.iter().map(|job| retry(job, Duration::ZERO)).collect();
    all_done("fail", &party.fail(&fails).await?)?;
    let mut left = broken.len();
    if bench.can.release.is_some() {
        let releases: Vec<_> = returned.iter().map(release).collect();
        all_done("release", &party.release(&releases).await?)?;
        left += returned.len();
    }
    let again = bench.second.gather(left).await?;
    bench.second.done(&again.iter().collect::<Vec<_>>()).await
}

const JOBS: usize = 3000;
const BATCH: usize = 500;
const MANY: usize = 3000;
