//! Jobs near the server's `max_payload`.

use std::time::Duration;

use bytes::Bytes;
use lifecycle_worker::{Fail, NatsQueue, Next, Push, Queue, QueueError};
use tests::brokers::PrivateNats;

use super::{all_done, most};

const LARGEST: usize = 1 << 20;

/// The largest payload that a push takes.
async fn push_largest(queue: &NatsQueue) -> usize {
    let zeros = Bytes::from(vec![0; LARGEST]);
    for length in (0..=LARGEST).rev() {
        match queue.push(&[Push::new("mail", zeros.slice(..length))]).await {
            Ok(_) => return length,
            Err(QueueError::Invalid { what }) => assert!(what.contains("max_payload"), "{what}"),
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("no length will do")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_just_fits_can_be_buried() {
    let server = PrivateNats::with("jetstream: enabled\n").await;
    let queue = NatsQueue::connect(&server.url(), "mail").await.unwrap();
    queue.prepare().await.unwrap();
    let length = push_largest(&queue).await;
    // Of each, the JSON is longer than the text.
    let errors = ["x".repeat(1024), "\u{1}".repeat(1024), "\u{e9}\n".repeat(20_000)];
    for (at, error) in errors.iter().enumerate() {
        if at > 0 {
            queue.push(&[Push::new("mail", vec![0; length])]).await.unwrap();
        }
        let job = queue.claim(most(1), Duration::from_secs(5)).await.unwrap().remove(0);
        assert_eq!(job.payload.len(), length);
        let fail = Fail::new(job.receipt, error.as_str(), Next::Dead);
        let settled = queue.fail(&[fail]).await;
        assert!(all_done(&settled), "{settled:?}");
        let dead = queue.dead(most(1)).await.unwrap().remove(0);
        assert!(!dead.error.is_empty() && error.starts_with(&dead.error), "{:?}", dead.error);
        assert_eq!(dead.payload.len(), length);
    }
}
