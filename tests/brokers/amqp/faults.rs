//! Brokers that are paused, killed and started again, and what is said when something is wrong.

use std::time::Duration;

use lifecycle::Lifecycle;
use lifecycle_worker::{
    AmqpQueue, Claimed, Extend, Extended, Job, JobError, Push, Queue, QueueError, Settled, Worker,
};
use tests::brokers::{PrivateRabbit, free_port};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use super::{all_done, jobs, most, receipts};
use crate::held::held;

const BOUND: Duration = Duration::from_millis(500);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(3);

/// Every call ends within its bound and does not pretend; how the held jobs' settling ended.
async fn nothing_works(queue: &AmqpQueue, held: &[Claimed]) -> Vec<Settled> {
    let queue = queue.clone().call_bound(BOUND);
    let began = Instant::now();
    let error = queue.push(&[Push::new("mail", "maybe")]).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    let error = queue.claim(most(1), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    assert!(matches!(queue.ping().await, Err(QueueError::Unavailable(_))));
    let settled = queue.ack(&receipts(held)).await;
    assert_eq!(settled.len(), held.len());
    let extend: Vec<_> = receipts(held).into_iter().map(Extend::new).collect();
    let extended = queue.extend(&extend).await;
    let known = |one: &Extended| matches!(one, Extended::Unsupported | Extended::Lost);
    assert!(extended.iter().all(known), "{extended:?}");
    queue.interrupt().await;
    assert!(began.elapsed() < 4 * BOUND + SLACK, "{:?}", began.elapsed());
    settled
}

/// The same value works again.
async fn works_again(queue: &AmqpQueue) {
    let limit = Instant::now() + Duration::from_secs(20);
    while let Err(error) = queue.ping().await {
        assert!(!error.is_fatal() && Instant::now() < limit, "{error:?}");
        // Sleeps: the broker is starting, and tells nobody.
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_paused_and_then_killed() {
    let mut broker = PrivateRabbit::start().await;
    let queue = AmqpQueue::connect(&broker.url(), "mail").await.unwrap();
    queue.prepare().await.unwrap();
    queue.push(&jobs(10)).await.unwrap();
    let first = held(&queue, 3).await;

    broker.pause();
    let settled = nothing_works(&queue, &first).await;
    assert!(settled.iter().all(|one| matches!(one, Settled::Retry(_))), "{settled:?}");
    broker.resume();
    works_again(&queue).await;
    // What was sent is heard of, not sent again: a tag that is acknowledged twice ends a channel.
    let settled = queue.ack(&receipts(&first)).await;
    assert!(settled.iter().all(|one| one.is_done() || one.is_lost()), "{settled:?}");

    let lost = held(&queue, 3).await;
    broker.kill().await;
    let settled = nothing_works(&queue, &lost).await;
    assert!(settled.iter().all(Settled::is_lost), "{settled:?}");
    let extend: Vec<_> = receipts(&lost).into_iter().map(Extend::new).collect();
    let extended = queue.extend(&extend).await;
    assert!(extended.iter().all(|one| matches!(one, Extended::Lost)), "{extended:?}");
    broker.start_again().await;
    works_again(&queue).await;
    assert!(queue.ack(&receipts(&lost)).await.iter().all(Settled::is_lost));
    let again = held(&queue, 7).await;
    for job in &lost {
        let same = again.iter().find(|other| other.receipt.id() == job.receipt.id());
        let same = same.expect("a lost job comes again");
        assert!(same.attempt > job.attempt && same.receipt != job.receipt, "{same:?}");
    }
    assert!(all_done(&queue.ack(&receipts(&again)).await));
    // The push that was not answered before the pause's end, if it arrived. The claim that was given
    // up gives its job back: that is there twice if the broker was killed in the midst.
    let left = queue.claim(most(20), Duration::from_millis(300)).await.unwrap();
    let is_twice = |job: &Claimed| again.iter().any(|one| one.receipt.id() == job.receipt.id());
    let (twice, pushed): (Vec<_>, Vec<_>) = left.iter().partition(|job| is_twice(job));
    assert!(pushed.len() <= 1 && twice.len() <= 2, "{left:?}");
    assert!(all_done(&queue.ack(&receipts(&left)).await));
    queue.close().await.unwrap();
}

async fn refusal(url: &str) -> QueueError {
    AmqpQueue::connect(url, "mail").await.err().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_clearly() {
    let broker = PrivateRabbit::start().await;
    let (url, port) = (broker.url(), broker.port());
    let error = refusal(&format!("amqp://guest:wrong@127.0.0.1:{port}")).await;
    assert!(matches!(error, QueueError::Denied(_)), "{error:?}");
    let error = refusal(&format!("{url}/nowhere")).await;
    assert!(
        matches!(&error, QueueError::Invalid { what } if what.contains("nowhere")),
        "{error:?}"
    );
    let error = refusal(&format!("amqp://127.0.0.1:{}", free_port())).await;
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    for no_url in ["", "mail", "http://127.0.0.1", "amqp://127.0.0.1:port"] {
        assert!(matches!(refusal(no_url).await, QueueError::Invalid { .. }), "{no_url}");
    }

    let queue = AmqpQueue::connect(&url, "mail").await.unwrap();
    let not_prepared = |error: QueueError| {
        assert!(matches!(error, QueueError::NotPrepared { .. }), "{error:?}");
    };
    not_prepared(queue.ping().await.unwrap_err());
    not_prepared(queue.push(&jobs(1)).await.unwrap_err());
    not_prepared(queue.push(&[Push::new("mail", "").delay(BOUND)]).await.unwrap_err());
    not_prepared(queue.claim(most(1), Duration::ZERO).await.unwrap_err());
    queue.prepare().await.unwrap();
    queue.prepare().await.unwrap();
    queue.push(&jobs(1)).await.unwrap();
    let other = AmqpQueue::connect(&url, "mail").await.unwrap().classic();
    let error = other.prepare().await.unwrap_err();
    assert!(matches!(error, QueueError::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("inequivalent arg"), "{error:?}");
    for no_job in [Push::new("mail", "").dedupe("once"), Push::new("mail", "").priority(1)] {
        let error = queue.push(&[no_job]).await.unwrap_err();
        assert!(matches!(error, QueueError::Unsupported { .. }), "{error:?}");
    }
    let error = queue.push(&[Push::new("mail", "").delay(Duration::MAX)]).await.unwrap_err();
    assert!(matches!(error, QueueError::Invalid { .. }), "{error:?}");

    broker.ctl(&["add_user", "ada", "x"]).await;
    let url = format!("amqp://ada:x@127.0.0.1:{port}");
    assert!(matches!(refusal(&url).await, QueueError::Denied(_)));
    broker.ctl(&["set_permissions", "ada", "^$", "^mail.*|^amq.default$", "^mail.*"]).await;
    // Who may not configure can work, and not prepare.
    let ada = AmqpQueue::connect(&url, "mail").await.unwrap();
    assert!(matches!(ada.prepare().await, Err(QueueError::Denied(_))));
    let job = held(&ada, 1).await;
    assert!(all_done(&ada.ack(&receipts(&job)).await));

    // One connection too many is not for good.
    broker.ctl(&["set_user_limits", "ada", r#"{"max-connections": 0}"#]).await;
    let error = refusal(&url).await;
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
}

/// With that the broker ends the channel of the worker's claims, and no worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_longer_than_the_consumer_timeout_comes_again() {
    let broker = PrivateRabbit::with("consumer_timeout = 3000\n").await;
    // It looks once a minute otherwise.
    broker.ctl(&["eval", "application:set_env(rabbit, channel_tick_interval, 200)."]).await;
    tokio::join!(
        comes_again(&broker, "quorum", |queue| queue),
        comes_again(&broker, "classic", AmqpQueue::classic),
    );
}

async fn comes_again(broker: &PrivateRabbit, name: &str, kind: fn(AmqpQueue) -> AmqpQueue) {
    let queue = kind(AmqpQueue::connect(&broker.url(), name).await.unwrap());
    queue.prepare().await.unwrap();
    queue.push(&jobs(1)).await.unwrap();
    let grace = Duration::from_secs(5);
    let mut life = Lifecycle::builder().grace_period(grace).build_local().unwrap();
    let handle = life.handle();
    let work = move |job: Job| {
        let handle = handle.clone();
        async move {
            if job.attempt() == 1 {
                job.cancelled().await;
                return Err(JobError::Stopped);
            }
            handle.shutdown("it came again");
            Ok(())
        }
    };
    // A claim waits for the second slot, and is told why it ends.
    life.spawn("mail", Worker::new(queue, work).concurrency(2));
    let ended = timeout(Duration::from_secs(60), life.run()).await;
    let report = ended.unwrap_or_else(|_| panic!("{name}: it never came again")).unwrap();
    assert!(report.cause().to_string().contains("it came again"), "{name}: {report}");
}

#[tokio::test]
async fn what_answers_and_is_no_broker_is_refused() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        socket
    });
    let began = Instant::now();
    let error = refusal(&format!("amqp://127.0.0.1:{port}")).await;
    assert!(
        matches!(error, QueueError::Unsupported { .. } | QueueError::Unavailable(_)),
        "{error:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(6));
    drop(answering.await.unwrap());
}
