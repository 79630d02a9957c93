//! Every metric of the crate in one place: names, labels and units are a promise.
//!
//! Written through the `metrics` facade to whatever recorder the program has installed; without
//! one, nothing is kept. Nothing here wakes by itself, and nothing is on the way of a request:
//! counters and durations are written as things happen, which is a few times in a process'
//! life, and gauges when a phase begins, when the drain says what it waits for, and when they
//! are read ([`record`]).
//!
//! Of `lifecycle_requests_during_drain_total{outcome}` only `cut` is counted here, the rest by
//! `lifecycle-tower`. `lifecycle_jobs_total{queue,outcome}` and
//! `lifecycle_jobs_returned_total{reason}` are kept for another sister: not to be used here.

#[cfg(feature = "probes")]
use std::fmt;
#[cfg(feature = "probes")]
use std::sync::Arc;
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};
use metrics::{gauge, histogram};

use crate::blockers::Kind;
use crate::health::{CheckState, CheckStatus};
use crate::phase::Phase;
use crate::shared::Shared;

/// What turns the recorder's metrics into the text of `/metrics`.
#[cfg(feature = "probes")]
#[derive(Clone)]
pub(crate) struct Exporter {
    render: Arc<dyn Fn() -> String + Send + Sync>,
}

#[cfg(feature = "probes")]
impl Exporter {
    pub(crate) fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self { render: Arc::new(render) }
    }

    /// The text, with gauges as they are now.
    pub(crate) fn text(&self, shared: &Shared) -> String {
        record(shared);
        (self.render)()
    }
}

#[cfg(feature = "probes")]
impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

/// Tells the recorder what there is, and that nothing has been counted yet: a counter that
/// first shows up as 1 has no increase.
pub(crate) fn begin() {
    describe_gauge!(PHASE, Unit::Count, "1 for the phase that the process is in, else 0");
    describe_gauge!(IN_FLIGHT, Unit::Count, "What a drain would wait for, by kind");
    describe_gauge!(HEALTH_CHECK, Unit::Count, "1 while the check passes, else 0");
    describe_histogram!(DRAIN_DURATION, Unit::Seconds, "How long a phase of the shutdown took");
    describe_counter!(INITIATED, Unit::Count, "Shutdowns that have begun");
    describe_counter!(REQUESTS, Unit::Count, "Requests answered, refused or cut in a shutdown");
    describe_counter!(COMPLETED, Unit::Count, "Shutdowns that came to their report");
    counter!(INITIATED).increment(0);
    counter!(COMPLETED).increment(0);
}

/// Writes every gauge as it is now.
pub(crate) fn record(shared: &Shared) {
    let now = shared.phase();
    for phase in Phase::ALL {
        gauge!(PHASE, "phase" => phase.name()).set(if phase == now { 1.0 } else { 0.0 });
    }
    for (kind, count) in shared.gates().by_kind() {
        // Exact up to 2^52, more than there can be.
        gauge!(IN_FLIGHT, "kind" => kind.name()).set(count as f64);
    }
    for status in shared.health().statuses(shared.clock().now_ms()) {
        check(&status);
    }
}

pub(crate) fn check(status: &CheckStatus) {
    let passes = status.state == CheckState::Passing;
    let (name, kind) = (status.name.clone(), status.kind.name());
    gauge!(HEALTH_CHECK, "name" => name, "kind" => kind).set(if passes { 1.0 } else { 0.0 });
}

pub(crate) fn phase_ended(phase: Phase, took: Duration) {
    histogram!(DRAIN_DURATION, "phase" => phase.name()).record(took.as_secs_f64());
}

/// The cancel window is over: requests that are in flight now are dropped.
pub(crate) fn cut(shared: &Shared) {
    let by_kind = shared.gates().by_kind();
    let requests = by_kind.iter().filter(|(kind, _)| *kind == Kind::Request);
    let count = requests.map(|(_, count)| *count as u64).sum();
    counter!(REQUESTS, "outcome" => "cut").increment(count);
}

pub(crate) fn initiated() {
    counter!(INITIATED).increment(1);
}

pub(crate) fn completed() {
    counter!(COMPLETED).increment(1);
}

const COMPLETED: &str = "lifecycle_shutdowns_completed_total";
const DRAIN_DURATION: &str = "lifecycle_drain_duration_seconds";
const HEALTH_CHECK: &str = "lifecycle_health_check";
const INITIATED: &str = "lifecycle_shutdowns_initiated_total";
const IN_FLIGHT: &str = "lifecycle_in_flight";
const PHASE: &str = "lifecycle_phase";
const REQUESTS: &str = "lifecycle_requests_during_drain_total";
