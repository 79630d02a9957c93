//! The parts of a process: hooks and components in a shutdown, checks in an answer.

use std::time::Duration;

use benches::Moment;
use http::Request;
use lifecycle::{
    Builder, Check, ForcedExit, Handle, Lifecycle, Phase, Report, RunError, component_fn,
};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower_service::Service as _;

/// Milliseconds from the request for a shutdown to the report.
pub(crate) fn hooks(runtime: &Runtime, number: u64) -> Vec<f64> {
    let mut life = life();
    for hook in 0..number {
        life.on_close(format!("hook {hook}"), async {});
    }
    runtime.block_on(async { vec![Running::start(life).await.stop().await] })
}

/// Milliseconds until all of them run, and the same as of hooks.
pub(crate) fn components(runtime: &Runtime, number: u64) -> Vec<f64> {
    let mut life = life();
    for component in 0..number {
        let wait = component_fn(|handle: Handle| async move { handle.draining().await });
        life.spawn(format!("component {component}"), wait);
    }
    runtime.block_on(async {
        let began = Moment::now();
        let running = Running::start(life).await;
        let took = began.to(&Moment::now(), 1, None);
        vec![took.wall.as_secs_f64() * 1e3, running.stop().await]
    })
}

/// Microseconds of an answer that says yes.
pub(crate) fn checks(runtime: &Runtime, number: u64) -> Vec<f64> {
    let mut life = life();
    for check in 0..number {
        life.check(Check::readiness(format!("check {check}"), || async {}));
    }
    runtime.block_on(async {
        let mut ready = life.handle().readiness();
        let running = Running::start(life).await;
        let all_passed = async {
            while !ready.is_ready() {
                ready.changed().await.expect("it runs");
            }
        };
        timeout(LIMIT, all_passed).await.expect("every check passes");
        let mut probes = running.handle.probes();
        let began = Moment::now();
        for _ in 0..ANSWERS {
            let request = Request::get("/readyz").body(()).expect("a request");
            let Ok(answer) = probes.call(request).await;
            assert!(answer.status().is_success(), "{answer:?}");
        }
        let took = began.to(&Moment::now(), ANSWERS, None);
        running.stop().await;
        vec![took.wall.as_secs_f64() * 1e6 / ANSWERS as f64]
    })
}

/// A lifecycle that runs.
struct Running {
    handle: Handle,
    run: JoinHandle<Result<Report, RunError>>,
}

impl Running {
    async fn start(life: Lifecycle) -> Self {
        let handle = life.handle();
        let run = tokio::spawn(life.run());
        timeout(LIMIT, handle.reached(Phase::Running)).await.expect("it starts");
        Self { handle, run }
    }

    async fn stop(self) -> f64 {
        let began = Moment::now();
        self.handle.shutdown("enough");
        let report = timeout(LIMIT, self.run).await.expect("it ends");
        let report = report.expect("it does not panic").expect("it runs");
        let took = began.to(&Moment::now(), 1, None);
        assert_eq!(report.exit_code(), 0, "{report}");
        took.wall.as_secs_f64() * 1e3
    }
}

fn life() -> Lifecycle {
    builder().build().expect("the control thread starts")
}

/// As in production, but for the lame duck, which would be all that is measured.
pub(crate) fn builder() -> Builder {
    Lifecycle::builder()
        .grace_period(LIMIT)
        .lame_duck_period(Duration::ZERO)
        .forced_exit(ForcedExit::Never)
        .probe_addr(None)
}

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const ANSWERS: u64 = 200;
