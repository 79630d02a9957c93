//! Brokers that are stopped, paused or cut off while workers run, drain and return jobs.

use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use tests::brokers::Proxy;
use tests::torture::{Broker, BrokerKind, Exit, Orders};
use tokio::time::sleep;

use super::{Bench, GONE_BY, SERVERS, all_begun, settled, starts, told_to_stop};

#[derive(Clone, Copy, Debug)]
enum Fault {
    Paused,
    Stopped,
}

const FAULTS: [Fault; 2] = [Fault::Paused, Fault::Stopped];
const JOBS: usize = 4;

impl Fault {
    async fn begin(self, broker: &mut Broker) {
        match self {
            Self::Paused => broker.pause(),
            Self::Stopped => broker.stop().await,
        }
    }

    async fn end(self, broker: &mut Broker) {
        match self {
            Self::Paused => broker.resume(),
            Self::Stopped => broker.start_again().await,
        }
    }
}

/// What its worker leaves can soon be claimed again. A claim under way at the end, whose answer
/// does not come, would change the exit code: its bound is that of any worker, and the stop's own
/// bounds are what ends it.
async fn bench(kind: BrokerKind) -> Bench {
    Bench::with(kind, |orders| orders.lease = Duration::from_secs(3)).await
}

/// Its worker does not wait long for an answer, and no lease ends in a test: not while the broker is
/// away, whatever that takes.
async fn bench_with_long_leases(kind: BrokerKind, grace: Duration) -> Bench {
    let set = |orders: &mut Orders| {
        (orders.call_bound, orders.lease) = (Duration::from_secs(1), Duration::from_secs(20));
        orders.grace = grace;
    };
    Bench::with(kind, set).await
}

/// It left in time, and said that it does not know what the broker has.
fn is_truthful(exit: &Exit, fault: &str) {
    let said = exit.said.unwrap_or_else(|| panic!("{fault}: no report: {}", exit.stderr));
    assert_eq!(exit.code, Some(3), "{fault}: {}", exit.stderr);
    let returned = settled(exit, "returned") as u64;
    let done = settled(exit, "done") as u64;
    assert_eq!(returned, said.returned_started, "{fault}: {said:?}");
    assert_eq!(said.left_to_lease, JOBS as u64 - returned - done, "{fault}: {said:?}");
    println!("{fault}: {said:?}");
}

#[tokio::test]
async fn a_broker_that_is_away_while_jobs_run_costs_no_attempt() {
    for kind in SERVERS {
        join_all(FAULTS.map(|fault| costs_no_attempt(kind, fault))).await;
    }
}

async fn costs_no_attempt(kind: BrokerKind, fault: Fault) {
    let mut bench = bench_with_long_leases(kind, Duration::from_secs(3)).await;
    bench.push("work", 700, JOBS).await;
    let worker = bench.worker("first").await;
    all_begun(&worker, JOBS).await;
    fault.begin(&mut bench.broker).await;
    // Sleeps: the jobs are to end while the broker is away, and their acknowledgements to fail.
    sleep(Duration::from_millis(2500)).await;
    fault.end(&mut bench.broker).await;
    let stats = bench.counts("all done", |stats| stats.done == JOBS as u64).await;
    assert_eq!(stats.attempts, JOBS as u64, "{kind:?}, {fault:?}");
    // It claims again by itself.
    bench.push("work", 1, JOBS).await;
    bench.counts("all done", |stats| stats.done == 2 * JOBS as u64).await;
    let exit = told_to_stop(worker).await;
    assert_eq!(exit.code, Some(0), "{kind:?}, {fault:?}: {}", exit.stderr);
    super::sound(&[exit]);
}

#[tokio::test]
async fn a_broker_that_comes_back_while_draining_gets_its_acknowledgements() {
    for (kind, fault) in SERVERS.into_iter().flat_map(|kind| FAULTS.map(|fault| (kind, fault))) {
        // The broker has some seconds to come back in.
        let mut bench = bench_with_long_leases(kind, Duration::from_secs(10)).await;
        bench.push("work", 500, JOBS).await;
        let worker = bench.worker("first").await;
        all_begun(&worker, JOBS).await;
        worker.signal(Signal::TERM);
        fault.begin(&mut bench.broker).await;
        // Sleeps: the jobs are to end while the broker is away.
        sleep(Duration::from_millis(700)).await;
        fault.end(&mut bench.broker).await;
        let exit = worker.exit(Duration::from_secs(15)).await;
        assert_eq!(exit.code, Some(0), "{kind:?}, {fault:?}: {}", exit.stderr);
        assert_eq!(exit.said.unwrap().finished, JOBS as u64, "{kind:?}, {fault:?}");
        let stats = bench.counts("all done", |stats| stats.done == JOBS as u64).await;
        assert_eq!(stats.attempts, JOBS as u64, "{kind:?}, {fault:?}");
    }
}

/// The broker is away from so long after SIGTERM until the process is gone.
async fn away_until_the_end(kind: BrokerKind, fault: Fault, job: (&str, u64), after: u64) {
    let mut bench = bench(kind).await;
    bench.push(job.0, job.1, JOBS).await;
    let worker = bench.worker("first").await;
    all_begun(&worker, JOBS).await;
    worker.signal(Signal::TERM);
    // Sleeps: nothing happens in a drain.
    sleep(Duration::from_millis(after)).await;
    fault.begin(&mut bench.broker).await;
    let exit = worker.exit(GONE_BY).await;
    is_truthful(&exit, &format!("{kind:?} {fault:?}, {} {} ms", job.0, job.1));
    fault.end(&mut bench.broker).await;
    let (rest, done) = (bench.rest_is_done(vec![exit], JOBS as u64), JOBS as u64);
    // What was in the broker's socket may have counted as returned or acknowledged.
    assert!(starts(&rest.await).iter().all(|(attempt, _)| *attempt <= 2));
    assert!((done..=2 * done).contains(&bench.queue_attempts().await));
}

impl Bench {
    async fn queue_attempts(&self) -> u64 {
        self.counts("anything", |_| true).await.attempts
    }
}

#[tokio::test]
async fn a_broker_that_stays_away_while_draining_leaves_jobs_to_their_lease() {
    for (kind, fault) in SERVERS.into_iter().flat_map(|kind| FAULTS.map(|fault| (kind, fault))) {
        away_until_the_end(kind, fault, ("work", 1200), 0).await;
    }
}

#[tokio::test]
async fn a_broker_that_is_away_at_the_return_leaves_jobs_to_their_lease() {
    for (kind, fault) in SERVERS.into_iter().flat_map(|kind| FAULTS.map(|fault| (kind, fault))) {
        away_until_the_end(kind, fault, ("once", 30_000), 1700).await;
    }
}

/// The same broker by way of that port.
fn through(proxy: &Proxy, url: &str) -> String {
    let port: String =
        url.rsplit(':').next().unwrap().chars().take_while(char::is_ascii_digit).collect();
    url.replace(&format!(":{port}"), &format!(":{}", proxy.port()))
}

async fn proxied(kind: BrokerKind) -> (Bench, Proxy) {
    let mut bench = bench(kind).await;
    let url = bench.broker.url();
    let port = url.rsplit(':').next().unwrap();
    let port = port.split('/').next().unwrap().parse().unwrap();
    let proxy = Proxy::start(port).await;
    bench.orders.url = through(&proxy, &url);
    (bench, proxy)
}

#[tokio::test]
async fn connections_that_are_reset_while_jobs_run_cost_no_attempt() {
    for kind in SERVERS {
        let (bench, proxy) = proxied(kind).await;
        bench.push("work", 500, JOBS).await;
        let worker = bench.worker("first").await;
        all_begun(&worker, JOBS).await;
        proxy.cut();
        let stats = bench.counts("all done", |stats| stats.done == JOBS as u64).await;
        assert_eq!(stats.attempts, JOBS as u64, "{kind:?}");
        bench.push("work", 1, JOBS).await;
        bench.counts("all done", |stats| stats.done == 2 * JOBS as u64).await;
        let exit = told_to_stop(worker).await;
        assert_eq!(exit.code, Some(0), "{kind:?}: {}", exit.stderr);
    }
}

#[tokio::test]
async fn connections_that_are_half_open_do_not_keep_a_worker() {
    for kind in SERVERS {
        let (mut bench, proxy) = proxied(kind).await;
        // It is frozen before the first of them ends, and the hard stop is later than that.
        bench.push("work", 1500, JOBS).await;
        let worker = bench.worker("first").await;
        all_begun(&worker, JOBS).await;
        proxy.freeze();
        let exit = told_to_stop(worker).await;
        is_truthful(&exit, &format!("{kind:?} half open"));
        bench.orders.url = bench.broker.url();
        drop(proxy);
        bench.rest_is_done(vec![exit], JOBS as u64).await;
    }
}

/// Its claim may hang in the broker for longer than the grace: it is not waited for, and what it
/// takes when the broker goes on is claimed again after its lease.
#[tokio::test]
async fn an_idle_worker_whose_broker_hangs_is_out_before_its_grace() {
    for kind in SERVERS {
        let bench = Bench::with(kind, |orders| orders.lease = Duration::from_secs(3)).await;
        let worker = bench.worker("first").await;
        bench.push("work", 0, 1).await;
        bench.counts("done", |stats| stats.done == 1).await;
        bench.broker.pause();
        // Sleeps: it looks at its queue again, at the latest after the longest poll.
        sleep(Duration::from_millis(1200)).await;
        let exit = told_to_stop(worker).await;
        let said = exit.said.unwrap_or_else(|| panic!("{kind:?}: {}", exit.stderr));
        println!("{kind:?} hangs under a claim: code {:?}, {said:?}", exit.code);
        assert_eq!((said.left_to_lease, said.returned_started), (0, 0), "{kind:?}");
        assert!(matches!(exit.code, Some(0 | 3)), "{kind:?}: {}", exit.stderr);
        bench.broker.resume();
        bench.push("work", 0, 3).await;
        bench.rest_is_done(vec![exit], 4).await;
    }
}
