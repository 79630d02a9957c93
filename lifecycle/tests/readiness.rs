//! Readiness as others follow it.
#![cfg(all(feature = "test-kit", not(lifecycle_loom)))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use lifecycle::test_kit::{Script, TestKit};
use lifecycle::{Check, Lifecycle, Phase, Readiness, ReadinessPolicy, Signal};
use tokio::time::Instant;
use tokio_test::{assert_pending, task};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The next change, within ten minutes of paused time.
async fn next(readiness: &mut Readiness) -> Option<bool> {
    tokio::time::timeout(secs(600), readiness.changed()).await.expect("changes in time")
}

#[tokio::test(start_paused = true)]
async fn who_follows_readiness_is_told_of_every_change_and_of_nothing_else() {
    let mut kit = TestKit::new(Lifecycle::builder().grace_period(secs(30)));
    let passes = Arc::new(AtomicBool::new(true));
    let looked_at = Arc::clone(&passes);
    let check = Check::readiness("db", move || {
        let passes = looked_at.load(Relaxed);
        async move { if passes { Ok(()) } else { Err("down") } }
    });
    kit.life().check(check.interval(secs(1)).failure_threshold(1));
    kit.life().spawn("it", Script::server());
    let mut readiness = kit.handle().readiness();
    assert!(!readiness.is_ready());
    assert_pending!(task::spawn(readiness.changed()).poll());
    kit.start().await;
    assert_eq!(next(&mut readiness).await, Some(true));
    kit.passes(secs(60)).await;
    assert_pending!(task::spawn(readiness.changed()).poll());
    passes.store(false, Relaxed);
    assert_eq!(next(&mut readiness).await, Some(false));
    assert_eq!(kit.handle().phase(), Phase::Running);
    passes.store(true, Relaxed);
    assert_eq!(next(&mut readiness).await, Some(true));
    kit.signal(Signal::Terminate);
    assert_eq!(next(&mut readiness).await, Some(false));
    assert_eq!(kit.handle().phase(), Phase::LameDuck);
    kit.report().await.is_clean();
    assert!(!readiness.is_ready());
}

#[tokio::test(start_paused = true)]
async fn readiness_is_told_to_fall_when_its_policy_says_so() {
    let builder = Lifecycle::builder().grace_period(secs(30));
    let mut kit = TestKit::new(builder.readiness(ReadinessPolicy::After(secs(2))));
    kit.life().spawn("it", Script::server());
    let mut readiness = kit.handle().readiness();
    kit.start().await;
    assert_eq!(next(&mut readiness).await, Some(true));
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::LameDuck).await;
    let cause = Instant::now();
    assert_eq!(next(&mut readiness).await, Some(false));
    assert_eq!(cause.elapsed(), secs(2));
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn who_follows_readiness_to_its_end_is_told_that_it_has_come() {
    let builder = Lifecycle::builder().grace_period(secs(30)).readiness(ReadinessPolicy::Never);
    let mut kit = TestKit::new(builder);
    kit.life().spawn("it", Script::server());
    let (handle, mut readiness) = (kit.handle(), kit.handle().readiness());
    kit.start().await;
    assert_eq!(next(&mut readiness).await, Some(true));
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
    assert_eq!(next(&mut readiness).await, None, "though a handle lives on");
    let mut late = handle.readiness();
    assert_eq!((late.is_ready(), next(&mut late).await), (true, None));
}

/// Cancels: Readiness::changed
#[tokio::test(start_paused = true)]
async fn a_change_that_was_not_told_is_told_by_the_next_call() {
    let mut kit = TestKit::new(Lifecycle::builder().grace_period(secs(30)));
    kit.life().spawn("it", Script::server());
    let mut readiness = kit.handle().readiness();
    assert_pending!(task::spawn(readiness.changed()).poll());
    kit.start().await;
    drop(readiness.changed());
    assert_eq!(next(&mut readiness).await, Some(true), "never polled");
    let mut woken = task::spawn(readiness.changed());
    assert_pending!(woken.poll());
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::LameDuck).await;
    kit.passes(Duration::from_millis(1)).await;
    assert!(woken.is_woken());
    drop(woken);
    assert_eq!(next(&mut readiness).await, Some(false), "woken, and not polled");
    kit.report().await.is_clean();
}
