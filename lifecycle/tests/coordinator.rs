//! The whole coordinator under paused time: phases, components, hooks, report.
#![cfg(not(lifecycle_loom))]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle::{
    BoxError, Builder, Cause, Component, End, ExitReason, Handle, Kind, Lifecycle, Phase, Role,
};
use tokio::time::{Instant, sleep};

fn builder() -> Builder {
    Lifecycle::builder().grace_period(Duration::from_secs(30))
}

fn life() -> Lifecycle {
    builder().build_local().expect("30 s are enough")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn panics() {
    panic!("on purpose")
}

/// A server that ends by itself when it is told to close.
struct Server;

impl Component for Server {
    async fn run(self, handle: Handle) -> Result<(), BoxError> {
        handle.draining().await;
        Ok(())
    }

    fn role(&self) -> Role {
        Role::Server
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_serves_through_the_lame_duck_and_the_rest_is_passed_over() {
    let mut life = life();
    let handle = life.handle();
    life.spawn("http", Server);
    life.spawn("asker", {
        let handle = handle.clone();
        async move {
            handle.reached(Phase::Running).await;
            handle.shutdown("test");
            handle.lame_duck().await;
            assert_eq!(handle.phase(), Phase::LameDuck);
            handle.draining().await;
        }
    });
    let began = Instant::now();
    let report = life.run().await.expect("runs");
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    let phases: Vec<_> = report.phases().iter().map(|time| (time.phase, time.used)).collect();
    assert_eq!(
        phases,
        [
            (Phase::LameDuck, Duration::from_secs(5)),
            (Phase::Draining, Duration::ZERO),
            (Phase::Closing, Duration::ZERO),
        ]
    );
    assert_eq!(report.cause(), &Cause::Requested { reason: "test".into() });
}

#[tokio::test(start_paused = true)]
async fn a_stop_between_the_registration_of_a_server_and_run_has_its_lame_duck() {
    let mut life = life();
    life.spawn("http", Server);
    life.handle().shutdown("test");
    let began = Instant::now();
    let report = life.run().await.expect("runs");
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert_eq!(report.exit_code(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_listens_outside_of_any_component_has_its_lame_duck_too() {
    let life = life();
    let handle = life.handle();
    handle.listening();
    let gate = handle.gate(Kind::Request);
    handle.shutdown("test");
    let began = Instant::now();
    let run = tokio::spawn(life.run());
    sleep(Duration::from_secs(4)).await;
    assert_eq!(handle.phase(), Phase::LameDuck);
    let late = gate.enter("GET", "/late").expect("still served, and counted");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(handle.phase(), Phase::Draining, "waits for it");
    drop(late);
    drop(run.await.expect("no panic").expect("runs"));
    assert_eq!(began.elapsed(), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_admitted_past_the_hard_stop() {
    let mut life = life();
    let handle = life.handle();
    life.spawn("deaf", std::future::pending::<()>());
    handle.shutdown("test");
    let run = tokio::spawn(life.run());
    handle.draining().await;
    assert!(handle.enter("in the drain").is_ok());
    handle.cancelled().await;
    assert!(handle.enter("too late").is_err());
    assert_eq!(run.await.expect("no panic").expect("runs").exit_code(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_start_longer_than_the_grace_is_told_so_by_run() {
    let life = life();
    life.handle().shutdown("test");
    sleep(Duration::from_secs(60)).await;
    let error = life.run().await.expect_err("over");
    assert_eq!(format!("{error:?}"), "the shutdown was over before `run` was reached");
}

#[tokio::test(start_paused = true)]
async fn without_a_listener_the_drain_begins_at_once_and_takes_what_the_work_takes() {
    let mut life = life();
    let handle = life.handle();
    life.spawn("job", async move {
        handle.shutdown("test");
        sleep(ms(1_234)).await;
    });
    let began = Instant::now();
    let report = life.run().await.expect("runs");
    assert_eq!(began.elapsed(), ms(1_234));
    assert_eq!(report.exit_reason(), ExitReason::Clean);
}

#[tokio::test(start_paused = true)]
async fn what_outlives_the_drain_is_named_cancelled_and_aborted() {
    let mut life = life();
    let handle = life.handle();
    let heeded = Arc::new(Mutex::new(None));
    life.spawn("polite", {
        let (handle, heeded) = (handle.clone(), heeded.clone());
        async move {
            handle.shutdown("test");
            handle.cancelled().await;
            *heeded.lock().expect("no panic") = Some(Instant::now());
        }
    });
    life.spawn("deaf", std::future::pending::<()>());
    let began = Instant::now();
    let report = life.run().await.expect("runs");
    assert_eq!(heeded.lock().expect("no panic").expect("heeded") - began, ms(24_500));
    assert_eq!(report.exit_code(), 3);
    let cuts: Vec<_> = report
        .cuts()
        .iter()
        .map(|cut| (cut.phase, cut.at, cut.blockers.iter().map(|b| b.name.as_str()).collect()))
        .collect::<Vec<(_, _, Vec<_>)>>();
    assert_eq!(cuts[0], (Phase::Draining, ms(24_500), vec!["polite", "deaf"]));
    assert_eq!(cuts[1], (Phase::Cancelling, ms(26_000), vec!["deaf"]));
    assert_eq!(report.components().last().expect("two").end, End::Aborted);
    assert!(began.elapsed() < ms(26_100), "a task that yields is joined at once");
}

#[tokio::test(start_paused = true)]
async fn guards_hold_the_drain_and_are_named_at_the_cut() {
    let life = life();
    let handle = life.handle();
    let guard = handle.enter("import of customers").expect("open");
    handle.shutdown("test");
    let began = Instant::now();
    let late = tokio::spawn(async move {
        sleep(Duration::from_secs(3)).await;
        drop(guard);
    });
    let report = life.run().await.expect("runs");
    assert_eq!(began.elapsed(), Duration::from_secs(3));
    assert_eq!(report.in_flight_at_cause(), 1);
    assert_eq!(report.exit_code(), 0);
    late.await.expect("no panic");
    assert!(handle.enter("too late").is_err());

    let life = self::life();
    let _held = life.handle().enter("import of orders").expect("open");
    life.handle().shutdown("test");
    let report = life.run().await.expect("runs");
    assert_eq!(report.exit_code(), 3);
    let blocker = &report.cuts()[0].blockers[0];
    assert_eq!((blocker.kind, blocker.name.as_str()), (Kind::Work, "import of orders"));
    assert_eq!(blocker.age, ms(24_500));
}

#[tokio::test(start_paused = true)]
async fn a_component_that_dies_is_the_cause() {
    let failed = |error: &str| Cause::ComponentFailed { name: "x".into(), error: error.into() };
    let mut life = life();
    life.spawn("x", async { Err::<(), _>(std::io::Error::other("no luck")) });
    let report = life.run().await.expect("runs");
    assert_eq!((report.cause(), report.exit_code()), (&failed("no luck"), 1));

    let mut life = self::life();
    life.spawn("x", panics());
    let report = life.run().await.expect("runs");
    let panicked = Cause::ComponentPanicked { name: "x".into(), message: "on purpose".into() };
    assert_eq!((report.cause(), report.exit_code()), (&panicked, 1));

    let mut life = self::life();
    life.spawn("x", async {});
    let report = life.run().await.expect("runs");
    assert_eq!(report.cause(), &Cause::ComponentEnded { name: "x".into() });
    assert_eq!(report.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn hooks_run_last_first_after_the_components_and_none_skips_the_rest() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let order = order.clone();
        move || order.lock().expect("no panic").push(what)
    };
    let mut life = life();
    let handle = life.handle();
    let (component, first, failing, hanging) =
        (note("component"), note("first"), note("failing"), note("hanging"));
    life.spawn("c", async move {
        handle.shutdown("test");
        sleep(ms(10)).await;
        component();
    });
    life.on_close("first", async move { first() });
    life.on_close("panicking", panics());
    life.on_close("failing", async move {
        failing();
        Err::<(), _>("no luck")
    });
    life.on_close_within("hanging", Duration::from_secs(1), async move {
        hanging();
        std::future::pending::<()>().await;
    });
    let began = Instant::now();
    let report = life.run().await.expect("runs");
    assert_eq!(*order.lock().expect("no panic"), ["component", "hanging", "failing", "first"]);
    assert_eq!(began.elapsed(), ms(1_010), "the hanging one had its second, no more");
    let ends: Vec<_> = report.hooks().iter().map(|hook| hook.end.clone()).collect();
    assert_eq!(
        ends,
        [
            End::Aborted,
            End::Failed("no luck".into()),
            End::Panicked("on purpose".into()),
            End::Finished
        ]
    );
    assert_eq!(report.exit_code(), 3, "a hook was cut");
}

#[tokio::test(start_paused = true)]
async fn hooks_without_a_limit_leave_time_to_those_behind_them() {
    let mut life = life();
    life.on_close("second", std::future::pending::<()>());
    life.on_close("first", std::future::pending::<()>());
    life.handle().shutdown("test");
    let began = Instant::now();
    let report = life.run().await.expect("runs");
    assert_eq!(began.elapsed(), ms(29_000), "never beyond exit_by");
    let took: Vec<_> = report.hooks().iter().map(|hook| hook.took).collect();
    assert_eq!(took, [ms(14_500), ms(14_500)]);
}

#[tokio::test(start_paused = true)]
async fn two_components_of_one_name_are_the_callers_mistake() {
    let mut life = life();
    life.spawn("a", std::future::pending::<()>()).spawn("a", std::future::pending::<()>());
    let error = life.run().await.expect_err("refused");
    assert!(format!("{error:?}").ends_with("two components are named \"a\""), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handle_outlives_the_end() {
    let life = life();
    let handle = life.handle();
    handle.shutdown("test");
    assert_eq!(life.run().await.expect("runs").exit_code(), 0);
    assert_eq!(handle.phase(), Phase::Stopped);
    handle.shutdown("again");
    handle.cancelled().await;
    assert!(handle.enter("late").is_err());
    assert!(handle.blockers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn dropping_run_leaves_the_shutdown_going() {
    let mut life = life();
    let handle = life.handle();
    life.spawn("c", {
        let handle = handle.clone();
        async move { handle.draining().await }
    });
    let run = tokio::time::timeout(ms(10), life.run()).await;
    assert!(run.is_err(), "nothing has asked for the end");
    let asked = tokio::time::timeout(ms(60_000), handle.reached(Phase::LameDuck)).await;
    assert!(asked.is_err(), "and nothing does because of that");
    handle.shutdown("test");
    tokio::time::timeout(Duration::from_secs(60), handle.reached(Phase::Stopped))
        .await
        .expect("ends by itself");
}

#[tokio::test]
async fn ten_lifecycles_live_side_by_side() {
    let lives: Vec<_> = (0..10).map(|_| life()).collect();
    let handles: Vec<_> = lives.iter().map(Lifecycle::handle).collect();
    handles[3].shutdown("only this one");
    for (n, life) in lives.into_iter().enumerate() {
        if n == 3 {
            assert_eq!(life.run().await.expect("runs").exit_code(), 0);
        } else {
            assert_eq!(handles[n].phase(), Phase::Starting);
        }
    }
}

#[test]
fn a_budget_that_contradicts_itself_is_refused_before_anything_starts() {
    let refused = Lifecycle::builder().grace_period(ms(500)).build().expect_err("too short");
    let said = format!("{refused:?}");
    assert!(said.contains("contradicts itself") && said.contains("500ms"), "{said}");
}
