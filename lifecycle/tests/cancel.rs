//! Every public future dropped after any number of polls: what its `# Cancel safety` says.
//!
//! A line `/// Cancels: ` names what a test is for; `tests/tidy.rs` compares these lines with
//! the library, so that a new future cannot be forgotten.
#![cfg(not(lifecycle_loom))]

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use lifecycle::{Builder, Kind, Lifecycle, Phase};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

/// Polls `future` as often as it is woken, `polls` times at most, and drops it; what it gave
/// if it ended before.
async fn polled<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(move |cx| {
        let Some(rest) = left.checked_sub(1) else { return Poll::Ready(None) };
        left = rest;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn builder() -> Builder {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Lifecycle::builder().grace_period(Duration::from_secs(30)).probe_addr(any)
}

/// Cancels: Lifecycle::run
#[tokio::test(start_paused = true)]
async fn run_dropped_after_any_poll_leaves_the_shutdown_going() {
    for polls in 0.. {
        let mut life = builder().build_local().expect("30 s are enough");
        let handle = life.handle();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let seen = Arc::clone(&seen);
            move || seen.lock().expect("no panic").push(what)
        };
        let (component, hook) = (note("component"), note("hook"));
        life.spawn("c", {
            let handle = handle.clone();
            async move {
                handle.draining().await;
                component();
            }
        });
        life.on_close("h", async move { hook() });
        let asked = handle.clone();
        let asking = tokio::spawn(async move {
            asked.reached(Phase::Running).await;
            asked.shutdown("test");
        });
        let report = polled(polls, life.run()).await;
        timeout(LIMIT, handle.reached(Phase::Stopped)).await.expect("it ends by itself");
        asking.abort();
        let seen = seen.lock().expect("no panic");
        if polls == 0 {
            // Never polled is never called: as if the lifecycle had been dropped.
            assert!(seen.is_empty(), "{seen:?}");
        } else {
            assert_eq!(*seen, ["component", "hook"], "after {polls} polls");
        }
        if let Some(report) = report {
            assert_eq!(report.expect("runs").exit_code(), 0);
            assert!(polls > 1, "there was something to drop");
            return;
        }
    }
}

/// The former waits nowhere but in the latter.
/// Cancels: Lifecycle::serve_probes
/// Cancels: Lifecycle::serve_probes_on
#[cfg(feature = "probes")]
#[tokio::test(start_paused = true)]
async fn serving_probes_can_be_dropped_and_asked_for_again() {
    // As many as the coordinator is told of without having run once; the next must wait.
    const TOLD: usize = 8;
    for polls in 0.. {
        let mut life = builder().build_local().expect("30 s are enough");
        let handle = life.handle();
        let mut served = Vec::new();
        for _ in 0..TOLD {
            let bound = polled(1, life.serve_probes()).await.expect("there is room");
            served.push(bound.expect("binds").expect("not off"));
        }
        let ended = polled(polls, life.serve_probes()).await.is_some();
        let again = timeout(LIMIT, life.serve_probes()).await.expect("told in time");
        served.push(again.expect("binds").expect("not off"));
        let run = tokio::spawn(life.run());
        handle.reached(Phase::Running).await;
        for addr in served {
            drop(
                tokio::net::TcpStream::connect(addr).await.expect("each that was returned listens"),
            );
        }
        handle.shutdown("test");
        assert_eq!(run.await.expect("no panic").expect("runs").exit_code(), 0);
        if ended {
            assert!(polls > 1, "there was something to drop");
            return;
        }
    }
}

/// Cancels: Gate::drained
#[tokio::test(start_paused = true)]
async fn waiting_for_a_gate_can_be_dropped_and_begun_again() {
    for polls in 0..6 {
        let life = builder().build_local().expect("30 s are enough");
        let gate = life.handle().gate(Kind::Work);
        let guards: Vec<_> = (0..3).map(|_| gate.enter("a", "").expect("open")).collect();
        gate.close();
        // Each guard that leaves wakes it for one more poll.
        let (ended, ()) = tokio::join!(polled(polls, gate.drained()), async {
            for guard in guards {
                tokio::task::yield_now().await;
                drop(guard);
            }
        });
        assert_eq!(ended.is_some(), polls > 3, "{polls}");
        timeout(LIMIT, gate.drained()).await.expect("nothing was lost");
        assert!(gate.enter("late", "").is_err() && gate.blockers().is_empty());
    }
}

/// Cancels: Reached
#[tokio::test(start_paused = true)]
async fn waiting_for_a_phase_can_be_dropped_and_begun_again() {
    for polls in 0..4 {
        let mut life = builder().build_local().expect("30 s are enough");
        let handle = life.handle();
        life.spawn("deaf", std::future::pending::<()>());
        let watch = |phase| {
            let handle = handle.clone();
            tokio::spawn(async move {
                let ended = polled(polls, handle.reached(phase)).await.is_some();
                timeout(LIMIT, handle.reached(phase)).await.expect("nothing was lost");
                assert!(handle.phase() >= phase);
                ended
            })
        };
        let watching: Vec<_> = Phase::ALL.into_iter().map(watch).collect();
        // They wait before anything happens.
        tokio::task::yield_now().await;
        handle.shutdown("test");
        assert_eq!(life.run().await.expect("runs").exit_code(), 3);
        for (watched, phase) in watching.into_iter().zip(Phase::ALL) {
            let ended = watched.await.expect("no panic");
            assert_eq!(ended, polls > usize::from(phase > Phase::Starting), "{phase} {polls}");
        }
    }
}

/// Cancels: Lifecycle::run_once
#[tokio::test(start_paused = true)]
async fn an_admin_job_goes_on_after_its_run_was_dropped() {
    for polls in 0.. {
        let life = builder().build_local().expect("30 s are enough");
        let handle = life.handle();
        let done = Arc::new(Mutex::new(false));
        let job = {
            let (handle, done) = (handle.clone(), Arc::clone(&done));
            async move {
                handle.reached(Phase::Running).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                *done.lock().expect("no panic") = true;
            }
        };
        let report = polled(polls, life.run_once("job", job)).await;
        timeout(LIMIT, handle.reached(Phase::Stopped)).await.expect("it ends by itself");
        assert_eq!(*done.lock().expect("no panic"), polls > 0, "after {polls} polls");
        if let Some(report) = report {
            assert_eq!(report.expect("runs").exit_code(), 0);
            assert!(polls > 1, "there was something to drop");
            return;
        }
    }
}

/// Cancels: TestKit::start, TestKit::passes, TestKit::reaches, TestKit::report
#[cfg(feature = "test-kit")]
#[tokio::test(start_paused = true)]
async fn a_test_kit_whose_calls_were_dropped_goes_on() {
    use lifecycle::test_kit::TestKit;
    for polls in 0..4 {
        let mut kit = TestKit::new(builder());
        kit.life().on_close("slow", tokio::time::sleep(Duration::from_secs(1)));
        let handle = kit.handle();
        let started = polled(polls, kit.start()).await.is_some();
        if polls == 0 {
            assert_eq!(handle.phase(), Phase::Starting, "never polled is never called");
            kit.start().await;
        }
        assert!(started || polls < 3, "{polls}");
        kit.reaches(Phase::Running).await;
        let began = tokio::time::Instant::now();
        polled(polls, kit.passes(Duration::from_secs(5))).await;
        assert!(polls < 2 || began.elapsed() >= Duration::from_secs(5), "{polls}");
        handle.shutdown("test");
        polled(polls, kit.reaches(Phase::Closing)).await;
        kit.reaches(Phase::Closing).await;
        let reported = polled(polls, kit.report()).await.is_some();
        assert_eq!(reported, polls > 1, "{polls}");
        // Lost to the test, and no matter to what is under test.
        timeout(LIMIT, handle.reached(Phase::Stopped)).await.expect("it ends by itself");
    }
}

/// Cancels: TestKit::start_once
#[cfg(feature = "test-kit")]
#[tokio::test(start_paused = true)]
async fn an_admin_job_whose_start_was_dropped_runs_all_the_same() {
    use lifecycle::test_kit::TestKit;
    let mut kit = TestKit::new(builder());
    let job = async { tokio::time::sleep(Duration::from_secs(1)).await };
    polled(1, kit.start_once("job", job)).await;
    kit.report().await.is_clean();
}
