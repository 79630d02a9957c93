//! When a drain shows in the readiness probe: a setting of its own.
//!
//! Pure: phase and time since the cause in, yes or no out.

use std::fmt;
use std::time::Duration;

use crate::phase::Phase;

/// When readiness fails during a shutdown. Liveness never fails because of one.
///
/// Balancers that probe the process (HAProxy, ALB, Nomad, plain VMs) need it at once.
/// Kubernetes takes a deleted pod out of its endpoints by the deletion itself; with
/// `externalTrafficPolicy: Local` it falls back to terminating pods only while they are
/// ready, so there a failing readiness black-holes traffic: use `AtDrain`.
///
/// Default `Immediately`; `LIFECYCLE_READINESS` sets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadinessPolicy {
    /// This long after the cause, or at the drain if that comes first.
    After(Duration),
    /// When the listeners close.
    AtDrain,
    /// At the cause.
    #[default]
    Immediately,
    /// Not because of a shutdown.
    Never,
}

impl ReadinessPolicy {
    /// Whether the process may still call itself ready, `since_cause` after the cause.
    pub(crate) fn allows(self, phase: Phase, since_cause: Duration) -> bool {
        match (phase, self) {
            (Phase::Starting, _) => false,
            (Phase::Running, _) | (_, Self::Never) => true,
            (Phase::LameDuck, Self::After(delay)) => since_cause < delay,
            (Phase::LameDuck, Self::AtDrain) => true,
            _ => false,
        }
    }

    /// The point after the cause at which the answer changes within the lame duck.
    pub(crate) fn changes_at(self) -> Option<Duration> {
        match self {
            Self::After(delay) => Some(delay),
            _ => None,
        }
    }
}

impl fmt::Display for ReadinessPolicy {
    /// As `LIFECYCLE_READINESS` takes it: `after:3s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(delay) => write!(f, "after:{}", crate::env::show(delay)),
            Self::AtDrain => f.pad("at-drain"),
            Self::Immediately => f.pad("immediately"),
            Self::Never => f.pad("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{Closing, Draining, LameDuck, Running, Starting};

    #[test]
    fn follows_the_policy_in_every_phase() {
        let at = Duration::from_secs;
        let after = ReadinessPolicy::After(at(3));
        for (policy, phase, since, ready) in [
            (ReadinessPolicy::Immediately, Starting, 0, false),
            (ReadinessPolicy::Immediately, Running, 0, true),
            (ReadinessPolicy::Immediately, LameDuck, 0, false),
            (ReadinessPolicy::AtDrain, LameDuck, 4, true),
            (ReadinessPolicy::AtDrain, Draining, 4, false),
            (after, LameDuck, 2, true),
            (after, LameDuck, 3, false),
            (after, Draining, 2, false),
            (ReadinessPolicy::Never, Starting, 0, false),
            (ReadinessPolicy::Never, LameDuck, 4, true),
            (ReadinessPolicy::Never, Closing, 9, true),
        ] {
            assert_eq!(policy.allows(phase, at(since)), ready, "{policy:?} {phase} {since}");
        }
    }
}
