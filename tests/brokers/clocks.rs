//! Three clocks on one queue, each a process that is stopped or killed at random: each tick is
//! one job. `CLOCKS_SECONDS=60` makes it a minute.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::future::join_all;
use lifecycle_drill::{Ended, Process, ReadyWhen, Setting, Signal, Subject};
use lifecycle_worker::{Claimed, Queue, RedisQueue, SqliteQueue};
use tests::brokers::PrivateRedis;
use tokio::time::{Instant, sleep};

/// What one slot's processes have said and suffered.
#[derive(Debug, Default)]
struct Seen {
    terminated: usize,
    killed: usize,
    enqueued: usize,
    by_others: usize,
}

/// One clock after the other, until that time.
async fn slot(url: String, until: Instant) -> Seen {
    let clock = Subject::new(env!("CARGO_BIN_EXE_clock")).arg(url);
    let clock = clock.env("LIFECYCLE_GRACE_PERIOD", "3s");
    let clock = clock.ready_when(ReadyWhen::Line("ready".into()));
    let mut seen = Seen::default();
    while Instant::now() < until {
        let mut process = Process::start(&clock, Setting::Plain).await.unwrap();
        // Sleeps: how long it lives is what the test is about.
        sleep(Duration::from_millis(fastrand::u64(0..3_000))).await;
        let is_last = Instant::now() >= until;
        let signal = if is_last || fastrand::bool() { Signal::Term } else { Signal::Kill };
        process.signal(signal).unwrap();
        let exit = process.wait(Duration::from_secs(10)).await.expect("it ends");
        if signal == Signal::Kill {
            seen.killed += 1;
            continue;
        }
        assert_eq!(exit.ended, Ended::Code(0), "{}", process.tail());
        seen.terminated += 1;
        let (enqueued, by_others) = said(&process.tail());
        seen.enqueued += enqueued;
        seen.by_others += by_others;
    }
    seen
}

/// `schedule of clocks: 2 enqueued, 3 by another clock, ..` in the report.
fn said(report: &str) -> (usize, usize) {
    let line = report.split("schedule of clocks: ").nth(1);
    let line = line.unwrap_or_else(|| panic!("it says nothing of its ticks: {report}"));
    let numbers: Vec<_> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

/// Every second between the first tick and the last is one job.
async fn each_tick_is_one_job(queue: impl Queue, url: String) {
    queue.prepare().await.unwrap();
    let seconds = std::env::var("CLOCKS_SECONDS").map_or(20, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let seen = join_all((0..3).map(|_| slot(url.clone(), until))).await;
    let most = NonZeroUsize::new(10_000).unwrap();
    let jobs = queue.claim(most, Duration::ZERO).await.unwrap();
    assert!(jobs.len() as u64 >= seconds, "{} jobs", jobs.len());
    let mut ticks = BTreeMap::<u64, usize>::new();
    for job in &jobs {
        *ticks.entry(second(job)).or_default() += 1;
    }
    let (first, last) = (*ticks.keys().next().unwrap(), *ticks.keys().last().unwrap());
    for tick in first..=last {
        assert_eq!(ticks.get(&tick), Some(&1), "at {tick}, from {first} to {last}");
    }
    println!("{}: {} ticks, each one job; {seen:?}", queue.name(), jobs.len());
    assert!(seen.iter().map(|slot| slot.by_others).sum::<usize>() > 0, "they were never at once");
    assert!(seen.iter().all(|slot| slot.terminated > 0));
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.scheduled, stats.dead), (0, 0, 0));
}

/// The tick's second.
fn second(job: &Claimed) -> u64 {
    let (name, text) = &job.headers[0];
    assert_eq!((name.as_str(), &text[19..]), ("schedule-tick", "Z"));
    let tick = humantime::parse_rfc3339(text).unwrap();
    tick.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_clocks_that_are_stopped_and_killed_enqueue_each_tick_once_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/clocks.db", folder.path().display());
    let queue = SqliteQueue::connect(&url, "clocks").await.unwrap();
    each_tick_is_one_job(queue, url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_clocks_that_are_stopped_and_killed_enqueue_each_tick_once_on_redis() {
    let server = PrivateRedis::start().await;
    let queue = RedisQueue::connect(&server.url(), "clocks").await.unwrap();
    each_tick_is_one_job(queue, server.url()).await;
}
