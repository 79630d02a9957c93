//! What callers get wrong: values at the edge of what types allow, names of any kind, and
//! every call made after the end.
#![cfg(not(lifecycle_loom))]

use std::any::Any;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use lifecycle::{
    BoxError, Builder, Cause, Component, End, Handle, Kind, Lifecycle, Phase, ReadinessPolicy,
    Stage,
};
use tokio::time::{Instant, timeout};

const LIMIT: Duration = Duration::from_secs(600);

fn builder() -> Builder {
    Lifecycle::builder().grace_period(Duration::from_secs(30))
}

/// Calls everything that a handle of an ended lifecycle has, twice.
async fn calls_everything(handle: &Handle) {
    for _ in 0..2 {
        assert_eq!(handle.phase(), Phase::Stopped);
        for phase in Phase::ALL {
            timeout(LIMIT, handle.reached(phase)).await.expect("reached long ago");
            assert!(handle.deadline(phase).is_none_or(|at| at > Instant::now() - LIMIT));
        }
        handle.lame_duck().await;
        handle.draining().await;
        handle.cancelled().await;
        handle.shutdown("again");
        handle.listening();
        handle.note("too late for the report");
        assert!(handle.blockers().is_empty());
        assert!(handle.enter("late").is_err());
        let gate = handle.gate(Kind::Request);
        assert!(gate.enter("late", "").is_err() && gate.enter_unnamed().is_err());
        gate.close();
        timeout(LIMIT, gate.drained()).await.expect("closed and empty from the start");
        assert_eq!((gate.in_flight(), gate.blockers().len()), (0, 0));
        assert_eq!(handle.phase(), Phase::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_end_every_call_of_a_handle_is_harmless() {
    let life = builder().build_local().expect("30 s are enough");
    let handle = life.handle();
    let gate = handle.gate(Kind::Work);
    let early = handle.reached(Phase::Stopped);
    handle.shutdown("test");
    let report = life.run().await.expect("runs");
    early.await;
    assert_eq!(report.exit_code(), 0);
    assert_eq!(handle.time_left(), handle.deadline(Phase::Draining).map(|at| at - Instant::now()));
    assert!(gate.enter("late", "").is_err());
    calls_everything(&handle).await;
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert_eq!(handle.time_left(), Some(Duration::ZERO), "never negative");
    assert!(report.notes().is_empty(), "the report is as it was");
}

#[tokio::test(start_paused = true)]
async fn after_a_lifecycle_was_dropped_without_run_too() {
    let life = builder().build_local().expect("30 s are enough");
    let handle = life.handle();
    drop(life);
    timeout(LIMIT, handle.reached(Phase::Stopped)).await.expect("ends by itself");
    calls_everything(&handle).await;
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_outlives_the_end_leaves_quietly() {
    let life = builder().build_local().expect("30 s are enough");
    let handle = life.handle();
    let guard = handle.enter("kept").expect("open");
    handle.shutdown("test");
    assert_eq!(life.run().await.expect("runs").exit_code(), 3, "it was cut");
    guard.set_stage(Stage::Sending);
    assert_eq!(handle.blockers()[0].name, "kept", "who asks is told the truth");
    drop(guard);
    assert!(handle.blockers().is_empty());
}

#[cfg(feature = "probes")]
#[tokio::test(start_paused = true)]
async fn probes_begun_after_the_end_are_refused() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut life = builder().probe_addr(any).build_local().expect("30 s are enough");
    let handle = life.handle();
    handle.shutdown("test");
    handle.reached(Phase::Stopped).await;
    let error = life.serve_probes().await.expect_err("too late");
    assert_eq!(format!("{error:?}"), "the lifecycle has already ended");
    let error = life.run().await.expect_err("too late");
    assert_eq!(format!("{error:?}"), "the shutdown was over before `run` was reached");
}

#[cfg(feature = "probes")]
#[tokio::test]
async fn a_probe_address_in_use_is_named_and_the_rest_goes_on() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("bound");
    let mut life = builder().probe_addr(addr).build_local().expect("30 s are enough");
    for _ in 0..2 {
        let said = format!("{:?}", life.serve_probes().await.expect_err("in use"));
        assert!(said.contains(&addr.to_string()) && said.contains("in use"), "{said}");
    }
    drop(taken);
    assert_eq!(life.serve_probes().await.expect("free now"), Some(addr));
    life.handle().shutdown("test");
    assert_eq!(life.run().await.expect("runs").exit_code(), 0);
}

#[test]
fn durations_without_end_are_refused_where_a_clock_would_overflow() {
    let endless = [
        builder().grace_period(Duration::MAX),
        builder().lame_duck_period(Duration::MAX),
        builder().pre_stop_delay(Duration::MAX),
        builder().grace_period(Duration::ZERO),
        builder().pre_stop_delay(Duration::from_secs(30)),
        builder().grace_period(Duration::from_nanos(1)),
    ];
    for endless in endless {
        let said = format!("{:?}", endless.build().expect_err("refused"));
        assert!(said.starts_with("the shutdown budget contradicts itself: "), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn durations_without_end_are_bounded_by_the_grace_elsewhere() {
    let after = ReadinessPolicy::After(Duration::MAX);
    let life = builder().readiness(after).build_local().expect("30 s are enough");
    let mut life = life;
    life.on_close_within("hangs", Duration::MAX, pending::<()>());
    life.on_close_within("has no time", Duration::ZERO, pending::<()>());
    let handle = life.handle();
    handle.listening();
    handle.shutdown("test");
    let began = Instant::now();
    let report = life.run().await.expect("runs");
    assert_eq!(began.elapsed(), Duration::from_secs(29), "never beyond exit_by");
    assert_eq!(report.exit_code(), 3);
}

/// As someone writes it who wants no such limit.
#[tokio::test(start_paused = true)]
async fn a_quiet_time_without_end_leaves_the_lame_duck_its_own_time() {
    for connections in [0, 1] {
        let quiet = builder().adaptive_lame_duck(Duration::ZERO, Duration::MAX);
        let life = quiet.build_local().expect("30 s are enough");
        let handle = life.handle();
        handle.listening();
        handle.shutdown("test");
        let began = Instant::now();
        let run = tokio::spawn(life.run());
        for _ in 0..connections {
            tokio::time::sleep(Duration::from_secs(1)).await;
            handle.saw_connection();
        }
        let report = run.await.expect("no panic").expect("runs");
        assert_eq!((report.exit_code(), began.elapsed()), (0, Duration::from_secs(5)));
    }
}

/// As above.
#[tokio::test(start_paused = true)]
async fn a_heart_may_have_a_limit_without_end_or_none() {
    for limit in [Duration::MAX, Duration::from_secs(u64::MAX / 2), Duration::ZERO] {
        let mut life = builder().build_local().expect("30 s are enough");
        life.watchdog(limit);
        life.spawn(
            "it",
            lifecycle::component_fn(|handle: Handle| async move {
                handle.draining().await;
            }),
        )
        .heartbeat(limit);
        let handle = life.handle();
        let run = tokio::spawn(life.run());
        tokio::time::sleep(Duration::from_secs(2)).await;
        handle.shutdown("test");
        let report = timeout(LIMIT, run).await.expect("ends").expect("no panic");
        assert_eq!(report.expect("runs").exit_code(), 0, "{limit:?}");
    }
}

/// As above: one look at the start, or one that may take its time.
#[tokio::test(start_paused = true)]
async fn a_check_without_end_to_its_interval_or_timeout_is_run_all_the_same() {
    let check = || lifecycle::Check::readiness("db", || async {});
    for check in [check().interval(Duration::MAX), check().timeout(Duration::MAX)] {
        let mut life = builder().build_local().expect("30 s are enough");
        life.check(check);
        let (handle, mut readiness) = (life.handle(), life.handle().readiness());
        let run = tokio::spawn(life.run());
        assert_eq!(timeout(LIMIT, readiness.changed()).await.expect("ready"), Some(true));
        handle.shutdown("test");
        assert_eq!(run.await.expect("no panic").expect("runs").exit_code(), 0);
    }
}

/// Names and reasons are for people: any text is taken, and none breaks a line of the report.
#[tokio::test(start_paused = true)]
async fn names_of_any_kind_are_taken() {
    let long = "\u{1f986}".repeat(10_000);
    for name in ["", " ", "\0", "\u{202e}", &long] {
        let mut life = builder().build_local().expect("30 s are enough");
        let handle = life.handle();
        life.spawn(name, pending::<()>());
        life.on_close(name, async {});
        let guard = handle.enter(name).expect("open");
        let gate = handle.gate(Kind::Request);
        let other = gate.enter(name, name).expect("open");
        let names: Vec<_> = handle.blockers().into_iter().map(|one| one.name).collect();
        assert!(
            names.len() == 2 && names.iter().all(|name| name.chars().count() <= 48),
            "{names:?}"
        );
        for _ in 0..1_000 {
            handle.note(name);
        }
        handle.shutdown(name);
        let report = life.run().await.expect("runs");
        assert_eq!((report.notes().len(), report.exit_code()), (100, 3));
        assert!(!report.to_string().is_empty());
        drop((guard, other));
    }
}

/// Panics before there is a future.
struct PanicsAtOnce;

impl Component for PanicsAtOnce {
    fn run(self, _: Handle) -> impl Future<Output = Result<(), BoxError>> + Send + 'static {
        let panics = || -> Result<(), BoxError> { panic!("{}", "a formatted message") };
        let early = panics();
        async move { early }
    }
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("while it was dropped");
    }
}

async fn panics_with(payload: Box<dyn Any + Send>) {
    std::panic::resume_unwind(payload)
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_any_kind_is_told() {
    let told = |life: Lifecycle| async { life.run().await.expect("runs").cause().clone() };
    let panicked =
        |message: &str| Cause::ComponentPanicked { name: "c".into(), message: message.into() };
    let life = || builder().build_local().expect("30 s are enough");

    let mut at_once = life();
    at_once.spawn("c", PanicsAtOnce);
    assert_eq!(told(at_once).await, panicked("a formatted message"));

    let mut of_no_text = life();
    of_no_text.spawn("c", panics_with(Box::new(42)));
    assert_eq!(told(of_no_text).await, panicked("no message"));

    let mut of_text = life();
    of_text.spawn("c", panics_with(Box::new("text".to_owned())));
    assert_eq!(told(of_text).await, panicked("text"));
}

/// What panics while the hard stop drops it is reported as that, and holds nobody up.
#[tokio::test(start_paused = true)]
async fn a_panic_while_it_is_dropped_is_told_and_skips_nothing() {
    let mut life = builder().build_local().expect("30 s are enough");
    let kept = PanicsWhenDropped;
    life.spawn("c", async move {
        pending::<()>().await;
        drop(kept);
    });
    let kept = PanicsWhenDropped;
    life.on_close("first", async {});
    life.on_close_within("h", Duration::from_millis(10), async move {
        pending::<()>().await;
        drop(kept);
    });
    life.handle().shutdown("test");
    let report = life.run().await.expect("runs");
    let message = End::Panicked("while it was dropped".into());
    assert_eq!(report.components()[0].end, message);
    assert_eq!(report.hooks()[0].name, "h");
    assert_eq!(
        (report.hooks()[1].name.as_str(), &report.hooks()[1].end),
        ("first", &End::Finished)
    );
}
