//! What has happened to a pod, and when.

use std::time::Duration;

use crate::process::Exit;
use tokio::time::Instant;

/// Which of the three probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Which {
    /// Whether the process is better restarted.
    Liveness,
    /// Whether traffic may be sent.
    Readiness,
    /// Whether the start is over.
    Startup,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The pod is being deleted.
    Deleted,
    /// It ended.
    Ended(Exit),
    /// SIGKILL was sent at the end of the grace period.
    Killed,
    /// The preStop hook is over; whether it succeeded in its time.
    PreStopped(bool),
    /// A probe has changed its mind.
    Probed(Which, bool),
    /// Balancers have heard that it is not ready any more.
    Removed,
    /// SIGTERM was sent.
    Terminated,
    /// The process would be restarted because of this probe.
    WouldRestart(Which),
}

/// What happened, in order, and when.
#[derive(Clone, Debug)]
#[must_use]
pub struct Record(pub(super) Vec<(Instant, Event)>);

impl Record {
    /// When that first happened.
    #[must_use]
    pub fn at(&self, event: &Event) -> Option<Instant> {
        self.0.iter().find(|(_, happened)| happened == event).map(|(at, _)| *at)
    }

    /// Everything, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.0.iter().map(|(_, event)| event)
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.events().find_map(|event| match event {
            Event::Ended(exit) => Some(*exit),
            _ => None,
        })
    }

    /// The time from one to the other, if both have happened.
    #[must_use]
    pub fn between(&self, from: &Event, to: &Event) -> Option<Duration> {
        Some(self.at(to)?.saturating_duration_since(self.at(from)?))
    }
}
