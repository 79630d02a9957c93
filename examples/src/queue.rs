//! The queue that `QUEUE_URL` names, for the examples that have one.

use std::env;
use std::error::Error;
use std::fmt;

use lifecycle_worker::{AnyQueue, Queue, QueueError};

/// `QUEUE_URL`, or that default; an empty value counts as not set.
#[must_use]
pub fn url(default: &str) -> String {
    env::var("QUEUE_URL").ok().filter(|url| !url.is_empty()).unwrap_or_else(|| default.to_owned())
}

/// Why the queue cannot be used, in one line: what `main` prints.
pub struct Unusable(QueueError);

/// Connects to that queue, and creates nothing in it.
///
/// # Errors
/// [`Unusable`].
///
/// # Cancel safety
/// Cancel safe: nothing was claimed.
pub async fn connect(url: &str) -> Result<AnyQueue, Unusable> {
    // Who does the cryptography of `rediss://` is the program's choice; it may be made already.
    drop(rustls::crypto::ring::default_provider().install_default());
    Ok(AnyQueue::connect(url).await?)
}

/// Creates what the queue needs, if that is not there.
///
/// # Errors
/// [`Unusable`].
///
/// # Cancel safety
/// Cancel safe: call again.
pub async fn prepare(queue: &AnyQueue) -> Result<(), Unusable> {
    // Looks first: whoever may not create tables may still use those that are there.
    match queue.ping().await {
        Err(QueueError::NotPrepared { .. }) => Ok(queue.prepare().await?),
        answer => Ok(answer?),
    }
}

impl From<QueueError> for Unusable {
    fn from(error: QueueError) -> Self {
        Self(error)
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QUEUE_URL cannot be used: {:?}", self.0)
    }
}

impl fmt::Debug for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Unusable {}
