//! A server at its `maxmemory`: it takes nothing more, and what it has can be worked off.

use std::time::Duration;

use lifecycle_worker::{Fail, Next, Push, Queue, QueueError, Release};

use super::{all_done, jobs, most, receipts, server_and_queue, work_off};

#[tokio::test]
async fn a_server_that_is_full_is_worked_off() {
    let (redis, queue) = server_and_queue().await;
    queue.push(&jobs(1000)).await.unwrap();
    let later = Push::new("mail", "later").delay(Duration::from_millis(1));
    queue.push(&[later]).await.unwrap();
    // A delay of a millisecond is over when the server has answered.
    redis.cli(&["config", "set", "maxmemory", "1"]).await;
    let error = queue.push(&jobs(1)).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");

    let held = receipts(&queue.claim(most(4), Duration::ZERO).await.unwrap());
    assert_eq!(held.len(), 4);
    let release = Release::started(held[0].clone(), Some(vec![0; 1000].into()));
    assert!(all_done(&queue.release(&[release]).await));
    let fail = |at: usize, next| Fail::new(held[at].clone(), "no", next);
    let failed = [fail(1, Next::Retry(Duration::ZERO)), fail(2, Next::Dead)];
    assert!(all_done(&queue.fail(&failed).await));
    assert!(all_done(&queue.ack(&held[3..]).await));
    assert_eq!(work_off(&queue).await, 999);
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.done, stats.dead, stats.ready), (1000, 1, 0));
}
