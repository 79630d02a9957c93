//! What others' code can do to a worker: errors, futures, queues and subscribers that panic.
#![cfg(not(lifecycle_loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod parts;

use std::num::NonZeroUsize;
use std::time::Duration;

use lifecycle::Signal;
use lifecycle_worker::{BoxError, Job, JobError, MemoryQueue, Queue, Retry, Worker};
use parts::{Fault, Faulty, Log, Unspeakable, push, started};
use tokio::time::{sleep, timeout};
use tracing::{Event, Metadata, Subscriber, span};

const SECOND: Duration = Duration::from_secs(1);

/// An error that cannot be dropped, or what a future cannot be dropped with.
#[derive(Debug, thiserror::Error)]
#[error("it holds on")]
struct Undroppable;

impl Drop for Undroppable {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "it holds on");
    }
}

/// Paused time stands still while a job comes again and again.
async fn rest_if_returned(job: &Job) {
    if job.returns() > 0 {
        sleep(SECOND / 2).await;
    }
}

/// A job that is given back for that counts no attempt, and comes again for ever.
#[tokio::test(start_paused = true)]
async fn a_panic_around_a_handler_s_end_counts_an_attempt() {
    for (payload, error) in [
        ("shown", "an error that panicked when it was shown: no words"),
        ("dropped", "panicked: it holds on"),
        ("late", "panicked: it holds on"),
    ] {
        let (queue, log) = (MemoryQueue::new("mail"), Log::default());
        queue.push(&[lifecycle_worker::Push::new("test", payload)]).await.unwrap();
        let worker = Worker::new(queue.clone(), async |job: Job| -> Result<(), BoxError> {
            rest_if_returned(&job).await;
            match &job.payload()[..] {
                b"shown" => Err(Unspeakable.into()),
                b"dropped" => Err(Undroppable.into()),
                _ => {
                    let _held = Undroppable;
                    std::future::pending().await
                }
            }
        });
        let retry = Retry::new().attempts(2).first_delay(SECOND);
        let kit = started(log.of(worker.retry(retry).job_timeout(SECOND))).await;
        sleep(SECOND * 20).await;
        assert_eq!(log.outcomes(), ["retried:1", "dead:2"], "{payload}");
        assert_eq!(queue.dead(NonZeroUsize::MIN).await.unwrap()[0].error, error);
        kit.signal(Signal::Terminate);
        kit.report().await.is_clean();
    }
}

/// What the handler says of its job holds, though the reason cannot be told.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_whose_reason_cannot_be_shown_is_dead() {
    let (queue, log) = (MemoryQueue::new("mail"), Log::default());
    push(&queue, 1).await;
    let worker = Worker::new(queue, async |job: Job| {
        rest_if_returned(&job).await;
        Err::<(), _>(JobError::dead("no such order").because(Unspeakable))
    });
    let kit = started(log.of(worker)).await;
    sleep(SECOND).await;
    assert_eq!(log.outcomes(), ["dead:1"]);
    let reason = "no such order: an error that panicked when it was shown: no words";
    assert_eq!(log.all()[0].error.as_deref(), Some(reason));
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_queue_s_error_that_cannot_be_shown_is_tried_again_like_another() {
    let (queue, log) = (Faulty::new(MemoryQueue::new("mail")), Log::default());
    queue.set(|faults| (faults.claim, faults.ack) = (Fault::Unspeakable, Fault::Unspeakable));
    push(&queue, 1).await;
    let kit = started(log.of(Worker::new(queue.clone(), async |_job: Job| {}))).await;
    sleep(SECOND).await;
    queue.set(|faults| faults.claim = Fault::None);
    sleep(SECOND * 9).await;
    queue.set(|faults| faults.ack = Fault::None);
    sleep(SECOND).await;
    assert_eq!(log.outcomes(), ["done:1"]);
    kit.signal(Signal::Terminate);
    kit.report().await.is_clean();
}

/// It panics at each event of that name.
struct Deaf(&'static str);

impl Subscriber for Deaf {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        struct Name(&'static str);
        impl tracing::field::Visit for Name {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                let is_it = field.name() == "message" && format!("{value:?}") == self.0;
                assert!(!is_it, "no ear for {}", self.0);
            }
        }
        event.record(&mut Name(self.0));
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Without them leases end or nothing is settled any more: somebody has to know.
#[tokio::test(start_paused = true)]
async fn a_worker_whose_settler_or_heartbeat_is_gone_has_failed() {
    for event in ["job.finished", "queue.not_extended"] {
        let _heard = tracing::subscriber::set_default(Deaf(event));
        let queue = Faulty::new(MemoryQueue::new("mail").lease(SECOND * 12));
        queue.set(|faults| faults.extend = Fault::Fails);
        push(&queue, 1).await;
        let worker = Worker::new(queue.clone(), async |job: Job| {
            tokio::select! {
                () = sleep(SECOND * 6) => {}
                _reason = job.cancelled() => {}
            }
        });
        let kit = started(worker).await;
        let report = timeout(SECOND * 60, kit.report()).await.expect("its end is noticed");
        report.exit_code(1);
        let said = report.report().to_string();
        assert!(said.contains("the worker of mail cannot go on"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_interrupt_or_the_close_hides_no_job() {
    let queue = Faulty::new(MemoryQueue::new("mail"));
    queue.set(|faults| {
        (faults.claim, faults.interrupt, faults.close) =
            (Fault::Hangs, Fault::Panics, Fault::Panics);
    });
    let kit = started(Worker::new(queue, async |_job: Job| {})).await;
    sleep(SECOND).await;
    kit.signal(Signal::Terminate);
    let report = kit.report().await;
    report.exit_code(3);
    let jobs: Vec<_> = report.report().jobs().iter().map(ToString::to_string).collect();
    assert_eq!(jobs, ["jobs of mail: 0 finished, 1 claimed perhaps"]);
}

/// One answer, and then a rest: a broker that is in trouble is not helped by more.
#[tokio::test(start_paused = true)]
async fn a_queue_that_panics_when_it_extends_is_asked_a_few_times_only() {
    let queue = Faulty::new(MemoryQueue::new("mail").lease(SECOND * 12));
    queue.set(|faults| faults.extend = Fault::Panics);
    push(&queue, 1).await;
    let asked = queue.extends.clone();
    let worker = Worker::new(queue, async |_job: Job| std::future::pending::<()>().await);
    let kit = started(worker.concurrency(1)).await;
    sleep(SECOND * 12).await;
    let asked = asked.load(std::sync::atomic::Ordering::SeqCst);
    assert!((2..=12).contains(&asked), "{asked} times");
    kit.signal(Signal::Terminate);
    // It has been given out again, and has not ended.
    kit.report().await.exit_code(3);
}
