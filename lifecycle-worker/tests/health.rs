//! What probes see of a worker, and what dropping its futures loses.
#![cfg(not(lifecycle_loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod parts;

use std::time::Duration;

use lifecycle::test_kit::TestKit;
use lifecycle::{Lifecycle, Signal};
use lifecycle_worker::{CancelReason, Job, MemoryQueue, Push, Worker};
use parts::{Fault, Faulty, push};
use tokio::time::sleep;
use tokio_test::{assert_pending, assert_ready_eq, task};

async fn is_live(kit: &TestKit) -> bool {
    let request = http::Request::get("/livez").body(()).unwrap();
    let response = tower_service::Service::call(&mut kit.handle().probes(), request).await;
    response.unwrap().status() == 200
}

/// Idle, busy with jobs that are longer than the limit, and cut off from the broker.
#[tokio::test(start_paused = true)]
async fn a_worker_that_waits_is_alive() {
    let queue = Faulty::new(MemoryQueue::new("mail"));
    let mut kit = TestKit::new(Lifecycle::builder().grace_period(Duration::from_secs(30)));
    let worker = Worker::new(queue.clone(), async |_job: Job| {
        sleep(Duration::from_secs(60)).await;
    });
    let limit = Duration::from_secs(12);
    kit.life().spawn("worker", worker.concurrency(1)).heartbeat(limit);
    kit.start().await;
    for (what, broken) in [("idle", false), ("busy", false), ("cut off", true)] {
        if what == "busy" {
            push(&queue, 2).await;
        }
        if broken {
            queue.set(|faults| faults.claim = Fault::Fails);
        }
        for _ in 0..100 {
            sleep(Duration::from_secs(1)).await;
            assert!(is_live(&kit).await, "{what}: {:?}", kit.handle().checks());
        }
    }
    queue.set(|faults| faults.claim = Fault::Hangs);
    sleep(Duration::from_secs(100)).await;
    assert!(!is_live(&kit).await, "a queue that breaks its own bound is seen");
    kit.signal(Signal::Terminate);
    // It may hold a job.
    kit.report().await.exit_code(3);
}

/// Cancels: Job::cancelled
#[tokio::test]
async fn a_wait_for_the_end_can_be_dropped_and_asked_for_again() {
    let job = Job::for_test(&Push::new("mail", ""));
    for polls in 0..3 {
        let mut waits = task::spawn(job.cancelled());
        for _ in 0..polls {
            assert_pending!(waits.poll());
        }
    }
    job.cancel_for_test(CancelReason::LeaseLost);
    assert_ready_eq!(task::spawn(job.cancelled()).poll(), CancelReason::LeaseLost);
}
