//! Queues on real brokers, each a private instance: conformance, and what breaks them.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(clippy::print_stdout, reason = "the figures belong into the log")]
#![allow(clippy::large_futures, reason = "a test runs a few at a time")]

mod amqp;
mod clocks;
mod conformance;
mod faults;
mod held;
mod nats;
mod redis;
mod sql;
mod sqs;
mod sqs_limits;
mod swap;
mod tls;
mod torture;
