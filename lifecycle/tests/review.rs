//! What a second look has found: faults of user code and of timing that told an untruth.
#![cfg(all(feature = "test-kit", not(lifecycle_loom)))]

use std::fmt;
use std::time::Duration;

use lifecycle::test_kit::{Script, TestKit};
use lifecycle::{Cause, End, Handle, Lifecycle, Phase, Signal, component_fn};
use tokio::sync::oneshot;

fn kit() -> TestKit {
    TestKit::new(Lifecycle::builder().grace_period(Duration::from_secs(30)))
}

struct Mute;

impl fmt::Display for Mute {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(std::env::args().count() == 0, "an error without words");
        Ok(())
    }
}

impl fmt::Debug for Mute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mute")
    }
}

impl std::error::Error for Mute {}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_it_is_printed_is_the_components_own_panic() {
    let mut kit = kit();
    kit.life().spawn("mute", async { Err::<(), _>(Mute) });
    kit.life().on_close("hook", async { Err::<(), _>(Mute) });
    kit.start().await;
    let panicked = End::Panicked("an error without words".into());
    kit.report().await.exit_code(1).ended("mute", &panicked).ended("hook", &panicked);
}

#[tokio::test(start_paused = true)]
async fn a_reload_hook_that_panics_before_its_future_is_made_stops_nothing() {
    let mut kit = kit();
    let (ran, second) = oneshot::channel();
    kit.life().on_reload("first", || {
        assert!(std::env::args().count() == 0, "on purpose");
        async {}
    });
    let mut ran = Some(ran);
    kit.life().on_reload("second", move || {
        let ran = ran.take();
        async move { assert!(ran.is_none_or(|ran| ran.send(()).is_ok())) }
    });
    kit.life().spawn("service", Script::task());
    kit.start().await;
    kit.signal(Signal::Hangup);
    kit.passes(Duration::from_secs(2)).await;
    assert_eq!(kit.handle().phase(), Phase::Running);
    second.await.expect("the second hook ran");
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_handle_outlives_its_component_and_sees_the_phases_all_the_same() {
    let mut kit = kit();
    let (give, handle) = oneshot::channel();
    kit.life().spawn("service", Script::task());
    let leaves = component_fn(|handle: Handle| async move { drop(give.send(handle)) });
    kit.life().spawn("leaves", leaves).after("service").optional();
    kit.start().await;
    let handle = handle.await.expect("started");
    kit.passes(Duration::from_secs(1)).await;
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
    assert_eq!(handle.phase(), Phase::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_force_in_the_cancel_window_shares_what_is_left_along_a_chain() {
    let mut kit = kit();
    let hour = Duration::from_secs(3_600);
    kit.life().spawn("deaf", Script::task().deaf());
    let last = Script::task().drains_for(hour);
    let seen = last.log();
    kit.life().spawn("last", last).after("deaf");
    kit.start().await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Cancelling).await;
    kit.passes(Duration::from_millis(10)).await;
    kit.signal(Signal::Interrupt);
    kit.report().await.ended("last", &End::Finished).exit_code(130);
    assert!(seen.at(Phase::Cancelling).is_some_and(|at| at < Duration::from_millis(24_750)));
}

#[test]
fn an_admin_job_that_was_dropped_with_its_runtime_is_not_done() {
    let life = Lifecycle::builder().probe_addr(None);
    let life = life.forced_exit(lifecycle::ForcedExit::Never).build().expect("builds");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let handle = life.handle();
    let mut run = Box::pin(life.run_once("job", std::future::pending::<()>()));
    runtime.block_on(async {
        tokio::select! {
            biased;
            _ = &mut run => panic!("it never ends"),
            () = handle.reached(Phase::Running) => {}
        }
    });
    drop(runtime);
    let report = tokio_test::block_on(run).expect("runs");
    assert_ne!(report.cause(), &Cause::Finished { name: "job".into() });
    assert_ne!(report.exit_code(), 0, "{report}");
}

#[cfg(all(unix, feature = "process"))]
mod child {
    use std::process::Command;

    use lifecycle::ChildProcess;

    use super::*;

    fn shell(script: &str) -> ChildProcess {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        ChildProcess::new(shell)
    }

    fn short() -> Lifecycle {
        let builder = Lifecycle::builder().grace_period(Duration::from_secs(3));
        builder.build_local().expect("3 s are enough")
    }

    #[tokio::test]
    async fn a_child_that_hears_the_platforms_signal_itself_has_not_failed() {
        // systemd sends SIGTERM to every process of the unit.
        let mut life = short();
        life.handle().listening();
        life.spawn("sidecar", shell("kill -TERM $$; exit 9"));
        life.handle().shutdown("test");
        let report = life.run().await.expect("runs");
        assert_eq!(report.exit_code(), 0, "{report}");
    }

    #[tokio::test]
    async fn a_child_that_is_killed_is_cut_work_even_if_its_turn_came_late() {
        let mut life = short();
        let hour = Duration::from_secs(3_600);
        life.spawn("queue", Script::worker().drains_for(hour));
        life.spawn("sidecar", shell("trap '' TERM; while :; do sleep 1; done")).after("queue");
        life.handle().shutdown("test");
        let report = life.run().await.expect("runs");
        assert_eq!(report.exit_code(), 3, "{report}");
    }

    #[test]
    fn a_child_goes_with_the_runtime_that_it_was_started_on_and_so_does_its_group() {
        use std::io::BufRead;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut lines = std::io::BufReader::new(reader);
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo begun; wait"]).stdout(writer);
        let mut life = runtime.block_on(async { short() });
        life.spawn("sidecar", ChildProcess::new(command));
        let handle = life.handle();
        runtime.block_on(async {
            drop(tokio::spawn(life.run()));
            handle.reached(Phase::Running).await;
            tokio::task::yield_now().await;
        });
        let mut line = String::new();
        lines.read_line(&mut line).expect("text");
        assert_eq!(line, "begun\n");
        drop(runtime);
        // The pipe ends when nobody of the group holds it any more.
        let (give, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || give.send(lines.read_line(&mut line).expect("text")));
        let ended = ended.recv_timeout(Duration::from_secs(10));
        assert_eq!(ended, Ok(0), "somebody still holds the pipe");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_hook_is_why_a_report_is_not_clean() {
    let report = |policy: lifecycle::ExitPolicy| async move {
        let builder = Lifecycle::builder().exit_policy(policy);
        let mut life = builder.build_local().expect("defaults");
        life.on_close("postgres", async { Err::<(), _>("not flushed") });
        life.handle().shutdown("test");
        life.run().await.expect("runs")
    };
    let default = report(lifecycle::ExitPolicy::default()).await;
    assert_eq!(default.exit_reason(), lifecycle::ExitReason::HookFailed);
    assert_eq!(default.exit_code(), 0);
    assert!(default.to_string().contains("exit code 0 (a close hook failed)"), "{default}");
    let strict = report(lifecycle::ExitPolicy::default().hook_failed(1)).await;
    assert_eq!(strict.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_turn_is_not_what_was_cut() {
    let mut life = Lifecycle::builder().build_local().expect("defaults");
    life.spawn("deaf", std::future::pending::<()>());
    let buffer = component_fn(|handle: Handle| async move { handle.draining().await });
    life.spawn("buffer", buffer).after("deaf");
    life.handle().shutdown("test");
    let report = life.run().await.expect("runs");
    let names: Vec<_> = report.cuts()[0].blockers.iter().map(|one| one.name.as_str()).collect();
    assert_eq!((report.cuts()[0].phase, names), (Phase::Draining, vec!["deaf"]));
}

#[test]
fn no_grace_at_all_is_too_short_and_nothing_else() {
    let refused = Lifecycle::builder().grace_period(Duration::ZERO).build_local();
    let said = format!("{:?}", refused.expect_err("refused"));
    assert!(said.contains("the grace of 0s is too short"), "{said}");
}
