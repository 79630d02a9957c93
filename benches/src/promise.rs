//! What was promised: the rows of design section 6, in its order, and who shows each.

use serde::{Deserialize, Serialize};

/// A row of design section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Promise {
    /// Entering and leaving the gate.
    Gate,
    /// A request through the layer.
    Layer,
    /// Requests a second.
    Throughput,
    /// Memory a held connection.
    Memory,
    /// A shutdown told to many tasks.
    Broadcast,
    /// From the last response to the return of `run`.
    Latency,
    /// Idle connections closed.
    Idle,
    /// Requests lost under load.
    Lost,
    /// Clients that hold the drain.
    Held,
    /// Jobs a second, against the bare loop.
    Jobs,
    /// Jobs a second, against apalis.
    JobsOfPeers,
    /// Processor time a job.
    Processor,
    /// Jobs lost when workers are stopped and killed.
    JobsLost,
}

/// Who shows that a promise is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Shown {
    /// The bench of that name.
    Bench(&'static str),
    /// A command of the workspace, by counting; what it last wrote is quoted.
    Command(&'static str),
}

impl Promise {
    /// All of them, in the order of the design.
    pub const ALL: [Self; 13] = [
        Self::Gate,
        Self::Layer,
        Self::Throughput,
        Self::Memory,
        Self::Broadcast,
        Self::Latency,
        Self::Idle,
        Self::Lost,
        Self::Held,
        Self::Jobs,
        Self::JobsOfPeers,
        Self::Processor,
        Self::JobsLost,
    ];

    /// What it is about.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Gate => "gate: enter and leave",
            Self::Layer => "a request through the layer",
            Self::Throughput => "requests a second",
            Self::Memory => "memory a held connection",
            Self::Broadcast => "a shutdown told to waiting tasks, until all have ended",
            Self::Latency => "last response sent until `run` has returned",
            Self::Idle => "idle keep-alive connections closed",
            Self::Lost => "requests lost in a stop under load",
            Self::Held => "client states that hold the drain past its bound",
            Self::Jobs => "worker: jobs a second, against bare loops",
            Self::JobsOfPeers => "worker: jobs a second, against apalis",
            Self::Processor => "worker: processor time a job, memory queue",
            Self::JobsLost => "jobs lost or run twice, workers stopped and killed",
        }
    }

    /// Who shows it.
    #[must_use]
    pub fn shown(self) -> Shown {
        match self {
            Self::Gate => Shown::Bench("gate"),
            Self::Layer => Shown::Bench("layer"),
            Self::Throughput | Self::Memory | Self::Latency | Self::Idle => Shown::Bench("serve"),
            Self::Broadcast => Shown::Bench("broadcast"),
            Self::Lost | Self::Held => Shown::Command(COMPARE),
            Self::Jobs | Self::JobsOfPeers | Self::Processor => Shown::Bench("worker"),
            Self::JobsLost => Shown::Command(TORTURE),
        }
    }
}

const COMPARE: &str = "lifecycle-drill compare --markdown docs/compare.md";
const TORTURE: &str = "cargo run -p tests --bin torture -- --queue QUEUE";
