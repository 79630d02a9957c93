//! What is known of every check: the last result, and whether it counts as passing.
//!
//! Pure: results and milliseconds in, values out. Not here: running a check (`check`).
//!
//! # Invariants
//! 1. A check that has not run does not pass.
//! 2. A state changes only after as many results in a row as its threshold asks for; the
//!    first result of all decides at once.

use std::time::Duration;

/// What a check decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum CheckKind {
    /// Whether the process may be left running; failing has the platform restart it.
    Liveness,
    /// Whether traffic may be sent.
    Readiness,
    /// Whether the start is over: once it has passed it does not count any more.
    Startup,
}

/// What a check has last found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum CheckState {
    /// It does not pass.
    Failing,
    /// It passes.
    Passing,
    /// It has not run yet.
    Pending,
}

/// One check as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CheckStatus {
    /// Its name.
    pub name: String,
    /// What it decides about.
    pub kind: CheckKind,
    /// Shown only: it decides nothing.
    pub informational: bool,
    /// What it has last found, thresholds observed.
    pub state: CheckState,
    /// For how long it has been so.
    pub since: Duration,
    /// How long ago it last ended; `None` before its first end.
    pub last_run: Option<Duration>,
    /// How long that took.
    pub latency: Duration,
    /// Why the last run failed, if it did. Not for the public: the probes withhold it.
    pub error: Option<String>,
}

/// What one run of a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Passed,
    /// Why not.
    Failed(String),
}

/// How many results in a row change a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thresholds {
    pub(crate) failure: u32,
    pub(crate) success: u32,
}

/// One check's entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    name: String,
    kind: CheckKind,
    informational: bool,
    thresholds: Thresholds,
    state: CheckState,
    since_ms: u64,
    /// Results in a row against the present state.
    against: u32,
    /// It has passed at some time.
    passed: bool,
    last_ms: Option<u64>,
    latency: Duration,
    error: Option<String>,
}

/// A state that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flip {
    pub(crate) from: CheckState,
    pub(crate) to: CheckState,
}

impl Entry {
    pub(crate) fn new(
        name: String,
        kind: CheckKind,
        informational: bool,
        thresholds: Thresholds,
        now_ms: u64,
    ) -> Self {
        Self {
            name,
            kind,
            informational,
            thresholds,
            state: CheckState::Pending,
            since_ms: now_ms,
            against: 0,
            passed: false,
            last_ms: None,
            latency: Duration::ZERO,
            error: None,
        }
    }

    /// Notes a result; the change of state, if it is one.
    pub(crate) fn note(&mut self, found: Found, latency: Duration, now_ms: u64) -> Option<Flip> {
        let (found, error) = match found {
            Found::Passed => (CheckState::Passing, None),
            Found::Failed(error) => (CheckState::Failing, Some(error)),
        };
        self.error = error;
        self.latency = latency;
        self.last_ms = Some(now_ms);
        if found == self.state {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = match (self.state, found) {
            (CheckState::Pending, _) => 1,
            (_, CheckState::Passing) => self.thresholds.success,
            _ => self.thresholds.failure,
        };
        if self.against < enough {
            return None;
        }
        let from = std::mem::replace(&mut self.state, found);
        self.against = 0;
        self.since_ms = now_ms;
        self.passed |= found == CheckState::Passing;
        Some(Flip { from, to: found })
    }

    #[cfg(feature = "probes")]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn kind(&self) -> CheckKind {
        self.kind
    }

    /// Whether it lets its probe pass.
    pub(crate) fn allows(&self) -> bool {
        self.informational || self.is_met()
    }

    /// Whether it counts as passing, informational or not.
    pub(crate) fn is_met(&self) -> bool {
        match self.kind {
            CheckKind::Startup => self.passed,
            // A process that has not been looked at is alive until shown otherwise.
            CheckKind::Liveness => self.state != CheckState::Failing,
            CheckKind::Readiness => self.state == CheckState::Passing,
        }
    }

    pub(crate) fn status(&self, now_ms: u64) -> CheckStatus {
        let ago = |at_ms: u64| Duration::from_millis(now_ms.saturating_sub(at_ms));
        CheckStatus {
            name: self.name.clone(),
            kind: self.kind,
            informational: self.informational,
            state: self.state,
            since: ago(self.since_ms),
            last_run: self.last_ms.map(ago),
            latency: self.latency,
            error: self.error.clone(),
        }
    }
}

impl CheckKind {
    /// The name used in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
        }
    }
}

impl CheckState {
    /// The name used in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Passing => "passing",
            Self::Pending => "pending",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use CheckState::{Failing, Passing, Pending};

    fn entry(kind: CheckKind, failure: u32, success: u32) -> Entry {
        Entry::new("db".into(), kind, false, Thresholds { failure, success }, 0)
    }

    fn note(entry: &mut Entry, passes: bool, at_ms: u64) -> Option<(CheckState, CheckState)> {
        let found = if passes { Found::Passed } else { Found::Failed("down".to_owned()) };
        entry.note(found, Duration::from_millis(3), at_ms).map(|flip| (flip.from, flip.to))
    }

    #[test]
    fn the_first_result_decides_at_once_and_later_ones_by_the_threshold() {
        let mut entry = entry(CheckKind::Readiness, 3, 2);
        assert!(!entry.allows(), "has not run");
        assert_eq!(note(&mut entry, true, 1), Some((Pending, Passing)));
        assert_eq!(note(&mut entry, false, 2), None);
        assert_eq!(note(&mut entry, false, 3), None);
        assert_eq!(note(&mut entry, true, 4), None, "in a row");
        assert_eq!(note(&mut entry, false, 5), None);
        assert_eq!(note(&mut entry, false, 6), None);
        assert!(entry.allows());
        assert_eq!(note(&mut entry, false, 7), Some((Passing, Failing)));
        assert!(!entry.allows());
        assert_eq!(note(&mut entry, true, 8), None);
        assert_eq!(note(&mut entry, true, 9), Some((Failing, Passing)));
        let status = entry.status(19);
        assert_eq!((status.state, status.since), (Passing, Duration::from_millis(10)));
        assert_eq!(status.error, None);
    }

    #[test]
    fn a_first_failure_decides_at_once_too() {
        let mut entry = entry(CheckKind::Readiness, 3, 1);
        assert_eq!(note(&mut entry, false, 1), Some((Pending, Failing)));
        assert_eq!(entry.status(1).error.as_deref(), Some("down"));
    }

    #[test]
    fn a_startup_check_that_has_passed_counts_no_more() {
        let mut entry = entry(CheckKind::Startup, 1, 1);
        assert!(!entry.allows());
        note(&mut entry, true, 1);
        note(&mut entry, false, 2);
        assert!(entry.allows());
        assert_eq!(entry.status(2).state, Failing, "shown as it is");
    }

    #[test]
    fn a_process_is_alive_until_shown_otherwise() {
        let mut entry = entry(CheckKind::Liveness, 1, 1);
        assert!(entry.allows());
        note(&mut entry, false, 1);
        assert!(!entry.allows());
    }

    #[test]
    fn an_informational_check_decides_nothing() {
        let thresholds = Thresholds { failure: 1, success: 1 };
        let mut entry = Entry::new("cache".into(), CheckKind::Readiness, true, thresholds, 0);
        assert!(entry.allows());
        note(&mut entry, false, 1);
        assert!(entry.allows() && !entry.is_met());
    }
}
