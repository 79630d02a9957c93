//! Checks: claims that are told to end.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::basics::UNTIL_PARKED;
use super::bench::{Bench, Checked, PROMPT, Party, SLACK, ensure, ensure_eq, failed};
use crate::claimed::JobId;
use crate::push::Push;
use crate::queue::Queue;

/// A claim that waits ends soon when it is told to, and a later one does not hear of it.
pub(super) async fn interrupt<Q: Queue>(bench: Bench<Q>) -> Checked {
    let bound = bench.can.interrupt_bound;
    let mut fastest = Duration::MAX;
    // The machine may be busy once: only a queue that is slow each time is.
    for _ in 0..TRIALS {
        fastest = fastest.min(interrupted(&bench.second).await?);
        if fastest <= bound {
            break;
        }
    }
    ensure(fastest <= bound + PROMPT, || {
        let (seen, bound) = (fastest.as_millis(), bound.as_millis());
        format!("a claim ended {seen} ms after the interrupt, declared: {bound} ms")
    })?;
    interrupt_once(&bench.second).await?;
    let sent = Instant::now();
    ensure_eq("jobs of an empty queue", bench.second.claim(1, LATER).await?.len(), 0)?;
    let waited = sent.elapsed();
    ensure(waited >= LATER / 2, || {
        format!("a claim after the interrupt ended after {} ms", waited.as_millis())
    })
}

/// How long after the first interrupt a claim ended.
async fn interrupted<Q: Queue>(party: &Party<Q>) -> Checked<Duration> {
    let mut parked = party.park(PARKED);
    sleep(UNTIL_PARKED).await;
    let from = Instant::now();
    // Bound: the claim ends by itself.
    let answer = loop {
        interrupt_once(party).await?;
        match timeout(ASKED_EVERY, &mut parked).await {
            Err(_) => {}
            Ok(Err(_)) => return failed("the claim panicked"),
            Ok(Ok(answer)) => break answer?,
        }
    };
    ensure_eq("jobs of an empty queue", answer.0.len(), 0)?;
    Ok(answer.1.saturating_duration_since(from))
}

async fn interrupt_once<Q: Queue>(party: &Party<Q>) -> Checked {
    party.within("interrupt", Duration::ZERO, party.queue.interrupt()).await
}

/// Interrupts that race with pushes lose no job and give none twice.
pub(super) async fn interrupt_race<Q: Queue>(bench: Bench<Q>) -> Checked {
    let claimer = bench.second.clone();
    let claims = tokio::spawn(async move { claim_all(&claimer, ROUNDS).await });
    for round in 0..ROUNDS {
        let push = async {
            yield_some().await;
            bench.first.push(&[Push::new("race", round.to_string())]).await
        };
        let interrupt = async {
            yield_some().await;
            interrupt_once(&bench.second).await
        };
        let (pushed, interrupted) = tokio::join!(push, interrupt);
        pushed?;
        interrupted?;
    }
    let Ok(claimed) = claims.await else { return failed("a claim panicked") };
    let claimed = claimed?;
    ensure_eq("jobs claimed", claimed.len(), ROUNDS)?;
    let twice = claimed.values().filter(|seen| **seen != 1).count();
    ensure(twice == 0, || {
        format!("{twice} of {ROUNDS} jobs were claimed again: a claim was lost, or given twice")
    })
}

/// Claims and acknowledges `count` jobs; how often each was claimed, by its attempts.
async fn claim_all<Q: Queue>(party: &Party<Q>, count: usize) -> Checked<HashMap<JobId, u32>> {
    let mut seen = HashMap::new();
    let mut last = Instant::now();
    let patience = party.queue.capabilities().lease_period().unwrap_or_default() * 2 + SLACK * 2;
    // Bound: `patience` from the last job.
    while seen.len() < count && last.elapsed() < patience {
        let claimed = party.claim(10, patience).await?;
        party.done(&claimed.iter().collect::<Vec<_>>()).await?;
        for job in claimed {
            last = Instant::now();
            *seen.entry(job.receipt.id().clone()).or_default() += job.attempt;
        }
    }
    Ok(seen)
}

/// Lets others run a few times, so that each round races elsewhere.
async fn yield_some() {
    for _ in 0..fastrand::usize(..6) {
        tokio::task::yield_now().await;
    }
}

const TRIALS: usize = 3;
const PARKED: Duration = Duration::from_secs(5);
const ASKED_EVERY: Duration = Duration::from_millis(10);
const LATER: Duration = Duration::from_millis(300);
const ROUNDS: usize = 400;
