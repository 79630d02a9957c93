//! Checks: push, claim and acknowledge.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::bench::{Bench, Checked, ensure, ensure_eq, failed, ids, payloads};
use crate::capabilities::Lease;
use crate::claimed::Claimed;
use crate::push::Push;
use crate::queue::Queue;

/// Both identities have one name and one set of capabilities, and can be prepared again.
pub(super) async fn names<Q: Queue>(bench: Bench<Q>) -> Checked {
    let (first, second) = (&bench.first, &bench.second);
    let name = first.queue.name().to_owned();
    ensure(!name.is_empty(), || "the name is empty".into())?;
    ensure_eq("the second identity's name", second.queue.name(), name.as_str())?;
    ensure_eq("the second identity's capabilities", second.queue.capabilities(), bench.can)?;
    for party in [first, second] {
        let prepared = party.within("prepare", Duration::ZERO, party.queue.prepare()).await?;
        party.answer("prepare", prepared)?;
        let pinged = party.within("ping", Duration::ZERO, party.queue.ping()).await?;
        party.answer("ping", pinged)?;
    }
    ensure_eq("the name, later", first.queue.name(), name.as_str())?;
    ensure_eq("the capabilities, later", first.queue.capabilities(), bench.can)
}

/// A job is claimed as it was pushed, once, and is gone when it is acknowledged.
pub(super) async fn push_claim_ack<Q: Queue>(bench: Bench<Q>) -> Checked {
    let (first, second) = (&bench.first, &bench.second);
    first.none("nothing").await?;
    let id = first.push(&[Push::new("mail", "ada")]).await?.remove(0);
    let sent = Instant::now();
    let job = second.one().await?;
    ensure_eq("the id", job.receipt.id(), &id)?;
    ensure_eq("the kind", &*job.kind, "mail")?;
    ensure_eq("the payload", &job.payload, &Bytes::from_static(b"ada"))?;
    ensure_eq("the attempt", job.attempt, 1)?;
    ensure_eq("the returns", job.returns, 0)?;
    ensure_eq("the checkpoint", &job.checkpoint, &None)?;
    lease_ends_as_declared(&bench, &job, sent)?;
    first.none("a claim by the other identity").await?;
    second.done(&[&job]).await?;
    first.none("an ack").await?;
    second.none("an ack").await
}

fn lease_ends_as_declared<Q: Queue>(bench: &Bench<Q>, job: &Claimed, sent: Instant) -> Checked {
    match (bench.can.lease, job.lease_ends) {
        (Lease::Connection, None) => Ok(()),
        (Lease::Connection, Some(_)) => failed("the lease ends at a time, declared: never"),
        (Lease::Timed { .. }, None) => failed("no time at which the lease ends"),
        (Lease::Timed { period, .. }, Some(ends)) => {
            ensure(ends > sent, || "the lease ends before the claim".into())?;
            let latest = Instant::now() + period;
            let beyond = ends.saturating_duration_since(latest).as_millis();
            ensure(ends <= latest, || format!("the lease is said to last {beyond} ms too long"))
        }
    }
}

/// Jobs come in the order of their pushes, in claims no larger than asked for.
pub(super) async fn batches<Q: Queue>(bench: Bench<Q>) -> Checked {
    let pushed = bench.first.push_numbered(JOBS).await?;
    let unique: HashSet<_> = pushed.iter().collect();
    ensure_eq("different ids", unique.len(), JOBS)?;
    let mut claimed = bench.second.claim(7, Duration::from_secs(1)).await?;
    ensure(!claimed.is_empty(), || "a claim that waits finds nothing".into())?;
    claimed.extend(bench.second.gather(JOBS - claimed.len()).await?);
    ensure_eq("the order of claims", payloads(&claimed), in_order(JOBS))?;
    ensure_eq("the order of ids", ids(&claimed), pushed)?;
    bench.second.done(&claimed.iter().collect::<Vec<_>>()).await?;
    bench.first.none("all are acknowledged").await?;
    let nothing = bench.first.push_all(&[]).await?;
    ensure(nothing.is_empty(), || "a push of nothing answers something".into())?;
    bench.first.done(&[]).await
}

fn in_order(count: usize) -> Vec<String> {
    (0..count).map(|at| at.to_string()).collect()
}

/// Payloads and headers come back as they were, whatever they are.
pub(super) async fn payloads_kept<Q: Queue>(bench: Bench<Q>) -> Checked {
    let large: Vec<u8> =
        (0..LARGE.min(bench.can.payload_most)).map(|at| at.to_le_bytes()[at % 3]).collect();
    let all_bytes: Vec<u8> = (0..=u8::MAX).collect();
    let jobs = [
        Push::new("empty", Bytes::new()),
        Push::new("large", large),
        Push::new("bytes", all_bytes),
        Push::new("kind with space, \u{e9} and \u{1f600}", "x")
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .header("empty", "")
            .header("a \"quoted\" name\n", "\u{e9}\u{1f600}\\ \t"),
    ];
    bench.first.push(&jobs).await?;
    for (job, claimed) in jobs.iter().zip(bench.second.gather(jobs.len()).await?) {
        let kind = job.kind();
        ensure_eq("the kind", &*claimed.kind, kind)?;
        ensure(claimed.payload == *job.payload(), || {
            let (length, expected) = (claimed.payload.len(), job.payload().len());
            format!("the payload of `{kind}` differs: {length} bytes of {expected}")
        })?;
        let (mut seen, mut expected) = (claimed.headers.clone(), job.headers().to_vec());
        seen.sort();
        expected.sort();
        ensure_eq("the headers", seen, expected)?;
        bench.second.done(&[&claimed]).await?;
    }
    Ok(())
}

/// A claim waits as long as it was told, and not much longer.
pub(super) async fn claim_wait<Q: Queue>(bench: Bench<Q>) -> Checked {
    let sent = Instant::now();
    ensure_eq("jobs of an empty queue", bench.first.claim(1, Duration::ZERO).await?.len(), 0)?;
    ensure_eq("jobs of an empty queue", bench.first.claim(1, WAIT).await?.len(), 0)?;
    let waited = sent.elapsed();
    ensure(waited >= WAIT / 2, || {
        format!("a claim of {} ms waited {}", WAIT.as_millis(), waited.as_millis())
    })
}

/// A claim that waits has the job soon after its push.
pub(super) async fn push_wakes_claim<Q: Queue>(bench: Bench<Q>) -> Checked {
    let parked = bench.second.park(PARKED);
    sleep(UNTIL_PARKED).await;
    bench.first.push_numbered(1).await?;
    woken(parked, "push").await
}

/// That a claim that waited has got a job just now.
pub(super) async fn woken(
    parked: tokio::task::JoinHandle<Checked<(Vec<Claimed>, Instant)>>,
    by: &str,
) -> Checked {
    let from = Instant::now();
    let Ok(answer) = parked.await else { return failed("the claim panicked") };
    let (claimed, at) = answer?;
    ensure_eq("jobs of a claim that waited", claimed.len(), 1)?;
    let after = at.saturating_duration_since(from);
    let waited = after.as_millis();
    ensure(after <= WOKEN_WITHIN, || format!("woken {waited} ms after the {by}"))
}

/// How long a claim waits that is to be woken.
pub(super) const PARKED: Duration = Duration::from_secs(6);
/// After this a claim that was just sent waits.
pub(super) const UNTIL_PARKED: Duration = Duration::from_millis(150);
const WOKEN_WITHIN: Duration = Duration::from_secs(2);
const WAIT: Duration = Duration::from_millis(400);
const JOBS: usize = 50;
const LARGE: usize = 1 << 20;
