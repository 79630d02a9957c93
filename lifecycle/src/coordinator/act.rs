//! Does what the machine says: tells everybody of the phase, notes what is cut, reports.

use std::time::Duration;

use tokio::time::Instant;

use super::{Coordinator, WORDS_EVERY};
use crate::blockers::{Blocker, Kind, Stage};
use crate::component::Role;
use crate::machine::{Action, Event};
use crate::phase::Phase;
use crate::report::{End, Report};
use crate::shared::Timeline;
use crate::signal::Signal;

impl Coordinator {
    pub(super) fn take(&mut self, event: Event) -> Option<Signal> {
        let at = self.shared.since_cause();
        let mut exit = None;
        let actions = self.machine.on(event, at);
        // A force moves the deadlines, also those of a chain; all show them as they are, and
        // before anybody is told to hurry.
        let budget = self.machine.budget();
        let moved = self.shared.timeline().filter(|line| line.budget != budget);
        if let Some(timeline) = moved {
            let timeline = Timeline { budget, ..timeline };
            self.shared.set_timeline(timeline);
            (self.begun)(timeline);
            let left = self.left();
            self.closing.hurry(left);
        }
        for action in actions {
            match action {
                Action::Begin => self.on_begin(),
                Action::Enter(phase) => self.on_enter(phase),
                Action::Cut(phase) => self.on_cut(phase),
                Action::ExitNow(signal) => exit = Some(signal),
            }
        }
        if moved.is_some() {
            self.follow();
        }
        if let Some(signal) = self.machine.forced_by() {
            self.record.forced_by(signal);
        }
        self.note_readiness();
        exit
    }

    /// Says when readiness has changed since it was last looked at.
    pub(super) fn note_readiness(&mut self) {
        let ready = self.shared.is_ready();
        if ready != self.ready {
            self.ready = ready;
            crate::telemetry::readiness_changed(ready);
            self.shared.announce_readiness(ready);
        }
    }

    fn on_begin(&mut self) {
        let timeline = Timeline { cause_at: Instant::now(), budget: self.machine.budget() };
        self.shared.set_timeline(timeline);
        (self.begun)(timeline);
        self.record.begin(self.shared.gates().in_flight());
        if let Some(cause) = self.record.first_cause() {
            self.shared.set_cause(cause.clone());
        }
    }

    fn on_enter(&mut self, phase: Phase) {
        let at = self.shared.since_cause();
        self.shared.advance(phase);
        self.relays.wake(self.shared.view(), phase, self.on.as_ref());
        crate::telemetry::phase_entered(phase, at);
        self.shared.record_metrics();
        if phase.is_shutting_down() {
            self.record.phase(phase, at, self.machine.phase_ends());
        }
        if phase == Phase::Draining {
            self.next_words = Some(Instant::now() + WORDS_EVERY);
        }
        if phase >= Phase::Cancelling {
            self.next_words = None;
            self.shared.gates().close();
        }
        self.follow();
        if phase == Phase::Closing {
            let left = self.left();
            self.closing.begin(&self.running, left);
        }
    }

    /// Shows the phase to those that drain after others.
    pub(super) fn follow(&mut self) {
        let (phase, at) = (self.machine.phase(), self.shared.since_cause());
        self.running.follow(phase, at, self.machine.budget().cancel_ends);
    }

    fn on_cut(&mut self, phase: Phase) {
        let at = self.shared.since_cause();
        self.record.cut(phase, at, self.blockers());
        #[cfg(feature = "metrics")]
        if phase == Phase::Cancelling {
            crate::metering::cut(&self.shared);
        }
        if phase == Phase::Closing {
            for hook in self.closing.give_up() {
                self.record.hook(hook, at);
            }
            for joined in self.running.give_up() {
                self.note_end(joined);
            }
        }
    }

    pub(super) fn on_hook(&mut self, end: End) {
        let at = self.shared.since_cause();
        if end == End::Aborted {
            let blocker = self.closing.blocker();
            self.record.cut(Phase::Closing, at, blocker.into_iter().collect());
        }
        if let Some(hook) = self.closing.take_hook(end) {
            self.record.hook(hook, at);
        }
    }

    pub(super) fn blockers(&self) -> Vec<Blocker> {
        let mut blockers = self.shared.gates().blockers();
        blockers.extend(self.held());
        blockers
    }

    /// What is waited for beside the gates.
    fn held(&self) -> Vec<Blocker> {
        let now_ms = self.shared.clock().now_ms();
        let mut blockers = self.running.blockers(now_ms, |role| role == Role::Task);
        blockers.extend(self.closing.blocker());
        if self.on.is_none() {
            let age = Duration::from_millis(now_ms);
            let name = "main has not reached run".to_owned();
            blockers.push(Blocker { kind: Kind::Startup, name, age, stage: Stage::Working });
        }
        blockers
    }

    /// Tells the probes what is waited for, as they cannot look in here, and the manager.
    pub(super) fn show(&mut self) {
        self.tell_manager();
        if self.machine.phase().is_shutting_down() {
            self.shared.held().set(self.held(), self.shared.clock().now_ms());
        }
    }

    pub(super) fn finish(&mut self) -> Report {
        let told = self.record.finish(
            self.machine.budget(),
            self.shared.since_cause(),
            (self.shared.additions().jobs(), self.shared.additions().notes()),
        );
        let report = Report::new(told, &self.policy);
        crate::telemetry::completed(&report);
        self.manager.end(&report);
        self.shared.end_readiness();
        if let Some(waiting) = self.report.take() {
            // Nobody waiting is not an error: `run` may have been dropped.
            drop(waiting.send(report.clone()));
        }
        report
    }
}
