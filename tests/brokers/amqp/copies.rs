//! Copies that the broker does not take: which jobs they are of, and that no others suffer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lifecycle_worker::{AmqpQueue, Fail, Next, Push, Queue, Release};
use tests::brokers::PrivateRabbit;

use super::{all_done, jobs, receipts, work_off};
use crate::held::held_within;

/// Of a call, and of a wait for jobs.
const LIMIT: Duration = Duration::from_secs(30);

/// One broker for all of them, since it is long in starting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_that_the_broker_does_not_take() {
    let broker = Arc::new(PrivateRabbit::with("max_message_size = 1048576\n").await);
    let (one, two, three) = (Arc::clone(&broker), Arc::clone(&broker), Arc::clone(&broker));
    let all = [
        tokio::spawn(async move { returned(&one).await }),
        tokio::spawn(async move { too_large(&two).await }),
        tokio::spawn(async move { moved_back(&three).await }),
    ];
    let ended = join_all(all).await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
}

async fn prepared(broker: &PrivateRabbit, name: &str) -> AmqpQueue {
    let queue = AmqpQueue::connect(&broker.url(), name).await.unwrap();
    queue.prepare().await.unwrap();
    queue.call_bound(LIMIT)
}

/// Without a queue of dead letters no job is a dead letter, whatever is said of its neighbours.
async fn returned(broker: &PrivateRabbit) {
    // A classic queue: it confirms soonest, and so in the midst of what comes back.
    let queue = AmqpQueue::connect(&broker.url(), "lost").await.unwrap().classic();
    queue.prepare().await.unwrap();
    let queue = queue.call_bound(LIMIT);
    broker.ctl(&["delete_queue", "lost.dead"]).await;
    for round in 0..6 {
        queue.push(&jobs(120)).await.unwrap();
        let held = held_within(&queue, 120, LIMIT).await;
        let fails = held.iter().enumerate().map(|(at, job)| {
            let next = if at % 3 == 2 { Next::Dead } else { Next::Retry(Duration::ZERO) };
            Fail::new(job.receipt.clone(), "no", next)
        });
        let mut fails: Vec<_> = fails.collect();
        // By turns all in one call, and several at once, for they share a channel.
        let calls = if round % 2 == 0 { 1 } else { 4 };
        if calls == 1 {
            fails.sort_by_key(|fail| fail.next == Next::Dead);
        }
        let settled = join_all(fails.chunks(120 / calls).map(|some| queue.fail(some))).await;
        let settled: Vec<_> = settled.into_iter().flatten().collect();
        for (fail, settled) in fails.iter().zip(&settled) {
            let is_dead = fail.next == Next::Dead;
            assert_eq!(settled.is_done(), !is_dead, "round {round}: {fail:?} {settled:?}");
        }
        let left = fails.iter().filter(|fail| fail.next == Next::Dead);
        let left: Vec<_> = left.map(|fail| fail.receipt.clone()).collect();
        assert!(all_done(&queue.ack(&left).await));
        assert_eq!(work_off(&queue).await, 80, "round {round}");
    }
}

/// A copy that is too large with its checkpoint goes without, and takes no others with it.
async fn too_large(broker: &PrivateRabbit) {
    let queue = prepared(broker, "large").await;
    let mut pushes = jobs(5);
    pushes.insert(2, Push::new("large", vec![b'x'; 900 << 10]));
    queue.push(&pushes).await.unwrap();
    let first = held_within(&queue, 6, LIMIT).await;
    let releases = first.iter().map(|job| {
        let checkpoint = vec![b'c'; if job.payload.len() > 10 { 300 << 10 } else { 10 }];
        Release::started(job.receipt.clone(), Some(checkpoint.into()))
    });
    let settled = queue.release(&releases.collect::<Vec<_>>()).await;
    assert!(all_done(&settled), "{settled:?}");
    let second = held_within(&queue, 6, LIMIT).await;
    for job in &second {
        assert_eq!((job.attempt, job.returns), (1, 1), "{:?}", job.receipt);
        let checkpoint = job.checkpoint.as_ref().map(bytes::Bytes::len);
        let expected = if job.payload.len() > 10 { None } else { Some(10) };
        assert_eq!(checkpoint, expected, "{:?}", job.receipt);
    }
    assert!(all_done(&queue.ack(&receipts(&second)).await));
    assert_eq!(work_off(&queue).await, 0);
    // And a payload that no message can hold is refused beside those that can.
    let error = queue.push(&[Push::new("large", vec![0; 2 << 20])]).await.unwrap_err();
    assert!(error.is_fatal(), "{error:?}");
    queue.push(&jobs(1)).await.unwrap();
    assert_eq!(work_off(&queue).await, 1);
}

/// A dead letter that somebody moves back is tried as often as a new job.
async fn moved_back(broker: &PrivateRabbit) {
    let queue = prepared(broker, "back").await;
    // The broker itself moves back what comes into that queue: its time is over at once.
    let policy = r#"{"message-ttl": 0, "dead-letter-exchange": "",
        "dead-letter-routing-key": "back"}"#;
    broker.ctl(&["set_policy", "back", r"^back\.dead$", policy, "--apply-to", "queues"]).await;
    queue.push(&jobs(1)).await.unwrap();
    for attempt in 1..=3 {
        let job = held_within(&queue, 1, LIMIT).await.remove(0);
        assert_eq!(job.attempt, attempt);
        let next = if attempt < 3 { Next::Retry(Duration::ZERO) } else { Next::Dead };
        assert!(all_done(&queue.fail(&[Fail::new(job.receipt, "no", next)]).await));
    }
    let job = held_within(&queue, 1, LIMIT).await.remove(0);
    assert_eq!((job.attempt, &*job.headers), (1, &[][..]));
    assert!(all_done(&queue.ack(&[job.receipt]).await));
}
