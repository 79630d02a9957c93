//! A worker's end under paused time: quiet, drain, the hard stop, and what breaks meanwhile.
#![cfg(not(lifecycle_loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod parts;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::test_kit::{Script, TestKit};
use lifecycle::{Component, ExitReason, Lifecycle, Phase, Report, Signal, component_fn};
use lifecycle_worker::{
    BoxError, CancelReason, Job, JobError, MemoryQueue, Queue, Stats, Unstoppable, Worker,
};
use parts::{Fault, Faulty, Log, push, started};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn jobs_line(report: &Report) -> String {
    report.jobs()[0].to_string()
}

async fn stats(queue: &MemoryQueue) -> Stats {
    // Another identity: the worker has closed its own.
    queue.claimant().stats().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_ends_at_once() {
    let queue = MemoryQueue::new("mail");
    let kit = started(Worker::new(queue, async |_job: Job| {})).await;
    sleep(SECOND).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    report.is_clean();
    assert!(report.report().took() < Duration::from_millis(20), "{}", report.report());
    assert_eq!(jobs_line(report.report()), "jobs of mail: 0 finished");
}

#[tokio::test(start_paused = true)]
async fn what_runs_finishes_and_nothing_new_is_claimed() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 5).await;
    let worker = Worker::new(queue.clone(), async |_job: Job| sleep(SECOND * 3).await);
    let kit = started(log.of(worker.concurrency(2))).await;
    sleep(SECOND).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    report.is_clean();
    assert_eq!(report.report().took(), SECOND * 2);
    assert_eq!(jobs_line(report.report()), "jobs of mail: 2 finished");
    let stats = stats(&queue).await;
    assert_eq!((stats.done, stats.ready, stats.attempts, stats.returns), (2, 3, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_job_longer_than_the_grace_is_told_dropped_and_returned() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 1).await;
    let told = Arc::new(Semaphore::new(0));
    let telling = told.clone();
    let worker = Worker::new(queue.clone(), move |job: Job| {
        let told = telling.clone();
        async move {
            let reason = job.cancelled().await;
            assert!(matches!(reason, CancelReason::Shutdown { .. }), "{reason:?}");
            job.checkpoint("so far");
            told.add_permits(1);
            std::future::pending::<()>().await;
        }
    });
    let kit = started(log.of(worker)).await;
    sleep(SECOND).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    assert_eq!(told.available_permits(), 1);
    report.exit_code(3);
    assert_eq!(report.report().exit_reason(), ExitReason::Cut);
    assert_eq!(report.report().cuts()[0].blockers[0].name.split(' ').next(), Some("mail"));
    assert_eq!(jobs_line(report.report()), "jobs of mail: 0 finished, 1 returned half done");
    assert!(report.report().took() < SECOND * 26, "within the cancel window");
    assert_eq!(log.outcomes(), ["returned:1"]);
    let other = queue.claimant();
    let again = other.claim(NonZeroUsize::MIN, Duration::ZERO).await.unwrap();
    assert_eq!((again[0].attempt, again[0].returns), (1, 1));
    assert_eq!(again[0].checkpoint.as_deref(), Some(&b"so far"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_leaves_when_told_is_returned_or_done_as_it_says() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 3).await;
    let worker = Worker::new(queue.clone(), async |job: Job| -> Result<(), BoxError> {
        job.cancelled().await;
        match &job.payload()[..] {
            b"0" => Err(JobError::Stopped.into()),
            b"1" => Err("connection closed".into()),
            _ => Ok(()),
        }
    });
    let kit = started(log.of(worker)).await;
    sleep(SECOND).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    assert_eq!(jobs_line(report.report()), "jobs of mail: 1 finished, 2 returned half done");
    let stats = stats(&queue).await;
    assert_eq!((stats.done, stats.ready, stats.attempts, stats.returns), (1, 2, 1, 2));
}

/// A clone of the job stands for whatever goes on: a blocking call, a task of its own.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_stopped_is_left_to_its_lease_unless_asked_otherwise() {
    for (policy, line, ready) in [
        (Unstoppable::LeaveToLease, "0 finished, 1 left to their lease", 0),
        (Unstoppable::ReturnAnyway, "0 finished, 1 returned half done", 1),
    ] {
        let queue = MemoryQueue::new("mail");
        push(&queue, 1).await;
        let worker = Worker::new(queue.clone(), async |job: Job| {
            let goes_on = job.clone();
            tokio::spawn(async move {
                sleep(Duration::from_secs(3600)).await;
                drop(goes_on);
            });
            std::future::pending::<()>().await;
        });
        let kit = started(worker.unstoppable(policy)).await;
        sleep(SECOND).await;
        kit.signal(Signal::Terminate);
        let report = kit.report().await;
        report.exit_code(3);
        assert!(report.report().took() < SECOND * 29, "{}", report.report());
        let said = jobs_line(report.report());
        assert!(said.starts_with(&format!("jobs of mail: {line}")), "{said}");
        assert_eq!(stats(&queue).await.ready, ready, "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_its_own_task_finishes_after_the_abort_is_still_returned_once() {
    let queue = MemoryQueue::new("mail");
    push(&queue, 1).await;
    let worker = Worker::new(queue.clone(), async |job: Job| {
        let goes_on = job.clone();
        tokio::spawn(async move {
            goes_on.cancelled().await;
            // Longer than the handler has, shorter than the worker waits.
            sleep(Duration::from_millis(1600)).await;
            drop(goes_on);
        });
        std::future::pending::<()>().await;
    });
    let kit = started(worker).await;
    sleep(SECOND).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    assert_eq!(jobs_line(report.report()), "jobs of mail: 0 finished, 1 returned half done");
    assert_eq!(stats(&queue).await.ready, 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_returns_jobs_within_a_second() {
    let queue = MemoryQueue::new("mail");
    push(&queue, 3).await;
    let worker = Worker::new(queue.clone(), async |_job: Job| std::future::pending::<()>().await);
    let kit = started(worker).await;
    sleep(SECOND).await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Draining).await;
    sleep(SECOND * 2).await;
    kit.signal(Signal::Interrupt);
    let asked = Instant::now();
    let report = kit.report().await;
    assert!(asked.elapsed() < SECOND, "{:?}", asked.elapsed());
    report.exit_code(130);
    assert_eq!(jobs_line(report.report()), "jobs of mail: 0 finished, 3 returned half done");
    assert_eq!(stats(&queue).await.ready, 3);
}

/// Also when it comes while handlers have their window already.
#[tokio::test(start_paused = true)]
async fn a_second_signal_in_the_cancel_window_shortens_it() {
    let queue = MemoryQueue::new("mail");
    push(&queue, 1).await;
    let worker = Worker::new(queue.clone(), async |_job: Job| std::future::pending::<()>().await);
    let kit = started(worker).await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Cancelling).await;
    kit.signal(Signal::Interrupt);
    let asked = Instant::now();
    let report = kit.report().await;
    assert!(asked.elapsed() < SECOND, "{:?}", asked.elapsed());
    assert_eq!(jobs_line(report.report()), "jobs of mail: 0 finished, 1 returned half done");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_drains_after_another_is_quiet_at_once_and_ends_late() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    let builder = Lifecycle::builder().grace_period(SECOND * 30);
    let mut kit = TestKit::new(builder);
    kit.life().spawn("http", Script::server().drains_for(SECOND * 4));
    let worker = log.of(Worker::new(queue.clone(), async |_job: Job| {}));
    kit.life().spawn("worker", worker).after("http");
    kit.start().await;
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Draining).await;
    // The server's last requests still push, through the queue that the worker has.
    push(&queue, 2).await;
    let report = kit.report().await;
    report.is_clean().ended_in_order(&["http", "worker"]);
    assert_eq!(log.all(), []);
    assert_eq!(stats(&queue).await.ready, 2);
}

#[tokio::test(start_paused = true)]
async fn a_return_is_said_again_within_the_reserve() {
    let (queue, log) = (Faulty::new(MemoryQueue::new("mail")), Log::default());
    push(&queue, 2).await;
    let worker = Worker::new(queue.clone(), async |job: Job| {
        let _reason = job.cancelled().await;
        std::future::pending::<()>().await;
    });
    let kit = started(log.of(worker)).await;
    sleep(SECOND).await;
    queue.set(|faults| faults.release = Fault::Fails);
    kit.signal(Signal::Terminate);
    kit.reaches(Phase::Closing).await;
    queue.set(|faults| faults.release = Fault::None);
    let report = kit.report().await;
    assert_eq!(jobs_line(report.report()), "jobs of mail: 0 finished, 2 returned half done");
    assert_eq!(stats(&queue.inner).await.ready, 2);
}

/// However long the queue has not answered: the reserve is shorter than the longest pause.
#[tokio::test(start_paused = true)]
async fn a_return_does_not_wait_behind_an_acknowledgement_that_is_said_again() {
    for before_ms in (0..2000).step_by(100) {
        let (queue, log) = (Faulty::new(MemoryQueue::new("mail")), Log::default());
        push(&queue, 2).await;
        queue.set(|faults| (faults.ack, faults.release) = (Fault::Fails, Fault::Fails));
        let worker = Worker::new(queue.clone(), async |job: Job| {
            if job.payload() != "0" {
                std::future::pending::<()>().await;
            }
        });
        let mut kit = TestKit::new(Lifecycle::builder().grace_period(SECOND * 3));
        kit.life().spawn("worker", log.of(worker));
        kit.start().await;
        sleep(Duration::from_millis(before_ms)).await;
        kit.signal(Signal::Terminate);
        kit.reaches(Phase::Cancelling).await;
        queue.set(|faults| (faults.ack, faults.release) = (Fault::None, Fault::None));
        let report = kit.report().await;
        let said = jobs_line(report.report());
        assert_eq!(said, "jobs of mail: 1 finished, 1 returned half done", "{before_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_gone_at_the_return_costs_no_more_than_the_reserve() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let queue = Faulty::new(MemoryQueue::new("mail").lease(SECOND * 60));
        push(&queue, 2).await;
        let worker =
            Worker::new(queue.clone(), async |_job: Job| std::future::pending::<()>().await);
        let kit = started(worker).await;
        sleep(SECOND).await;
        kit.signal(Signal::Terminate);
        kit.reaches(Phase::Draining).await;
        queue.set(|faults| (faults.release, faults.close) = (fault, fault));
        let report = kit.report().await;
        report.exit_code(3);
        assert!(report.report().took() < SECOND * 29, "{}", report.report());
        let said = jobs_line(report.report());
        let left = "jobs of mail: 0 finished, 2 left to their lease, the last lease ends in ";
        assert!(said.starts_with(left), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_hangs_at_the_stop_is_uncertain_and_bounded() {
    let queue = Faulty::new(MemoryQueue::new("mail"));
    queue.set(|faults| (faults.claim, faults.interrupt) = (Fault::Hangs, Fault::Hangs));
    let kit = started(Worker::new(queue.clone(), async |_job: Job| {})).await;
    sleep(SECOND).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    let bound = {
        let capabilities = queue.capabilities();
        capabilities.call_bound + capabilities.interrupt_bound
    };
    assert!(report.report().took() <= bound + Duration::from_millis(10), "{}", report.report());
    assert_eq!(jobs_line(report.report()), "jobs of mail: 0 finished, 1 claimed perhaps");
    // A job may wait for the end of a lease: 0 would say that all is well.
    report.exit_code(3);
}

/// The broker may have heard it, and the answer is on no way: somebody waits for a lease.
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_never_answered_is_uncertain_and_one_that_failed_is_not() {
    for (fault, line, code) in
        [(Fault::TimesOut, "0 finished, 1 claimed perhaps", 3), (Fault::Fails, "0 finished", 0)]
    {
        let queue = Faulty::new(MemoryQueue::new("mail"));
        queue.set(|faults| (faults.claim, faults.interrupt) = (fault, Fault::Hangs));
        let kit = started(Worker::new(queue, async |_job: Job| {})).await;
        sleep(Duration::from_millis(10)).await;
        kit.signal(Signal::Terminate);
        let report = kit.report().await;
        assert_eq!(jobs_line(report.report()), format!("jobs of mail: {line}"));
        report.exit_code(code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_gives_up_while_a_clone_works_on_is_left_to_its_lease() {
    let queue = MemoryQueue::new("mail");
    push(&queue, 1).await;
    let worker = Worker::new(queue.clone(), async |job: Job| {
        let goes_on = job.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(3600)).await;
            drop(goes_on);
        });
        job.cancelled().await;
        Err::<(), _>(JobError::Stopped)
    });
    let kit = started(worker).await;
    sleep(SECOND).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    report.exit_code(3);
    let said = jobs_line(report.report());
    assert!(said.starts_with("jobs of mail: 0 finished, 1 left to their lease"), "{said}");
    assert_eq!(stats(&queue).await.ready, 0);
}

/// As by a coordinator that is quicker than the worker itself at the end of its time, since the
/// process has stood still until then.
#[tokio::test(start_paused = true)]
async fn a_worker_that_is_dropped_has_said_what_it_holds() {
    let queue = MemoryQueue::new("mail");
    push(&queue, 2).await;
    let worker = Worker::new(queue.clone(), async |job: Job| {
        if job.payload() == "0" {
            let goes_on = job.clone();
            tokio::spawn(async move {
                sleep(Duration::from_secs(3600)).await;
                drop(goes_on);
            });
        }
        std::future::pending::<()>().await;
    });
    let mut kit = TestKit::new(Lifecycle::builder().grace_period(SECOND * 30));
    // A task is dropped as soon as its time is over: a worker has a moment more.
    kit.life().spawn("worker", component_fn(|handle| worker.concurrency(2).run(handle)));
    kit.start().await;
    sleep(SECOND).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    let said = jobs_line(report.report());
    let held = "jobs of mail: 0 finished, 1 returned half done, 1 left to their lease";
    assert!(said.starts_with(held), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_hang_of_the_close_keeps_nobody() {
    let queue = Faulty::new(MemoryQueue::new("mail"));
    queue.set(|faults| faults.close = Fault::Hangs);
    let kit = started(Worker::new(queue.clone(), async |_job: Job| {})).await;
    let bound = queue.capabilities().call_bound;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    assert_eq!(report.is_clean().report().took(), bound, "{}", report.report());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_to_be_ready_ends_the_process_with_an_error() {
    #[derive(Debug)]
    struct Broken;
    impl tower::Service<Job> for Broken {
        type Response = ();
        type Error = BoxError;
        type Future = std::future::Ready<Result<(), BoxError>>;
        fn poll_ready(
            &mut self,
            _cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Err("out of order".into()))
        }
        fn call(&mut self, _job: Job) -> Self::Future {
            std::future::ready(Ok(()))
        }
    }
    let queue = MemoryQueue::new("mail");
    push(&queue, 1).await;
    let kit = started(Worker::new(queue.clone(), Broken)).await;
    let report = kit.report().await;
    report.exit_code(1);
    assert!(report.report().to_string().contains("out of order"), "{}", report.report());
    let stats = stats(&queue).await;
    assert_eq!((stats.ready, stats.attempts), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_waiting_does_not_mend_is_said_at_the_start() {
    let queue = MemoryQueue::new("mail");
    queue.close().await.unwrap();
    let kit = started(Worker::new(queue, async |_job: Job| {})).await;
    let report = kit.report().await;
    report.exit_code(1);
    assert!(report.report().to_string().contains("the queue is closed"), "{}", report.report());
}

/// With a stop at any moment of many jobs' lives: all are done or ready, none counted twice.
#[tokio::test(start_paused = true)]
async fn at_whatever_moment_the_stop_comes_nothing_is_lost() {
    for after_ms in 0..60 {
        let queue = MemoryQueue::new("mail");
        push(&queue, 40).await;
        let worker = Worker::new(queue.clone(), async |job: Job| {
            let number: u64 = std::str::from_utf8(job.payload()).unwrap().parse().unwrap();
            sleep(Duration::from_millis(number % 7)).await;
            if number.is_multiple_of(11) {
                sleep(Duration::from_secs(100)).await;
            }
        });
        let kit = started(worker.concurrency(5).prefetch(2)).await;
        sleep(Duration::from_micros(after_ms * 500)).await;
        kit.signal(Signal::Terminate);
        let report = kit.report().await;
        let stats = stats(&queue).await;
        assert_eq!(stats.done + stats.ready, 40, "{stats:?} {}", report.report());
        assert_eq!(stats.attempts, stats.done, "{stats:?}");
        let jobs = &report.report().jobs()[0];
        assert_eq!(jobs.returned_started + jobs.returned_unstarted, stats.returns, "{jobs}");
        assert_eq!((jobs.left_to_lease, jobs.claims_uncertain), (0, 0), "{jobs}");
    }
}

/// Each has its say: what one does not know of another may wait for a lease.
#[tokio::test(start_paused = true)]
async fn two_workers_on_queues_of_one_name_both_count() {
    let (lame, good) = (Faulty::new(MemoryQueue::new("mail")), MemoryQueue::new("mail"));
    lame.set(|faults| (faults.claim, faults.interrupt) = (Fault::Hangs, Fault::Hangs));
    push(&good, 1).await;
    let mut kit = TestKit::new(Lifecycle::builder().grace_period(SECOND * 30));
    kit.life().spawn("lame", Worker::new(lame, async |_job: Job| {}));
    // The last to report.
    kit.life().spawn("good", Worker::new(good, async |_job: Job| sleep(SECOND * 20).await));
    kit.start().await;
    sleep(SECOND).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    report.exit_code(3);
    let jobs: Vec<_> = report.report().jobs().iter().map(ToString::to_string).collect();
    assert_eq!(jobs, ["jobs of mail: 1 finished, 1 claimed perhaps"]);
}

/// It is settled as it was told, or another has it: nobody waits for a lease of this worker's.
#[tokio::test(start_paused = true)]
async fn an_acknowledgement_whose_answer_was_lost_is_settled_perhaps() {
    let (queue, log) = (Faulty::new(MemoryQueue::new("mail")), Log::default());
    push(&queue, 1).await;
    queue.set(|faults| faults.ack = Fault::IsNotHeard);
    let worker = Worker::new(queue.clone(), async |_job: Job| sleep(SECOND).await);
    let kit = started(log.of(worker)).await;
    sleep(SECOND / 2).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    assert_eq!(log.outcomes(), ["lost:1"]);
    assert_eq!(jobs_line(report.report()), "jobs of mail: 0 finished, 1 settled perhaps");
    report.exit_code(0);
    assert_eq!(stats(&queue.inner).await.done, 1);
}
