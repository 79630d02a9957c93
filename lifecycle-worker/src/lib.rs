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
mod fate;
mod handler;
mod job;
mod lease;
mod push;
mod queue;
mod queues;
mod retry;
mod runner;
mod settlement;
mod stats;
mod sync;
mod telemetry;
mod verdict;
mod worker;

pub use any::AnyQueue;
pub use capabilities::{Attempt, Capabilities, Lease, Place, ReleaseCapabilities};
pub use claimed::{Claimed, JobId, Receipt};
pub use error::{BoxError, JobError, QueueError};
pub use handler::{ByFunction, ByService, Handler};
pub use job::{CancelReason, Job};
pub use push::{Dedupe, Push, Pushed};
pub use queue::{Extend, Extended, Fail, Next, Queue, Release, Settled, Start};
#[cfg(feature = "amqp")]
#[cfg_attr(docsrs, doc(cfg(feature = "amqp")))]
pub use queues::AmqpQueue;
#[cfg(feature = "memory")]
#[cfg_attr(docsrs, doc(cfg(feature = "memory")))]
pub use queues::MemoryQueue;
#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
pub use queues::NatsQueue;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use queues::PostgresQueue;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use queues::RedisQueue;
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use queues::SqliteQueue;
pub use retry::Retry;
pub use settlement::{Settlement, SettlementKind};
pub use stats::{DeadJob, Stats};
pub use worker::{Unstoppable, Worker};
