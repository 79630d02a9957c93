//! Queues on real brokers, each a private instance: conformance, and what breaks them.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod amqp;
mod conformance;
mod nats;
mod redis;
mod sql;
