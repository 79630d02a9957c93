//! The lifecycle of every side of ours.

use std::time::Duration;

use lifecycle::{ForcedExit, Lifecycle};

/// A lifecycle as in production, with a control thread; without probes, a lame duck and a forced
/// exit, which would only be in the way of a bench.
///
/// # Panics
/// When its control thread cannot be started.
pub fn production() -> Lifecycle {
    Lifecycle::builder()
        .forced_exit(ForcedExit::Never)
        .probe_addr(None)
        .lame_duck_period(Duration::ZERO)
        .build()
        .expect("the control thread starts")
}
