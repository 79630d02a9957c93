//! What became of requests during a shutdown, for the metrics.
//!
//! Not here: those that were cut, which the coordinator counts when it cuts them.

use lifecycle::Phase;

/// An answer's head was given, in that phase, which is asked for only where it is counted.
#[inline]
pub(crate) fn answered(phase: impl FnOnce() -> Phase) {
    if cfg!(feature = "metrics") && phase().is_shutting_down() {
        count("answered");
    }
}

/// A request was refused because it came too late.
pub(crate) fn refused() {
    count("refused");
}

#[cold]
fn count(outcome: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!(REQUESTS, "outcome" => outcome).increment(1);
    #[cfg(not(feature = "metrics"))]
    let _ = outcome;
}

#[cfg(feature = "metrics")]
const REQUESTS: &str = "lifecycle_requests_during_drain_total";
