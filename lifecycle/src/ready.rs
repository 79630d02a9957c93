//! Readiness as others may follow it: what it is, and the next change.
//!
//! Not here: what it is made of (`shared`), who announces it (`coordinator`).

use std::fmt;

use tokio::sync::watch;

/// Readiness as it was last announced (the log's `readiness.changed`), and its changes; made by
/// [`Handle::readiness`](crate::Handle::readiness).
///
/// For what speaks of readiness elsewhere than the probes: a gRPC health service, an entry in
/// a registry. Nothing polls.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut life = lifecycle::Lifecycle::builder().build_local()?;
/// let (handle, mut readiness) = (life.handle(), life.handle().readiness());
/// life.spawn("registry", async move {
///     while let Some(ready) = readiness.changed().await {
///         if !ready {
///             break; // takes its entry out of the registry
///         }
///         handle.shutdown("seen to be ready");
///     }
/// });
/// assert_eq!(life.run().await?.exit_code(), 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Readiness {
    told: watch::Receiver<bool>,
}

impl Readiness {
    pub(crate) fn new(told: watch::Receiver<bool>) -> Self {
        Self { told }
    }

    /// Whether the process is ready. Takes a lock for a moment.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.told.borrow()
    }

    /// Resolves when readiness has changed, with what it has become; `None` once it
    /// changes no more, just before the report. One that flaps faster than it is asked for is told as it
    /// stands, so the same value may come twice.
    ///
    /// The first call tells what has changed since the view was made; a clone has seen what
    /// its original has.
    ///
    /// # Cancel safety
    /// Cancel safe: a change that was not told is told by the next call.
    pub async fn changed(&mut self) -> Option<bool> {
        self.told.changed().await.ok()?;
        Some(*self.told.borrow_and_update())
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("ready", &self.is_ready()).finish()
    }
}
