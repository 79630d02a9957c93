//! Claims that are dropped or interrupted, and jobs whose workers vanish: nothing is lost.

use std::collections::HashSet;
use std::time::Duration;

use lifecycle_worker::{AmqpQueue, Fail, Next, Push, Queue, Release};
use tests::brokers::PrivateRabbit;
use tokio::time::{Instant, timeout};
use tokio_test::task::spawn;

use super::{all_done, jobs, most, receipts, work_off};

/// Cancels: AmqpQueue::connect
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_stays_behind() {
    let broker = PrivateRabbit::start().await;
    for polls in 0..3 {
        let url = broker.url();
        let mut connecting = spawn(AmqpQueue::connect(&url, "mail"));
        for _ in 0..polls {
            drop(connecting.poll());
            tokio::task::yield_now().await;
        }
    }
    for (name, kind) in [("quorum", None), ("classic", Some(AmqpQueue::classic as fn(_) -> _))] {
        let connect = async || {
            let queue = AmqpQueue::connect(&broker.url(), name).await.unwrap();
            match kind {
                Some(kind) => kind(queue),
                None => queue,
            }
        };
        let queue = connect().await;
        queue.prepare().await.unwrap();
        dropped_claims_strand_nothing(&queue).await;
        interrupts_under_load_lose_nothing(&queue, &connect().await).await;
        vanished_workers_are_counted(&queue, connect).await;
        any_payload_comes_through(&queue).await;
    }
}

/// A claim whose future is dropped gives back what it would have got.
async fn dropped_claims_strand_nothing(queue: &AmqpQueue) {
    queue.push(&jobs(100)).await.unwrap();
    for micros in (0..40).map(|at| at * 250) {
        let claim = queue.claim(most(3), Duration::from_secs(60));
        if let Ok(claimed) = timeout(Duration::from_micros(micros), claim).await {
            let back = receipts(&claimed.unwrap()).into_iter().map(Release::unstarted);
            assert!(all_done(&queue.release(&back.collect::<Vec<_>>()).await));
        }
    }
    let began = Instant::now();
    let mut seen = HashSet::new();
    while seen.len() < 100 {
        assert!(began.elapsed() < Duration::from_secs(10), "only {}", seen.len());
        let claimed = queue.claim(most(100), Duration::from_secs(1)).await.unwrap();
        assert!(all_done(&queue.ack(&receipts(&claimed)).await));
        seen.extend(claimed.into_iter().map(|job| job.payload));
    }
    assert_eq!(work_off(queue).await, 0);
}

/// Two workers that are told to end their claims all the time get each job once.
async fn interrupts_under_load_lose_nothing(one: &AmqpQueue, other: &AmqpQueue) {
    let pushing = {
        let one = one.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                one.push(&jobs(25)).await.unwrap();
            }
        })
    };
    let mut seen = HashSet::new();
    let limit = Instant::now() + Duration::from_secs(30);
    while seen.len() < 500 {
        assert!(Instant::now() < limit, "only {}", seen.len());
        for queue in [one, other] {
            let claim = queue.claim(most(10), Duration::from_secs(1));
            let (claimed, ()) = tokio::join!(claim, async {
                tokio::task::yield_now().await;
                queue.interrupt().await;
            });
            let claimed = claimed.unwrap();
            assert!(all_done(&queue.ack(&receipts(&claimed)).await));
            let news = claimed.iter().map(|job| job.receipt.id().clone());
            assert!(news.into_iter().all(|id| seen.insert(id)), "a job came twice");
        }
    }
    pushing.await.unwrap();
    assert_eq!(work_off(one).await, 0);
}

/// Each end of a connection counts as an attempt, so that a job that kills its workers comes to
/// its end; a return does not, and is claimable at once.
async fn vanished_workers_are_counted(queue: &AmqpQueue, connect: impl AsyncFn() -> AmqpQueue) {
    queue.push(&[Push::new("mail", "poison")]).await.unwrap();
    for attempt in 1..=4 {
        let worker = connect().await;
        let claimed = worker.claim(most(1), Duration::from_secs(5)).await.unwrap();
        assert_eq!(claimed[0].attempt, attempt);
        let back = Release::started(claimed[0].receipt.clone(), Some("at 7".into()));
        assert!(all_done(&worker.release(&[back]).await));
        let claimed = worker.claim(most(1), Duration::from_secs(5)).await.unwrap();
        assert_eq!((claimed[0].attempt, claimed[0].returns), (attempt, attempt));
        assert_eq!(claimed[0].checkpoint.as_deref(), Some(&b"at 7"[..]));
        worker.close().await.unwrap();
    }
    let claimed = queue.claim(most(1), Duration::from_secs(5)).await.unwrap();
    let dead = Fail::new(claimed[0].receipt.clone(), "it kills", Next::Dead);
    assert!(all_done(&queue.fail(&[dead]).await));
    assert_eq!(work_off(queue).await, 0);
}

async fn any_payload_comes_through(queue: &AmqpQueue) {
    let payloads = [Vec::new(), vec![255; 8 << 20], vec![0, 159, 146, 150]];
    let pushes: Vec<_> = payloads.iter().map(|bytes| Push::new("mail", bytes.clone())).collect();
    queue.push(&pushes).await.unwrap();
    for expected in payloads {
        let claimed = queue.claim(most(1), Duration::from_secs(5)).await.unwrap();
        assert!(claimed[0].payload == expected);
        assert!(all_done(&queue.ack(&receipts(&claimed)).await));
    }
}
