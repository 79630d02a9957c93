//! Jobs that a test holds, from a queue that may give them in several portions.

use std::num::NonZeroUsize;
use std::time::Duration;

use lifecycle_worker::{Claimed, Queue};
use tokio::time::Instant;

/// So many jobs, in as many claims as that takes; each has something within five seconds.
pub(crate) async fn held(queue: &impl Queue, count: usize) -> Vec<Claimed> {
    let mut held = Vec::new();
    while let Some(rest) = NonZeroUsize::new(count - held.len()) {
        let more = queue.claim(rest, Duration::from_secs(5)).await.unwrap();
        assert!(!more.is_empty(), "only {}", held.len());
        held.extend(more);
    }
    held
}

/// The same, of a queue that may have nothing for a while: all of them within that time.
pub(crate) async fn held_within(queue: &impl Queue, count: usize, limit: Duration) -> Vec<Claimed> {
    let (mut held, ends) = (Vec::new(), Instant::now() + limit);
    while let Some(rest) = NonZeroUsize::new(count - held.len()) {
        assert!(Instant::now() < ends, "only {} of {count}", held.len());
        held.extend(queue.claim(rest, Duration::from_secs(1)).await.unwrap());
    }
    held
}
