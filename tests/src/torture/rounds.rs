//! The torture itself: jobs in, workers out, and a judge at the end.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use lifecycle_worker::{AnyQueue, Push, Pushed, Queue};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::gauge::Gauge;
use super::judge::{Counts, End, Life, Run};
use super::verdict::Verdict;
use super::{Broker, ClaimBy, Exit, KillBy, Options, Orders, WorkerProcess, probe};

/// Tortures workers as the options have it, and judges them.
///
/// # Panics
/// When a part of it does not work: a server that does not start, a push that fails, a worker
/// that is not gone some seconds after its grace.
///
/// # Cancel safety
/// Cancel safe: all that was started is killed.
pub async fn torture(program: &Path, options: &Options) -> Verdict {
    let broker = Broker::start(options.queue).await;
    let mut orders = Orders::new(broker.url()).lease(options.lease);
    (orders.claim, orders.grace) = (options.claim, options.grace);
    let queue = orders.connect().await.expect("the queue is there");
    queue.prepare().await.expect("it can be prepared");
    let folder = TempDir::new().expect("a folder");
    let mut fleet = Fleet { program, orders, folder, count: 0, rng: Rng::with_seed(options.seed) };
    let mut workers = Vec::new();
    for _ in 0..options.workers {
        workers.push(fleet.start().await);
    }
    let (stop, told) = watch::channel(false);
    let feed = Feed::new(queue.clone(), options, told, fleet.folder.path());
    let feeding = tokio::spawn(feed.run());
    let mut lives = Vec::new();
    for _ in 0..options.rounds {
        sleep(Duration::from_millis(fleet.rng.u64(0..300))).await;
        let victim = fleet.rng.usize(..workers.len());
        let how = fleet.end_by(options.kill);
        lives.push(fleet.end(workers.swap_remove(victim), how).await);
        workers.push(fleet.start().await);
    }
    stop.send_replace(true);
    let pushed = feeding.await.expect("jobs are pushed");
    let mut gauge = Gauge::new(queue.clone(), fleet.folder.path());
    let stats = gauge.drained(&pushed, options.lease).await;
    for worker in workers {
        lives.push(fleet.end(worker, KillBy::Term).await);
    }
    let left = gauge.left(stats).await;
    let counts = stats.map(|stats| Counts { done: stats.done, attempts: stats.attempts });
    let (can, grace) = (queue.capabilities(), options.grace);
    let run = Run { pushed, lives, counts, left, grace, can };
    let mut verdict = run.judge();
    if options.claim == ClaimBy::Runner {
        let folder = fleet.folder.path();
        Box::pin(probe::returns(program, &fleet.orders, folder, &mut verdict)).await;
    }
    drop(queue.close().await);
    verdict
}

struct Fleet<'a> {
    program: &'a Path,
    orders: Orders,
    folder: TempDir,
    count: usize,
    rng: Rng,
}

impl Fleet<'_> {
    /// Every other one has jobs that wait for a slot.
    async fn start(&mut self) -> WorkerProcess {
        let (at, mut orders) = (self.count, self.orders.clone());
        self.count += 1;
        orders.prefetch = if at.is_multiple_of(2) { 0 } else { 3 };
        let folder = self.folder.path();
        let started = WorkerProcess::start(self.program, &orders, folder, &at.to_string()).await;
        started.unwrap_or_else(|exit| panic!("a worker has not started: {exit:?}"))
    }

    fn end_by(&mut self, kill: KillBy) -> KillBy {
        match kill {
            KillBy::Mixed if self.rng.bool() => KillBy::Kill,
            KillBy::Mixed => KillBy::Term,
            other => other,
        }
    }

    async fn end(&mut self, worker: WorkerProcess, how: KillBy) -> Life {
        let signal = if how == KillBy::Kill { Signal::KILL } else { Signal::TERM };
        let mut signalled = worker.signal(signal);
        if how == KillBy::Late {
            let grace = u64::try_from(self.orders.grace.as_millis()).unwrap_or(0);
            sleep(Duration::from_millis(self.rng.u64(0..grace))).await;
            // One that is gone and not yet waited for takes any signal.
            let killed = worker.signal(Signal::KILL);
            let exit = worker.exit(LATE_MOST).await;
            let end = if exit.code.is_some() { End::Told } else { End::Cut };
            signalled = if end == End::Cut { killed } else { signalled };
            return Self::life(exit, end, signalled);
        }
        let end = if how == KillBy::Kill { End::Killed } else { End::Told };
        Self::life(worker.exit(self.orders.grace + LATE_MOST).await, end, signalled)
    }

    fn life(exit: Exit, end: End, signalled: u64) -> Life {
        let (events, gone, code, said) = (exit.events, exit.at, exit.code, exit.said);
        Life { events, end, signalled, gone, code, said }
    }
}

/// Keeps jobs in the queue.
struct Feed {
    queue: AnyQueue,
    gauge: Gauge,
    rng: Rng,
    grace: Duration,
    told: watch::Receiver<bool>,
}

impl Feed {
    fn new(queue: AnyQueue, options: &Options, told: watch::Receiver<bool>, folder: &Path) -> Self {
        let (rng, grace) = (Rng::with_seed(options.seed ^ 1), options.grace);
        let gauge = Gauge::new(queue.clone(), folder);
        Self { queue, gauge, rng, grace, told }
    }

    /// The ids of all that it has pushed until it is told to stop.
    async fn run(mut self) -> HashSet<String> {
        let mut ids = HashSet::new();
        while !*self.told.borrow() {
            if self.gauge.ready(&ids).await < READY_LEAST {
                let jobs: Vec<_> = (0..BATCH).map(|_| self.job()).collect();
                let pushed = self.queue.push(&jobs).await.expect("a queue takes jobs");
                ids.extend(pushed.iter().filter_map(Pushed::id).map(ToString::to_string));
            }
            // A queue tells nobody how full it is. An end of the wait is no error here.
            drop(timeout(LOOK_AGAIN, self.told.changed()).await);
        }
        ids
    }

    /// Most are short; a few outlast what any worker is given to stop.
    fn job(&mut self) -> Push {
        let grace = u64::try_from(self.grace.as_millis()).unwrap_or(0);
        let millis = match self.rng.u32(0..LONG_ONE_OF) {
            0 => grace + self.rng.u64(200..1000),
            _ => self.rng.u64(0..200),
        };
        let kind = if self.rng.u8(0..4) == 0 { "polite" } else { "work" };
        Push::new(kind, millis.to_string())
    }
}

const READY_LEAST: u64 = 150;
const BATCH: usize = 100;
const LONG_ONE_OF: u32 = 300;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LATE_MOST: Duration = Duration::from_secs(10);
