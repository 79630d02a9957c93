//! What a run of the suite has found, as values and as text.

use std::fmt;

/// What a run has found, check by check.
#[derive(Clone, Debug)]
#[must_use = "a report says whether the queue passed"]
pub struct Report {
    verdicts: Vec<Verdict>,
}

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// The check's name.
    pub check: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The queue did something else: what was seen.
    Failed(String),
    /// The queue kept to it.
    Passed,
    /// It says nothing of this queue: why.
    Skipped(String),
}

impl Verdict {
    pub(super) fn new(check: &'static str, outcome: Outcome) -> Self {
        Self { check, outcome }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Failed(seen) => write!(f, "FAILED  {}: {seen}", self.check),
            Outcome::Passed => write!(f, "passed  {}", self.check),
            Outcome::Skipped(why) => write!(f, "skipped {}: {why}", self.check),
        }
    }
}

impl Report {
    /// With what each check found. A failure of one that builds on another, `needs` says on
    /// which, says nothing new when that has failed.
    pub(super) fn new(mut verdicts: Vec<Verdict>, needs: fn(&str) -> &[&str]) -> Self {
        let failed: Vec<_> = verdicts.iter().filter(|v| v.has_failed()).map(|v| v.check).collect();
        for verdict in &mut verdicts {
            let Outcome::Failed(seen) = &verdict.outcome else { continue };
            let broken = needs(verdict.check).iter().find(|name| failed.contains(*name));
            if let Some(broken) = broken {
                let why = format!("builds on {broken}, which failed (here: {seen})");
                verdict.outcome = Outcome::Skipped(why);
            }
        }
        Self { verdicts }
    }

    /// Every check with what came of it.
    #[must_use]
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// The names of the checks that failed.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        self.verdicts.iter().filter(|v| v.has_failed()).map(|v| v.check).collect()
    }

    /// Whether no check failed.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.failed().is_empty()
    }

    /// Does nothing if no check failed.
    ///
    /// # Panics
    /// With the report, if one did.
    pub fn assert_passed(&self) {
        assert!(self.is_passed(), "the queue does not conform:\n{self}");
    }
}

impl Verdict {
    fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for verdict in &self.verdicts {
            writeln!(f, "{verdict}")?;
        }
        let passed = self.verdicts.iter().filter(|v| v.outcome == Outcome::Passed).count();
        let failed = self.failed().len();
        let skipped = self.verdicts.len() - passed - failed;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}
