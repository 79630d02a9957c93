//! What the coordinator, its handles and the probes share: the phase, the gates, notes.
//!
//! Not here: who decides (`machine`), who drives (`coordinator`).
//!
//! # Invariants
//! 1. Only the coordinator writes phase and timeline.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::additions::Additions;
use crate::blockers::Kind;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::gates::Gates;
use crate::health::{CheckKind, Health};
use crate::held::Held;
use crate::in_flight::Gate;
#[cfg(feature = "metrics")]
use crate::metering;
#[cfg(all(feature = "metrics", feature = "probes"))]
use crate::metering::Exporter;
use crate::phase::Phase;
use crate::quiet::Quiet;
use crate::readiness::ReadinessPolicy;
use crate::ready::Readiness;
use crate::report::Cause;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, locked};
use crate::view::View;

#[derive(Debug)]
pub(crate) struct Shared {
    view: Arc<View>,
    /// The cause's time and the deadlines after it.
    timeline: Mutex<Option<Timeline>>,
    request: Mutex<Option<Cause>>,
    requested: Notify,
    gates: Gates,
    work: Gate,
    /// `Running` was entered.
    started: AtomicBool,
    /// Something that we do not see listens.
    listening: AtomicBool,
    /// A server is registered, started or not.
    server: AtomicBool,
    /// Reload hooks are registered.
    reloads: AtomicBool,
    reload: Notify,
    /// How many reloads were asked for, and how many of these are done.
    reloads_asked: AtomicU64,
    reloads_done: AtomicU64,
    /// Process groups of children that have not been waited for.
    #[cfg(all(unix, feature = "process"))]
    children: Mutex<Vec<rustix::process::Pid>>,
    health: Health,
    /// `POST /drainz` begins a shutdown.
    #[cfg(feature = "probes")]
    drained_by_post: AtomicBool,
    /// What the coordinator waits for beside the gates.
    held: Held,
    /// Why the shutdown has begun, once it has.
    cause: Mutex<Option<Cause>>,
    additions: Additions,
    readiness: ReadinessPolicy,
    /// Readiness as the coordinator has last announced it, and its way to do so until its end.
    told_ready: watch::Receiver<bool>,
    ready: Mutex<Option<watch::Sender<bool>>>,
    #[cfg(all(feature = "metrics", feature = "probes"))]
    exporter: Mutex<Option<Exporter>>,
    quiet: Option<Quiet>,
    /// When the last connection came, on the clock; 0 for none.
    last_connection_ms: AtomicU64,
    clock: Clock,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    pub(crate) cause_at: Instant,
    pub(crate) budget: Budget,
}

impl Shared {
    pub(crate) fn new(clock: Clock, readiness: ReadinessPolicy, quiet: Option<Quiet>) -> Self {
        let view = Arc::new(View::new());
        let gates = Gates::new(clock);
        let work = gates.add(Kind::Work, &view);
        let (ready, told_ready) = watch::channel(false);
        Self {
            view,
            timeline: Mutex::new(None),
            request: Mutex::new(None),
            requested: Notify::new(),
            gates,
            work,
            started: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            server: AtomicBool::new(false),
            reloads: AtomicBool::new(false),
            reload: Notify::new(),
            reloads_asked: AtomicU64::new(0),
            reloads_done: AtomicU64::new(0),
            #[cfg(all(unix, feature = "process"))]
            children: Mutex::new(Vec::new()),
            health: Health::new(),
            #[cfg(feature = "probes")]
            drained_by_post: AtomicBool::new(false),
            held: Held::default(),
            cause: Mutex::new(None),
            additions: Additions::default(),
            readiness,
            told_ready,
            ready: Mutex::new(Some(ready)),
            #[cfg(all(feature = "metrics", feature = "probes"))]
            exporter: Mutex::new(None),
            quiet,
            last_connection_ms: AtomicU64::new(0),
            clock,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.view.phase()
    }

    pub(crate) fn advance(&self, phase: Phase) {
        if phase == Phase::Running {
            // Ordering: Relaxed, published by the phase below.
            self.started.store(true, Ordering::Relaxed);
        }
        self.view.advance(phase);
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub(crate) fn timeline(&self) -> Option<Timeline> {
        *locked(&self.timeline)
    }

    pub(crate) fn set_timeline(&self, timeline: Timeline) {
        *locked(&self.timeline) = Some(timeline);
    }

    pub(crate) fn since_cause(&self) -> Duration {
        self.timeline().map_or(Duration::ZERO, |timeline| timeline.cause_at.elapsed())
    }

    pub(crate) fn is_ready(&self) -> bool {
        // The phase first: it shows whether the start was ever over.
        let phase = self.phase();
        self.is_started()
            && self.readiness.allows(phase, self.since_cause())
            && self.health.allows(CheckKind::Readiness)
    }

    /// Whether the start was ever over; a shutdown may come before that.
    pub(crate) fn is_started(&self) -> bool {
        self.has_run() && !self.health.is_warming_up() && self.health.allows(CheckKind::Startup)
    }

    /// Whether `main` has ever reached `run`.
    pub(crate) fn has_run(&self) -> bool {
        // Ordering: Relaxed, published by the phase.
        self.started.load(Ordering::Relaxed)
    }

    /// Whether the shutdown, if there is one, still lets traffic in.
    #[cfg(feature = "probes")]
    pub(crate) fn lets_traffic_in(&self) -> bool {
        let phase = self.phase();
        !phase.is_shutting_down() || self.readiness.allows(phase, self.since_cause())
    }

    /// Whether the process is better left running. In a shutdown it is: the deadline sees to
    /// its end.
    #[cfg(any(feature = "probes", all(target_os = "linux", feature = "systemd")))]
    pub(crate) fn is_live(&self) -> bool {
        let now_ms = self.clock.now_ms();
        self.phase().is_shutting_down()
            || (self.health.allows(CheckKind::Liveness)
                && self.health.hearts().iter().all(|heart| !heart.is_stalled(now_ms)))
    }

    #[cfg(feature = "probes")]
    pub(crate) fn set_drained_by_post(&self) {
        // Ordering: Relaxed, a hint that publishes nothing.
        self.drained_by_post.store(true, Ordering::Relaxed);
    }

    #[cfg(feature = "probes")]
    pub(crate) fn is_drained_by_post(&self) -> bool {
        // Ordering: Relaxed, as above.
        self.drained_by_post.load(Ordering::Relaxed)
    }

    pub(crate) fn set_cause(&self, cause: Cause) {
        *locked(&self.cause) = Some(cause);
    }

    #[cfg(feature = "probes")]
    pub(crate) fn cause(&self) -> Option<Cause> {
        locked(&self.cause).clone()
    }

    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    pub(crate) fn readiness(&self) -> ReadinessPolicy {
        self.readiness
    }

    /// Readiness as it is announced to those who follow it.
    pub(crate) fn announced_readiness(&self) -> Readiness {
        let mut told = self.told_ready.clone();
        // The clone has seen nothing yet; what is so already is no change.
        told.mark_unchanged();
        Readiness::new(told)
    }

    pub(crate) fn announce_readiness(&self, ready: bool) {
        if let Some(announced) = &*locked(&self.ready) {
            announced.send_replace(ready);
        }
    }

    /// Tells those who follow readiness that it changes no more.
    pub(crate) fn end_readiness(&self) {
        locked(&self.ready).take();
    }

    /// Writes the gauges as they are now, where there are any.
    pub(crate) fn record_metrics(&self) {
        #[cfg(feature = "metrics")]
        metering::record(self);
    }

    #[cfg(all(feature = "metrics", feature = "probes"))]
    pub(crate) fn set_exporter(&self, exporter: Exporter) {
        *locked(&self.exporter) = Some(exporter);
    }

    /// The text of `/metrics`, where something exports any.
    #[cfg(feature = "probes")]
    pub(crate) fn exported(&self) -> Option<String> {
        #[cfg(feature = "metrics")]
        {
            // Not under the lock: what renders is not ours.
            let exporter = locked(&self.exporter).clone();
            exporter.map(|exporter| exporter.text(self))
        }
        #[cfg(not(feature = "metrics"))]
        None
    }

    /// A new connection has come.
    pub(crate) fn saw_connection(&self) {
        if self.quiet.is_some() {
            // Ordering: Relaxed, a time that publishes nothing.
            self.last_connection_ms.store(self.clock.now_ms(), Ordering::Relaxed);
        }
    }

    /// When an adaptive lame duck may end if nobody comes any more, since the cause.
    pub(crate) fn quiet_at(&self) -> Option<Duration> {
        let (quiet, since_cause) = (self.quiet?, self.since_cause());
        // Ordering: Relaxed, as above.
        let last_ms = self.last_connection_ms.load(Ordering::Relaxed);
        let ago = Duration::from_millis(self.clock.now_ms().saturating_sub(last_ms));
        let last = if last_ms == 0 { None } else { since_cause.checked_sub(ago) };
        Some(quiet.ends_at(last))
    }

    /// Asks for a shutdown; the first to ask gives the cause.
    pub(crate) fn request(&self, cause: Cause) {
        locked(&self.request).get_or_insert(cause);
        self.requested.notify_one();
    }

    /// Waits until a shutdown was asked for.
    ///
    /// # Cancel safety
    /// Cancel safe: the request stays.
    pub(crate) async fn requested(&self) -> Cause {
        loop {
            let woken = self.requested.notified();
            if let Some(cause) = locked(&self.request).clone() {
                return cause;
            }
            woken.await;
        }
    }

    pub(crate) fn work(&self) -> &Gate {
        &self.work
    }

    pub(crate) fn gates(&self) -> &Gates {
        &self.gates
    }

    pub(crate) fn set_listening(&self) {
        // Ordering: Relaxed, a hint that publishes nothing.
        self.listening.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_listening(&self) -> bool {
        // Ordering: Relaxed, as above.
        self.listening.load(Ordering::Relaxed)
    }

    pub(crate) fn set_server(&self) {
        // Ordering: Relaxed, a hint that publishes nothing.
        self.server.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_server(&self) -> bool {
        // Ordering: Relaxed, as above.
        self.server.load(Ordering::Relaxed)
    }

    pub(crate) fn set_reloads(&self) {
        // Ordering: Relaxed, a hint that publishes nothing.
        self.reloads.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_reloads(&self) -> bool {
        // Ordering: Relaxed, as above.
        self.reloads.load(Ordering::Relaxed)
    }

    /// Asks for a reload; kept until it is taken.
    pub(crate) fn ask_to_reload(&self) {
        // Ordering: Relaxed, a count that publishes nothing; the wake-up carries it along.
        self.reloads_asked.fetch_add(1, Ordering::Relaxed);
        self.reload.notify_one();
    }

    /// Notes that all reloads up to that number are done, and has the coordinator look.
    pub(crate) fn reloaded(&self, asked: u64) {
        // Ordering: Relaxed, as above.
        self.reloads_done.store(asked, Ordering::Relaxed);
        self.health.look_again();
    }

    /// How many reloads were asked for, and how many of these are done.
    pub(crate) fn reload_counts(&self) -> (u64, u64) {
        // Ordering: Relaxed, as above.
        (self.reloads_asked.load(Ordering::Relaxed), self.reloads_done.load(Ordering::Relaxed))
    }

    /// Waits until a reload was asked for.
    ///
    /// # Cancel safety
    /// Cancel safe: what was asked for stays.
    pub(crate) async fn reload_asked(&self) {
        self.reload.notified().await;
    }

    #[cfg(all(unix, feature = "process"))]
    pub(crate) fn add_child(&self, group: rustix::process::Pid) {
        locked(&self.children).push(group);
    }

    #[cfg(all(unix, feature = "process"))]
    pub(crate) fn remove_child(&self, group: rustix::process::Pid) {
        locked(&self.children).retain(|other| *other != group);
    }

    /// Before this process is ended from outside of its runtime: its children would live on.
    pub(crate) fn kill_children(&self) {
        #[cfg(all(unix, feature = "process"))]
        locked(&self.children).iter().copied().for_each(crate::child::kill);
    }

    pub(crate) fn note(&self, text: String) {
        self.additions.note(self.since_cause(), text);
    }

    pub(crate) fn additions(&self) -> &Additions {
        &self.additions
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }
}

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use super::*;

    impl Shared {
        /// As the coordinator does: moves to that phase and wakes those who wait.
        pub(crate) fn enter(&self, phase: Phase) {
            self.advance(phase);
            self.view.wake(phase);
        }
    }
}
