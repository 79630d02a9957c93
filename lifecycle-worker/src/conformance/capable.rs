//! Checks: what a queue may declare, each both ways.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::bench::{
    Bench, Checked, LONG, PROMPT, Party, all_done, dead, ensure, ensure_eq, failed,
    kept_undeclared, payloads, receipt, release, retry, skipped, until,
};
use crate::capabilities::{Attempt, Lease};
use crate::claimed::Claimed;
use crate::push::Push;
use crate::queue::{Extend, Extended, Fail, Next, Queue, Release};
use crate::stats::Stats;

/// A job pushed with a delay is not claimable before.
pub(super) async fn delay<Q: Queue>(bench: Bench<Q>) -> Checked {
    let sent = Instant::now();
    let job = Push::new("later", "x").delay(DELAY);
    if bench.can.delay {
        bench.first.push(&[job, Push::new("now", "y")]).await?;
        let now = bench.second.one().await?;
        if &*now.kind == "later" && sent.elapsed() >= DELAY {
            bench.second.done(&[&now, &bench.second.one().await?]).await?;
            return skipped("it took so long to push and claim that both were due");
        }
        ensure_eq("the kind of the job without a delay", &*now.kind, "now")?;
        bench.second.done(&[&now]).await?;
        let later = bench.second.not_before(sent + DELAY, "a delayed job").await?;
        return bench.second.done(&[&later]).await;
    }
    let is_added = bench.first.try_push(&[job]).await?.is_ok();
    let was_in_time = sent.elapsed() < DELAY / 2;
    if is_added && was_in_time && bench.second.at_once().await?.is_none() {
        return kept_undeclared("delay");
    }
    skipped("delay is not declared")
}

/// Jobs of a higher priority come first, and those of one in their order.
pub(super) async fn priority<Q: Queue>(bench: Bench<Q>) -> Checked {
    let levels = [0, 5, -3, 0, 5, i16::MIN, i16::MAX];
    let jobs: Vec<_> = (0..levels.len())
        .map(|at| Push::new("level", at.to_string()).priority(levels[at]))
        .collect();
    if bench.can.priority {
        bench.first.push(&jobs).await?;
    } else if bench.first.try_push(&jobs).await?.is_err() {
        return skipped("priority is not declared");
    }
    let claimed = bench.second.gather(jobs.len()).await?;
    bench.second.done(&claimed.iter().collect::<Vec<_>>()).await?;
    let seen = payloads(&claimed);
    let is_kept = seen == ["6", "1", "4", "0", "3", "2", "5"];
    match (bench.can.priority, is_kept) {
        (true, true) => Ok(()),
        (true, false) => failed(format!("levels {levels:?} were claimed in the order {seen:?}")),
        (false, true) => kept_undeclared("priority"),
        (false, false) => skipped("priority is not declared"),
    }
}

/// A key is good for one job in its period, whatever becomes of that.
pub(super) async fn dedupe<Q: Queue>(bench: Bench<Q>) -> Checked {
    let job = |key: &str| Push::new("once", key.to_owned()).dedupe_for(key, LONG);
    let (first, second) = (&bench.first, &bench.second);
    if !bench.can.dedupe {
        let pushed = first.try_push(&[job("a"), job("a")]).await?;
        let is_kept = pushed.is_ok_and(|pushed| pushed.iter().any(|one| !one.is_new()));
        return if is_kept { kept_undeclared("dedupe") } else { skipped("dedupe is not declared") };
    }
    expect_new(first, &[job("a"), job("a"), job("b")], &[true, false, true]).await?;
    expect_new(second, &[job("b"), job("c"), job("a")], &[false, true, false]).await?;
    let claimed = second.gather(3).await?;
    ensure_eq("the jobs of three keys", payloads(&claimed).concat(), "abc".into())?;
    second.done(&[&claimed[0]]).await?;
    all_done("fail", &second.fail(&[dead(&claimed[1])]).await?)?;
    let after = [job("a"), job("b"), job("c"), Push::new("free", "x"), Push::new("free", "x")];
    expect_new(first, &after, &[false, false, false, true, true]).await?;
    let short = [Push::new("once", "d").dedupe_for("d", DELAY)];
    expect_new(first, &short, &[true]).await?;
    sleep(DELAY + PROMPT).await;
    expect_new(second, &short, &[true]).await?;
    second.done(&[&claimed[2]]).await
}

async fn expect_new<Q: Queue>(party: &Party<Q>, jobs: &[Push], expected: &[bool]) -> Checked {
    let keys: Vec<_> =
        jobs.iter().map(|job| job.dedupe_key().map_or("none", |d| d.key.as_str())).collect();
    let seen: Vec<_> = party.push_all(jobs).await?.iter().map(|one| one.is_new()).collect();
    ensure_eq(&format!("whether the keys {keys:?} were new"), seen, expected.to_vec())
}

/// What a handler saved comes back with the next claim, however the last one ended.
pub(super) async fn checkpoint<Q: Queue>(bench: Bench<Q>) -> Checked {
    let (first, second) = (&bench.first, &bench.second);
    first.push_numbered(1).await?;
    let job = first.one().await?;
    let failing = saved(b"fail \xff\x00");
    let fail = Fail { checkpoint: failing.clone(), ..retry(&job, Duration::ZERO) };
    all_done("fail", &first.fail(&[fail]).await?)?;
    let mut job = second.one().await?;
    if !bench.can.checkpoint {
        let is_kept = job.checkpoint.is_some();
        return if is_kept {
            kept_undeclared("checkpoint")
        } else {
            skipped("checkpoint is not declared")
        };
    }
    ensure_eq("the checkpoint saved by fail", &job.checkpoint, &failing)?;
    if bench.can.release.is_some() {
        let returning = saved(b"release");
        let back = Release::started(receipt(&job), returning.clone());
        all_done("release", &second.release(&[back]).await?)?;
        job = second.one().await?;
        ensure_eq("the checkpoint saved by release", &job.checkpoint, &returning)?;
        all_done("release", &second.release(&[release(&job)]).await?)?;
        job = second.one().await?;
        ensure_eq("the checkpoint after a release without", &job.checkpoint, &returning)?;
    }
    if bench.can.lease_period().is_some() {
        let extending = saved(b"extend");
        save_by_extend(second, &job, &extending).await?;
        second.give_back(&[&job]).await?;
        job = first.one().await?;
        ensure_eq("the checkpoint saved by extend", &job.checkpoint, &extending)?;
        let last = saved(b"last");
        save_by_extend(first, &job, &last).await?;
        bench.end_leases().await?;
        job = second.gather_in(1, bench.sweep()).await?.remove(0);
        ensure_eq("the checkpoint after a lease's end", &job.checkpoint, &last)?;
    }
    second.done(&[&job]).await
}

fn saved(bytes: &'static [u8]) -> Option<Bytes> {
    Some(Bytes::from_static(bytes))
}

async fn save_by_extend<Q: Queue>(
    party: &Party<Q>,
    job: &Claimed,
    checkpoint: &Option<Bytes>,
) -> Checked {
    let mut extend = Extend::new(receipt(job));
    extend.checkpoint.clone_from(checkpoint);
    let extended = party.extend(&[extend]).await?;
    let is_kept = matches!(extended[..], [Extended::Until(_)]);
    ensure(is_kept, || format!("extend of a held job answers {extended:?}"))
}

/// Dead letters are listed with all that is known of them, the newest first.
pub(super) async fn dead_letters<Q: Queue>(bench: Bench<Q>) -> Checked {
    let (first, second) = (&bench.first, &bench.second);
    let jobs = [0, 1, 2].map(|at| Push::new(format!("kind {at}"), format!("payload {at}\u{e9}")));
    let pushed = first.push(&jobs).await?;
    for (at, job) in first.gather(jobs.len()).await?.iter().enumerate() {
        let fail = Fail::new(receipt(job), format!("reason {at}: \u{1f480}\n"), Next::Dead);
        all_done("fail", &first.fail(&[fail]).await?)?;
    }
    let listed = async |max: usize| {
        let max = std::num::NonZeroUsize::new(max).unwrap_or(std::num::NonZeroUsize::MIN);
        second.within("dead", Duration::ZERO, second.queue.dead(max)).await
    };
    if !bench.can.dead_letters {
        let is_kept = listed(10).await?.is_ok_and(|dead| dead.len() == jobs.len());
        return if is_kept {
            kept_undeclared("dead_letters")
        } else {
            skipped("dead_letters is not declared")
        };
    }
    let dead = second.answer("dead", listed(10).await?)?;
    ensure_eq("dead letters", dead.len(), jobs.len())?;
    for (letter, at) in dead.iter().zip([2, 1, 0]) {
        ensure_eq("the id of a dead letter, the newest first", &letter.id, &pushed[at])?;
        ensure_eq("the kind of a dead letter", letter.kind.as_str(), jobs[at].kind())?;
        ensure_eq("the payload of a dead letter", &letter.payload, jobs[at].payload())?;
        let error = format!("reason {at}: \u{1f480}\n");
        ensure_eq("the error of a dead letter", &letter.error, &error)?;
        ensure_eq("the attempts of a dead letter", letter.attempts, 1)?;
    }
    let two = second.answer("dead", listed(2).await?)?;
    ensure(two == dead[..2], || format!("the newest two of three are {two:?}"))
}

/// The counts are exact, whatever has just happened.
pub(super) async fn stats<Q: Queue>(bench: Bench<Q>) -> Checked {
    let (first, second) = (&bench.first, &bench.second);
    let answer = second.within("stats", Duration::ZERO, second.queue.stats()).await?;
    if !bench.can.stats {
        return if answer.is_ok() {
            kept_undeclared("stats")
        } else {
            skipped("stats is not declared")
        };
    }
    let mut expected = Stats::default();
    expect(second, "nothing", expected).await?;
    first.push_numbered(5).await?;
    expected.ready = 5;
    expect(second, "a push of 5", expected).await?;
    if bench.can.delay {
        first.push(&[Push::new("later", "x").delay(LONG)]).await?;
        expected.scheduled = 1;
        expect(second, "a push with a delay", expected).await?;
    }
    let jobs = first.gather(4).await?;
    (expected.ready, expected.running, expected.attempts) = (1, 4, 4);
    expect(second, "a claim of 4", expected).await?;
    first.done(&[&jobs[0]]).await?;
    (expected.running, expected.done) = (3, 1);
    expect(second, "an ack", expected).await?;
    all_done("fail", &first.fail(&[retry(&jobs[1], LONG)]).await?)?;
    (expected.running, expected.scheduled) = (2, expected.scheduled + 1);
    expect(second, "a failure to be tried again", expected).await?;
    all_done("fail", &first.fail(&[dead(&jobs[2])]).await?)?;
    (expected.running, expected.dead) = (1, 1);
    expect(second, "a dead letter", expected).await?;
    if let Some(can) = bench.can.release {
        all_done("release", &first.release(&[release(&jobs[3])]).await?)?;
        (expected.running, expected.ready, expected.returns) = (0, 2, 1);
        expected.attempts -= u64::from(can.attempt == Attempt::NotCounted);
        expect(second, "a release", expected).await?;
        first.one().await?;
        (expected.running, expected.ready) = (1, 1);
        expected.attempts += 1;
        expect(second, "a claim of a released job", expected).await?;
    }
    let ended = Instant::now();
    bench.end_leases().await?;
    if let Lease::Timed { period, .. } = bench.can.lease {
        until(ended + period + PROMPT).await;
    }
    (expected.running, expected.ready) = (0, 2);
    expect(second, "the end of a lease", expected).await?;
    let jobs = second.gather(2).await?;
    second.done(&jobs.iter().collect::<Vec<_>>()).await?;
    (expected.ready, expected.done) = (0, 3);
    expected.attempts += 2;
    expect(second, "two more acks", expected).await
}

async fn expect<Q: Queue>(party: &Party<Q>, after: &str, expected: Stats) -> Checked {
    let answer = party.within("stats", Duration::ZERO, party.queue.stats()).await?;
    let seen = party.answer("stats", answer)?;
    ensure_eq(&format!("the stats after {after}"), seen, expected)
}

const DELAY: Duration = Duration::from_millis(500);
