//! A job as a queue hands it out, and the receipt that settles it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

/// A job's id, as its queue writes it. A clone is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(Arc<str>);

impl JobId {
    /// That id.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Which claim of which job: what settles it, and is fenced by.
///
/// A handler never holds one. What else the queue needs to know its claim again goes into
/// `number` and [`with_text`](Self::with_text): a count of claims, a delivery tag, a handle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    id: JobId,
    number: u64,
    text: Option<Arc<str>>,
}

impl Receipt {
    /// The claim of that number of that job. A number is never given twice for one job.
    #[must_use]
    pub fn new(id: JobId, number: u64) -> Self {
        Self { id, number, text: None }
    }

    /// With words of the broker's.
    #[must_use]
    pub fn with_text(self, text: impl Into<Arc<str>>) -> Self {
        Self { text: Some(text.into()), ..self }
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// The claim's number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The broker's words, if it has any.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

/// A claimed job.
///
/// # Examples
/// ```
/// use lifecycle_worker::{Claimed, JobId, Receipt};
///
/// let receipt = Receipt::new(JobId::new("42"), 1);
/// let claimed = Claimed::new(receipt, "mail", "hello").attempt(2);
/// assert_eq!(claimed.receipt.id().as_str(), "42");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claimed {
    /// What settles it.
    pub receipt: Receipt,
    /// What is to be done.
    pub kind: Arc<str>,
    /// With what.
    pub payload: Bytes,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Which attempt this is, from 1. Returned ones do not count where the broker allows it.
    pub attempt: u32,
    /// How often it has been returned by workers that had to leave; 0 where the broker counts
    /// deliveries ([`Attempt::Counted`](crate::Attempt::Counted)) and cannot tell these apart.
    pub returns: u32,
    /// What an earlier attempt saved.
    pub checkpoint: Option<Bytes>,
    /// When the lease ends by this process' clock, at the earliest; `None`: with the
    /// connection. Count from before the request that took it.
    pub lease_ends: Option<Instant>,
}

impl Claimed {
    /// A first attempt without headers, checkpoint and lease.
    #[must_use]
    pub fn new(receipt: Receipt, kind: impl Into<Arc<str>>, payload: impl Into<Bytes>) -> Self {
        Self {
            receipt,
            kind: kind.into(),
            payload: payload.into(),
            headers: Vec::new(),
            attempt: 1,
            returns: 0,
            checkpoint: None,
            lease_ends: None,
        }
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }

    /// How often it has been returned.
    #[must_use]
    pub fn returns(self, returns: u32) -> Self {
        Self { returns, ..self }
    }

    /// Its headers.
    #[must_use]
    pub fn headers(self, headers: Vec<(String, String)>) -> Self {
        Self { headers, ..self }
    }

    /// What an earlier attempt saved.
    #[must_use]
    pub fn checkpoint(self, checkpoint: Option<Bytes>) -> Self {
        Self { checkpoint, ..self }
    }

    /// When the lease ends, at the earliest.
    #[must_use]
    pub fn lease_ends(self, at: Instant) -> Self {
        Self { lease_ends: Some(at), ..self }
    }
}
