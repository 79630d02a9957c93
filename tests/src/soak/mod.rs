//! Servers that start and drain in one process, again and again, under load, and a judge of what
//! that has left behind. `src/bin/soak.rs` is the command.
//!
//! Each server is as in production: axum under our serve loop, a worker on a queue in memory
//! beside it, probes, a health check, a close hook, and a control thread of its own. The next one
//! listens before the last is told to stop, as in a rolling update, so that the load never ends.
//! Every tenth holds something at its stop that is harder to end than the load (`held`).

mod client;
mod cycles;
mod held;
mod judge;
mod options;
pub mod page;
mod sample;
mod server;

pub use cycles::soak;
pub use judge::{Observed, Verdict};
pub use options::{Leak, Options};
pub use sample::Sample;
