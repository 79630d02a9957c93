//! A rolling update behind a real balancer, and the account of every request during it.
//!
//! Some replicas of a command stand behind haproxy, a client asks at a constant rate that no
//! slow answer slows down, and the replicas are replaced one after the other as a Deployment of
//! Kubernetes does. Each request has one outcome: nothing is tried twice, neither by the client
//! nor by the balancer, so that nothing is hidden. Not here: judging a single stop, which the
//! scenarios do.
//!
//! # What happens to a replica
//! ```text
//! it is ready                 the balancer hears of it `endpoint_lag` later
//! it is deleted               a fresh one is ready: that is all that Kubernetes waits for
//!   + endpoint_lag            the balancer hears that it is gone, and sends no more
//!   preStop, SIGTERM          ... SIGKILL at the end of the grace period
//! ```
//! Meanwhile the balancer also asks for readiness by itself, unless [`Checks::Off`].
//!
//! # Invariants
//! 1. Every request that was begun is counted once.
//! 2. The time of a request runs from when it was due, not from when it could be sent: a server
//!    that stands still is not asked less often, and the wait of those behind counts.
//! 3. Whatever was started is killed when the future of [`Rollout::run`] is dropped.

mod account;
mod fleet;
mod haproxy;
mod histogram;
mod html;
mod json;
mod kind;
mod load;
mod oha;
mod report;
mod run;
mod settings;
mod svg;

pub use self::haproxy::BalancerError;
pub use self::kind::Kind;
pub use self::oha::Opinion;
pub use self::report::{Balanced, Latency, Replica, RolloutReport, Side};
pub use self::run::RolloutError;
pub use self::settings::{Checks, Post, Rollout};
