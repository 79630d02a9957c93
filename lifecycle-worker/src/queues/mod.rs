//! The queues that come with the crate, one feature each, and any of them by its URL.

#[cfg(feature = "amqp")]
mod amqp;
#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "sqlite"))]
mod handover;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqs")]
mod sqs;
mod url;

#[cfg(feature = "amqp")]
pub use amqp::AmqpQueue;
#[cfg(feature = "memory")]
pub use memory::MemoryQueue;
#[cfg(feature = "nats")]
pub use nats::NatsQueue;
#[cfg(feature = "postgres")]
pub use postgres::PostgresQueue;
#[cfg(feature = "redis")]
pub use redis::RedisQueue;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteQueue;
#[cfg(feature = "sqs")]
pub use sqs::SqsQueue;
