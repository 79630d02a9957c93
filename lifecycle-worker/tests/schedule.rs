//! Clocks under paused time: each tick once however many there are, what was missed, the stop.
#![cfg(not(lifecycle_loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod parts;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lifecycle::test_kit::{Script, TestKit};
use lifecycle::{Lifecycle, Phase, Signal};
use lifecycle_worker::{
    Capabilities, Claimed, DeadJob, Extend, Extended, Fail, Lease, MemoryQueue, Missed, Push,
    Pushed, Queue, QueueError, Receipt, Release, Schedule, ScheduleError, Settled, Stats,
};
use parts::{Fault, Faulty};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A wall clock that goes with tokio's, and can be set. A clone is the same.
#[derive(Clone)]
struct Wall {
    began: Instant,
    at: Arc<Mutex<SystemTime>>,
}

impl Wall {
    /// 29 March 2026, an hour before Berlin's clocks go forward.
    fn new() -> Self {
        let at = UNIX_EPOCH + Duration::from_secs(1_774_742_400);
        Self { began: Instant::now(), at: Arc::new(Mutex::new(at)) }
    }

    fn forward(&self, by: Duration) {
        *self.at.lock().unwrap() += by;
    }

    fn back(&self, by: Duration) {
        *self.at.lock().unwrap() -= by;
    }

    fn of(&self, schedule: Schedule) -> Schedule {
        let wall = self.clone();
        schedule.wall_clock(move || *wall.at.lock().unwrap() + wall.began.elapsed())
    }
}

fn every(queue: impl Queue, expression: &str) -> Schedule {
    let schedule = Schedule::new(queue).unwrap();
    schedule.every("test", expression, "Europe/Berlin", Push::new("tick", "x")).unwrap()
}

async fn started(schedule: Schedule) -> TestKit {
    let mut kit = TestKit::new(Lifecycle::builder().grace_period(SECOND * 30));
    kit.life().check(schedule.readiness("clock"));
    kit.life().spawn("clock", schedule);
    kit.start().await;
    kit
}

/// Stops it, and what it says of its ticks.
async fn stopped(kit: TestKit) -> String {
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    report.is_clean();
    report.report().notes()[0].text.clone()
}

/// Takes all jobs that are ready: their ticks, without the month and whole minutes' seconds.
async fn ticks(queue: &MemoryQueue) -> Vec<String> {
    let most = NonZeroUsize::new(10_000).unwrap();
    let queue = queue.claimant();
    let jobs = queue.claim(most, Duration::ZERO).await.unwrap();
    let receipts: Vec<_> = jobs.iter().map(|job| job.receipt.clone()).collect();
    assert!(queue.ack(&receipts).await.iter().all(Settled::is_done));
    let tick = |job: &Claimed| {
        assert_eq!((&*job.kind, &job.payload[..]), ("tick", &b"x"[..]));
        let (name, value) = &job.headers[0];
        assert_eq!(name, "schedule-tick");
        value.replace("2026-03-", "").replace(":00Z", "")
    };
    jobs.iter().map(tick).collect()
}

#[tokio::test(start_paused = true)]
async fn ticks_are_enqueued_at_their_time_with_it_in_a_header() {
    let (queue, wall) = (MemoryQueue::new("jobs"), Wall::new());
    let kit = started(wall.of(every(queue.clone(), "30 2,4 * * *"))).await;
    sleep(HOUR * 2 + MINUTE * 30 - SECOND).await;
    assert!(ticks(&queue).await.is_empty(), "half past two does not exist that day");
    sleep(SECOND * 2).await;
    assert_eq!(ticks(&queue).await, ["29T02:30"]);
    let said = stopped(kit).await;
    assert_eq!(said, "schedule of jobs: 1 enqueued, 0 by another clock, 0 missed, 0 failed pushes");
}

#[tokio::test(start_paused = true)]
async fn three_clocks_enqueue_each_tick_once() {
    let (queue, wall) = (MemoryQueue::new("jobs"), Wall::new());
    let mut kits = Vec::new();
    for _ in 0..3 {
        let schedule = every(queue.claimant(), "*/10 * * * * *");
        kits.push(started(wall.of(schedule.missed(Missed::Skip))).await);
    }
    sleep(HOUR + SECOND).await;
    let ticks = ticks(&queue).await;
    assert_eq!((ticks.len(), ticks[0].as_str()), (360, "29T00:00:10Z"));
    assert_eq!(ticks.iter().collect::<HashSet<_>>().len(), 360);
    let (mut enqueued, mut duplicate) = (0, 0);
    for kit in kits {
        let said = stopped(kit).await;
        let numbers: Vec<usize> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
        enqueued += numbers[0];
        duplicate += numbers[1];
    }
    assert_eq!((enqueued, duplicate), (360, 720));
}

#[tokio::test(start_paused = true)]
async fn the_next_clock_enqueues_what_was_missed_and_nothing_again() {
    for (missed, expected) in [
        (Missed::Skip, vec![]),
        (Missed::Once, vec!["29T00:40"]),
        (Missed::All, vec!["29T00:20", "29T00:30", "29T00:40"]),
    ] {
        let (queue, wall) = (MemoryQueue::new("jobs"), Wall::new());
        let first = wall.of(every(queue.claimant(), "*/10 * * * *"));
        let kit = started(first.missed(Missed::Skip)).await;
        sleep(MINUTE * 15).await;
        stopped(kit).await;
        assert_eq!(ticks(&queue).await, ["29T00:10"]);
        sleep(MINUTE * 30).await;
        let next = every(queue.claimant(), "*/10 * * * *").look_back(MINUTE * 36);
        let kit = started(wall.of(next.missed(missed))).await;
        sleep(SECOND).await;
        assert_eq!(ticks(&queue).await, expected, "{missed:?}");
        stopped(kit).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_enqueued_from_the_cause_on() {
    let (queue, wall) = (MemoryQueue::new("jobs"), Wall::new());
    let mut kit = TestKit::new(Lifecycle::builder().grace_period(SECOND * 30));
    kit.life().spawn("http", Script::server().drains_for(SECOND * 3));
    kit.life().spawn("clock", wall.of(every(queue.clone(), "* * * * * *").missed(Missed::Skip)));
    kit.start().await;
    sleep(Duration::from_millis(3_500)).await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::LameDuck).await;
    assert_eq!(ticks(&queue).await.len(), 3);
    kit.reaches(Phase::Draining).await;
    let report = kit.report().await;
    report.is_clean();
    assert!(report.report().took() >= SECOND * 8, "{}", report.report());
    assert_eq!(queue.claimant().stats().await.unwrap().ready, 0);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_hangs_is_dropped_at_the_hard_stop() {
    let (queue, wall) = (Faulty::new(MemoryQueue::new("jobs")), Wall::new());
    queue.set(|faults| faults.push = Fault::Hangs);
    let kit = started(wall.of(every(queue.clone(), "* * * * * *"))).await;
    sleep(SECOND * 2).await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Cancelling).await;
    let report = kit.report().await;
    assert!(report.report().took() < SECOND * 26, "{}", report.report());
    assert!(ticks(&queue.inner).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_away_is_tried_again_and_readiness_shows_it() {
    let (queue, wall) = (Faulty::new(MemoryQueue::new("jobs")), Wall::new());
    queue.set(|faults| (faults.push, faults.ping) = (Fault::Fails, Fault::Fails));
    let kit = started(wall.of(every(queue.clone(), "*/10 * * * *").missed(Missed::Skip))).await;
    sleep(SECOND * 10).await;
    assert!(!kit.is_ready());
    queue.set(|faults| faults.ping = Fault::None);
    sleep(SECOND * 10).await;
    assert!(kit.is_ready(), "it has asked though no tick was due");
    sleep(MINUTE * 11).await;
    assert!(!kit.is_ready());
    queue.set(|faults| faults.push = Fault::None);
    sleep(SECOND * 10).await;
    assert!(kit.is_ready());
    assert_eq!(ticks(&queue.inner).await, ["29T00:10"], "late, and before the next one");
    queue.set(|faults| faults.push = Fault::Fails);
    sleep(MINUTE * 20).await;
    queue.set(|faults| faults.push = Fault::None);
    sleep(SECOND * 10).await;
    assert_eq!(ticks(&queue.inner).await, ["29T00:30"], "the one before was overtaken");
    assert!(stopped(kit).await.contains(": 2 enqueued, 0 by another clock, 1 missed, "));
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_is_noticed_within_a_minute() {
    let (queue, wall) = (MemoryQueue::new("jobs"), Wall::new());
    let schedule = every(queue.clone(), "0 */6 * * *").look_back(HOUR * 24);
    let kit = started(wall.of(schedule)).await;
    sleep(SECOND * 10).await;
    assert_eq!(ticks(&queue).await, ["28T23:00"], "missed before it began, if anybody did");
    wall.forward(HOUR * 15);
    sleep(MINUTE).await;
    assert_eq!(ticks(&queue).await, ["29T10:00"], "the newest of two");
    wall.back(HOUR * 6);
    sleep(HOUR * 2).await;
    assert!(ticks(&queue).await.is_empty(), "its key is remembered");
    sleep(HOUR * 6).await;
    assert_eq!(ticks(&queue).await, ["29T16:00"]);
    assert!(stopped(kit).await.contains("3 enqueued, 1 by another clock, 1 missed"));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_waiting_does_not_mend_starts_the_shutdown() {
    let queue = MemoryQueue::new("jobs");
    queue.close().await.unwrap();
    let kit = started(every(queue, "@daily")).await;
    let report = kit.report().await;
    report.exit_code(1);
    let text = report.report().to_string();
    assert!(text.contains("the schedule cannot go on: the queue is closed"), "{text}");
}

#[test]
fn names_are_given_once_and_can_be_read() {
    let push = || Push::new("tick", "");
    let schedule = Schedule::new(MemoryQueue::new("jobs")).unwrap();
    let schedule = schedule.every("a", "@daily", "UTC", push()).unwrap();
    let text = format!("{schedule:?}");
    assert!(text.contains(r#"names: ["a"], missed: Once"#), "{text}");
    let again = schedule.every("a", "@hourly", "UTC", push()).unwrap_err();
    assert!(matches!(again, ScheduleError::Name { ref name } if name == "a"), "{again}");
    for name in ["", "a\nb", &"x".repeat(101)] {
        let schedule = Schedule::new(MemoryQueue::new("jobs")).unwrap();
        let error = schedule.every(name, "@daily", "UTC", push()).unwrap_err();
        assert!(matches!(error, ScheduleError::Name { .. }), "{error}");
    }
}

#[test]
fn a_queue_without_dedupe_keys_is_refused() {
    let error = Schedule::new(Plain).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"the queue "plain" cannot keep two clocks apart: it has no dedupe keys"#
    );
}

/// A queue that can do nothing.
struct Plain;

impl Queue for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Lease::Connection)
    }

    async fn ping(&self) -> Result<(), QueueError> {
        Err(QueueError::Closed)
    }

    async fn push(&self, _jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        Err(QueueError::Closed)
    }

    async fn claim(&self, _max: NonZeroUsize, _wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        Err(QueueError::Closed)
    }

    async fn ack(&self, _receipts: &[Receipt]) -> Vec<Settled> {
        Vec::new()
    }

    async fn release(&self, _jobs: &[Release]) -> Vec<Settled> {
        Vec::new()
    }

    async fn fail(&self, _jobs: &[Fail]) -> Vec<Settled> {
        Vec::new()
    }

    async fn extend(&self, _jobs: &[Extend]) -> Vec<Extended> {
        Vec::new()
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        Err(QueueError::Closed)
    }

    async fn dead(&self, _max: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        Err(QueueError::Closed)
    }

    async fn close(&self) -> Result<(), QueueError> {
        Ok(())
    }
}
