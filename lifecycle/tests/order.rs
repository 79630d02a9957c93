//! Components in full under paused time: who drains after whom, who may end, admin jobs.
#![cfg(not(lifecycle_loom))]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle::{BoxError, Cause, Component, End, Handle, Lifecycle, Phase, Role, component_fn};
use tokio::time::{Instant, sleep};

fn life() -> Lifecycle {
    let builder = Lifecycle::builder().grace_period(Duration::from_secs(30));
    builder.build_local().expect("30 s are enough")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What happened when, since the shutdown was asked for.
#[derive(Clone)]
struct Log {
    began: Instant,
    lines: Arc<Mutex<Vec<(String, Duration)>>>,
}

impl Log {
    fn new() -> Self {
        Self { began: Instant::now(), lines: Arc::default() }
    }

    fn say(&self, what: &str) {
        self.lines.lock().expect("no panic").push((what.to_owned(), self.began.elapsed()));
    }

    fn at(&self, what: &str) -> Duration {
        let lines = self.lines.lock().expect("no panic");
        lines.iter().find(|line| line.0 == what).unwrap_or_else(|| panic!("no {what}")).1
    }
}

/// Says when it sees each phase, and ends so long after its drain has begun.
fn watcher(log: &Log, name: &'static str, drains: Duration) -> impl Component {
    let log = log.clone();
    component_fn(move |handle: Handle| async move {
        handle.lame_duck().await;
        log.say(&format!("{name} quiet"));
        handle.draining().await;
        log.say(&format!("{name} drains"));
        tokio::select! {
            () = sleep(drains) => log.say(&format!("{name} ends")),
            () = handle.cancelled() => log.say(&format!("{name} cancelled")),
        }
    })
}

#[tokio::test(start_paused = true)]
async fn one_that_drains_after_another_goes_quiet_at_once_and_ends_later() {
    let mut life = life();
    let log = Log::new();
    life.spawn("jobs", watcher(&log, "jobs", ms(500)))
        .after("http")
        .spawn("http", watcher(&log, "http", ms(3_000)));
    life.handle().shutdown("test");
    let report = life.run().await.expect("runs");
    assert_eq!(log.at("jobs quiet"), ms(0));
    assert_eq!(log.at("http drains"), ms(0));
    assert_eq!(log.at("jobs drains"), ms(3_000));
    assert_eq!(log.at("jobs ends"), ms(3_500));
    assert_eq!(report.exit_code(), 0);
    let names: Vec<_> = report.components().iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["http", "jobs"]);
}

#[tokio::test(start_paused = true)]
async fn all_in_a_chain_keep_one_deadline_and_share_the_cancel_window() {
    let mut life = life();
    let log = Log::new();
    let hour = Duration::from_secs(3_600);
    life.spawn("a", watcher(&log, "a", hour))
        .spawn("b", watcher(&log, "b", hour))
        .after("deaf")
        .spawn("c", watcher(&log, "c", hour))
        .after("b")
        .after("deaf")
        .spawn("deaf", std::future::pending::<()>());
    life.handle().shutdown("test");
    let report = life.run().await.expect("runs");
    assert_eq!(log.at("a cancelled"), ms(24_500));
    assert_eq!(log.at("b drains"), ms(24_500), "late, but before it is cancelled");
    assert_eq!(log.at("b cancelled"), ms(25_000));
    assert_eq!(log.at("c cancelled"), ms(25_500));
    assert_eq!(report.exit_code(), 3);
    assert_eq!(report.components().last().expect("four").end, End::Aborted);
}

#[tokio::test(start_paused = true)]
async fn one_whose_predecessor_is_gone_drains_with_everybody() {
    let mut life = life();
    let log = Log::new();
    let handle = life.handle();
    life.spawn("warm-up", async { sleep(ms(10)).await }).optional();
    life.spawn("db", watcher(&log, "db", ms(0))).after("warm-up");
    life.spawn("asker", async move {
        sleep(ms(1_000)).await;
        handle.shutdown("test");
        handle.draining().await;
    });
    drop(life.run().await.expect("runs"));
    assert_eq!(log.at("db drains"), ms(1_000));
}

#[tokio::test(start_paused = true)]
async fn a_second_request_after_the_chain_has_begun_changes_nothing() {
    let mut life = life();
    let log = Log::new();
    let handle = life.handle();
    life.spawn("b", watcher(&log, "b", ms(0))).after("a");
    life.spawn(
        "a",
        component_fn(|handle: Handle| async move {
            handle.draining().await;
            sleep(ms(700)).await;
            handle.shutdown("again");
        }),
    );
    handle.shutdown("test");
    let report = life.run().await.expect("runs");
    assert_eq!(log.at("b drains"), ms(700));
    assert_eq!(report.cause(), &Cause::Requested { reason: "test".into() });
}

#[tokio::test(start_paused = true)]
async fn a_server_after_another_goes_on_serving_until_that_one_has_drained() {
    struct Admin(Log);
    impl Component for Admin {
        async fn run(self, handle: Handle) -> Result<(), BoxError> {
            handle.draining().await;
            self.0.say("closes");
            Ok(())
        }
        fn role(&self) -> Role {
            Role::Server
        }
    }
    let mut life = life();
    let log = Log::new();
    life.spawn("admin", Admin(log.clone())).after("work");
    life.spawn("work", watcher(&log, "work", ms(2_000)));
    life.handle().shutdown("test");
    drop(life.run().await.expect("runs"));
    assert_eq!(log.at("closes"), ms(7_000), "5 s of lame duck, 2 s of work");
}

#[tokio::test(start_paused = true)]
async fn unknown_names_and_circles_are_refused_before_anything_starts() {
    let started = Arc::new(Mutex::new(false));
    let component = || {
        let started = started.clone();
        async move { *started.lock().expect("no panic") = true }
    };
    let mut unknown = life();
    unknown.spawn("db", component()).after("htpt");
    let error = unknown.run().await.expect_err("refused");
    assert_eq!(
        format!("{error:?}"),
        "the components cannot be run as they are registered: \"db\" is to drain after \
         \"htpt\", which is not registered"
    );
    let mut circle = life();
    circle.spawn("a", component()).after("b").spawn("b", component()).after("a");
    let error = circle.run().await.expect_err("refused");
    assert!(format!("{error:?}").contains("\"a\" after \"b\" after \"a\""), "{error:?}");
    let mut itself = life();
    itself.spawn("a", component()).after("a");
    assert!(itself.run().await.is_err());
    tokio::task::yield_now().await;
    assert!(!*started.lock().expect("no panic"));
}

#[tokio::test(start_paused = true)]
async fn an_optional_component_may_end_but_not_fail() {
    let mut life = life();
    let handle = life.handle();
    life.spawn("cache-warmer", async {}).optional();
    life.spawn("service", {
        let handle = handle.clone();
        async move { handle.draining().await }
    });
    life.spawn("asker", async move {
        sleep(Duration::from_secs(60)).await;
        assert_eq!(handle.phase(), Phase::Running, "still");
        handle.shutdown("test");
        handle.draining().await;
    });
    let report = life.run().await.expect("runs");
    assert_eq!(report.cause(), &Cause::Requested { reason: "test".into() });
    assert_eq!(report.exit_code(), 0);

    let mut life = self::life();
    life.spawn("cache-warmer", async { Err::<(), _>("no cache") }).optional();
    life.spawn("service", std::future::pending::<()>());
    let report = life.run().await.expect("runs");
    assert_eq!(report.exit_code(), 1);
    let failed = Cause::ComponentFailed { name: "cache-warmer".into(), error: "no cache".into() };
    assert_eq!(report.cause(), &failed);
}

#[tokio::test(start_paused = true)]
async fn an_admin_job_that_is_done_ends_the_process_cleanly() {
    let mut life = life();
    let log = Log::new();
    life.spawn("pool", watcher(&log, "pool", ms(0))).after("migrate");
    life.on_close("db", {
        let log = log.clone();
        async move { log.say("db closed") }
    });
    let report = life.run_once("migrate", async { sleep(ms(400)).await }).await.expect("runs");
    assert_eq!(report.cause(), &Cause::Finished { name: "migrate".into() });
    assert!(report.to_string().starts_with("shutdown: migrate is done"), "{report}");
    assert_eq!(report.exit_code(), 0);
    assert_eq!((log.at("pool drains"), log.at("db closed")), (ms(400), ms(400)));
}

#[tokio::test(start_paused = true)]
async fn an_admin_job_fails_panics_and_is_cut_as_a_component_is() {
    let code = |result: Result<lifecycle::Report, _>| result.expect("runs").exit_code();
    assert_eq!(code(life().run_once("job", async { Err::<(), _>("no luck") }).await), 1);
    let panics = async { assert!(std::env::args().count() == 0, "on purpose") };
    assert_eq!(code(life().run_once("job", panics).await), 1);
    let stubborn = life();
    stubborn.handle().shutdown("test");
    let began = Instant::now();
    assert_eq!(code(stubborn.run_once("job", std::future::pending::<()>()).await), 3);
    assert!(began.elapsed() < ms(26_100));
    let polite = life();
    let handle = polite.handle();
    handle.shutdown("test");
    assert_eq!(code(polite.run_once("job", async move { handle.draining().await }).await), 0);
}
