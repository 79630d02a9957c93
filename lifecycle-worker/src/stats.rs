//! How a queue stands, as plain values.

use bytes::Bytes;

use crate::claimed::JobId;

/// How many jobs a queue has, by what they wait for, and what it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// Claimable now.
    pub ready: u64,
    /// Not claimable before a time: delayed, or to be tried again.
    pub scheduled: u64,
    /// Claimed; those whose lease has ended are ready.
    pub running: u64,
    /// Acknowledged, ever.
    pub done: u64,
    /// Dead letters.
    pub dead: u64,
    /// Attempts counted, ever, of all jobs: those that finished, failed, run now, or whose
    /// worker vanished. Returned ones do not count where the broker allows it.
    pub attempts: u64,
    /// Jobs returned by workers that had to leave, ever.
    pub returns: u64,
}

/// A job that is never delivered again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadJob {
    /// Its id.
    pub id: JobId,
    /// What was to be done.
    pub kind: String,
    /// With what.
    pub payload: Bytes,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it is dead.
    pub error: String,
}

impl DeadJob {
    /// With all that is known of it.
    #[must_use]
    pub fn new(
        id: JobId,
        kind: impl Into<String>,
        payload: impl Into<Bytes>,
        attempts: u32,
        error: impl Into<String>,
    ) -> Self {
        let (kind, payload, error) = (kind.into(), payload.into(), error.into());
        Self { id, kind, payload, attempts, error }
    }
}
