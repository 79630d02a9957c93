//! One server, as a process would have it: `serve`, a worker, probes, a check and a hook.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use lifecycle::{ForcedExit, Handle, Lifecycle, Phase, Report, RunError};
use lifecycle_worker::{Job, MemoryQueue, Push, Queue, Settlement, SettlementKind, Worker};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// What all servers share.
#[derive(Clone)]
pub(super) struct Common {
    queue: MemoryQueue,
    pub(super) counts: Arc<Counts>,
}

/// Of all servers together.
#[derive(Default)]
pub(super) struct Counts {
    requests: AtomicU64,
    pushed: AtomicU64,
    done: AtomicU64,
}

/// One that runs.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    handle: Handle,
    run: JoinHandle<Result<Report, RunError>>,
}

impl Common {
    pub(super) fn new() -> Self {
        Self { queue: MemoryQueue::new("orders"), counts: Arc::default() }
    }
}

impl Counts {
    /// Jobs pushed, and jobs that the queue has confirmed as done.
    pub(super) fn jobs(&self) -> (u64, u64) {
        // Ordering: Relaxed both, nobody counts any more.
        (self.pushed.load(Ordering::Relaxed), self.done.load(Ordering::Relaxed))
    }
}

impl Server {
    /// Starts one and waits until it runs.
    pub(super) async fn start(common: &Common) -> Self {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut life = Lifecycle::builder()
            .grace_period(GRACE)
            .lame_duck_period(LAME_DUCK)
            .forced_exit(ForcedExit::Never)
            .probe_addr(local)
            .build()
            .expect("the control thread starts");
        life.serve_probes().await.expect("a port is free");
        let listener = TcpListener::bind(local).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let app = Router::new().route("/", get(order)).with_state(common.clone());
        let counts = common.counts.clone();
        let worker = Worker::new(common.queue.claimant(), prepare)
            .concurrency(JOBS_AT_A_TIME)
            .on_settled(move |settlement: &Settlement| {
                if settlement.outcome == SettlementKind::Done {
                    // Ordering: Relaxed, a count.
                    counts.done.fetch_add(1, Ordering::Relaxed);
                }
            });
        life.check(worker.readiness("queue"));
        life.spawn("http", lifecycle_tower::serve(listener, app));
        life.spawn("orders", worker).after("http");
        life.on_close("book", async {});
        let handle = life.handle();
        let run = tokio::spawn(life.run());
        timeout(LIMIT, handle.reached(Phase::Running)).await.expect("it runs within its limit");
        Self { address, handle, run }
    }

    /// Tells it to stop and waits for its report.
    pub(super) async fn stop(self) -> Report {
        self.handle.shutdown("the next one has come");
        let report = timeout(LIMIT, self.run).await.expect("it ends within its limit");
        report.expect("it does not panic").expect("it ran")
    }

    /// Stops the last one, when every job is done.
    pub(super) async fn stop_when_empty(self, common: &Common) -> Report {
        let all_done = async {
            // Bound: the limit around it. A queue in memory has no event for "empty".
            while common.queue.stats().await.expect("it is open").done < common.counts.jobs().0 {
                sleep(LOOK_AGAIN).await;
            }
        };
        // What is not done by then is in the counts.
        timeout(LIMIT, all_done).await.ok();
        self.stop().await
    }
}

/// One request in so many is an order, which is a job.
async fn order(State(common): State<Common>) -> &'static str {
    // Ordering: Relaxed both, counts.
    if common.counts.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(REQUESTS_AN_ORDER) {
        common.counts.pushed.fetch_add(1, Ordering::Relaxed);
        common.queue.push(&[Push::new("order", "tea")]).await.expect("it is open");
    }
    "hello"
}

async fn prepare(_job: Job) {
    sleep(WORK).await;
}

const GRACE: Duration = Duration::from_secs(10);
/// Clients without think time are told within a request.
const LAME_DUCK: Duration = Duration::from_millis(50);
const WORK: Duration = Duration::from_millis(3);
const JOBS_AT_A_TIME: usize = 20;
/// So that the worker keeps up whatever the machine serves.
const REQUESTS_AN_ORDER: u64 = 25;
const LIMIT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
