//! Checks: what a queue says when it is closed.

use std::time::Duration;

use super::bench::{Bench, Checked, dead, ensure, receipt, release};
use crate::push::Push;
use crate::queue::{Extend, Extended, Queue, Settled};

/// Calls after the close do not hang and do not pretend; the other identity is open.
pub(super) async fn close<Q: Queue>(bench: Bench<Q>) -> Checked {
    let (first, second) = (&bench.first, &bench.second);
    first.push_numbered(1).await?;
    let job = first.one().await?;
    first.close().await?;
    first.close().await?;
    let pinged = first.within("ping", Duration::ZERO, first.queue.ping()).await?;
    ensure(pinged.is_err(), || "a closed queue can be pinged".into())?;
    let pushed = first.try_push(&[Push::new("late", "x")]).await?;
    ensure(pushed.is_err(), || "a closed queue takes jobs".into())?;
    let most = std::num::NonZeroUsize::MIN;
    let claimed = first.within("claim", Duration::ZERO, first.queue.claim(most, WAIT)).await?;
    ensure(claimed.is_err(), || "a closed queue gives jobs".into())?;
    let mut settled = first.ack(&[&job]).await?;
    settled.extend(first.release(&[release(&job)]).await?);
    settled.extend(first.fail(&[dead(&job)]).await?);
    for one in &settled {
        let is_told = !matches!(one, Settled::Done) || !bench.can.confirmed;
        ensure(is_told, || format!("a closed queue settles: {settled:?}"))?;
    }
    let extended = first.extend(&[Extend::new(receipt(&job))]).await?;
    let is_kept = extended.iter().any(|one| matches!(one, Extended::Until(_)));
    ensure(!is_kept, || format!("a closed queue extends: {extended:?}"))?;
    first.within("interrupt", Duration::ZERO, first.queue.interrupt()).await?;
    let stats = first.within("stats", Duration::ZERO, first.queue.stats()).await?;
    ensure(stats.is_err(), || "a closed queue counts".into())?;
    let listed = first.within("dead", Duration::ZERO, first.queue.dead(most)).await?;
    ensure(listed.is_err(), || "a closed queue lists dead letters".into())?;
    second.push_numbered(1).await?;
    // Where the connection is the lease, the first job comes again and before this one.
    let open = second.one().await?;
    second.done(&[&open]).await
}

const WAIT: Duration = Duration::from_millis(100);
