//! Checks: a claim that is not the newest changes nothing.

use std::time::Duration;

use super::bench::{
    Bench, Checked, LONG, Party, all_done, dead, ensure, ensure_eq, failed, receipt, release,
    retry, skipped,
};
use crate::capabilities::Lease;
use crate::claimed::Claimed;
use crate::queue::{Extend, Extended, Fail, Queue, Release, Settled};

/// When another has the job, all that the first says of it is lost and changes nothing.
pub(super) async fn fence<Q: Queue>(bench: Bench<Q>) -> Checked {
    let (first, second) = (&bench.first, &bench.second);
    first.push_numbered(WAYS).await?;
    let old = first.gather(WAYS).await?;
    bench.end_leases().await?;
    let new = second.gather_in(WAYS, bench.sweep()).await?;
    let old = old_ones(&new, &old)?;
    if matches!(bench.can.lease, Lease::Connection) {
        // The first is closed, and may say that instead.
        let settled = settle_each_way(first, &old).await?.0;
        let done = settled.iter().filter(|one| one.is_done()).count();
        ensure(done == 0 || !bench.can.confirmed, || format!("{done} lost claims are done"))?;
    } else {
        all_lost(first, &old).await?;
    }
    unchanged(second, &new).await?;
    first_if_open(&bench).none("lost claims were settled").await
}

/// What the same identity says of a job that it gave back and has again counts for nothing when
/// it is about the first claim.
pub(super) async fn reclaim_fences<Q: Queue>(bench: Bench<Q>) -> Checked {
    let first = &bench.first;
    first.push_numbered(WAYS).await?;
    let old = first.gather(WAYS).await?;
    first.give_back(&old.iter().collect::<Vec<_>>()).await?;
    let new = first.gather(WAYS).await?;
    let old = old_ones(&new, &old)?;
    for (old, new) in old.iter().zip(&new) {
        ensure(old.receipt != new.receipt, || "two claims have the same receipt".into())?;
    }
    all_lost(first, &old).await?;
    unchanged(first, &new).await?;
    bench.second.none("lost claims were settled").await
}

/// The old claims, in the order of the new ones.
fn old_ones(new: &[Claimed], old: &[Claimed]) -> Checked<Vec<Claimed>> {
    let mut found = Vec::new();
    for job in new {
        match old.iter().find(|old| old.receipt.id() == job.receipt.id()) {
            Some(old) => found.push(old.clone()),
            None => return failed(format!("job {} came from nowhere", job.receipt.id())),
        }
    }
    Ok(found)
}

/// Settles each of five jobs another way.
async fn settle_each_way<Q: Queue>(
    party: &Party<Q>,
    jobs: &[Claimed],
) -> Checked<(Vec<Settled>, Vec<Extended>)> {
    let [ack, back, again, never, longer] = jobs else { return failed("not five jobs") };
    let checkpoint = Some(STALE.into());
    let mut extend = Extend::new(receipt(longer));
    extend.checkpoint.clone_from(&checkpoint);
    let mut settled = party.ack(&[ack]).await?;
    let back = Release::started(receipt(back), checkpoint.clone());
    settled.extend(party.release(&[back]).await?);
    let again = Fail { checkpoint, ..retry(again, Duration::ZERO) };
    settled.extend(party.fail(&[again]).await?);
    settled.extend(party.fail(&[dead(never)]).await?);
    Ok((settled, party.extend(&[extend]).await?))
}

async fn all_lost<Q: Queue>(party: &Party<Q>, jobs: &[Claimed]) -> Checked {
    let (settled, extended) = settle_each_way(party, jobs).await?;
    for (call, one) in ["ack", "release", "retry", "dead letter"].iter().zip(&settled) {
        let cannot = *call == "release" && matches!(one, Settled::Unsupported);
        if !cannot {
            party.lost(call, std::slice::from_ref(one))?;
        }
    }
    let is_told = matches!(extended[..], [Extended::Lost | Extended::Unsupported]);
    ensure(is_told, || format!("a lost claim's extend answers {extended:?}"))
}

/// That the newest claims still hold: two of them know of no checkpoint, and all settle.
async fn unchanged<Q: Queue>(party: &Party<Q>, jobs: &[Claimed]) -> Checked {
    let back = &jobs[1..3];
    party.give_back(&back.iter().collect::<Vec<_>>()).await?;
    let again = party.gather(back.len()).await?;
    for job in &again {
        ensure_eq("the checkpoint after a lost claim's", &job.checkpoint, &None)?;
    }
    let held = jobs[..1].iter().chain(&again).chain(&jobs[3..]);
    party.done(&held.collect::<Vec<_>>()).await
}

fn first_if_open<Q: Queue>(bench: &Bench<Q>) -> &Party<Q> {
    match bench.can.lease {
        Lease::Connection => &bench.second,
        Lease::Timed { .. } => &bench.first,
    }
}

/// What is settled stays so, whatever is said of it again.
pub(super) async fn settle_twice<Q: Queue>(bench: Bench<Q>) -> Checked {
    let first = &bench.first;
    let ways = if bench.can.release.is_some() { 4 } else { 3 };
    first.push_numbered(ways * WAYS).await?;
    let jobs = first.gather(ways * WAYS).await?;
    let (acked, rest) = jobs.split_at(WAYS);
    let (buried, rest) = rest.split_at(WAYS);
    let (failed, returned) = rest.split_at(WAYS);
    first.done(&acked.iter().collect::<Vec<_>>()).await?;
    let buried_now: Vec<_> = buried.iter().map(dead).collect();
    all_done("fail", &first.fail(&buried_now).await?)?;
    let failed_now: Vec<_> = failed.iter().map(|job| retry(job, LONG)).collect();
    all_done("fail", &first.fail(&failed_now).await?)?;
    if !returned.is_empty() {
        let returned_now: Vec<_> = returned.iter().map(release).collect();
        all_done("release", &first.release(&returned_now).await?)?;
    }
    for jobs in [acked, buried, failed, returned].iter().filter(|jobs| !jobs.is_empty()) {
        let (settled, extended) = settle_each_way(first, jobs).await?;
        for one in settled {
            let is_told = matches!(one, Settled::Done | Settled::Lost | Settled::Unsupported);
            ensure(is_told, || format!("settling twice answers {one:?}"))?;
        }
        let is_told = matches!(extended[..], [Extended::Lost | Extended::Unsupported]);
        ensure(is_told, || format!("extend of a settled job answers {extended:?}"))?;
    }
    let again = bench.second.gather(returned.len()).await?;
    let is_returned = |job: &Claimed| returned.iter().any(|r| r.receipt.id() == job.receipt.id());
    let other = again.iter().find(|job| !is_returned(job));
    ensure(other.is_none(), || format!("a settled job was delivered again: {other:?}"))?;
    bench.second.done(&again.iter().collect::<Vec<_>>()).await?;
    bench.second.none("all are settled").await
}

/// Receipts of one call are answered one by one, in their order.
pub(super) async fn mixed_receipts<Q: Queue>(bench: Bench<Q>) -> Checked {
    if !bench.can.confirmed {
        return skipped("answers are not the broker's own");
    }
    let (first, second) = (&bench.first, &bench.second);
    for call in ["ack", "fail", "release"] {
        if call == "release" && bench.can.release.is_none() {
            continue;
        }
        first.push_numbered(6).await?;
        let jobs = first.gather(6).await?;
        let (lost, held) = (jobs[..3].iter(), jobs[3..].iter());
        first.give_back(&lost.clone().collect::<Vec<_>>()).await?;
        let taken = second.gather(3).await?;
        let mixed: Vec<_> = lost.zip(held).flat_map(|(lost, held)| [lost, held]).collect();
        let extends: Vec<_> = mixed.iter().map(|job| Extend::new(receipt(job))).collect();
        let extended = first.extend(&extends).await?;
        let told: Vec<_> = extended.iter().map(|one| !matches!(one, Extended::Lost)).collect();
        if bench.can.lease_period().is_some() {
            ensure_eq("extended, of lost and held jobs in turn", told, HELD.to_vec())?;
        }
        let settled = match call {
            "ack" => first.ack(&mixed).await?,
            "release" => {
                let back: Vec<_> = mixed.iter().map(|job| release(job)).collect();
                first.release(&back).await?
            }
            _ => {
                let fails: Vec<_> = mixed.iter().map(|job| dead(job)).collect();
                first.fail(&fails).await?
            }
        };
        let told: Vec<_> = settled.iter().map(Settled::is_done).collect();
        ensure_eq(&format!("done by {call}, of lost and held in turn"), told, HELD.to_vec())?;
        second.done(&taken.iter().collect::<Vec<_>>()).await?;
    }
    Ok(())
}

const WAYS: usize = 5;
const HELD: [bool; 6] = [false, true, false, true, false, true];
const STALE: &str = "stale";
