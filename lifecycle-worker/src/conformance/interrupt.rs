//! Checks: claims that are told to end.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::basics::UNTIL_PARKED;
use super::bench::{Bench, Checked, PAUSE, PROMPT, Party, ensure, ensure_eq, failed};
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
    let answer = end(party, &mut parked).await?;
    ensure_eq("jobs of an empty queue", answer.0.len(), 0)?;
    Ok(answer.1.saturating_duration_since(from))
}

async fn interrupt_once<Q: Queue>(party: &Party<Q>) -> Checked {
    party.within("interrupt", Duration::ZERO, party.queue.interrupt()).await
}

/// Interrupts that race with pushes lose no job and give none twice.
pub(super) async fn interrupt_race<Q: Queue>(bench: Bench<Q>) -> Checked {
    let patience = bench.can.lease_period().unwrap_or_default() + bench.sweep();
    let (all, how_many) = watch::channel(usize::MAX);
    let (count, mut counted) = watch::channel(0);
    let claimer = bench.second.clone();
    let mut claims =
        tokio::spawn(async move { claim_all(&claimer, patience, &how_many, &count).await });
    let began = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS_MOST && began.elapsed() < RACE_LONGEST {
        let push = async {
            yield_some().await;
            bench.first.push(&[Push::new("race", rounds.to_string())]).await
        };
        let interrupt = async {
            yield_some().await;
            interrupt_once(&bench.second).await
        };
        let (pushed, interrupted) = tokio::join!(push, interrupt);
        pushed?;
        interrupted?;
        rounds += 1;
        // The next round races with a claim that waits. A job that does not come is told below.
        let claimed = timeout(patience, counted.wait_for(|count| *count >= rounds)).await;
        if !matches!(claimed, Ok(Ok(_))) {
            break;
        }
    }
    all.send_replace(rounds);
    let claimed = end(&bench.second, &mut claims).await?;
    ensure_eq("jobs claimed", claimed.len(), rounds)?;
    let again = claimed.values().filter(|attempts| **attempts != 1).count();
    ensure(again == 0, || {
        format!("{again} of {rounds} jobs were claimed again: a claim was lost, or given twice")
    })
}

/// Interrupts a task's claims until it has ended.
async fn end<Q: Queue, T>(party: &Party<Q>, claims: &mut JoinHandle<Checked<T>>) -> Checked<T> {
    // Bound: the claims end by themselves.
    loop {
        interrupt_once(party).await?;
        match timeout(ASKED_EVERY, &mut *claims).await {
            Err(_) => {}
            Ok(Err(_)) => return failed("the claim panicked"),
            Ok(Ok(answer)) => return answer,
        }
    }
}

/// Claims and acknowledges so many jobs as there turn out to be; the sum of the attempts of each.
async fn claim_all<Q: Queue>(
    party: &Party<Q>,
    patience: Duration,
    how_many: &watch::Receiver<usize>,
    count: &watch::Sender<usize>,
) -> Checked<HashMap<JobId, u32>> {
    let mut seen = HashMap::new();
    let mut empty = 0;
    let mut last = Instant::now();
    // Bound: `patience` from the last job.
    while seen.len() < *how_many.borrow() && last.elapsed() < patience {
        let claimed = party.claim_only(10, LATER).await?;
        if claimed.is_empty() {
            empty += 1;
            // So many come soon after one another, of interrupts.
            if empty > 2 * ROUNDS_MOST {
                sleep(PAUSE).await;
            }
            continue;
        }
        party.done(&claimed.iter().collect::<Vec<_>>()).await?;
        last = Instant::now();
        for job in claimed {
            *seen.entry(job.receipt.id().clone()).or_default() += job.attempt;
        }
        count.send_replace(seen.len());
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
const ROUNDS_MOST: usize = 400;
const RACE_LONGEST: Duration = Duration::from_secs(4);
