//! What a scenario found, as data and as text.

use std::{fmt, time::Duration};

use crate::{events::Event, ledger::Ledger, output::Line, process::Exit, scenario::Scenario};

/// What one scenario found.
///
/// `Display` is the whole story for a person: outcome, timeline, and for a failure why it
/// matters, how it is usually mended, and the end of the process' output.
#[derive(Clone, Debug)]
#[must_use]
pub struct Verdict {
    pub(crate) scenario: &'static Scenario,
    pub(crate) outcome: Outcome,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) elapsed: Duration,
    pub(crate) exit: Option<Exit>,
    pub(crate) events: Vec<Event>,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) output: Vec<Line>,
}

/// How a scenario ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// What was seen is not what is expected of a graceful shutdown.
    Fail {
        /// What was seen instead.
        seen: String,
    },
    /// The process could not be started (again), or this machine had no room for its clients, so
    /// that nothing was judged.
    NotStarted {
        /// What kept it.
        why: String,
    },
    /// All as expected.
    Pass,
    /// Not played, or played without anything to judge.
    Skipped {
        /// What was missing, or what made it so.
        why: String,
    },
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// Milliseconds since the first signal, negative before it; `None` if none was sent.
    pub since_signal_ms: Option<i64>,
    /// What happened.
    pub text: String,
}

impl Verdict {
    /// Pass, fail, skipped, or not even started.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Whether it passed. A skipped scenario did not.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.outcome == Outcome::Pass
    }

    /// The scenario that was played.
    pub fn scenario(&self) -> &'static Scenario {
        self.scenario
    }

    /// The timeline.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }

    /// What happened, in the order of time: of the last process, or where several were started
    /// of the first that lost a request.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How long it took, the start of the process included.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// How the process ended (the last one, where several were started).
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// The account of all requests, in the scenarios of the load theme.
    #[must_use]
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// What the (last) process printed, both streams.
    #[must_use]
    pub fn output(&self) -> &[Line] {
        &self.output
    }

    /// Whether the (last) process printed this anywhere in a line.
    #[must_use]
    pub fn output_contains(&self, part: &str) -> bool {
        self.output.iter().any(|line| line.text.contains(part))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, elapsed) = (self.scenario.name(), self.elapsed.as_secs_f64());
        match &self.outcome {
            Outcome::Pass => writeln!(f, "pass  {name} ({elapsed:.1} s)")?,
            Outcome::Skipped { why } => return write!(f, "skip  {name}: {why}"),
            Outcome::NotStarted { why } => {
                writeln!(f, "ERROR {name} ({elapsed:.1} s)\n  not judged: {why}")?;
            }
            Outcome::Fail { seen } => {
                writeln!(f, "FAIL  {name} ({elapsed:.1} s)")?;
                writeln!(f, "  seen: {seen}")?;
                writeln!(f, "  why it matters: {}", self.scenario.why())?;
                writeln!(f, "  usually mended by: {}", self.scenario.mend())?;
            }
        }
        for evidence in &self.evidence {
            writeln!(f, "  {evidence}")?;
        }
        if matches!(self.outcome, Outcome::Fail { .. }) {
            let skipped = self.output.len().saturating_sub(TAIL_LINES);
            match (self.output.len(), skipped) {
                (0, _) => writeln!(f, "  it printed nothing")?,
                (_, 0) => writeln!(f, "  output:")?,
                _ => writeln!(f, "  output, {skipped} earlier lines left out:")?,
            }
            for line in self.output.iter().skip(skipped) {
                writeln!(f, "    | {}", line.text)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.since_signal_ms {
            Some(ms) => write!(f, "{ms:>+7} ms  {}", self.text),
            None => write!(f, "{:>10}  {}", "", self.text),
        }
    }
}

const TAIL_LINES: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::scenarios;

    fn verdict(outcome: Outcome) -> Verdict {
        let at = |since_signal_ms, text: &str| Evidence { since_signal_ms, text: text.into() };
        Verdict {
            scenario: &scenarios()[0],
            outcome,
            evidence: vec![at(Some(-120), "ready"), at(Some(0), "SIGTERM"), at(None, "nothing")],
            elapsed: Duration::from_millis(1234),
            exit: None,
            events: Vec::new(),
            ledger: None,
            output: Vec::new(),
        }
    }

    #[test]
    fn a_failure_tells_the_whole_story() {
        let text = verdict(Outcome::Fail { seen: "still running".into() }).to_string();
        assert!(text.starts_with("FAIL  "), "{text}");
        for part in
            ["(1.2 s)", "seen: still running", "why it matters", "mended", "   -120 ms  ready"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.contains("     +0 ms  SIGTERM"), "{text}");
    }

    #[test]
    fn a_pass_is_short_and_a_skip_is_one_line() {
        let pass = verdict(Outcome::Pass);
        assert!(pass.passed() && !pass.to_string().contains("mended"));
        let skipped = verdict(Outcome::Skipped { why: "no route".into() });
        assert!(!skipped.passed());
        assert_eq!(skipped.to_string().lines().count(), 1);
    }
}
