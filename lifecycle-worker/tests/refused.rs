//! A queue that refuses for good what it is told of one job: no other waits for that, and the
//! job is left to its lease, if that has an end.
#![cfg(not(lifecycle_loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod parts;

use std::num::NonZeroUsize;
use std::time::Duration;

use lifecycle::Signal;
use lifecycle_worker::{Job, JobError, MemoryQueue, Queue, Worker};
use parts::{Fault, Faulty, Heard, Log, push, started};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(30);

/// It refuses job 3, which has two before it and two behind it in its batch.
async fn refusing() -> Faulty {
    refuses(Faulty::new(MemoryQueue::new("mail").lease(LEASE))).await
}

/// The same with claims that last as long as the connection: longer than any test.
async fn refusing_by_connection() -> Faulty {
    refuses(Faulty::new(MemoryQueue::new("mail").lease(SECOND * 86_400)).by_connection()).await
}

async fn refuses(queue: Faulty) -> Faulty {
    push(&queue, 5).await;
    *queue.refused.lock().unwrap() = Some("3".into());
    queue
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_of_one_job_holds_up_no_other() {
    let (queue, log) = (refusing().await, Log::default());
    let kit = started(log.of(Worker::new(queue.clone(), async |_job: Job| {}))).await;
    let began = Instant::now();
    log.reaches(4).await;
    assert!(began.elapsed() < Duration::from_millis(10), "{:?}", began.elapsed());
    assert_eq!(log.outcomes(), ["done:1"; 4]);
    // Nor is one that ends later told later, whatever the other has waited for by then.
    for number in 5..30 {
        push(&queue, 1).await;
        let began = Instant::now();
        log.reaches(number).await;
        assert!(began.elapsed() < Duration::from_millis(10), "{number}: {:?}", began.elapsed());
        sleep(Duration::from_millis(333)).await;
    }
    kit.signal(Signal::Terminate);
    kit.report().await.exit_code(3);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_left_to_its_lease_and_comes_again() {
    let (queue, log) = (refusing().await, Log::default());
    let kit = started(log.of(Worker::new(queue.clone(), async |_job: Job| {}))).await;
    log.reaches(4).await;
    let began = Instant::now();
    let left = log.reaches(5).await.pop().unwrap();
    assert_eq!((left.id.as_str(), left.outcome.name()), ("3", "left_to_lease"));
    assert!(began.elapsed() <= LEASE + SECOND / 10, "{:?}", began.elapsed());
    *queue.refused.lock().unwrap() = None;
    let again = log.reaches(6).await.pop().unwrap();
    assert_eq!((again.id.as_str(), again.outcome.name(), again.attempt), ("3", "done", 2));
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

/// Nobody else gets it before the connection ends: it would wait for that.
#[tokio::test(start_paused = true)]
async fn what_is_refused_of_a_connection_s_claim_is_told_until_it_is_taken() {
    let (queue, log) = (refusing_by_connection().await, Log::default());
    let kit = started(log.of(Worker::new(queue.clone(), async |_job: Job| {}))).await;
    sleep(SECOND * 3600).await;
    assert_eq!(log.outcomes(), ["done:1"; 4]);
    let refusals = queue.refusals.lock().unwrap().len();
    assert!((700..800).contains(&refusals), "{refusals}: every 5 s");
    *queue.refused.lock().unwrap() = None;
    let began = Instant::now();
    log.reaches(5).await;
    assert!(began.elapsed() <= SECOND * 5, "{:?}", began.elapsed());
    assert_eq!(log.outcomes(), ["done:1"; 5]);
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

/// Rights that are given back, a key that is new.
#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_mended_in_time_costs_nothing() {
    let (queue, log) = (refusing().await, Log::default());
    let kit = started(log.of(Worker::new(queue.clone(), async |_job: Job| {}))).await;
    sleep(SECOND * 10).await;
    assert_eq!(log.all().len(), 4);
    *queue.refused.lock().unwrap() = None;
    log.reaches(5).await;
    assert_eq!(log.outcomes(), ["done:1"; 5]);
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_what_is_refused() {
    for queue in [refusing().await, refusing_by_connection().await] {
        let kit = started(Worker::new(queue.clone(), async |_job: Job| {})).await;
        sleep(SECOND * 20).await;
        kit.signal(Signal::Terminate);
        let report = kit.report().await;
        assert!(report.report().took() < SECOND, "{}", report.report());
        let said = report.report().jobs()[0].to_string();
        assert!(said.starts_with("jobs of mail: 0 finished, 1 left to their lease"), "{said}");
        report.exit_code(3);
    }
}

/// Its lease cannot be extended, and ends while the queue thinks.
#[tokio::test(start_paused = true)]
async fn a_refusal_that_comes_when_the_lease_is_over_is_said_too() {
    let heard = Heard::default();
    let _hearing = tracing::subscriber::set_default(heard.clone());
    let mut queue = refuses(Faulty::new(MemoryQueue::new("mail").lease(SECOND * 3))).await;
    queue.refuses_after = SECOND * 4;
    queue.set(|faults| faults.extend = Fault::Fails);
    let log = Log::default();
    let kit = started(log.of(Worker::new(queue.clone(), async |_job: Job| {}))).await;
    log.reaches(5).await;
    assert_eq!(log.outcomes(), ["left_to_lease:1"; 5]);
    assert_eq!(heard.count("job.refused"), 5);
    kit.signal(Signal::Terminate);
    drop(kit.report().await);
}

/// At the hard stop, of five that are given back in one call.
#[tokio::test(start_paused = true)]
async fn a_return_that_is_refused_keeps_no_other_from_going_back() {
    for stops in [false, true] {
        let queue = refusing().await;
        let worker = Worker::new(queue.clone(), move |job: Job| async move {
            job.cancelled().await;
            if !stops {
                std::future::pending::<()>().await;
            }
            Err::<(), _>(JobError::dead("it was told to stop"))
        });
        let kit = started(worker).await;
        sleep(SECOND).await;
        kit.signal(Signal::Terminate);
        let report = kit.report().await;
        report.exit_code(3);
        let said = report.report().jobs()[0].to_string();
        let dead = queue.inner.claimant().dead(NonZeroUsize::new(9).unwrap()).await.unwrap();
        let (line, dead_count) =
            if stops { ("4 finished", 4) } else { ("0 finished, 4 returned half done", 0) };
        assert!(
            said.starts_with(&format!("jobs of mail: {line}, 1 left to their lease")),
            "{said}"
        );
        assert_eq!(dead.len(), dead_count);
    }
}
