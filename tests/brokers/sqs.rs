//! The queue on SQS, on moto: conformance, and what is special to it.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use lifecycle::Lifecycle;
use lifecycle_worker::conformance::suite;
use lifecycle_worker::{
    Attempt, Extend, Extended, Fail, Job, JobError, Next, Push, Queue, QueueError, Release,
    Schedule, Settled, SqsQueue, Worker,
};
use tests::brokers::{PrivateMoto, Proxy};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::Instant;

const TOO_MANY: [&str; 2] = ["concurrent_claims", "many_receipts"];
const SECOND: Duration = Duration::from_secs(1);

fn most(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

async fn prepared(moto: &PrivateMoto, name: &str) -> SqsQueue {
    let queue = SqsQueue::connect(&moto.url(name)).await.unwrap();
    queue.prepare().await.unwrap();
    queue
}

/// Moto takes a fifth of a second for each receive among hundreds of messages, so the two checks
/// with 3000 jobs are not run: [`many_receipts_are_settled_in_batches`] has 300. That two never
/// share a job cannot be shown there either: moto claims without a lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqs_conforms() {
    let moto = PrivateMoto::start().await;
    let report = suite(async |setting| {
        if TOO_MANY.iter().any(|check| setting.name.starts_with(check)) {
            return Err("too many jobs for moto".into());
        }
        let connect = async || SqsQueue::connect(&moto.url(&setting.name)).await;
        // Moto may take longer for two receives than a lease of a second lasts.
        let lease = setting.lease * 3;
        let first = connect().await?.lease(lease).call_bound(SECOND * 10);
        first.prepare().await?;
        Ok((first, connect().await?.lease(lease).call_bound(SECOND * 10)))
    })
    .await;
    println!("{report}");
    assert_eq!(report.failed(), TOO_MANY, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_receipts_are_settled_in_batches() {
    let moto = PrivateMoto::start().await;
    let first = prepared(&moto, "mail").await.call_bound(SECOND * 30).lease(SECOND * 120);
    let second = prepared(&moto, "mail").await.call_bound(SECOND * 30).lease(SECOND * 120);
    let jobs: Vec<_> = (0..300).map(|at| Push::new("a", at.to_string())).collect();
    assert_eq!(first.push(&jobs).await.unwrap().len(), 300);
    let take = async |queue: &SqsQueue| {
        let mut jobs = Vec::new();
        loop {
            let some = queue.claim(most(40), SECOND / 2).await.unwrap();
            if some.is_empty() {
                return jobs;
            }
            jobs.extend(some);
        }
    };
    // One after the other: moto gives one message to two that ask at the same moment.
    let ours = first.claim(most(150), SECOND).await.unwrap();
    let theirs = take(&second).await;
    assert_eq!(ours.len(), 150, "as many as were asked for, ten a request");
    let both = ours.iter().chain(&theirs);
    assert!(both.clone().all(|job| job.attempt == 1));
    let ids: HashSet<_> = both.clone().map(|job| job.receipt.id().clone()).collect();
    assert_eq!((ours.len() + theirs.len(), ids.len()), (300, 300));
    for (queue, jobs) in [(&first, &ours), (&second, &theirs)] {
        let extends: Vec<_> = jobs.iter().map(|job| Extend::new(job.receipt.clone())).collect();
        let said = queue.extend(&extends).await;
        assert!(said.iter().all(|one| matches!(one, Extended::Until(_))), "{said:?}");
        let (acked, rest) = jobs.split_at(jobs.len() / 2);
        let acked: Vec<_> = acked.iter().map(|job| job.receipt.clone()).collect();
        assert!(queue.ack(&acked).await.iter().all(Settled::is_done));
        let released = rest.iter().map(|job| Release::unstarted(job.receipt.clone()));
        let released: Vec<_> = released.collect();
        assert!(queue.release(&released).await.iter().all(Settled::is_done));
        assert!(queue.ack(&acked).await.iter().all(Settled::is_lost), "once");
    }
    let left = ours.len() - ours.len() / 2 + theirs.len() - theirs.len() / 2;
    assert_eq!(take(&second).await.len(), left);
}

#[tokio::test]
async fn what_it_cannot_do_is_declared_and_refused() {
    let moto = PrivateMoto::start().await;
    let queue = prepared(&moto, "mail").await;
    let can = queue.capabilities();
    assert_eq!(can.release.unwrap().attempt, Attempt::Counted);
    assert!(!can.dedupe && !can.priority && !can.checkpoint && !can.stats && !can.dead_letters);
    assert!(can.interrupt_bound <= SECOND * 3, "a stop within a grace of 5 s");
    for job in [
        Push::new("a", "x").dedupe("k"),
        Push::new("a", "x").priority(1),
        Push::new("a", "x").delay(SECOND * 901),
    ] {
        let error = queue.push(&[job]).await.unwrap_err();
        assert!(matches!(error, QueueError::Unsupported { .. }), "{error}");
    }
    let error = Schedule::new(queue).unwrap_err().to_string();
    assert!(error.contains("it has no dedupe keys"), "{error}");
}

#[tokio::test]
async fn a_dead_letter_is_in_the_dead_queue_with_its_error() {
    let moto = PrivateMoto::start().await;
    let queue = prepared(&moto, "mail").await;
    queue.push(&[Push::new("a", vec![0, 255]).header("h", "1")]).await.unwrap();
    let job = queue.claim(most(1), SECOND).await.unwrap().remove(0);
    let said = queue.fail(&[Fail::new(job.receipt, "no\0such order", Next::Dead)]).await;
    assert!(said[0].is_done(), "{said:?}");
    let dead = SqsQueue::connect(&moto.url("mail-dead")).await.unwrap();
    dead.prepare().await.unwrap();
    let letter = dead.claim(most(1), SECOND).await.unwrap().remove(0);
    assert_eq!((&*letter.kind, &letter.payload[..]), ("a", &[0, 255][..]));
    let headers = [("h", "1"), ("attempts", "1"), ("error", "no\u{fffd}such order")];
    for (name, value) in headers {
        assert!(letter.headers.contains(&(name.into(), value.into())), "{:?}", letter.headers);
    }
}

#[tokio::test]
async fn a_fifo_queue_keeps_groups_in_order_and_apart() {
    let moto = PrivateMoto::start().await;
    let queue = prepared(&moto, "mail.fifo").await;
    let job = |group: &str, text: &str| {
        Push::new("a", text.to_owned()).header("group", group).dedupe(format!("{group}{text}"))
    };
    let jobs = [job("x", "1"), job("x", "2"), job("y", "1")];
    queue.push(&jobs).await.unwrap();
    queue.push(&jobs[..1]).await.unwrap();
    let first = queue.claim(most(1), SECOND).await.unwrap();
    let other = queue.claim(most(9), SECOND).await.unwrap();
    let of = |jobs: &[lifecycle_worker::Claimed]| -> Vec<String> {
        let text = |job: &lifecycle_worker::Claimed| {
            format!("{} {}", job.headers[0].1, String::from_utf8_lossy(&job.payload))
        };
        jobs.iter().map(text).collect()
    };
    assert_eq!((of(&first), of(&other)), (vec!["x 1".into()], vec!["y 1".into()]));
    assert!(queue.ack(&[first[0].receipt.clone()]).await[0].is_done());
    let next = queue.claim(most(9), SECOND).await.unwrap();
    assert_eq!(of(&next), ["x 2"], "the one that was pushed twice is there once");
}

#[tokio::test]
async fn a_poll_is_short_enough_for_a_stop() {
    let moto = PrivateMoto::start().await;
    let queue = prepared(&moto, "mail").await;
    let polling = queue.clone();
    let claim = tokio::spawn(async move { polling.claim(most(1), SECOND * 60).await });
    // Sleeps: no event tells that a request is with the server.
    tokio::time::sleep(SECOND / 2).await;
    let from = Instant::now();
    queue.interrupt().await;
    assert!(claim.await.unwrap().unwrap().is_empty());
    assert!(from.elapsed() < SECOND * 3, "{:?}", from.elapsed());
}

/// Within a grace period of 5 s, a poll under way at the cause included.
#[tokio::test]
async fn a_worker_that_stops_returns_its_job_and_that_counts_as_a_delivery() {
    let moto = PrivateMoto::start().await;
    // It has half a second to return the job in, and moto is not the fastest.
    for name in ["one", "two", "three"] {
        let line = returned_at_the_stop(&moto, name).await;
        if line.ends_with("1 returned half done") || name == "three" {
            assert_eq!(line, format!("jobs of {name}: 0 finished, 1 returned half done"));
            let other = prepared(&moto, name).await;
            let again = other.claim(most(1), Duration::ZERO).await.unwrap();
            assert_eq!((again[0].attempt, again[0].returns), (2, 0));
            return;
        }
    }
}

/// What the report says of its job.
async fn returned_at_the_stop(moto: &PrivateMoto, name: &str) -> String {
    let queue = prepared(moto, name).await;
    queue.push(&[Push::new("a", "x")]).await.unwrap();
    let mut life = Lifecycle::builder().grace_period(SECOND * 5).build_local().unwrap();
    let handle = life.handle();
    let work = move |job: Job| {
        handle.shutdown("a job is under way, and a claim polls for the second slot");
        async move {
            job.cancelled().await;
            Err::<(), _>(JobError::Stopped)
        }
    };
    life.spawn("mail", Worker::new(queue, work).concurrency(2));
    let report = life.run().await.unwrap();
    assert!(report.took() < SECOND * 5, "{report}");
    report.jobs()[0].to_string()
}

#[tokio::test]
async fn what_is_missing_or_away_is_said() {
    let moto = PrivateMoto::start().await;
    let queue = SqsQueue::connect(&moto.url("nobody")).await.unwrap();
    let error = queue.ping().await.unwrap_err();
    assert!(error.to_string().ends_with("call `prepare()`"), "{error}");
    let queue = prepared(&moto, "mail").await.call_bound(SECOND);
    moto.server().pause();
    let error = queue.push(&[Push::new("a", "x")]).await.unwrap_err();
    assert!(!error.is_fatal(), "{error}");
    moto.server().resume();
    queue.ping().await.unwrap();
}

/// What SQS has not heard may be said again, a return too.
#[tokio::test]
async fn a_return_that_was_not_heard_is_said_again() {
    let moto = PrivateMoto::start().await;
    prepared(&moto, "mail").await.push(&[Push::new("a", "x")]).await.unwrap();
    let port = moto.server().port();
    let proxy = Proxy::start(port).await;
    let url = moto.url("mail").replace(&port.to_string(), &proxy.port().to_string());
    let queue = SqsQueue::connect(&url).await.unwrap().lease(SECOND * 120);
    let queue = queue.call_bound(SECOND * 10);
    let back = async || {
        let job = queue.claim(most(1), SECOND * 10).await.unwrap().remove(0);
        [Release::unstarted(job.receipt)]
    };
    let first = back().await;
    let late = queue.clone().call_bound(Duration::ZERO);
    let settled = late.release(&first).await;
    assert!(matches!(settled[..], [Settled::Retry(_)]), "{settled:?}");
    let settled = queue.release(&first).await;
    assert!(matches!(settled[..], [Settled::Done]), "it had no time to be sent: {settled:?}");

    let second = back().await;
    let port_of_proxy = proxy.port();
    drop(proxy);
    let limit = Instant::now() + SECOND * 20;
    while !format!("{:?}", queue.ping().await).contains("refused") {
        assert!(Instant::now() < limit, "somebody listens there");
        // Sleeps: nothing tells that the port is closed.
        tokio::time::sleep(SECOND / 50).await;
    }
    for _ in 0..2 {
        let settled = queue.release(&second).await;
        assert!(matches!(settled[..], [Settled::Retry(_)]), "nobody was there: {settled:?}");
    }

    // Somebody hears it and goes, perhaps after it was carried out: once more, and it could be taken
    // from whoever has claimed it since.
    let listener = TcpListener::bind(("127.0.0.1", port_of_proxy)).await.unwrap();
    let goes = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"}") {
            assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "a whole request comes");
        }
        listener
    });
    let settled = queue.release(&second).await;
    assert!(matches!(settled[..], [Settled::Retry(_)]), "nobody has answered: {settled:?}");
    let _listener = goes.await.unwrap();
    let settled = queue.release(&second).await;
    assert!(matches!(settled[..], [Settled::Lost]), "it may have been carried out: {settled:?}");
}

/// Cancels: SqsQueue::connect
#[tokio::test]
async fn connecting_leaves_nothing() {
    let moto = PrivateMoto::start().await;
    let url = moto.url("mail");
    for _ in 0..3 {
        let mut connecting = tokio_test::task::spawn(SqsQueue::connect(&url));
        drop(connecting.poll());
    }
    prepared(&moto, "mail").await.ping().await.unwrap();
}
