//! The runner under paused time: claims, concurrency, failures, retries, timeouts.
#![cfg(not(lifecycle_loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod parts;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle::Signal;
use lifecycle_worker::{
    BoxError, CancelReason, Job, JobError, MemoryQueue, Push, Queue, Retry, Worker,
};
use parts::{Fault, Faulty, Log, push, started};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tower::ServiceBuilder;

#[tokio::test(start_paused = true)]
async fn every_job_is_done_once_and_acknowledged() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 1000).await;
    let worker = Worker::new(queue.clone(), async |_job: Job| {}).concurrency(50);
    let kit = started(log.of(worker)).await;
    let settled = log.reaches(1000).await;
    assert!(settled.iter().all(|one| one.outcome.name() == "done" && one.attempt == 1));
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.done, stats.ready, stats.running, stats.attempts), (1000, 0, 0, 1000));
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn never_more_than_its_concurrency_at_a_time_and_never_more_claimed() {
    let queue = MemoryQueue::new("mail");
    push(&queue, 20).await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (log, running) = (Log::default(), queue.clone());
    let (counted, greatest) = (now.clone(), most.clone());
    let worker = Worker::new(queue, move |_job: Job| {
        let (now, most) = (counted.clone(), greatest.clone());
        async move {
            let count = now.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(count, Ordering::SeqCst);
            sleep(Duration::from_millis(10)).await;
            now.fetch_sub(1, Ordering::SeqCst);
        }
    });
    let kit = started(log.of(worker.concurrency(3))).await;
    for _ in 0..20 {
        let running = running.stats().await.unwrap().running;
        // Those that have ended and are not settled are still claimed.
        assert!(running <= 6, "{running} claimed");
        sleep(Duration::from_millis(3)).await;
    }
    log.reaches(20).await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_prefetched_job_waits_for_a_slot_and_goes_back_at_the_stop() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 10).await;
    let worker = Worker::new(queue.clone(), async |_job: Job| sleep(Duration::from_secs(1)).await);
    let kit = started(log.of(worker.concurrency(2).prefetch(3))).await;
    sleep(Duration::from_millis(10)).await;
    assert_eq!(queue.stats().await.unwrap().running, 5);
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    assert_eq!(
        report.is_clean().report().jobs()[0].to_string(),
        "jobs of mail: 2 finished, 3 returned unstarted"
    );
    let stats = queue.claimant().stats().await.unwrap();
    assert_eq!((stats.ready, stats.done, stats.attempts, stats.returns), (8, 2, 2, 3));
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_with_growing_delays_and_then_dead() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 1).await;
    let began = Instant::now();
    let worker = Worker::new(queue.clone(), async |_job: Job| Err::<(), _>("no".to_owned()));
    let retry = Retry::new().attempts(3).first_delay(Duration::from_secs(4));
    let kit = started(log.of(worker.retry(retry))).await;
    log.reaches(3).await;
    assert_eq!(log.outcomes(), ["retried:1", "retried:2", "dead:3"]);
    // 4 s and 8 s, each between three and five quarters.
    assert!((9.0..15.1).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
    let dead = queue.dead(NonZeroUsize::MIN).await.unwrap();
    assert_eq!((dead[0].error.as_str(), dead[0].attempts), ("no", 3));
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn panics_are_failures_of_the_job_alone() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 2).await;
    let worker = Worker::new(queue.clone(), async |job: Job| {
        assert!(job.payload() != "0", "payload was {:?}", job.payload());
    });
    let kit = started(log.of(worker.retry(Retry::new().attempts(1)))).await;
    let mut outcomes: Vec<_> = log.reaches(2).await.iter().map(|one| one.outcome.name()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["dead", "done"]);
    let dead = queue.dead(NonZeroUsize::MIN).await.unwrap();
    assert_eq!(dead[0].error, "panicked: payload was b\"0\"");
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

/// Whoever holds a clone works on: nobody else begins beside it.
#[tokio::test(start_paused = true)]
async fn a_job_that_has_failed_is_told_when_its_last_clone_has_gone() {
    let (queue, log) = (MemoryQueue::new("mail").lease(Duration::from_secs(12)), Log::default());
    push(&queue, 1).await;
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let worker = Worker::new(queue.clone(), move |job: Job| {
        *keep.lock().unwrap() = Some(job);
        std::future::ready(Err::<(), _>(JobError::dead("no")))
    });
    let kit = started(log.of(worker)).await;
    sleep(Duration::from_secs(600)).await;
    assert!(kept.lock().unwrap().is_some() && log.all().is_empty(), "{:?}", log.all());
    assert_eq!(queue.stats().await.unwrap().running, 1, "its lease is extended");
    drop(kept.lock().unwrap().take());
    assert_eq!(log.reaches(1).await[0].outcome.name(), "dead");
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

/// Where the connection is the lease nothing is extended, and its loss is told all the same.
#[tokio::test(start_paused = true)]
async fn a_job_whose_connection_is_lost_is_told_and_dropped() {
    let queue =
        Faulty::new(MemoryQueue::new("mail").lease(Duration::from_secs(3600))).by_connection();
    push(&queue, 1).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let worker = Worker::new(queue.clone(), move |job: Job| {
        let tell = Arc::clone(&tell);
        async move {
            let reason = job.cancelled().await;
            tell.lock().unwrap().push((reason, job.is_cancelled()));
            std::future::pending::<()>().await;
        }
    });
    let kit = started(worker).await;
    sleep(Duration::from_secs(60)).await;
    assert!(told.lock().unwrap().is_empty());
    queue.set(|faults| faults.extend = Fault::Fails);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(*told.lock().unwrap(), [(CancelReason::LeaseLost, true)]);
    sleep(Duration::from_secs(2)).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    assert!(report.report().took() < Duration::from_secs(1), "dropped: {}", report.report());
}

/// In `call` itself, before there is a future.
#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_when_called_fails_the_job() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 1).await;
    let worker = Worker::new(queue, |job: Job| {
        assert_eq!(job.kind(), "other");
        async {}
    });
    let kit = started(log.of(worker.retry(Retry::new().attempts(1)))).await;
    assert_eq!(log.reaches(1).await[0].outcome.name(), "dead");
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_takes_too_long_is_told_then_dropped_and_has_failed() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 3).await;
    let worker = Worker::new(queue.clone(), async |job: Job| -> Result<(), BoxError> {
        match &job.payload()[..] {
            b"0" => std::future::pending().await, // deaf
            b"1" => {
                assert_eq!(job.cancelled().await, CancelReason::Timeout);
                Err("left".into())
            }
            _ => {
                job.cancelled().await;
                Ok(()) // made it all the same
            }
        }
    });
    let worker = worker.job_timeout(Duration::from_secs(2)).retry(Retry::new().attempts(1));
    let kit = started(log.of(worker)).await;
    log.reaches(3).await;
    let mut dead = queue.dead(NonZeroUsize::new(9).unwrap()).await.unwrap();
    dead.sort_by(|one, other| one.payload.cmp(&other.payload));
    let errors: Vec<_> = dead.iter().map(|job| job.error.as_str()).collect();
    assert_eq!(errors, ["timed out after 2000 ms", "timed out: left"]);
    assert_eq!(queue.stats().await.unwrap().done, 1);
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_workers_vanished_too_often_is_dead_before_it_is_begun() {
    let (queue, log) = (MemoryQueue::new("mail").lease(Duration::from_secs(5)), Log::default());
    push(&queue, 1).await;
    for _ in 0..3 {
        // As a process that dies with it.
        let claimed = queue.claimant().claim(NonZeroUsize::MIN, Duration::from_secs(9)).await;
        assert_eq!(claimed.unwrap().len(), 1);
    }
    let worker = Worker::new(queue.clone(), async |job: Job| assert!(job.attempt() < 4));
    let kit = started(log.of(worker.retry(Retry::new().attempts(3)))).await;
    assert_eq!(log.reaches(1).await[0].outcome.name(), "dead");
    let error = &queue.dead(NonZeroUsize::MIN).await.unwrap()[0].error;
    assert_eq!(error, "its workers vanished: attempt 4 would be too many");
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn leases_are_extended_while_a_job_runs_and_while_it_waits() {
    let queue = MemoryQueue::new("mail").lease(Duration::from_secs(6));
    let (log, other) = (Log::default(), queue.claimant());
    push(&queue, 3).await;
    let worker = Worker::new(queue, async |_job: Job| sleep(Duration::from_secs(60)).await);
    let kit = started(log.of(worker.concurrency(1).prefetch(2))).await;
    let stolen = other.claim(NonZeroUsize::MIN, Duration::from_secs(170)).await.unwrap();
    assert!(stolen.is_empty(), "{stolen:?}");
    log.reaches(3).await;
    assert_eq!(log.outcomes(), ["done:1"; 3]);
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_lease_cannot_be_extended_is_told_and_dropped_before_it_ends() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let inner = MemoryQueue::new("mail").lease(Duration::from_secs(12));
        let (queue, log, other) = (Faulty::new(inner.clone()), Log::default(), inner.claimant());
        push(&inner, 1).await;
        queue.set(|faults| faults.extend = fault);
        let (began, told) = (Instant::now(), Arc::new(Semaphore::new(0)));
        let (telling, dropped) = (told.clone(), Arc::new(AtomicUsize::new(0)));
        let dropping = dropped.clone();
        let worker = Worker::new(queue.clone(), move |job: Job| {
            let (told, dropped) = (telling.clone(), dropping.clone());
            async move {
                let _dropped = OnDrop(move || {
                    let ms = usize::try_from(began.elapsed().as_millis()).unwrap();
                    dropped.store(ms, Ordering::SeqCst);
                });
                if job.attempt() > 1 {
                    return;
                }
                assert_eq!(job.cancelled().await, CancelReason::LeaseLost);
                told.add_permits(1);
                std::future::pending::<()>().await;
            }
        });
        let kit = started(log.of(worker)).await;
        drop(told.acquire().await.unwrap());
        let after = began.elapsed();
        assert!(after >= Duration::from_secs(9) && after < Duration::from_secs(11), "{after:?}");
        let again = other.claim(NonZeroUsize::MIN, Duration::from_secs(60)).await.unwrap();
        assert_eq!(again[0].attempt, 2, "the lease ended, an attempt more");
        let dropped = dropped.load(Ordering::SeqCst);
        assert!((9_000..12_000).contains(&dropped), "dropped after {dropped} ms: {fault:?}");
        kit.signal(Signal::Terminate);
        kit.report().await.is_clean();
        assert_eq!(log.outcomes(), [""; 0], "nothing is acknowledged");
    }
}

/// One answer that was not had is asked for again long before a job need be told.
#[tokio::test(start_paused = true)]
async fn an_extension_that_fails_once_is_tried_again_before_any_job_is_told() {
    let queue = Faulty::new(MemoryQueue::new("mail").lease(Duration::from_secs(30)));
    let log = Log::default();
    push(&queue, 2).await;
    let worker = Worker::new(queue.clone(), async |job: Job| {
        tokio::select! {
            reason = job.cancelled() => Err(format!("told to stop: {reason:?}")),
            () = sleep(Duration::from_secs(60)) => Ok(()),
        }
    });
    let kit = started(log.of(worker)).await;
    queue.set(|faults| faults.extend = Fault::Fails);
    // A third of the lease is over after 10 s.
    sleep(Duration::from_secs(11)).await;
    assert_eq!(queue.extends.load(Ordering::SeqCst), 1, "it was asked, and has failed");
    queue.set(|faults| faults.extend = Fault::None);
    log.reaches(2).await;
    assert_eq!(log.outcomes(), ["done:1"; 2]);
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_is_said_again_until_the_broker_has_it() {
    for fault in [Fault::Fails, Fault::Hangs, Fault::Panics, Fault::SaysNothing] {
        let (queue, log) = (Faulty::new(MemoryQueue::new("mail")), Log::default());
        push(&queue, 5).await;
        queue.set(|faults| faults.ack = fault);
        let kit = started(log.of(Worker::new(queue.clone(), async |_job: Job| {}))).await;
        sleep(Duration::from_secs(3)).await;
        assert_eq!(log.all(), [], "nothing is said to be done before it is confirmed: {fault:?}");
        queue.set(|faults| faults.ack = Fault::None);
        log.reaches(5).await;
        assert_eq!(log.outcomes(), ["done:1"; 5], "{fault:?}");
        kit.signal(Signal::Terminate);
        kit.report().await.is_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_keeps_no_job_from_being_settled() {
    let queue = MemoryQueue::new("mail");
    push(&queue, 3).await;
    let worker = Worker::new(queue.clone(), async |_job: Job| {}).concurrency(1);
    let kit = started(worker.on_settled(|job| panic!("at {}", job.id))).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(queue.stats().await.unwrap().done, 3);
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn claims_that_fail_are_tried_again_and_readiness_shows_it() {
    let (queue, log) = (Faulty::new(MemoryQueue::new("mail")), Log::default());
    queue.set(|faults| (faults.claim, faults.ping) = (Fault::Fails, Fault::Fails));
    let worker = Worker::new(queue.clone(), async |_job: Job| {});
    let mut kit = lifecycle::test_kit::TestKit::new(
        lifecycle::Lifecycle::builder().grace_period(Duration::from_secs(30)),
    );
    kit.life().check(worker.readiness("mail-queue"));
    kit.life().spawn("worker", log.of(worker));
    kit.start().await;
    sleep(Duration::from_secs(20)).await;
    assert!(!kit.is_ready(), "{:?}", kit.handle().checks());
    queue.set(|faults| faults.claim = Fault::None);
    push(&queue, 1).await;
    log.reaches(1).await;
    sleep(Duration::from_secs(2)).await;
    assert!(kit.is_ready(), "{:?}", kit.handle().checks());
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds_jobs_back_in_the_queue() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 5).await;
    let service = ServiceBuilder::new()
        .rate_limit(1, Duration::from_secs(10))
        .service_fn(async |_job: Job| Ok::<_, BoxError>(()));
    let began = Instant::now();
    let kit = started(log.of(Worker::new(queue.clone(), service).concurrency(10))).await;
    log.reaches(3).await;
    assert!(began.elapsed() >= Duration::from_secs(20), "{:?}", began.elapsed());
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    report.is_clean();
    let stats = queue.claimant().stats().await.unwrap();
    assert_eq!((stats.done, stats.ready, stats.attempts), (3, 2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_of_a_service_is_kept() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 6).await;
    let service = ServiceBuilder::new().concurrency_limit(2).service_fn(async |_job: Job| {
        sleep(Duration::from_secs(10)).await;
        Ok::<_, BoxError>(())
    });
    let began = Instant::now();
    let kit = started(log.of(Worker::new(queue, service).concurrency(10))).await;
    log.reaches(6).await;
    assert_eq!(began.elapsed().as_secs(), 30);
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_handler_says_what_becomes_of_its_job() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 3).await;
    let worker = Worker::new(queue.clone(), async |job: Job| match &job.payload()[..] {
        b"0" => Err(JobError::dead("no such order")),
        b"1" if job.attempt() == 1 => Err(JobError::retry_after("busy", Duration::from_secs(1000))),
        b"2" if job.returns() == 0 => {
            job.checkpoint("half");
            Err(JobError::Stopped)
        }
        b"2" => {
            assert_eq!((job.saved().unwrap().as_ref(), job.attempt()), (&b"half"[..], 1));
            Ok(())
        }
        _ => Ok(()),
    });
    let began = Instant::now();
    let kit = started(log.of(worker)).await;
    let all = log.reaches(5).await;
    assert_eq!(began.elapsed().as_secs(), 1000);
    let of = |payload: usize| {
        let id = &all[payload].id;
        all.iter().filter(|one| one.id == *id).map(|one| one.outcome.name()).collect::<Vec<_>>()
    };
    let mut outcomes: Vec<_> = (0..3).map(of).collect();
    outcomes.sort();
    assert_eq!(outcomes, [vec!["dead"], vec!["retried", "done"], vec!["returned", "done"]]);
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn headers_and_kind_reach_the_handler() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    let job = Push::new("welcome", vec![0xff, 0]).header("traceparent", "00-x-y-01");
    queue.push(&[job]).await.unwrap();
    let worker = Worker::new(queue, async |job: Job| {
        assert_eq!((job.kind(), job.queue()), ("welcome", "mail"));
        assert_eq!(
            (&job.payload()[..], job.header("traceparent")),
            (&[0xff, 0][..], Some("00-x-y-01"))
        );
    });
    let kit = started(log.of(worker)).await;
    assert_eq!(log.reaches(1).await[0].outcome.name(), "done");
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn no_number_of_jobs_at_a_time_is_too_large() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 3).await;
    let worker = Worker::new(queue, async |_job: Job| sleep(Duration::from_secs(1)).await);
    let kit = started(log.of(worker.concurrency(usize::MAX).prefetch(usize::MAX))).await;
    log.reaches(3).await;
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn no_lease_is_too_long() {
    let (queue, log) = (MemoryQueue::new("mail").lease(Duration::MAX), Log::default());
    push(&queue, 1).await;
    let worker = Worker::new(queue, async |job: Job| {
        sleep(Duration::from_secs(60)).await;
        assert_eq!(job.cancel_reason(), None);
    });
    let kit = started(log.of(worker)).await;
    assert_eq!(log.reaches(1).await[0].outcome.name(), "done");
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

/// What waits for a slot has none that could be freed.
#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_while_its_job_waits_frees_no_slot() {
    let queue = Faulty::new(MemoryQueue::new("mail").lease(Duration::from_secs(12)));
    push(&queue, 3).await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (log, greatest) = (Log::default(), most.clone());
    let worker = Worker::new(queue.clone(), move |_job: Job| {
        let (now, most) = (now.clone(), greatest.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_secs(60)).await;
            now.fetch_sub(1, Ordering::SeqCst);
        }
    });
    *queue.lost.lock().unwrap() = Some("2".into());
    let kit = started(log.of(worker.concurrency(1).prefetch(2))).await;
    sleep(Duration::from_secs(10)).await;
    assert!(queue.extends.load(Ordering::SeqCst) > 0, "it is told that the lease is lost");
    queue.lost.lock().unwrap().take();
    log.reaches(3).await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

/// In time that passes: a worker that asks without end lets no other pass.
#[tokio::test]
async fn a_worker_that_is_to_wait_for_nothing_asks_a_hundred_times_a_second_at_most() {
    let queue = Faulty::new(MemoryQueue::new("mail"));
    let worker = Worker::new(queue.clone(), async |_job: Job| {});
    let began = Instant::now();
    let kit = started(worker.claim_wait(Duration::ZERO)).await;
    sleep(Duration::from_millis(200)).await;
    let (asked, most) = (queue.claims.load(Ordering::SeqCst), began.elapsed().as_millis() / 10);
    assert!(asked > 0 && asked as u128 <= most + 1, "{asked} times, {most} at most");
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}
