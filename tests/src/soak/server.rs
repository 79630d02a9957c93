//! One server, as a process would have it: `serve`, a worker, probes, a check and a hook.

use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use lifecycle::{ForcedExit, Handle, Lifecycle, Phase, Report, RunError};
use lifecycle_worker::{Job, MemoryQueue, Push, Queue, Settlement, SettlementKind, Worker};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::held::{Burden, STUCK, STUCK_LIMIT, stuck};

/// What all servers share.
#[derive(Clone)]
pub(super) struct Common {
    queue: MemoryQueue,
    pub(super) counts: Arc<Counts>,
    outlasting: Arc<Notify>,
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
    pub(super) handle: Handle,
    run: JoinHandle<Result<Report, RunError>>,
}

impl Common {
    pub(super) fn new() -> Self {
        let queue = MemoryQueue::new("orders");
        Self { queue, counts: Arc::default(), outlasting: Arc::default() }
    }

    /// A job that does not end before its server, the first time that it is tried.
    pub(super) async fn push_outlasting(&self) {
        self.push(OUTLASTING).await;
    }

    /// Returns when such a job is at work.
    pub(super) async fn outlasting_began(&self) {
        timeout(LIMIT, self.outlasting.notified()).await.expect("it begins within its limit");
    }

    async fn push(&self, kind: &str) {
        // Ordering: Relaxed, a count.
        self.counts.pushed.fetch_add(1, Ordering::Relaxed);
        self.queue.push(&[Push::new(kind, "tea")]).await.expect("it is open");
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
    pub(super) async fn start(common: &Common, burden: Option<Burden>) -> Self {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let outlasts = burden.is_some_and(Burden::outlasts);
        let mut life = Lifecycle::builder()
            .grace_period(if outlasts { SHORT_GRACE } else { GRACE })
            .lame_duck_period(LAME_DUCK)
            .forced_exit(ForcedExit::Never)
            .probe_addr(local)
            .build()
            .expect("the control thread starts");
        life.serve_probes().await.expect("a port is free");
        let listener = TcpListener::bind(local).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let handle = life.handle();
        let counts = common.counts.clone();
        let outlasting = common.outlasting.clone();
        let worker =
            Worker::new(common.queue.claimant(), move |job: Job| work(job, outlasting.clone()))
                .concurrency(JOBS_AT_A_TIME)
                .on_settled(move |settlement: &Settlement| {
                    if settlement.outcome == SettlementKind::Done {
                        // Ordering: Relaxed, a count.
                        counts.done.fetch_add(1, Ordering::Relaxed);
                    }
                });
        life.check(worker.readiness("queue"));
        let serve = lifecycle_tower::serve(listener, app(common, &handle));
        life.spawn("http", serve.idle_drain_timeout(IDLE));
        life.spawn("orders", worker).after("http");
        life.on_close("book", async {});
        if burden == Some(Burden::Hook) {
            life.on_close_within(STUCK, STUCK_LIMIT, stuck());
        }
        let run = tokio::spawn(life.run());
        timeout(LIMIT, handle.reached(Phase::Running)).await.expect("it runs within its limit");
        Self { address, handle, run }
    }

    /// Returns when so many of that name are in flight.
    pub(super) async fn holds(&self, name: &str, count: usize) {
        let holds = || self.handle.blockers().iter().filter(|one| one.name == name).count();
        let there = async {
            // Bound: the limit around it. Nobody tells who is in flight.
            while holds() != count {
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(LIMIT, there).await.expect("it is held within its limit");
    }

    /// Returns when the load has left.
    pub(super) async fn is_left(&self) {
        self.holds("GET /", 0).await;
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

fn app(common: &Common, handle: &Handle) -> Router {
    let draining = {
        let handle = handle.clone();
        move || async move {
            handle.draining().await;
            "drained"
        }
    };
    Router::new()
        .route("/", get(order))
        .route("/endless", get(pending::<()>))
        .route("/events", get(events))
        .route("/streams", get(draining))
        .route("/upload", post(|body: Bytes| async move { body }))
        .with_state(common.clone())
}

/// One request in so many is an order, which is a job.
async fn order(State(common): State<Common>) -> &'static str {
    // Ordering: Relaxed, a count.
    if common.counts.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(REQUESTS_AN_ORDER) {
        common.push("order").await;
    }
    "hello"
}

/// One event, and then none for ever.
async fn events() -> impl IntoResponse {
    let first = stream::iter([Ok::<_, io::Error>("data: tick\n\n")]);
    let body = Body::from_stream(first.chain(stream::pending()));
    ([(CONTENT_TYPE, "text/event-stream")], body)
}

async fn work(job: Job, outlasting: Arc<Notify>) {
    if job.kind() == OUTLASTING && job.returns() == 0 {
        outlasting.notify_one();
        pending::<()>().await;
    }
    sleep(WORK).await;
}

/// Far more than is needed: a busy machine is to cut nothing.
const GRACE: Duration = Duration::from_secs(30);
/// Of a server that runs out of time.
const SHORT_GRACE: Duration = Duration::from_millis(1_500);
/// Clients without think time are told within a request.
const LAME_DUCK: Duration = Duration::from_millis(50);
/// Those that the machine has kept from asking are told after it.
const IDLE: Duration = Duration::from_secs(10);
const WORK: Duration = Duration::from_millis(3);
const JOBS_AT_A_TIME: usize = 20;
/// So that the worker keeps up whatever the machine serves.
pub(super) const REQUESTS_AN_ORDER: u64 = 25;
const OUTLASTING: &str = "outlasting";
/// Nothing takes that long unless it hangs.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
