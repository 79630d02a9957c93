//! The test kit itself, with signals under paused time.
#![cfg(all(feature = "test-kit", not(lifecycle_loom)))]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle::test_kit::{Script, TestKit};
use lifecycle::{Builder, Cause, End, ExitReason, Lifecycle, Phase, ReadinessPolicy, Signal};

fn thirty() -> Builder {
    Lifecycle::builder().grace_period(Duration::from_secs(30))
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

async fn started(builder: Builder, script: Script) -> TestKit {
    let mut kit = TestKit::new(builder);
    kit.life().spawn("it", script);
    kit.start().await;
    kit
}

#[tokio::test(start_paused = true)]
async fn a_sigterm_walks_through_all_phases_on_the_tests_clock() {
    let script = Script::server().drains_for(secs(2));
    let seen = script.log();
    let kit = started(thirty(), script).await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::LameDuck).await;
    assert!(!kit.is_ready());
    let report = kit.report().await;
    report.is_clean().cause(&Cause::Signal(Signal::Terminate)).took(Phase::LameDuck, secs(5));
    report.took(Phase::Draining, secs(2)).ended("it", &End::Finished);
    assert_eq!(seen.at(Phase::LameDuck), Some(Duration::ZERO));
    assert_eq!(seen.at(Phase::Draining), Some(secs(5)));
    assert_eq!(seen.at(Phase::Cancelling), None);
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_skips_the_lame_duck_and_a_platforms_sigint_does_not() {
    let kit = started(thirty(), Script::server()).await;
    kit.ctrl_c();
    assert_eq!(kit.report().await.is_clean().report().took(), Duration::ZERO);
    let kit = started(thirty(), Script::server()).await;
    kit.signal(Signal::Interrupt);
    kit.report().await.is_clean().took(Phase::LameDuck, secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_forces_the_stop_and_a_third_ends_it() {
    let kit = started(thirty(), Script::task().deaf()).await;
    kit.signal(Signal::Terminate);
    kit.signal(Signal::Terminate); // a repeat, not a second one
    kit.reaches(Phase::Draining).await;
    kit.passes(secs(1)).await;
    assert_eq!(kit.handle().phase(), Phase::Draining);
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Cancelling).await;
    let report = kit.report().await;
    report.exit_code(143).cut(Phase::Draining, "it").ended("it", &End::Aborted);
    assert_eq!(report.report().exit_reason(), ExitReason::Forced(Signal::Terminate));

    let kit = started(thirty(), Script::server().deaf()).await;
    kit.signal(Signal::Terminate);
    kit.signal(Signal::Interrupt);
    kit.signal(Signal::Quit);
    kit.report().await.exit_code(131);
}

#[tokio::test(start_paused = true)]
async fn scripts_end_by_themselves_as_they_are_told() {
    let kit = started(thirty(), Script::task().fails_after(secs(9), "no luck")).await;
    kit.report().await.exit_code(1).ended("it", &End::Failed("no luck".into()));
    let kit = started(thirty(), Script::worker().panics_after(secs(9), "oh")).await;
    kit.report().await.exit_code(1).ended("it", &End::Panicked("oh".into()));
    let kit = started(thirty(), Script::task().returns_after(secs(9))).await;
    kit.report().await.exit_code(1).cause(&Cause::ComponentEnded { name: "it".into() });
}

#[tokio::test(start_paused = true)]
async fn an_admin_job_is_tested_like_a_service() {
    let mut kit = TestKit::new(thirty());
    kit.start_once("migrate", Script::task().returns_after(secs(9))).await;
    kit.report().await.is_clean().cause(&Cause::Finished { name: "migrate".into() });
    let mut kit = TestKit::new(thirty());
    kit.start_once("migrate", Script::task().deaf()).await;
    kit.signal(Signal::Terminate);
    kit.report().await.exit_code(3).cut(Phase::Draining, "migrate");
}

/// It names no work of its own, yet it was waited for and dropped.
#[tokio::test(start_paused = true)]
async fn a_server_or_worker_that_does_not_end_by_itself_is_cut_work() {
    for script in [Script::server().deaf(), Script::worker().deaf()] {
        let kit = started(thirty(), script).await;
        kit.signal(Signal::Terminate);
        kit.report().await.exit_code(3).cut(Phase::Closing, "it").ended("it", &End::Aborted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hangup_reloads_where_there_is_a_hook_and_stops_where_there_is_none() {
    let count = Arc::new(Mutex::new(0));
    let mut kit = TestKit::new(thirty());
    kit.life().spawn("it", Script::task());
    kit.life().on_reload("config", {
        let count = Arc::clone(&count);
        move || {
            *count.lock().expect("no panic") += 1;
            async {}
        }
    });
    kit.signal(Signal::Hangup); // kept until it runs
    kit.start().await;
    for _ in 0..2 {
        kit.passes(secs(1)).await;
        kit.signal(Signal::Hangup);
    }
    kit.passes(secs(1)).await;
    assert_eq!(*count.lock().expect("no panic"), 3);
    assert_eq!(kit.handle().phase(), Phase::Running);
    kit.signal(Signal::Terminate);
    kit.signal(Signal::Hangup);
    kit.report().await.is_clean();
    assert_eq!(*count.lock().expect("no panic"), 3, "not in a shutdown");

    let kit = started(thirty(), Script::task()).await;
    kit.signal(Signal::Hangup);
    kit.report().await.is_clean().cause(&Cause::Signal(Signal::Hangup));
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_its_policy() {
    let policy = ReadinessPolicy::After(secs(3));
    let kit = started(thirty().readiness(policy), Script::server()).await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::LameDuck).await;
    kit.passes(Duration::from_millis(2_900)).await;
    assert!(kit.is_ready());
    kit.passes(Duration::from_millis(200)).await;
    assert!(!kit.is_ready());
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "it is in running, in flight: [work import")]
async fn a_wait_for_what_nobody_asked_for_ends_and_says_what_holds_it() {
    let kit = started(thirty(), Script::task()).await;
    let _guard = kit.handle().enter("import").expect("open");
    kit.reaches(Phase::LameDuck).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "it did not end: it is in running")]
async fn a_report_that_does_not_come_is_a_failure() {
    drop(started(thirty(), Script::task()).await.report().await);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "which is not registered")]
async fn what_run_refuses_is_told_by_start() {
    let mut kit = TestKit::new(thirty());
    kit.life().spawn("it", Script::task()).after("nobody");
    kit.start().await;
}

#[tokio::test(start_paused = true)]
async fn each_assertion_can_fail_and_shows_the_timeline() {
    let kit = started(thirty(), Script::task().deaf()).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    let fails = |check: &dyn Fn()| {
        let check = std::panic::AssertUnwindSafe(check);
        let panic = std::panic::catch_unwind(check).expect_err("fails");
        let text = panic.downcast_ref::<String>().expect("a message");
        assert!(text.contains("expected: ") && text.contains("shutdown: SIGTERM"), "{text}");
    };
    fails(&|| _ = report.is_clean());
    fails(&|| _ = report.exit_code(0));
    fails(&|| _ = report.cause(&Cause::Signal(Signal::Quit)));
    fails(&|| _ = report.cut(Phase::Closing, "it"));
    fails(&|| _ = report.cut(Phase::Draining, "else"));
    fails(&|| _ = report.ended("it", &End::Finished));
    fails(&|| _ = report.ended_in_order(&["it", "else"]));
    fails(&|| _ = report.took(Phase::LameDuck, Duration::ZERO));
    fails(&|| _ = report.took(Phase::Draining, secs(1)));
    report
        .exit_code(3)
        .cut(Phase::Draining, "it")
        .took(Phase::Draining, Duration::from_millis(24_500));
}
