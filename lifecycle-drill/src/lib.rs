//! Black-box drills of a graceful shutdown, against **any command in any language**.
//!
//! A drill starts a command, waits until it is ready, plays its clients (well-behaved and
//! not), sends it signals, and judges what all of them saw: was every request answered, was
//! each wait bounded, is the exit code right. It knows nothing of the command but its
//! address, its routes and its timing.
//!
//! # The timeline that is judged
//! ```text
//! T                      the signal
//! T .. C                 lame duck: readiness fails, everything is still served
//! C = T + lame_duck      the listener closes, idle connections are closed
//! C .. drain end         work in flight finishes
//! before T + grace       the process is gone by itself; later the platform sends SIGKILL
//! ```
//! A service without a lame duck has `lame_duck` zero: what happens between T and C is
//! skipped.
//!
//! # Quick start
//! ```no_run
//! use std::time::Duration;
//! use lifecycle_drill::{Outcome, ReadyWhen, Routes, Subject, scenarios};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let subject = Subject::new("./my-service")
//!     .port_env("PORT")
//!     .env("SHUTDOWN_TIMEOUT", "10s")
//!     .ready_when(ReadyWhen::Http("/readyz".into()))
//!     .grace(Duration::from_secs(10))
//!     .lame_duck(Duration::from_secs(2))
//!     .routes(Routes::new().work("/sleep?ms={ms}").echo("/echo"));
//!
//! let mut failed = Vec::new();
//! for scenario in scenarios() {
//!     let verdict = scenario.run(&subject).await;
//!     eprintln!("{verdict}"); // what was seen, why it matters, how it is usually mended
//!     if matches!(verdict.outcome(), Outcome::Fail { .. }) {
//!         failed.push(verdict.scenario().name());
//!     }
//! }
//! assert!(failed.is_empty(), "{failed:?}");
//! # }
//! ```
//! One by its name: `by_name("http1-in-flight")`, see [`by_name`].
//!
//! # What it needs
//! Unix, and a tokio runtime with IO and time. Ports are free ones on 127.0.0.1; no traffic
//! goes elsewhere. Whatever was started is killed, with its process group, when its handle is
//! dropped; what has left the group is not, and nothing is if we are killed by SIGKILL ourselves.

mod client;
mod error;
mod escapes;
mod events;
mod exit_codes;
mod flaw;
pub mod kubelet;
mod ledger;
mod namespace;
mod output;
mod port;
mod process;
mod pty;
#[cfg(feature = "rollout")]
pub mod rollout;
mod routes;
mod scenario;
mod scenarios;
mod signal;
mod stage;
mod subject;
mod verdict;
mod watch;

pub use client::{Fate, Response, Wire, WireError};
pub use error::{SignalError, StartError};
pub use events::{Event, What};
pub use exit_codes::ExitCodes;
pub use ledger::Ledger;
pub use output::{Line, Stream};
pub use process::{Ended, Exit, Process, Setting};
pub use routes::Routes;
pub use scenario::{Need, Scenario, Theme};
pub use scenarios::{by_name, scenarios};
pub use signal::Signal;
pub use subject::{BlockerReport, Protocol, ReadyWhen, Subject};
pub use verdict::{Evidence, Outcome, Verdict};
