//! Stops a service without losing anything: phases on one clock, signals, deadlines,
//! probes, and a report of what happened.
//!
//! ```text
//! Starting -> Running -> LameDuck -> Draining -> Cancelling -> Closing -> Stopped
//!             readiness may      listeners closed,   hard stop:     hooks, in
//!             fail; still        work in flight      cancel, join,  reverse order
//!             accepting          finishes            return jobs
//! T+0 cause ........ T+lame_duck ............. T+drain_ends ..... T+cancel_ends .. T+exit_by
//! ```
//!
//! Every deadline is computed once, at the cause, from one grace period ([`Budget`]); a
//! phase that ends early gives what is left to the next; nothing waits without a deadline.
//! Signals, the clock and the probes live on a thread of their own, so that a blocked
//! application runtime can neither hide a SIGTERM nor outlive the deadline.
//!
//! # Quick start
//!
//! Make a [`Lifecycle`] in the first line of `main`, register components and close hooks,
//! [`run`](Lifecycle::run) it and return the [`Report`]. The crate `lifecycle-tower` has
//! the component that serves HTTP.
//!
//! ```no_run
//! use lifecycle::{Lifecycle, Report};
//!
//! #[tokio::main]
//! async fn main() -> Result<Report, Box<dyn std::error::Error>> {
//!     let mut life = Lifecycle::from_env()?; // signals are caught from here on
//!     life.serve_probes().await?;
//!     let handle = life.handle();
//!     life.spawn("poller", async move {
//!         while handle.phase() < lifecycle::Phase::Draining {
//!             tokio::select! {
//!                 () = handle.draining() => {}
//!                 () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
//!             }
//!         }
//!     });
//!     Ok(life.run().await?)
//! }
//! ```
//!
//! # Exit codes
//!
//! The first that applies: 128 + n when a further signal n, or SIGQUIT, forced the stop; 1 when a
//! component failed; 3 when the deadline cut work or a job was left to its
//! lease; 0. [`ExitPolicy`] changes them.
//!
//! # What wakes an idle process
//!
//! Nothing that was not asked for: checks, [`watchdog`](Lifecycle::watchdog) and systemd's
//! watchdog say how often they do. Probe requests and signals are served as they come.
//!
//! # Words
//!
//! *Cause*: why the shutdown began. *Lame duck*: still serving, so that balancers can
//! leave. *Drain*: nothing new, what is in flight finishes. *Hard stop*: what is left is
//! cancelled. *Grace period*: from the platform's signal to its SIGKILL. *In flight*:
//! admitted and not finished, a response's body included. *Blocker*: something in flight,
//! by name and age.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc(test(attr(deny(warnings))))]

mod additions;
mod blockers;
mod budget;
mod builder;
#[cfg(all(unix, feature = "process"))]
mod child;
mod clock;
mod closing;
mod command;
mod component;
mod control;
mod coordinator;
mod env;
mod error;
mod exit;
mod gate;
mod gates;
mod handle;
mod health;
mod held;
mod hook;
mod in_flight;
#[cfg(unix)]
mod inherited_sockets;
mod jobs;
mod lifecycle;
mod machine;
#[cfg(feature = "metrics")]
mod metering;
mod order;
mod phase;
#[cfg(feature = "probes")]
mod probe;
mod quiet;
mod readiness;
mod ready;
mod record;
mod reload;
mod report;
mod roster;
mod running;
mod shared;
mod signal;
mod spawned;
mod sync;
#[cfg(all(target_os = "linux", feature = "systemd"))]
mod systemd;
mod telemetry;
#[cfg(feature = "test-kit")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-kit")))]
pub mod test_kit;
mod view;

pub use blockers::{Blocker, Kind, Stage};
pub use budget::Budget;
pub use builder::Builder;
#[cfg(all(unix, feature = "process"))]
#[cfg_attr(docsrs, doc(cfg(feature = "process")))]
pub use child::ChildProcess;
pub use component::{Component, ComponentFn, Outcome, Role, component_fn};
pub use control::ForcedExit;
#[cfg(all(unix, feature = "process"))]
pub use error::ChildError;
#[cfg(all(target_os = "linux", feature = "systemd"))]
pub use error::InheritError;
pub use error::{BoxError, BudgetError, Misuse, ProbeError, Refused, RunError, StartError};
pub use exit::{ExitPolicy, ExitReason};
pub use handle::{Handle, Reached};
pub use health::{Check, CheckKind, CheckState, CheckStatus};
pub use in_flight::{Gate, InFlight};
#[cfg(unix)]
pub use inherited_sockets::was_inherited;
pub use jobs::QueueJobs;
pub use lifecycle::Lifecycle;
pub use phase::Phase;
#[cfg(feature = "probes")]
#[cfg_attr(docsrs, doc(cfg(feature = "probes")))]
pub use probe::{ProbeFuture, Probes};
pub use readiness::ReadinessPolicy;
pub use ready::Readiness;
pub use report::{Cause, Cut, End, Ended, Note, PhaseTime, Report};
pub use signal::Signal;
pub use spawned::Spawned;
#[cfg(all(target_os = "linux", feature = "systemd"))]
#[cfg_attr(docsrs, doc(cfg(feature = "systemd")))]
pub use systemd::{Inherited, InheritedSocket, StopTimeout};
