//! What a job's end is, as it is told to those who ask.

use crate::claimed::JobId;

/// A job that the queue has answered for; see [`Worker::on_settled`](crate::Worker::on_settled).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settlement {
    /// Its id.
    pub id: JobId,
    /// What was to be done.
    pub kind: String,
    /// Which attempt it was.
    pub attempt: u32,
    /// What became of it.
    pub outcome: SettlementKind,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SettlementKind {
    /// It failed and is a dead letter.
    Dead,
    /// It is done, and the queue has confirmed that.
    Done,
    /// The queue could not be told before the lease ended: it gives the job out again.
    LeftToLease,
    /// The claim is not the job's newest. Either somebody else has it by now, and what this
    /// attempt did may be done twice; or an earlier answer of the queue's did not reach us, and
    /// it is settled as it should be.
    Lost,
    /// It failed and is tried again.
    Retried,
    /// It was given back to the queue.
    Returned,
}

impl SettlementKind {
    /// The name used in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Done => "done",
            Self::LeftToLease => "left_to_lease",
            Self::Lost => "lost",
            Self::Retried => "retried",
            Self::Returned => "returned",
        }
    }
}
