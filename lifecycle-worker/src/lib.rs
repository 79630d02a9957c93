//! Queue consumers that stop without losing a job.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc(test(attr(deny(warnings))))]

mod any;
mod capabilities;
mod claimed;
#[cfg(feature = "conformance")]
#[cfg_attr(docsrs, doc(cfg(feature = "conformance")))]
pub mod conformance;
mod error;
mod push;
mod queue;
mod queues;
mod stats;

pub use any::AnyQueue;
pub use capabilities::{Attempt, Capabilities, Lease, Place, ReleaseCapabilities};
pub use claimed::{Claimed, JobId, Receipt};
pub use error::{BoxError, JobError, QueueError};
pub use push::{Dedupe, Push, Pushed};
pub use queue::{Extend, Extended, Fail, Next, Queue, Release, Settled, Start};
#[cfg(feature = "memory")]
#[cfg_attr(docsrs, doc(cfg(feature = "memory")))]
pub use queues::MemoryQueue;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use queues::PostgresQueue;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use queues::RedisQueue;
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use queues::SqliteQueue;
pub use stats::{DeadJob, Stats};
