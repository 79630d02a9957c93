//! A queue.

/// A queue.
#[derive(Clone, Debug)]
pub struct RedisQueue;
