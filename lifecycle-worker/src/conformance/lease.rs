//! Checks: how long a claim lasts.

use tokio::time::{Instant, sleep_until};

use super::bench::{Bench, Checked, ensure, ensure_eq, failed, receipt, skipped};
use crate::capabilities::Lease;
use crate::queue::{Extend, Extended, Queue};

/// A lease that is extended lasts longer than its period.
pub(super) async fn extend<Q: Queue>(bench: Bench<Q>) -> Checked {
    let (first, second) = (&bench.first, &bench.second);
    first.push_numbered(1).await?;
    // A lease may count from the moment at which the claim was sent.
    let from = Instant::now();
    let job = first.one().await?;
    let Lease::Timed { period, .. } = bench.can.lease else {
        let extended = first.extend(&[Extend::new(receipt(&job))]).await?;
        let is_kept = extended.iter().any(|one| matches!(one, Extended::Until(_)));
        ensure(!is_kept, || "a lease is extended, and the connection is declared as it".into())?;
        return skipped("the connection is the lease");
    };
    for round in 1..=EXTENSIONS {
        sleep_until(from + period * round / 3).await;
        let sent = Instant::now();
        let extended = first.extend(&[Extend::new(receipt(&job))]).await?;
        let [Extended::Until(ends)] = extended[..] else {
            return failed(format!("extend of a held job answers {extended:?}"));
        };
        ensure(ends > sent, || "the lease ends in the past".into())?;
        let beyond = ends.saturating_duration_since(Instant::now() + period).as_millis();
        ensure(beyond == 0, || format!("the lease is said to last {beyond} ms too long"))?;
        second.none("an extension").await?;
    }
    first.done(&[&job]).await
}

/// A job whose lease has ended is claimable by the other, not before, and its attempt counts.
pub(super) async fn lease_end<Q: Queue>(bench: Bench<Q>) -> Checked {
    let (first, second) = (&bench.first, &bench.second);
    first.push_numbered(1).await?;
    let job = first.one().await?;
    bench.end_leases().await?;
    let again = second.gather_in(1, bench.sweep()).await?.remove(0);
    let early = job.lease_ends.map(|ends| ends.saturating_duration_since(Instant::now()));
    let early = early.unwrap_or_default();
    ensure(early.is_zero(), || {
        format!("claimable {} ms before the lease's end", early.as_millis())
    })?;
    ensure_eq("the id of a rescued job", again.receipt.id(), job.receipt.id())?;
    ensure(again.receipt != job.receipt, || "two claims have the same receipt".into())?;
    ensure_eq("the attempt of a rescued job", again.attempt, 2)?;
    ensure_eq("the returns of a rescued job", again.returns, 0)?;
    second.done(&[&again]).await
}

/// Two periods of them, a third of a period apart.
const EXTENSIONS: u32 = 6;
