//! Waiting: a push is an event, a due time is kept, and nothing grows.

use std::time::Duration;

use lifecycle_worker::{Fail, Next, Push, Queue, QueueError, Release};
use tokio::time::{Instant, timeout};

use super::{all_done, blocked, jobs, most, receipts, server_and_queue};

const LONG: Duration = Duration::from_secs(60);
/// Less than the 5 s after which a claim that waits looks again by itself.
const SOON: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_waits_is_woken_by_the_push() {
    let (redis, queue) = server_and_queue().await;
    let claiming = {
        let queue = queue.clone();
        tokio::spawn(async move { (queue.claim(most(5), LONG).await, Instant::now()) })
    };
    blocked(&redis, 1).await;
    redis.cli(&["config", "resetstat"]).await;
    let pushed = Instant::now();
    queue.push(&jobs(3)).await.unwrap();
    let (jobs, woken) = claiming.await.unwrap();
    assert_eq!(jobs.unwrap().len(), 3);
    eprintln!("woken {:?} after the push began", woken - pushed);
    // Sooner than it would have looked again by itself.
    assert!(woken - pushed < SOON, "{:?}", woken - pushed);
    // The push and one claim: nobody has looked in between.
    let said = redis.cli(&["info", "commandstats"]).await;
    assert!(
        said.contains("cmdstat_evalsha:calls=2,") || said.contains("evalsha:calls=3,"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_push_wakes_as_many_as_it_has_jobs_for() {
    let (redis, queue) = server_and_queue().await;
    let claim = || {
        let queue = queue.clone();
        tokio::spawn(async move { queue.claim(most(1), LONG).await.unwrap().len() })
    };
    let claims: Vec<_> = (0..5).map(|_| claim()).collect();
    blocked(&redis, 5).await;
    let began = Instant::now();
    queue.push(&jobs(5)).await.unwrap();
    for claim in claims {
        assert_eq!(claim.await.unwrap(), 1);
    }
    // Sooner than anybody would have looked again by itself.
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_that_wait_keep_times_that_they_hear_of_later() {
    let (redis, queue) = server_and_queue().await;
    let claim = || {
        let queue = queue.clone();
        tokio::spawn(async move { queue.claim(most(1), LONG).await.unwrap().remove(0) })
    };
    let claims = [claim(), claim(), claim()];
    blocked(&redis, 3).await;
    let began = Instant::now();
    let delays = [300, 200, 400].map(|ms| Push::new("mail", "x").delay(Duration::from_millis(ms)));
    for job in delays {
        queue.push(&[job]).await.unwrap();
    }
    for claim in claims {
        claim.await.unwrap();
    }
    let took = began.elapsed();
    eprintln!("the last was due after 400 ms and came after {took:?}");
    assert!(took >= Duration::from_millis(395) && took < SOON, "{took:?}");
}

#[tokio::test]
async fn a_returned_or_failed_job_wakes_a_claim_when_it_is_due() {
    let (_redis, queue) = server_and_queue().await;
    queue.push(&jobs(1)).await.unwrap();
    // Long enough to be counted as scheduled before it is over.
    let delay = Duration::from_secs(1);
    for retry in [false, true] {
        let job = queue.claim(most(1), LONG).await.unwrap().remove(0).receipt;
        let settled = match retry {
            true => queue.fail(&[Fail::new(job, "no", Next::Retry(delay))]).await,
            false => queue.release(&[Release::unstarted(job).delay(delay)]).await,
        };
        assert!(all_done(&settled));
        assert_eq!(queue.stats().await.unwrap().scheduled, 1);
    }
    let began = Instant::now();
    let job = queue.claim(most(1), LONG).await.unwrap().remove(0);
    assert_eq!((job.attempt, job.returns), (2, 1));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn pushes_that_nobody_waits_for_leave_one_marker() {
    let (redis, queue) = server_and_queue().await;
    for _ in 0..100 {
        queue.push(&jobs(50)).await.unwrap();
        for job in jobs(50) {
            queue.push(&[job.delay(Duration::from_secs(1))]).await.unwrap();
        }
    }
    assert_eq!(redis.cli(&["llen", "lifecycle:{mail}:wake"]).await, "1");
    let stats = queue.stats().await.unwrap();
    assert_eq!(stats.ready + stats.scheduled, 10_000);
}

#[tokio::test]
async fn a_queue_that_is_worked_off_leaves_its_counters_alone() {
    let (redis, queue) = server_and_queue().await;
    let once = jobs(3).into_iter().map(|job| job.dedupe_for("key", Duration::from_millis(1)));
    queue.push(&once.collect::<Vec<_>>()).await.unwrap();
    queue.push(&jobs(2000)).await.unwrap();
    super::work_off(&queue).await;
    // A claim that would wait takes the marker down.
    assert!(queue.claim(most(1), Duration::from_millis(20)).await.unwrap().is_empty());
    assert_eq!(redis.cli(&["keys", "*"]).await, "lifecycle:{mail}:counters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_ends_claims_that_wait_and_is_the_last() {
    let (redis, queue) = server_and_queue().await;
    queue.push(&jobs(1)).await.unwrap();
    let jobs = queue.claim(most(1), Duration::ZERO).await.unwrap();
    let claiming = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.claim(most(1), LONG).await })
    };
    blocked(&redis, 1).await;
    timeout(SOON, queue.close()).await.unwrap().unwrap();
    assert!(claiming.await.unwrap().unwrap().is_empty());
    assert!(matches!(queue.stats().await, Err(QueueError::Closed)));
    assert!(matches!(queue.claim(most(1), LONG).await, Err(QueueError::Closed)));
    assert!(!all_done(&queue.ack(&receipts(&jobs)).await));
    queue.close().await.unwrap();
    // What was claimed is still the lease's.
    assert!(redis.cli(&["zcard", "lifecycle:{mail}:leases"]).await == "1");
}
