//! Faults that need a worker process: brokers, processes and jobs that misbehave.

mod brokers;
mod inputs;
mod processes;
mod writers;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use lifecycle_worker::{AnyQueue, Push, Pushed, Queue, Stats};
use rustix::process::Signal;
use tempfile::TempDir;
use tests::torture::{Broker, BrokerKind, Event, Exit, Orders, What, WorkerProcess};
use tokio::time::{Instant, sleep};

/// A private broker, and workers that are told the same.
struct Bench {
    broker: Broker,
    /// What the workers are told.
    orders: Orders,
    /// As this process sees it.
    queue: AnyQueue,
    folder: TempDir,
}

impl Bench {
    /// Grace 3 s (the hard stop comes after 2.1 s), lease 5 s.
    async fn new(kind: BrokerKind) -> Self {
        Self::with(kind, |_| {}).await
    }

    async fn with(kind: BrokerKind, set: impl FnOnce(&mut Orders)) -> Self {
        let broker = Broker::start(kind).await;
        let mut orders = Orders::new(broker.url());
        set(&mut orders);
        // What the bench itself asks has time, on a busy machine too.
        let mut own = orders.clone();
        own.call_bound = Duration::from_secs(10);
        let queue = own.connect().await.unwrap();
        queue.prepare().await.unwrap();
        Self { broker, orders, queue, folder: TempDir::new().unwrap() }
    }

    async fn push(&self, kind: &str, payload: impl ToString, count: usize) {
        let jobs = vec![Push::new(kind, payload.to_string()); count];
        assert!(self.queue.push(&jobs).await.unwrap().iter().all(Pushed::is_new));
    }

    async fn worker(&self, name: &str) -> WorkerProcess {
        started(&self.orders, self.folder.path(), name).await.unwrap()
    }

    /// Waits until the queue's counts are so; it may be out of reach for a while.
    async fn counts(&self, what: &str, is_so: impl Fn(&Stats) -> bool) -> Stats {
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            let stats = self.queue.stats().await;
            match stats {
                Ok(stats) if is_so(&stats) => return stats,
                _ => assert!(Instant::now() < limit, "never {what}: {stats:?}"),
            }
            // A queue tells nobody how full it is.
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Another worker does the rest, so that so many are done in all. All exits are sound.
    async fn rest_is_done(&self, mut exits: Vec<Exit>, count: u64) -> Exit {
        let worker = self.worker("rest").await;
        let stats = self.counts("all done", |stats| stats.done == count).await;
        assert_eq!((stats.ready, stats.running, stats.dead), (0, 0, 0), "{stats:?}");
        let exit = told_to_stop(worker).await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        exits.push(exit.clone());
        sound(&exits);
        exit
    }
}

async fn started(orders: &Orders, folder: &Path, name: &str) -> Result<WorkerProcess, Box<Exit>> {
    let program = Path::new(env!("CARGO_BIN_EXE_torture"));
    WorkerProcess::start(program, orders, folder, name).await
}

async fn all_begun(worker: &WorkerProcess, count: usize) {
    let starts = |events: &[Event]| {
        events.iter().filter(|event| matches!(event.what, What::Start { .. })).count()
    };
    worker.until("all begun", |events| starts(events) == count).await;
}

/// SIGTERM, and its end.
async fn told_to_stop(worker: WorkerProcess) -> Exit {
    worker.signal(Signal::TERM);
    worker.exit(GONE_BY).await
}

/// Attempts and returns that the executions of a process began with.
fn starts(exit: &Exit) -> Vec<(u32, u32)> {
    let start = |event: &Event| match event.what {
        What::Start { attempt, returns } => Some((attempt, returns)),
        _ => None,
    };
    exit.events.iter().filter_map(start).collect()
}

fn settled(exit: &Exit, outcome: &str) -> usize {
    let wanted = What::Settled(outcome.to_owned());
    exit.events.iter().filter(|event| event.what == wanted).count()
}

/// No job was acknowledged twice, and none ran in two processes at one moment.
fn sound(exits: &[Exit]) {
    let mut done: HashMap<&str, usize> = HashMap::new();
    let mut runs: HashMap<&str, Vec<(u64, u64)>> = HashMap::new();
    for exit in exits {
        for event in &exit.events {
            match &event.what {
                What::Settled(outcome) if outcome == "done" => {
                    *done.entry(&event.id).or_default() += 1;
                }
                What::Start { .. } => runs.entry(&event.id).or_default().push((event.at, exit.at)),
                What::End | What::Stop => {
                    if let Some(last) = runs.entry(&event.id).or_default().last_mut() {
                        last.1 = event.at;
                    }
                }
                _ => {}
            }
        }
    }
    assert!(done.values().all(|count| *count == 1), "acknowledged twice: {done:?}");
    for (id, mut times) in runs {
        times.sort_unstable();
        assert!(times.windows(2).all(|two| two[0].1 <= two[1].0), "{id} overlaps: {times:?}");
    }
}

/// When a process with a grace of 3 s is seen to be gone at the latest: some seconds later on a
/// busy machine, and long before its jobs would end.
const GONE_BY: Duration = Duration::from_secs(8);
const SERVERS: [BrokerKind; 2] = [BrokerKind::Postgres, BrokerKind::Redis];
const ALL: [BrokerKind; 3] = [BrokerKind::Sqlite, BrokerKind::Postgres, BrokerKind::Redis];
