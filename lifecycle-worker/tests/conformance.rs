//! The conformance suite on the queue in memory, and that it can fail.

use std::time::Duration;

use lifecycle_worker::{BoxError, MemoryQueue, conformance};
use tokio::time::Instant;

async fn memory(setting: conformance::Setting) -> Result<(MemoryQueue, MemoryQueue), BoxError> {
    let queue = MemoryQueue::new(setting.name).lease(setting.lease);
    let other = queue.claimant();
    Ok((queue, other))
}

/// Cancels: conformance::suite
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_in_memory_conforms_in_ten_seconds() {
    let began = Instant::now();
    let report = conformance::suite(memory).await;
    report.assert_passed();
    let took = began.elapsed();
    println!("{report}\nin {} ms", took.as_millis());
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_suite_works_in_paused_time() {
    conformance::suite(memory).await.assert_passed();
}
