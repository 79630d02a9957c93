//! Who is in flight, by name and age, as plain values.
//!
//! Not here: where they are kept (`roster`), the gate that counts them (`in_flight`).

use std::fmt;
use std::time::Duration;

/// What kind of thing is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Kind {
    /// A component that has not returned.
    Component,
    /// A socket that somebody still holds.
    Connection,
    /// A close hook.
    Hook,
    /// A job of a worker.
    Job,
    /// A request whose response is not wholly sent.
    Request,
    /// `main` before it reached [`Lifecycle::run`](crate::Lifecycle::run).
    Startup,
    /// A guard of your own, from [`Handle::enter`](crate::Handle::enter).
    Work,
}

/// How far a request in flight has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Stage {
    /// At work: no response yet.
    Working,
    /// The response is being sent.
    Sending,
    /// The connection was upgraded (WebSocket, CONNECT) and is still held.
    Upgraded,
}

/// Something that a shutdown waits for, or did not wait for any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Blocker {
    /// What kind of thing it is.
    pub kind: Kind,
    /// `GET /orders` for a request, the component's or hook's name, and so on. At most
    /// 48 bytes; a longer one ends in `...`.
    pub name: String,
    /// How long it had been in flight; the clock ticks every few milliseconds.
    pub age: Duration,
    /// How far it had come.
    pub stage: Stage,
}

impl Kind {
    /// The name used in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Connection => "connection",
            Self::Hook => "hook",
            Self::Job => "job",
            Self::Request => "request",
            Self::Startup => "startup",
            Self::Work => "work",
        }
    }
}

impl Stage {
    /// The name used in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Sending => "sending",
            Self::Upgraded => "upgraded",
        }
    }

    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Working,
            1 => Self::Sending,
            _ => Self::Upgraded,
        }
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Working => 0,
            Self::Sending => 1,
            Self::Upgraded => 2,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Blocker {
    /// `request GET /orders (3.2s, sending)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({:.1}s", self.kind, self.name, self.age.as_secs_f64())?;
        match self.stage {
            Stage::Working => f.write_str(")"),
            Stage::Sending => f.write_str(", sending)"),
            Stage::Upgraded => f.write_str(", upgraded)"),
        }
    }
}

/// A list for a log line: the oldest ten by name, the rest as a number.
pub(crate) fn listed(blockers: &[Blocker]) -> String {
    let mut text =
        blockers.iter().take(LISTED).map(Blocker::to_string).collect::<Vec<_>>().join(", ");
    if let Some(more) = blockers.len().checked_sub(LISTED).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

const LISTED: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn blocker(name: &str, stage: Stage) -> Blocker {
        Blocker { kind: Kind::Request, name: name.into(), age: Duration::from_millis(3_210), stage }
    }

    #[test]
    fn reads_as_a_phrase() {
        assert_eq!(blocker("GET /a", Stage::Working).to_string(), "request GET /a (3.2s)");
        assert_eq!(blocker("GET /a", Stage::Sending).to_string(), "request GET /a (3.2s, sending)");
    }

    #[test]
    fn a_long_list_ends_in_a_number() {
        let many: Vec<_> = (0..12).map(|n| blocker(&n.to_string(), Stage::Working)).collect();
        let text = listed(&many);
        assert!(text.ends_with("request 9 (3.2s) and 2 more"), "{text}");
        assert_eq!(listed(&many[..10]).matches("request").count(), 10);
        assert_eq!(listed(&[]), "");
    }
}
