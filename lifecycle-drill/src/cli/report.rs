//! All verdicts of one run, and the text of them for a person.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use lifecycle_drill::{Event, Outcome, Verdict, What};

use super::{Ended, error::CliError};

/// What one run has found, and of what.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) command: String,
    /// How many were played at once.
    pub(crate) jobs: usize,
    pub(crate) began_at: SystemTime,
    pub(crate) elapsed: Duration,
    pub(crate) lame_duck: Duration,
    pub(crate) grace: Duration,
    /// Whether there is a readiness probe, which may fall.
    pub(crate) readiness: Readiness,
    pub(crate) verdicts: Vec<Verdict>,
}

/// Whether the command has a readiness probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Probed,
    Unknown,
}

/// How many of each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) not_started: usize,
    pub(crate) skipped: usize,
}

impl Report {
    /// How many of each outcome.
    pub(crate) fn counts(&self) -> Counts {
        count(self.verdicts.iter())
    }

    /// What the exit code is to say.
    ///
    /// # Errors
    /// Nothing was played: that is no pass.
    pub(crate) fn ended(&self) -> Result<Ended, CliError> {
        match self.counts() {
            Counts { failed: 1.., .. } => Ok(Ended::Failed),
            Counts { not_started: 1.., .. } => Ok(Ended::NotStarted),
            Counts { passed: 1.., .. } => Ok(Ended::Passed),
            _ => Err(CliError::NothingPlayed("every scenario was skipped")),
        }
    }

    /// Every failure's whole story, what could not be started, who was skipped and why, and the sum.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut skipped = BTreeMap::<&str, Vec<&str>>::new();
        for verdict in &self.verdicts {
            match verdict.outcome() {
                Outcome::Fail { .. } | Outcome::NotStarted { .. } => {
                    let _fits = writeln!(text, "{}\n", verdict.to_string().trim_end());
                }
                Outcome::Skipped { why } => {
                    skipped.entry(why).or_default().push(verdict.scenario().name());
                }
                _ => {}
            }
        }
        for (why, names) in skipped {
            let _fits = writeln!(text, "skipped, {why}:\n  {}", names.join("\n  "));
        }
        if self.jobs > 1 && self.counts().not_started > 0 {
            let _fits = writeln!(text, "{ALONE}");
        }
        let _fits = writeln!(text, "{}", self.summary());
        text
    }

    /// The sum in one line.
    pub(crate) fn summary(&self) -> String {
        let Counts { passed, failed, not_started, skipped } = self.counts();
        let elapsed = self.elapsed.as_secs_f64();
        let not_started = match not_started {
            0 => String::new(),
            count => format!(", {count} not started"),
        };
        format!(
            "{passed} passed, {failed} failed, {skipped} skipped{not_started} in {elapsed:.1} s"
        )
    }
}

/// How many of each outcome are among these.
pub(crate) fn count<'a>(verdicts: impl Iterator<Item = &'a Verdict>) -> Counts {
    let mut counts = Counts::default();
    for verdict in verdicts {
        *match verdict.outcome() {
            Outcome::Fail { .. } => &mut counts.failed,
            Outcome::NotStarted { .. } => &mut counts.not_started,
            Outcome::Skipped { .. } => &mut counts.skipped,
            _ => &mut counts.passed,
        } += 1;
    }
    counts
}

/// When the first signal was sent.
pub(crate) fn signal_at(events: &[Event]) -> Option<Duration> {
    let signal = events.iter().find(|event| matches!(event.what, What::Signal(_)));
    signal.map(|event| event.at)
}

/// Milliseconds since the first signal, or since the start if there was none.
pub(crate) fn ms_since(origin: Option<Duration>, at: Duration) -> f64 {
    (at.as_secs_f64() - origin.unwrap_or_default().as_secs_f64()) * 1e3
}

const ALONE: &str = "it did start by itself: if it takes a second port, a lock or a file that only \
                     one process can have, play one scenario at a time, with --jobs 1";
