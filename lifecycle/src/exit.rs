//! Which exit code a shutdown ends with, and why.
//!
//! Pure: the report's facts in, a number out.

use std::fmt;

use crate::jobs::QueueJobs;
use crate::report::Told;
use crate::signal::Signal;

/// Why a process ended with its exit code; the first that applies, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ExitReason {
    /// A further signal (or SIGQUIT) forced the hard stop.
    Forced(Signal),
    /// A component failed, panicked, or ended when it should not have.
    Failed,
    /// The deadline cut work that was in flight.
    Cut,
    /// All work finished in time, but a worker could not return a job, or does not know whether
    /// it has claimed one: nobody else gets that before its lease ends.
    LeftToLease,
    /// All work finished in time, but a close hook failed or panicked.
    HookFailed,
    /// Everything finished in time.
    Clean,
}

/// Which exit code stands for which end.
///
/// Default: 128 + n when a further signal n forced the hard stop (as shells count death
/// by a signal), 1 when a component failed, 3 when the deadline cut work or a worker left a job
/// to its lease ([`QueueJobs`](crate::QueueJobs)), 0 otherwise; a failed close hook does not
/// change it, unless [`hook_failed`](Self::hook_failed) says so.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), lifecycle::StartError> {
/// use lifecycle::{ExitPolicy, Lifecycle};
///
/// // A platform that restarts on any other code: a cut is no reason to.
/// let policy = ExitPolicy::default().cut(0);
/// let life = Lifecycle::builder().exit_policy(policy).build_local()?;
/// # drop(life);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitPolicy {
    forced: Option<u8>,
    failed: u8,
    cut: u8,
    hook_failed: u8,
}

impl ExitPolicy {
    /// The code when a further signal forced the hard stop, whichever signal it was.
    #[must_use]
    pub fn forced(self, code: u8) -> Self {
        Self { forced: Some(code), ..self }
    }

    /// The code when a component failed.
    #[must_use]
    pub fn failed(self, code: u8) -> Self {
        Self { failed: code, ..self }
    }

    /// The code when the deadline cut work, or a worker left a job to its lease.
    #[must_use]
    pub fn cut(self, code: u8) -> Self {
        Self { cut: code, ..self }
    }

    /// The code when nothing worse happened than that a close hook failed. Default 0: the work
    /// was done, and the report and the log (WARN) say which hook it was.
    #[must_use]
    pub fn hook_failed(self, code: u8) -> Self {
        Self { hook_failed: code, ..self }
    }

    pub(crate) fn code(&self, reason: ExitReason) -> u8 {
        match reason {
            ExitReason::Forced(signal) => self.forced.unwrap_or(128 + signal.number()),
            ExitReason::Failed => self.failed,
            ExitReason::Cut | ExitReason::LeftToLease => self.cut,
            ExitReason::HookFailed => self.hook_failed,
            ExitReason::Clean => 0,
        }
    }
}

impl Default for ExitPolicy {
    fn default() -> Self {
        Self { forced: None, failed: 1, cut: 3, hook_failed: 0 }
    }
}

impl ExitReason {
    pub(crate) fn of(told: &Told) -> Self {
        if let Some(signal) = told.forced_by {
            Self::Forced(signal)
        } else if told.components.iter().any(|ended| ended.end.is_failure())
            || told.cause.is_failure()
        {
            Self::Failed
        } else if told.cuts.iter().any(|cut| !cut.blockers.is_empty()) {
            Self::Cut
        } else if told.jobs.iter().any(QueueJobs::has_left_any) {
            Self::LeftToLease
        } else if told.hooks.iter().any(|ended| ended.end.is_failure()) {
            Self::HookFailed
        } else {
            Self::Clean
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forced(signal) => write!(f, "forced by {signal}"),
            Self::Failed => f.write_str("a component failed"),
            Self::Cut => f.write_str("the deadline cut work"),
            Self::LeftToLease => f.write_str("a job was left to its lease"),
            Self::HookFailed => f.write_str("a close hook failed"),
            Self::Clean => f.write_str("everything finished"),
        }
    }
}

impl crate::report::Cause {
    /// Whether the shutdown began because something broke.
    fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::ComponentEnded { .. }
                | Self::ComponentFailed { .. }
                | Self::ComponentPanicked { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones_unless_set() {
        let policy = ExitPolicy::default();
        assert_eq!(policy.code(ExitReason::Forced(Signal::Terminate)), 143);
        assert_eq!(policy.code(ExitReason::Forced(Signal::Interrupt)), 130);
        assert_eq!(policy.code(ExitReason::Failed), 1);
        assert_eq!(policy.code(ExitReason::Cut), 3);
        assert_eq!(policy.code(ExitReason::LeftToLease), 3);
        assert_eq!(policy.code(ExitReason::Clean), 0);
        assert_eq!(policy.code(ExitReason::HookFailed), 0);
        let own = policy.forced(9).failed(8).cut(7).hook_failed(6);
        assert_eq!(own.code(ExitReason::HookFailed), 6);
        assert_eq!(own.code(ExitReason::Forced(Signal::Quit)), 9);
        assert_eq!(own.code(ExitReason::Failed), 8);
        assert_eq!(own.code(ExitReason::Cut), 7);
    }
}
