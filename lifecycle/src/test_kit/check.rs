//! Assertions on a report that print the whole of it when they fail.

use std::time::Duration;

use crate::phase::Phase;
use crate::report::{Cause, End, Report};

/// A [`Report`] with assertions, each of which panics with the whole timeline. They return
/// `&Self`, to be chained.
#[derive(Clone, Debug)]
#[must_use = "a report that nobody looks at tests nothing"]
pub struct CheckedReport {
    report: Report,
}

impl CheckedReport {
    pub(crate) fn new(report: Report) -> Self {
        Self { report }
    }

    /// The report itself, for what has no assertion here.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Nothing failed, nothing was cut, exit code 0.
    ///
    /// # Panics
    /// When it was otherwise.
    #[track_caller]
    pub fn is_clean(&self) -> &Self {
        let hooks = self.report.hooks().iter().all(|hook| hook.end == End::Finished);
        self.check(self.report.cuts().is_empty(), "nothing was to be cut");
        self.check(hooks, "every hook was to finish");
        self.exit_code(0)
    }

    /// The exit code.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn exit_code(&self, code: u8) -> &Self {
        self.check(self.report.exit_code() == code, &format!("exit code {code}"))
    }

    /// What began it.
    ///
    /// # Panics
    /// When it was something else.
    #[track_caller]
    pub fn cause(&self, cause: &Cause) -> &Self {
        self.check(self.report.cause() == cause, &format!("cause: {cause}"))
    }

    /// Something of that name was still in flight when the time of the phase was over. A server
    /// or worker is not in flight itself, but what it has named is; it is named itself, at the
    /// end of `Closing`, when it has to be dropped.
    ///
    /// # Panics
    /// When it was not.
    #[track_caller]
    pub fn cut(&self, phase: Phase, name: &str) -> &Self {
        let cuts = self.report.cuts().iter().filter(|cut| cut.phase == phase);
        let found = cuts.flat_map(|cut| &cut.blockers).any(|blocker| blocker.name == name);
        self.check(found, &format!("{name:?} was to be cut at the end of {phase}"))
    }

    /// How the component or hook of that name ended.
    ///
    /// # Panics
    /// When it ended otherwise, or there is none.
    #[track_caller]
    pub fn ended(&self, name: &str, end: &End) -> &Self {
        let mut all = self.report.components().iter().chain(self.report.hooks());
        let found = all.any(|ended| ended.name == name && ended.end == *end);
        self.check(found, &format!("{name:?} {end}"))
    }

    /// These components and hooks ended in this order; others may have ended between them.
    ///
    /// # Panics
    /// When they did not.
    #[track_caller]
    pub fn ended_in_order(&self, names: &[&str]) -> &Self {
        let all = self.report.components().iter().chain(self.report.hooks());
        let seen: Vec<_> =
            all.map(|ended| ended.name.as_str()).filter(|name| names.contains(name)).collect();
        self.check(seen == names, &format!("ends in the order of {names:?}"))
    }

    /// How long a phase took, to the millisecond (tokio's clock has no finer).
    ///
    /// # Panics
    /// When it took another time, or was not entered.
    #[track_caller]
    pub fn took(&self, phase: Phase, time: Duration) -> &Self {
        let entered = self.report.phases().iter().find(|entered| entered.phase == phase);
        let met = entered.is_some_and(|entered| entered.used.as_millis() == time.as_millis());
        self.check(met, &format!("{phase} was to take {time:?}"))
    }

    #[track_caller]
    fn check(&self, met: bool, expected: &str) -> &Self {
        assert!(met, "expected: {expected}\n{}", self.report);
        self
    }
}
