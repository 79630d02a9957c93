//! Queues on real brokers, each a private instance: conformance, and what breaks them.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod conformance;
mod faults;
mod redis;
mod sql;
mod torture;
