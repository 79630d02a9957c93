//! Gathers what happens for the report, and says it in the log as it happens.
//!
//! Pure but for the log.

use std::time::Duration;

use crate::blockers::Blocker;
use crate::budget::Budget;
use crate::closing::EndedHook;
use crate::jobs::QueueJobs;
use crate::phase::Phase;
use crate::report::{Cause, Cut, Ended, Note, PhaseTime, Told};
use crate::running::Joined;
use crate::signal::Signal;
use crate::telemetry;

#[derive(Debug)]
pub(crate) struct Record {
    cause: Option<Cause>,
    told: Told,
    began: bool,
}

impl Record {
    pub(crate) fn new(budget: Budget) -> Self {
        let told = Told {
            cause: Cause::Requested { reason: String::new() },
            budget,
            took: Duration::ZERO,
            forced_by: None,
            in_flight_at_cause: 0,
            phases: Vec::new(),
            cuts: Vec::new(),
            components: Vec::new(),
            hooks: Vec::new(),
            jobs: Vec::new(),
            notes: Vec::new(),
        };
        Self { cause: None, told, began: false }
    }

    /// What the first cause was.
    pub(crate) fn first_cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Notes the cause; the first one counts.
    pub(crate) fn cause(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
    }

    pub(crate) fn begin(&mut self, in_flight: usize) {
        debug_assert!(!self.began, "a shutdown begins once");
        self.began = true;
        self.told.in_flight_at_cause = in_flight;
        if let Some(cause) = &self.cause {
            telemetry::initiated(cause, self.told.budget.grace, in_flight);
        }
    }

    pub(crate) fn phase(&mut self, phase: Phase, at: Duration, ends: Option<Duration>) {
        if let Some(last) = self.told.phases.last_mut() {
            last.used = at.saturating_sub(last.began);
            telemetry::phase_ended(last.phase, last.used);
        }
        if let Some(ends) = ends {
            let planned = ends.saturating_sub(at);
            self.told.phases.push(PhaseTime { phase, began: at, planned, used: Duration::ZERO });
        }
        if phase == Phase::Closing && self.told.cuts.is_empty() {
            telemetry::drained(at);
        }
    }

    /// Notes what a deadline cut; an empty list is no cut.
    pub(crate) fn cut(&mut self, phase: Phase, at: Duration, blockers: Vec<Blocker>) {
        if !blockers.is_empty() {
            telemetry::cut(phase, &blockers);
            self.told.cuts.push(Cut { phase, at, blockers });
        }
    }

    pub(crate) fn component(&mut self, joined: Joined, at: Duration, now_ms: u64) {
        let took = Duration::from_millis(now_ms.saturating_sub(joined.since_ms));
        let ended = Ended { name: joined.name, end: joined.end, at, took };
        telemetry::component_ended(&ended);
        self.told.components.push(ended);
    }

    pub(crate) fn hook(&mut self, hook: EndedHook, at: Duration) {
        let EndedHook { name, end, took } = hook;
        let ended = Ended { name, end, at, took };
        telemetry::hook_finished(&ended);
        self.told.hooks.push(ended);
    }

    /// Notes who forced the stop; the last signal that did counts.
    pub(crate) fn forced_by(&mut self, signal: Signal) {
        self.told.forced_by = Some(signal);
    }

    pub(crate) fn finish(
        &mut self,
        budget: Budget,
        took: Duration,
        (jobs, notes): (Vec<QueueJobs>, Vec<Note>),
    ) -> Told {
        let mut told = self.told.clone();
        if let Some(cause) = &self.cause {
            told.cause = cause.clone();
        }
        if let Some(last) = told.phases.last_mut().filter(|last| last.used.is_zero()) {
            last.used = took.saturating_sub(last.began);
        }
        told.budget = budget;
        told.took = took;
        told.jobs = jobs;
        told.notes = notes;
        told
    }
}
