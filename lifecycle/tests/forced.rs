//! A stop that is forced late, under paused time: what is left of the time is shared anew.
#![cfg(all(feature = "test-kit", not(lifecycle_loom)))]

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use lifecycle::test_kit::{Script, TestKit};
use lifecycle::{End, Handle, Lifecycle, Phase, Signal};
use tokio::time::sleep;

fn kit() -> TestKit {
    TestKit::new(Lifecycle::builder().grace_period(Duration::from_secs(30)))
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_leaves_time_to_the_others_when_the_stop_is_forced_in_it() {
    let mut kit = kit();
    kit.life().on_close("postgres", async { sleep(Duration::from_millis(10)).await });
    kit.life().on_close("queue", async { sleep(Duration::from_millis(10)).await });
    kit.life().on_close("flush", std::future::pending::<()>());
    kit.start().await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Closing).await;
    kit.passes(Duration::from_secs(2)).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    assert!(report.report().took() < Duration::from_secs(3), "{}", report.report());
    report.ended("flush", &End::Aborted);
    report.ended("queue", &End::Finished).ended("postgres", &End::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_hangs_leaves_time_to_the_hooks_when_the_stop_is_forced_in_closing() {
    let mut kit = kit();
    kit.life().spawn("worker", Script::worker().deaf());
    kit.life().on_close("postgres", async { sleep(Duration::from_millis(10)).await });
    kit.start().await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Closing).await;
    kit.passes(Duration::from_millis(100)).await;
    kit.signal(Signal::Interrupt);
    kit.report().await.ended("postgres", &End::Finished);
}

/// What was about to be due is not put off.
#[tokio::test(start_paused = true)]
async fn a_worker_that_hangs_is_not_given_longer_by_a_forced_stop() {
    let mut kit = kit();
    kit.life().spawn("worker", Script::worker().deaf());
    kit.start().await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Closing).await;
    // Of the 3 s for closing it has six tenths.
    kit.passes(Duration::from_millis(1_700)).await;
    let before = kit.handle().time_left();
    kit.signal(Signal::Interrupt);
    let report = kit.report().await;
    let took = report.report().took();
    assert!(took < Duration::from_millis(27_900), "{before:?}: {took:?}");
}

/// Looks at the time that is left in the very moment of being woken.
struct Looks {
    handle: Handle,
    left: Mutex<Option<Duration>>,
}

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        *self.left.lock().expect("no panic") = self.handle.time_left();
    }
}

#[tokio::test(start_paused = true)]
async fn who_hears_of_a_forced_stop_sees_its_deadline_and_not_the_one_before() {
    let mut kit = kit();
    kit.life().spawn("it", Script::task().deaf());
    kit.start().await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Draining).await;
    kit.passes(Duration::from_secs(2)).await;
    let looks = Arc::new(Looks { handle: kit.handle(), left: Mutex::default() });
    let waker = Waker::from(Arc::clone(&looks));
    let mut cancelled = pin!(looks.handle.cancelled());
    let polled = cancelled.as_mut().poll(&mut Context::from_waker(&waker));
    assert_eq!(polled, Poll::Pending);
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Cancelling).await;
    let left = looks.left.lock().expect("no panic").expect("woken in a shutdown");
    assert_eq!(left, Duration::ZERO, "the hard stop has come");
}
