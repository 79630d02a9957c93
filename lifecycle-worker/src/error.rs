//! Errors: what a queue says, and what a handler may say.
//!
//! `Debug` of a queue's error reads like `Display` with its sources, since that is what `main`
//! prints when it returns one.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use thiserror::Error;

pub use lifecycle::BoxError;

use crate::handler::message_of;

/// What went wrong with a queue.
///
/// [`is_fatal`](Self::is_fatal) tells what waiting does not mend.
#[derive(Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The queue was closed by this process.
    #[error("the queue is closed")]
    Closed,
    /// The broker refused the credentials, or what was asked with them: the configuration's
    /// fault.
    #[error("the broker refused access")]
    Denied(#[source] BoxError),
    /// The URL, a name or an option is none: the caller's fault.
    #[error("{what}")]
    Invalid {
        /// What is wrong, and what it takes.
        what: String,
    },
    /// What the queue needs is not there, or of another version: call
    /// [`Queue::prepare`](crate::Queue::prepare) first.
    #[error("not prepared: {what}")]
    NotPrepared {
        /// What is missing.
        what: String,
    },
    /// The broker cannot be reached, or did not answer in time: try again later.
    #[error("the broker cannot be reached")]
    Unavailable(#[source] BoxError),
    /// This broker, or this version of it, cannot do that.
    #[error("not supported: {what}")]
    Unsupported {
        /// What cannot be done, and why.
        what: String,
    },
}

impl QueueError {
    /// The broker could not be reached, because of `source`.
    #[must_use]
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self::Unavailable(source.into())
    }

    /// The broker did not answer within `bound`.
    #[must_use]
    pub fn timed_out(bound: Duration) -> Self {
        Self::unanswered(format!("no answer within {} ms", bound.as_millis()))
    }

    /// The broker may have heard, and has not answered.
    pub(crate) fn unanswered(why: String) -> Self {
        Self::unavailable(Unanswered(why))
    }

    /// Whether what was asked for may have been done all the same.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Unavailable(source) if source.is::<Unanswered>())
    }

    /// Whether trying again cannot help.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Unavailable(_))
    }
}

/// A broker that may or may not have heard.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unanswered(String);

impl fmt::Debug for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(self))
    }
}

/// The error with its sources, on one line; what an error has said of its source is not said
/// again. It never panics, whatever errors of others do.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = words(error);
    let mut source = catch_unwind(AssertUnwindSafe(|| error.source())).unwrap_or_default();
    // Bound: a chain of errors is short, and one that is a circle is cut.
    for _ in 0..SOURCES_MOST {
        let Some(error) = source else { break };
        let said = words(error);
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = catch_unwind(AssertUnwindSafe(|| error.source())).unwrap_or_default();
    }
    text
}

fn words(error: &(dyn Error + 'static)) -> String {
    catch_unwind(AssertUnwindSafe(|| error.to_string())).unwrap_or_else(|payload| {
        format!("an error that panicked when it was shown: {}", message_of(&*payload))
    })
}

/// What a handler may return to say more than that it failed.
///
/// Any other error is [`JobError::Failed`]: tried again after a while
/// ([`Worker::retry`](crate::Worker::retry)), and dead after so many attempts.
///
/// # Examples
/// ```
/// use lifecycle_worker::{BoxError, Job, JobError};
///
/// async fn ship(job: Job) -> Result<(), BoxError> {
///     let address = std::str::from_utf8(job.payload())
///         .map_err(|error| JobError::dead("the address is no text").because(error))?;
///     if address.is_empty() {
///         return Err("no address".into()); // tried again later
///     }
///     Ok(())
/// }
/// # let _ = ship;
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JobError {
    /// Trying again cannot help: dead-letter it.
    #[error("{reason}")]
    Dead {
        /// Why.
        reason: String,
        /// What is behind it.
        #[source]
        source: Option<BoxError>,
    },
    /// It failed: tried again after the worker's backoff, or after `after`.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
        /// What is behind it.
        #[source]
        source: Option<BoxError>,
        /// How long to wait; `None`: the worker's backoff.
        after: Option<Duration>,
    },
    /// It was told to stop and has: give the job back, no attempt counted.
    #[error("stopped before it was done")]
    Stopped,
}

impl JobError {
    /// Trying again cannot help: dead-letter the job, and keep the reason with it.
    #[must_use]
    pub fn dead(reason: impl Into<String>) -> Self {
        Self::Dead { reason: reason.into(), source: None }
    }

    /// The job failed: try again after the worker's backoff.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), source: None, after: None }
    }

    /// The job failed: try again after `delay`.
    #[must_use]
    pub fn retry_after(reason: impl Into<String>, delay: Duration) -> Self {
        Self::Failed { reason: reason.into(), source: None, after: Some(delay) }
    }

    /// With what is behind it.
    #[must_use]
    pub fn because(self, error: impl Into<BoxError>) -> Self {
        match self {
            Self::Dead { reason, .. } => Self::Dead { reason, source: Some(error.into()) },
            Self::Failed { reason, after, .. } => {
                Self::Failed { reason, source: Some(error.into()), after }
            }
            Self::Stopped => Self::Stopped,
        }
    }
}

const SOURCES_MOST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_with_its_sources() {
        let error = QueueError::unavailable("connection refused");
        assert_eq!(error.to_string(), "the broker cannot be reached");
        assert_eq!(chain(&error), "the broker cannot be reached: connection refused");
        assert_eq!(format!("{error:?}"), chain(&error), "what main prints");
        let error = JobError::dead("io: refused").because("refused");
        assert_eq!(chain(&error), "io: refused", "once");
        let error = JobError::dead("no such order").because("row 7 is missing");
        assert_eq!(chain(&error), "no such order: row 7 is missing");
    }

    #[test]
    fn only_what_waiting_mends_is_not_fatal() {
        assert!(!QueueError::timed_out(Duration::from_secs(1)).is_fatal());
        assert!(QueueError::Closed.is_fatal());
        assert!(QueueError::Denied("no".into()).is_fatal());
        let late = QueueError::timed_out(Duration::from_millis(250));
        assert!(late.is_unanswered() && !QueueError::unavailable("refused").is_unanswered());
        assert!(chain(&late).ends_with("no answer within 250 ms"), "{late:?}");
        assert!(QueueError::NotPrepared { what: "table".into() }.is_fatal());
    }
}
