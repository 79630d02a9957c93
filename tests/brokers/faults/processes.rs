//! Worker processes that are paused, blocked or killed by their jobs.

use std::time::Duration;

use futures_util::future::join_all;
use lifecycle_worker::{Queue, Unstoppable};
use rustix::process::Signal;
use tests::torture::{BrokerKind, Orders};
use tokio::time::Instant;

use super::{ALL, Bench, GONE_BY, all_begun, settled, starts, told_to_stop};

/// Whether a try is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    Early,
    Last,
}

/// The time to return jobs is some tenths of a second, and another process may have had the
/// machine for as long: an early try may say that it was too late.
async fn in_three_tries(one: impl AsyncFn(Try) -> bool) {
    for which in [Try::Early, Try::Early, Try::Last] {
        if one(which).await {
            return;
        }
    }
    panic!("the last try is no early one");
}

#[tokio::test]
async fn a_worker_that_was_paused_past_its_lease_does_not_acknowledge_over_the_new_owner() {
    // The first handler's time is over when it goes on, or it has still to work.
    for millis in [2500, 5500] {
        let mut benches = Vec::new();
        for kind in ALL {
            let set = |orders: &mut Orders| {
                orders.lease = Duration::from_secs(3);
                // Its claim for the other slots waits too, and is answered when it goes on.
                orders.call_bound = Duration::from_secs(30);
            };
            benches.push((kind, Bench::with(kind, set).await));
        }
        // Together, since each waits for the end of a lease; and not before all servers run, the
        // start of one of which takes this thread for itself.
        let paused = |(kind, bench)| is_paused_past_its_lease(kind, bench, millis);
        join_all(benches.into_iter().map(paused)).await;
    }
}

async fn is_paused_past_its_lease(kind: BrokerKind, bench: Bench, millis: u64) {
    bench.push("work", millis, 1).await;
    let first = bench.worker("first").await;
    all_begun(&first, 1).await;
    first.signal(Signal::STOP);
    let second = bench.worker("second").await;
    all_begun(&second, 1).await;
    first.signal(Signal::CONT);
    bench.counts("done", |stats| stats.done == 1).await;
    let (first, second) = (told_to_stop(first).await, told_to_stop(second).await);
    assert_eq!(settled(&first, "done"), 0, "{kind:?}: {:?}", first.events);
    assert_eq!(settled(&second, "done"), 1, "{kind:?}: {:?}", second.events);
    assert_eq!((first.code, second.code), (Some(0), Some(0)), "{kind:?}: {}", first.stderr);
    let stats = bench.queue.stats().await.unwrap();
    assert_eq!((stats.done, stats.attempts, stats.running), (1, 2, 0), "{kind:?}");
}

#[tokio::test]
async fn an_idle_worker_is_gone_within_300_ms() {
    for kind in ALL {
        let bench = Bench::new(kind).await;
        let mut times = Vec::new();
        for name in ["a", "b", "c", "d", "e"] {
            let worker = bench.worker(name).await;
            // It has claimed once and waits for more.
            bench.push("work", 0, 1).await;
            worker.until("done", |events| events.len() == 3).await;
            let began = Instant::now();
            let exit = told_to_stop(worker).await;
            times.push(began.elapsed());
            assert_eq!(exit.code, Some(0), "{kind:?}: {}", exit.stderr);
        }
        times.sort_unstable();
        println!("{kind:?}: an idle worker is gone after {times:?}");
        // The second of five: others have the machine too.
        assert!(times[1] < Duration::from_millis(300), "{kind:?}: {times:?}");
    }
}

#[tokio::test]
async fn a_job_that_outlasts_the_grace_is_returned_and_its_attempt_not_counted() {
    // One knows of no token, the other saves how far it has come.
    for (kind, job) in ALL.into_iter().flat_map(|kind| [(kind, "once"), (kind, "polite")]) {
        in_three_tries(async |which| is_returned(kind, job, which).await).await;
    }
}

/// Whether the return was in time.
async fn is_returned(kind: BrokerKind, job: &str, which: Try) -> bool {
    let bench = Bench::new(kind).await;
    bench.push(job, 30_000, 2).await;
    let worker = bench.worker("first").await;
    all_begun(&worker, 2).await;
    let exit = told_to_stop(worker).await;
    assert_eq!(exit.code, Some(3), "{kind:?}, {job}: {}", exit.stderr);
    if which == Try::Early && exit.said.is_none_or(|said| said.left_to_lease > 0) {
        return false;
    }
    let said = exit.said.unwrap();
    assert_eq!((said.returned_started, said.left_to_lease), (2, 0), "{kind:?}, {job}");
    let rest = bench.rest_is_done(vec![exit], 2).await;
    assert_eq!(starts(&rest), [(1, 1); 2], "{kind:?}, {job}");
    let stats = bench.queue.stats().await.unwrap();
    assert_eq!((stats.attempts, stats.returns), (2, 2), "{kind:?}, {job}: {stats:?}");
    true
}

/// A job that cannot be stopped: the process is gone all the same, and says what it leaves.
/// Whether a return, if one is wanted, was in time.
async fn is_blocked(kind: BrokerKind, job: &str, policy: Unstoppable, which: Try) -> bool {
    let set = |orders: &mut Orders| {
        (orders.unstoppable, orders.lease) = (policy, Duration::from_secs(3));
    };
    let bench = Bench::with(kind, set).await;
    bench.push(job, 30_000, 1).await;
    let worker = bench.worker("first").await;
    all_begun(&worker, 1).await;
    let exit = told_to_stop(worker).await;
    let shown = format!("{kind:?}, {job}, {policy:?}: {}", exit.stderr);
    assert_eq!(exit.code, Some(3), "{shown}");
    let (returned, next) = match policy {
        Unstoppable::ReturnAnyway => (1, (1, 1)),
        _ => (0, (2, 0)),
    };
    if which == Try::Early && exit.said.is_none_or(|said| said.left_to_lease > 1 - returned) {
        return false;
    }
    let said = exit.said.expect("it reports");
    assert_eq!((said.returned_started, said.left_to_lease), (returned, 1 - returned), "{shown}");
    let rest = bench.rest_is_done(vec![exit], 1).await;
    assert_eq!(starts(&rest), [next], "{shown}");
    true
}

#[tokio::test]
async fn a_handler_that_blocks_its_thread_is_left_to_its_lease() {
    let policy = Unstoppable::LeaveToLease;
    for kind in ALL {
        in_three_tries(async |which| is_blocked(kind, "block", policy, which).await).await;
    }
    in_three_tries(async |which| is_blocked(BrokerKind::Sqlite, "spin", policy, which).await).await;
}

#[tokio::test]
async fn a_handler_that_blocks_its_thread_is_returned_anyway_if_so_wanted() {
    let policy = Unstoppable::ReturnAnyway;
    for kind in ALL {
        in_three_tries(async |which| is_blocked(kind, "block", policy, which).await).await;
    }
    in_three_tries(async |which| is_blocked(BrokerKind::Redis, "spin", policy, which).await).await;
}

/// Nothing of the program runs but the control thread.
#[tokio::test]
async fn handlers_that_take_every_thread_of_the_runtime_do_not_keep_the_process() {
    for kind in ALL {
        let set = |orders: &mut Orders| orders.lease = Duration::from_secs(3);
        let bench = Bench::with(kind, set).await;
        bench.push("spin", 30_000, 2).await;
        let worker = bench.worker("first").await;
        all_begun(&worker, 2).await;
        let exit = told_to_stop(worker).await;
        assert_eq!(exit.code, Some(3), "{kind:?}: {}", exit.stderr);
        let rest = bench.rest_is_done(vec![exit], 2).await;
        assert_eq!(starts(&rest), [(2, 0); 2], "{kind:?}");
    }
}

#[tokio::test]
async fn a_job_that_kills_its_process_is_dead_after_its_attempts() {
    for kind in ALL {
        let set = |orders: &mut Orders| {
            (orders.attempts, orders.lease) = (3, Duration::from_secs(1));
        };
        let bench = Bench::with(kind, set).await;
        bench.push("abort", "", 1).await;
        for name in ["a", "b", "c"] {
            let worker = bench.worker(name).await;
            let exit = worker.exit(Duration::from_secs(10)).await;
            assert_eq!(exit.code, None, "{kind:?}: {}", exit.stderr);
        }
        let worker = bench.worker("d").await;
        bench.push("work", 1, 1).await;
        bench.counts("dead", |stats| (stats.dead, stats.done) == (1, 1)).await;
        let dead = bench.queue.dead(std::num::NonZeroUsize::MIN).await.unwrap();
        assert!(dead[0].error.contains("its workers vanished"), "{kind:?}: {dead:?}");
        let exit = told_to_stop(worker).await;
        assert_eq!(exit.code, Some(0), "{kind:?}: {}", exit.stderr);
    }
}

#[tokio::test]
async fn a_second_signal_returns_what_runs_at_once() {
    in_three_tries(is_returned_at_once).await;
}

/// Whether the return was in time.
async fn is_returned_at_once(which: Try) -> bool {
    let bench = Bench::new(BrokerKind::Sqlite).await;
    bench.push("once", 30_000, 2).await;
    let worker = bench.worker("first").await;
    all_begun(&worker, 2).await;
    worker.signal(Signal::TERM);
    let began = Instant::now();
    worker.signal(Signal::INT);
    let exit = worker.exit(GONE_BY).await;
    let took = began.elapsed();
    let returned = exit.said.map_or(0, |said| said.returned_started);
    let is_late = returned < 2 || took >= Duration::from_secs(1);
    // Two signals that are sent at one moment may also be taken by two threads, and in any order.
    if which == Try::Early && (is_late || exit.code == Some(143)) {
        return false;
    }
    assert_eq!(exit.code, Some(130), "{}", exit.stderr);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(returned, 2, "{}", exit.stderr);
    let rest = bench.rest_is_done(vec![exit], 2).await;
    assert_eq!(starts(&rest), [(1, 1); 2]);
    true
}
