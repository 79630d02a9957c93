//! Checks, heartbeats and the start under paused time, and the probes that show them.
#![cfg(all(feature = "test-kit", feature = "probes", not(lifecycle_loom)))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::BodyExt;
use lifecycle::test_kit::{Script, TestKit};
use lifecycle::{Check, CheckKind, CheckState, Handle, Lifecycle, Phase, Signal, component_fn};

fn kit() -> TestKit {
    let mut kit = TestKit::new(Lifecycle::builder().grace_period(Duration::from_secs(30)));
    kit.life().spawn("it", Script::server());
    kit
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Something that can be broken and mended.
#[derive(Clone, Default)]
struct Thing {
    broken: Arc<AtomicBool>,
    looked_at: Arc<AtomicU32>,
}

impl Thing {
    fn check(&self) -> impl Future<Output = Result<(), &'static str>> + Send + use<> {
        self.looked_at.fetch_add(1, Relaxed);
        let broken = self.broken.load(Relaxed);
        async move { if broken { Err("the secret password is wrong") } else { Ok(()) } }
    }

    fn readiness(&self) -> Check {
        let thing = self.clone();
        Check::readiness("thing", move || thing.check())
    }

    fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Relaxed);
    }
}

async fn ask(handle: &Handle, path: &str) -> (u16, String) {
    let request = hyper::Request::get(path).body(()).expect("a request");
    let response = tower_service::Service::call(&mut handle.probes(), request).await;
    let response = response.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("whole").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_its_checks_after_as_many_results_as_asked_for() {
    let (mut kit, thing) = (kit(), Thing::default());
    kit.life().check(thing.readiness().interval(secs(5)).failure_threshold(2).success_threshold(3));
    assert!(!kit.is_ready());
    kit.start().await;
    kit.passes(Duration::from_millis(1)).await;
    assert!(kit.is_ready(), "the first run is at once");
    thing.set_broken(true);
    kit.passes(secs(6)).await;
    assert!(kit.is_ready(), "one failure");
    kit.passes(secs(5)).await;
    assert!(!kit.is_ready(), "two");
    let status = &kit.handle().checks()[0];
    assert_eq!((status.kind, status.state), (CheckKind::Readiness, CheckState::Failing));
    assert_eq!(status.error.as_deref(), Some("the secret password is wrong"));
    let (code, body) = ask(&kit.handle(), "/readyz").await;
    assert_eq!(code, 503);
    assert!(body.contains("[-]thing failed: reason withheld") && !body.contains("password"));
    assert_eq!(ask(&kit.handle(), "/readyz?exclude=thing").await, (200, "ok".to_owned()));
    assert_eq!(ask(&kit.handle(), "/livez").await.0, 200);
    thing.set_broken(false);
    kit.passes(secs(11)).await;
    assert!(!kit.is_ready(), "two successes");
    kit.passes(secs(5)).await;
    assert!(kit.is_ready(), "three");
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_or_panics_is_a_failing_check_and_never_runs_twice_at_a_time() {
    let mut kit = kit();
    let at_once = Arc::new(AtomicU32::new(0));
    kit.life().check({
        let at_once = Arc::clone(&at_once);
        Check::readiness("hangs", move || {
            let at_once = Arc::clone(&at_once);
            async move {
                assert_eq!(at_once.fetch_add(1, Relaxed), 0, "one at a time");
                let _leaves = scopeguard(move || _ = at_once.fetch_sub(1, Relaxed));
                std::future::pending::<()>().await;
            }
        })
        .interval(secs(2))
        .timeout(secs(1))
    });
    kit.life().check(Check::readiness("panics", || async {
        assert!(std::env::args().count() == 0, "on purpose");
    }));
    kit.life().check(Check::readiness("panics early", || {
        assert!(std::env::args().count() == 0, "before there is a future");
        async {}
    }));
    kit.start().await;
    kit.passes(secs(20)).await;
    let checks = kit.handle().checks();
    assert_eq!(checks[2].error.as_deref(), Some("panicked: before there is a future"));
    assert_eq!(checks[0].error.as_deref(), Some("timed out after 1s"));
    assert_eq!(checks[1].error.as_deref(), Some("panicked: on purpose"));
    assert!(checks.iter().all(|check| check.state == CheckState::Failing));
    assert!(!kit.is_ready());
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

/// Runs at the end of a scope, also when the future is dropped.
fn scopeguard(f: impl FnOnce()) -> impl Drop {
    struct Guard<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for Guard<F> {
        fn drop(&mut self) {
            if let Some(f) = self.0.take() {
                f();
            }
        }
    }
    Guard(Some(f))
}

#[tokio::test(start_paused = true)]
async fn checks_go_on_in_the_drain_and_end_before_the_hooks() {
    let (mut kit, thing) = (kit(), Thing::default());
    kit.life().spawn("work", Script::task().drains_for(secs(10)));
    kit.life().check(thing.readiness().interval(secs(1)));
    let at_close = Arc::new(AtomicU32::new(0));
    kit.life().on_close("pool", {
        let (thing, at_close) = (thing.clone(), Arc::clone(&at_close));
        async move {
            at_close.store(thing.looked_at.load(Relaxed), Relaxed);
            tokio::time::sleep(secs(2)).await;
        }
    });
    kit.start().await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Draining).await;
    let before = thing.looked_at.load(Relaxed);
    kit.report().await.is_clean().ended_in_order(&["work", "health checks", "pool"]);
    let after = thing.looked_at.load(Relaxed);
    assert!(after >= before + 9, "{before} to {after}");
    assert_eq!(after, at_close.load(Relaxed), "none while the pool closes");
}

#[tokio::test(start_paused = true)]
async fn many_checks_are_spread_over_their_interval() {
    let mut kit = kit();
    let began = tokio::time::Instant::now();
    let times = Arc::new(std::sync::Mutex::new(Vec::new()));
    for n in 0..10 {
        let times = Arc::clone(&times);
        let check = Check::readiness(format!("c{n}"), move || {
            times.lock().expect("no panic").push(began.elapsed().as_millis());
            async {}
        });
        kit.life().check(check.interval(secs(10)));
    }
    kit.start().await;
    kit.passes(Duration::from_millis(10_500)).await;
    let mut later = times.lock().expect("no panic").split_off(10);
    later.sort_unstable();
    let apart: Vec<_> = later.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(later.len() == 10 && apart.iter().all(|apart| *apart >= 900), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn the_start_is_over_when_its_checks_have_passed_and_the_warm_up_is_done() {
    let (mut kit, thing) = (kit(), Thing::default());
    thing.set_broken(true);
    let check = thing.clone();
    kit.life().warm_up().check(Check::startup("migrated", move || check.check()).interval(secs(1)));
    kit.start().await;
    kit.passes(secs(2)).await;
    let startup = async |path| ask(&kit.handle(), path).await;
    assert_eq!(startup("/startupz").await.0, 503);
    assert!(startup("/startupz").await.1.contains("[-]warm-up failed"));
    kit.handle().startup_done();
    assert_eq!(startup("/startupz/warm-up").await, (200, "ok".into()));
    assert_eq!(startup("/startupz").await.0, 503);
    assert!(!kit.is_ready());
    thing.set_broken(false);
    kit.passes(secs(2)).await;
    assert_eq!(startup("/startupz").await, (200, "ok".into()));
    assert!(kit.is_ready());
    thing.set_broken(true);
    kit.passes(secs(2)).await;
    assert_eq!(startup("/startupz").await.0, 200, "once it has passed it counts no more");
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::LameDuck).await;
    assert_eq!(startup("/startupz").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_component_that_does_not_beat_fails_liveness_until_it_does() {
    let mut kit = kit();
    let beats = component_fn(|handle: Handle| async move {
        for pause in [1, 1, 5, 1] {
            tokio::time::sleep(secs(pause)).await;
            handle.beat();
        }
        handle.draining().await;
    });
    kit.life().spawn("consumer", beats).heartbeat(secs(2));
    let began = tokio::time::Instant::now();
    kit.start().await;
    for (at, status) in [(3_000, 200), (5_000, 503), (7_500, 200), (12_000, 503)] {
        tokio::time::sleep_until(began + Duration::from_millis(at)).await;
        let (code, body) = ask(&kit.handle(), "/livez").await;
        assert_eq!(code, status, "{at} ms: {body}");
        if code == 503 {
            assert!(body.contains("[-]consumer failed"), "{body}");
        }
    }
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::LameDuck).await;
    assert_eq!(ask(&kit.handle(), "/livez").await.0, 200, "never because of a drain");
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_liveness_check_decides_until_a_shutdown_begins() {
    let (mut kit, thing) = (kit(), Thing::default());
    let check = thing.clone();
    kit.life().check(Check::liveness("deadlock", move || check.check()).interval(secs(1)));
    kit.start().await;
    assert_eq!(ask(&kit.handle(), "/livez").await.0, 200, "not looked at yet");
    thing.set_broken(true);
    kit.passes(secs(2)).await;
    assert_eq!(ask(&kit.handle(), "/healthz").await.0, 503);
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::LameDuck).await;
    assert_eq!(ask(&kit.handle(), "/livez").await.0, 200);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn drainz_waits_for_the_end_of_the_drain() {
    let mut kit = kit();
    kit.life().spawn("work", Script::task().drains_for(secs(7)));
    kit.start().await;
    let (status, body) = ask(&kit.handle(), "/drainz").await;
    assert_eq!(
        (status, body.as_str()),
        (503, "not drained: running, in flight: nothing by name\n")
    );
    assert_eq!(ask(&kit.handle(), "/drainz?wait=3s").await.0, 503, "nobody has asked for one");
    kit.signal(Signal::Terminate);
    let waits = tokio::spawn({
        let handle = kit.handle();
        async move { (ask(&handle, "/drainz?wait=20s").await, handle.phase()) }
    });
    let report = kit.report().await;
    report.is_clean().took(Phase::Draining, secs(7));
    let (answer, phase) = waits.await.expect("no panic");
    assert_eq!(answer, (200, "drained\n".to_owned()));
    assert!(phase >= Phase::Closing);
}

#[tokio::test(start_paused = true)]
async fn a_post_begins_the_drain_only_where_it_is_allowed() {
    let post = async |handle: &Handle| {
        let request = hyper::Request::post("/drainz").body(()).expect("a request");
        let response = tower_service::Service::call(&mut handle.probes(), request).await;
        response.expect("infallible").status().as_u16()
    };
    let mut allowed = kit();
    allowed.start().await;
    assert_eq!(post(&allowed.handle()).await, 403);
    assert_eq!(allowed.handle().phase(), Phase::Running);
    let mut allowed = kit();
    allowed.life().drain_by_post();
    allowed.start().await;
    assert_eq!(post(&allowed.handle()).await, 202);
    let report = allowed.report().await;
    assert_eq!(report.is_clean().report().cause().to_string(), "requested: POST /drainz");
}

#[tokio::test(start_paused = true)]
async fn statusz_shows_phase_time_left_blockers_and_why_a_check_fails() {
    let (mut kit, thing) = (kit(), Thing::default());
    thing.set_broken(true);
    kit.life().check(thing.readiness());
    kit.start().await;
    let _guard = kit.handle().enter("import").expect("open");
    kit.passes(secs(2)).await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::LameDuck).await;
    kit.passes(secs(1)).await;
    let (_, body) = ask(&kit.handle(), "/statusz").await;
    let status: serde_json::Value = serde_json::from_str(&body).expect("json");
    assert_eq!(status["phase"], "lame_duck");
    assert_eq!(status["phase_left_ms"], 4_000);
    assert_eq!(status["exit_left_ms"], 28_000);
    assert_eq!(status["cause"], "SIGTERM");
    assert_eq!(status["blockers"][0]["name"], "import");
    assert_eq!(status["blockers"][0]["age_ms"], 3_000);
    assert_eq!(status["checks"][0]["error"], "the secret password is wrong");
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_lame_duck_ends_when_nobody_comes_any_more() {
    let adaptive = || {
        let builder = Lifecycle::builder().grace_period(secs(30));
        builder.adaptive_lame_duck(secs(1), Duration::from_millis(500))
    };
    for (connections, lasts_ms) in
        [(vec![], 1_000), (vec![300, 900], 1_400), (vec![900, 1_500], 1_400)]
    {
        let mut kit = TestKit::new(adaptive());
        kit.life().spawn("http", Script::server());
        kit.start().await;
        kit.passes(secs(3)).await;
        kit.handle().saw_connection(); // long before the cause
        kit.passes(secs(3)).await;
        kit.signal(Signal::Terminate);
        kit.reaches(Phase::LameDuck).await;
        let (handle, began) = (kit.handle(), tokio::time::Instant::now());
        let clients = tokio::spawn(async move {
            for at in connections {
                tokio::time::sleep_until(began + Duration::from_millis(at)).await;
                handle.saw_connection();
            }
        });
        kit.report().await.is_clean().took(Phase::LameDuck, Duration::from_millis(lasts_ms));
        clients.abort();
    }
    // Somebody always comes: the lame duck's own time is the limit.
    let mut kit = TestKit::new(adaptive());
    kit.life().spawn("http", Script::server());
    kit.start().await;
    kit.signal(Signal::Terminate);
    let handle = kit.handle();
    let clients = tokio::spawn(async move {
        loop {
            handle.saw_connection();
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    });
    kit.report().await.is_clean().took(Phase::LameDuck, secs(5));
    clients.abort();
    let refused = adaptive().lame_duck_period(Duration::from_millis(900)).build_local();
    let said = format!("{:?}", refused.expect_err("contradicts itself"));
    assert!(
        said.ends_with("the least lame duck of 1s is longer than the lame duck of 900ms"),
        "{said}"
    );
}

/// Cancels: ProbeFuture
#[tokio::test(start_paused = true)]
async fn a_wait_for_the_drain_that_is_dropped_changes_nothing() {
    let mut kit = kit();
    kit.start().await;
    for path in ["/drainz?wait=20s", "/readyz"] {
        let request = hyper::Request::get(path).body(()).expect("a request");
        let answer = tower_service::Service::call(&mut kit.handle().probes(), request);
        let polled = tokio::time::timeout(Duration::from_millis(10), answer).await;
        assert_eq!(polled.is_ok(), path == "/readyz");
    }
    assert_eq!(kit.handle().phase(), Phase::Running);
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn what_holds_a_shutdown_beside_requests_is_shown_too() {
    let mut kit = kit();
    kit.life().spawn("buffer", component_fn(|handle| async move { handle.cancelled().await }));
    kit.life().on_close("pool", std::future::pending::<()>());
    kit.start().await;
    let handle = kit.handle();
    kit.signal(Signal::Terminate);
    kit.passes(secs(7)).await;
    assert_eq!(handle.phase(), Phase::Draining);
    let (_, body) = ask(&handle, "/statusz").await;
    let status: serde_json::Value = serde_json::from_str(&body).expect("json");
    assert_eq!(status["blockers"][0]["name"], "buffer", "{body}");
    assert!(status["blockers"][0]["age_ms"].as_u64() >= Some(7_000), "{body}");
    let (code, body) = ask(&handle, "/drainz").await;
    assert_eq!(code, 503);
    assert!(body.contains("component buffer"), "{body}");
    handle.reached(Phase::Closing).await;
    kit.passes(secs(1)).await;
    let (_, body) = ask(&handle, "/statusz").await;
    let status: serde_json::Value = serde_json::from_str(&body).expect("json");
    assert_eq!(status["blockers"][0]["name"], "pool", "{body}");
    drop(kit.report().await);
}
