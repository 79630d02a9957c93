//! The handle: watch the phase, ask for a shutdown, say what must be waited for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::blockers::{Blocker, Kind};
use crate::error::Refused;
use crate::health::{CheckStatus, Heart};
use crate::in_flight::{Gate, InFlight};
use crate::jobs::QueueJobs;
use crate::phase::Phase;
use crate::ready::Readiness;
use crate::report::Cause;
use crate::shared::Shared;
use crate::view::View;

/// A view of one [`Lifecycle`](crate::Lifecycle); a clone is the same view.
///
/// It stays valid after the end: then the phase is `Stopped` and asking for a shutdown
/// does nothing.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lifecycle::{Lifecycle, Phase};
///
/// let mut life = Lifecycle::builder().build_local()?;
/// let handle = life.handle();
/// life.spawn("ticker", {
///     let handle = handle.clone();
///     async move {
///         handle.draining().await;
///         assert!(handle.phase() >= Phase::Draining);
///     }
/// });
/// handle.shutdown("nothing left to do");
/// assert_eq!(life.run().await?.exit_code(), 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    /// What a component sees that drains after others; else the process' own phase.
    view: Option<Arc<View>>,
    /// Of a component with a limit.
    heart: Option<Arc<Heart>>,
}

/// Resolves once a phase has been reached; made by [`Handle::reached`].
///
/// # Cancel safety
/// Cancel safe: phases only move forward, so a new one resolves as this would have.
#[must_use = "futures do nothing unless polled"]
pub struct Reached {
    view: Arc<View>,
    phase: Phase,
    /// Among those who wait, once it was polled.
    place: Option<usize>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, view: None, heart: None }
    }

    /// The handle of one component: with a view if it drains after others, and a heart if it
    /// has a limit.
    pub(crate) fn of(
        shared: Arc<Shared>,
        view: Option<Arc<View>>,
        heart: Option<Arc<Heart>>,
    ) -> Self {
        Self { shared, view, heart }
    }

    /// The phase now. One atomic load.
    ///
    /// The handle that a component is given which drains [`after`](crate::Spawned::after)
    /// others shows `Draining` when those have ended, and `LameDuck` until then.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.view().phase()
    }

    /// Resolves once `phase` has been reached or passed.
    pub fn reached(&self, phase: Phase) -> Reached {
        Reached::new(self.view(), phase)
    }

    /// Resolves when the cause has come: keep serving, begin nothing long.
    pub fn lame_duck(&self) -> Reached {
        self.reached(Phase::LameDuck)
    }

    /// Resolves when listeners close and work should come to its end.
    pub fn draining(&self) -> Reached {
        self.reached(Phase::Draining)
    }

    /// Resolves at the hard stop: leave within the cancel window or be dropped.
    pub fn cancelled(&self) -> Reached {
        self.reached(Phase::Cancelling)
    }

    /// Begins a shutdown with `reason` as its cause, unless one has begun already.
    pub fn shutdown(&self, reason: impl Into<String>) {
        self.shared.request(Cause::Requested { reason: reason.into() });
    }

    /// Time until the hard stop; `None` before the cause.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        Some(self.deadline(Phase::Draining)?.saturating_duration_since(Instant::now()))
    }

    /// When `phase` ends at the latest; `None` before the cause and for phases that have
    /// no deadline. A further signal may move it forward.
    #[must_use]
    pub fn deadline(&self, phase: Phase) -> Option<Instant> {
        let timeline = self.shared.timeline()?;
        let budget = timeline.budget;
        let after = match phase {
            Phase::LameDuck => budget.lame_duck_ends,
            Phase::Draining => budget.drain_ends,
            Phase::Cancelling => budget.cancel_ends,
            Phase::Closing => budget.exit_by,
            Phase::Starting | Phase::Running | Phase::Stopped => return None,
        };
        Some(timeline.cause_at + after)
    }

    /// How much of the lame duck is over: 0 before the cause, 1 from the drain on.
    #[must_use]
    pub fn lame_duck_progress(&self) -> f64 {
        match (self.phase(), self.shared.timeline()) {
            (Phase::Starting | Phase::Running, _) => 0.0,
            (Phase::LameDuck, Some(timeline)) if !timeline.budget.lame_duck_ends.is_zero() => {
                let passed = timeline.cause_at.elapsed();
                passed.div_duration_f64(timeline.budget.lame_duck_ends).min(1.0)
            }
            _ => 1.0,
        }
    }

    /// Holds the drain until the guard is dropped: for work that no component owns.
    ///
    /// # Errors
    /// [`Refused`] once every component has ended or the hard stop has come.
    pub fn enter(&self, name: &str) -> Result<InFlight, Refused> {
        self.shared.work().enter(name, "")
    }

    /// A new gate that the drain waits for, its guards shown among the blockers.
    ///
    /// Make one for each kind of work, not for each piece: it lives as long as the
    /// lifecycle. It is closed for you at the end of the drain, when every component has
    /// ended, or at the hard stop.
    #[must_use]
    pub fn gate(&self, kind: Kind) -> Gate {
        self.shared.gates().add(kind, self.view())
    }

    /// Says that this process serves a listener, so that a lame duck makes sense. Servers
    /// that are a [`Component`](crate::Component) of that role need not.
    pub fn listening(&self) {
        self.shared.set_listening();
    }

    /// Says that a new connection has come, so that an
    /// [adaptive lame duck](crate::Builder::adaptive_lame_duck) goes on; `serve` of
    /// `lifecycle-tower` does it by itself. Probes' connections are none.
    pub fn saw_connection(&self) {
        self.shared.saw_connection();
    }

    /// Everything in flight by name and age, the oldest first.
    #[must_use]
    pub fn blockers(&self) -> Vec<Blocker> {
        self.shared.gates().blockers()
    }

    /// Says that the component of this handle still moves
    /// ([`heartbeat`](crate::Spawned::heartbeat)); any other handle's says nothing. Two
    /// relaxed atomic operations.
    pub fn beat(&self) {
        if let Some(heart) = &self.heart {
            heart.beat(self.shared.clock().now_ms());
        }
    }

    /// Says that the start is over, where [`Lifecycle::warm_up`](crate::Lifecycle::warm_up)
    /// has put it off. Calling it again, or without that, does nothing.
    pub fn startup_done(&self) {
        self.shared.health().startup_done();
    }

    /// Every health check as it stands, in the order of registration.
    #[must_use]
    pub fn checks(&self) -> Vec<CheckStatus> {
        self.shared.health().statuses(self.shared.clock().now_ms())
    }

    /// Readiness, to be followed without polling: for what shows it elsewhere than the probes.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.shared.announced_readiness()
    }

    /// Writes the gauges (`lifecycle_phase`, `lifecycle_in_flight`, `lifecycle_health_check`) as
    /// they are now.
    ///
    /// For exporters that are not behind `/metrics` of the probe server: call it before each
    /// of their scrapes or pushes. Otherwise gauges are written when a phase begins, when a
    /// check changes and every 5 s of a drain: no ticker runs in an idle process.
    #[cfg(feature = "metrics")]
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    pub fn record_metrics(&self) {
        self.shared.record_metrics();
    }

    /// Puts what became of a queue's jobs into the report: a worker's last word, which may be
    /// said again and replaces the one before of the same queue.
    pub fn report_jobs(&self, jobs: QueueJobs) {
        self.shared.additions().jobs_of(jobs);
    }

    /// Puts a line into the report: what people will want to know of this shutdown. At
    /// most 100 are kept.
    pub fn note(&self, text: impl Into<String>) {
        self.shared.note(text.into());
    }

    /// The probes as a tower service, to be mounted in a router of yours.
    #[cfg(feature = "probes")]
    #[cfg_attr(docsrs, doc(cfg(feature = "probes")))]
    #[must_use]
    pub fn probes(&self) -> crate::Probes {
        crate::Probes::new(Self::new(Arc::clone(&self.shared)))
    }

    #[cfg(any(all(unix, feature = "process"), feature = "probes", feature = "test-kit"))]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn view(&self) -> &Arc<View> {
        self.view.as_ref().unwrap_or(self.shared.view())
    }
}

impl Reached {
    pub(crate) fn new(view: &Arc<View>, phase: Phase) -> Self {
        Self { view: Arc::clone(view), phase, place: None }
    }
}

impl Future for Reached {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { view, phase, place } = &mut *self;
        view.poll(*phase, place, cx.waker())
    }
}

impl Drop for Reached {
    #[inline]
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.view.leave(self.phase, place);
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reached").field("phase", &self.phase).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;
    use crate::clock::Clock;
    use crate::readiness::ReadinessPolicy;

    fn handle() -> (Handle, Arc<Shared>) {
        let shared = Arc::new(Shared::new(Clock::coarse(), ReadinessPolicy::default(), None));
        (Handle::new(shared.clone()), shared)
    }

    #[test]
    fn waiters_are_woken_for_their_phase_only() {
        let (handle, shared) = handle();
        let mut lame_duck = task::spawn(handle.lame_duck());
        let mut draining = task::spawn(handle.draining());
        assert_pending!(lame_duck.poll());
        assert_pending!(draining.poll());
        shared.enter(Phase::Running);
        assert!(!lame_duck.is_woken() && !draining.is_woken());
        shared.enter(Phase::LameDuck);
        assert!(lame_duck.is_woken() && !draining.is_woken());
        assert_ready!(lame_duck.poll());
        shared.enter(Phase::Closing);
        assert!(draining.is_woken(), "a phase passed over counts as reached");
        assert_ready!(draining.poll());
        assert_ready!(task::spawn(handle.cancelled()).poll());
        assert_pending!(task::spawn(handle.reached(Phase::Stopped)).poll());
    }

    #[test]
    fn a_phase_reached_between_making_and_polling_is_seen() {
        let (handle, shared) = handle();
        let mut draining = task::spawn(handle.draining());
        shared.enter(Phase::Draining);
        assert_ready!(draining.poll());
    }

    #[test]
    fn the_first_request_gives_the_cause() {
        let (handle, shared) = handle();
        let mut requested = task::spawn(shared.requested());
        assert_pending!(requested.poll());
        handle.shutdown("first");
        handle.shutdown("second");
        assert!(requested.is_woken());
        assert_eq!(assert_ready!(requested.poll()), Cause::Requested { reason: "first".into() });
    }

    #[test]
    fn before_the_cause_there_is_no_deadline() {
        let (handle, _shared) = handle();
        assert_eq!(handle.time_left(), None);
        assert_eq!(handle.deadline(Phase::Draining), None);
    }
}
