//! What a queue can do, told as data, and held to it by the conformance suite.

use std::time::Duration;

/// What a queue can do.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use lifecycle_worker::{Capabilities, Lease};
///
/// let lease = Lease::Timed { period: Duration::from_secs(30), longest: None };
/// let mine = Capabilities::new(lease).with_call_bound(Duration::from_secs(2));
/// assert!(mine.confirmed && mine.release.is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// How long a claim lasts.
    pub lease: Lease,
    /// What a return is; `None`: there is none, and the lease covers the job.
    pub release: Option<ReleaseCapabilities>,
    /// Whether the answers of ack, release and fail are the broker's own. Default: yes.
    pub confirmed: bool,
    /// How long any call may take, and a claim beyond its wait. Default: 5 s.
    pub call_bound: Duration,
    /// How long a claim that waits may last after an interrupt. Default: 100 ms.
    pub interrupt_bound: Duration,
    /// Whether a job can be pushed with a delay. Default: no.
    pub delay: bool,
    /// Whether a job can be pushed with a priority. Default: no.
    pub priority: bool,
    /// Whether a job can be pushed with a dedupe key. Default: no.
    pub dedupe: bool,
    /// Whether checkpoints are kept. Default: no.
    pub checkpoint: bool,
    /// Whether dead letters are kept with their error and can be listed. Default: no.
    pub dead_letters: bool,
    /// Whether [`stats`](crate::Queue::stats) can be asked. Default: no.
    pub stats: bool,
    /// How many bytes a payload may have, whatever they are. Default: as many as there are.
    pub payload_most: usize,
}

/// How long a claim lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lease {
    /// As long as the connection that took it.
    Connection,
    /// Until a time, which can be extended.
    Timed {
        /// From each claim or extension.
        period: Duration,
        /// The longest that a claim can last, extensions included.
        longest: Option<Duration>,
    },
}

/// What a return does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReleaseCapabilities {
    /// Where the job lands.
    pub place: Place,
    /// Whether it counts as an attempt.
    pub attempt: Attempt,
    /// Whether it can be given a delay.
    pub delay: bool,
}

/// Where a returned job lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Behind all others.
    Back,
    /// Before all others.
    Front,
    /// Where it was.
    Original,
    /// Anywhere.
    Unordered,
}

/// Whether a return counts as an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attempt {
    /// The broker counts deliveries, whatever becomes of them; it may not count returns apart.
    Counted,
    /// It does not.
    NotCounted,
}

impl Capabilities {
    /// With that lease and nothing else that is not a default.
    #[must_use]
    pub fn new(lease: Lease) -> Self {
        Self {
            lease,
            release: None,
            confirmed: true,
            call_bound: Duration::from_secs(5),
            interrupt_bound: Duration::from_millis(100),
            delay: false,
            priority: false,
            dedupe: false,
            checkpoint: false,
            dead_letters: false,
            stats: false,
            payload_most: usize::MAX,
        }
    }

    /// All that a database can do: delays, priorities, dedupe keys, checkpoints, dead letters,
    /// and returns that land where the job was, count no attempt and can be delayed.
    #[must_use]
    pub fn full(lease: Lease) -> Self {
        let release = ReleaseCapabilities::new(Place::Original, Attempt::NotCounted);
        Self {
            release: Some(ReleaseCapabilities { delay: true, ..release }),
            delay: true,
            priority: true,
            dedupe: true,
            checkpoint: true,
            dead_letters: true,
            stats: true,
            ..Self::new(lease)
        }
    }

    /// With returns.
    #[must_use]
    pub fn with_release(self, release: ReleaseCapabilities) -> Self {
        Self { release: Some(release), ..self }
    }

    /// With that bound on every call.
    #[must_use]
    pub fn with_call_bound(self, call_bound: Duration) -> Self {
        Self { call_bound, ..self }
    }

    /// With that bound on an interrupted claim.
    #[must_use]
    pub fn with_interrupt_bound(self, interrupt_bound: Duration) -> Self {
        Self { interrupt_bound, ..self }
    }

    /// The lease's period; `None` where the connection is the lease.
    #[must_use]
    pub fn lease_period(&self) -> Option<Duration> {
        match self.lease {
            Lease::Timed { period, .. } => Some(period),
            Lease::Connection => None,
        }
    }
}

impl ReleaseCapabilities {
    /// Without a delay.
    #[must_use]
    pub fn new(place: Place, attempt: Attempt) -> Self {
        Self { place, attempt, delay: false }
    }
}
