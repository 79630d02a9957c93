//! A worker's part of the report: what became of the jobs of one queue.
//!
//! Pure values; the worker fills them, the report shows them.

use std::fmt;
use std::time::Duration;

/// What became of one queue's jobs in a shutdown, told by its worker
/// ([`Handle::report_jobs`](crate::Handle::report_jobs)).
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let life = lifecycle::Lifecycle::builder().build_local()?;
/// let mut jobs = lifecycle::QueueJobs::new("orders");
/// (jobs.finished, jobs.returned_unstarted) = (3, 1);
/// life.handle().report_jobs(jobs);
/// life.handle().shutdown("the example is over");
/// let report = life.run().await?;
/// assert!(report.to_string().contains("jobs of orders: 3 finished, 1 returned unstarted"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct QueueJobs {
    /// The queue's name.
    pub queue: String,
    /// Finished and settled since the cause.
    pub finished: u64,
    /// Returned to the queue before they were started.
    pub returned_unstarted: u64,
    /// Returned to the queue half done.
    pub returned_started: u64,
    /// Told to the queue again, since its first answer was lost, and then their claim was none
    /// any more: settled by the first telling, or somebody else has them by now. Nobody waits
    /// for them.
    pub settled_perhaps: u64,
    /// Not returned: the queue gives them out again when their lease ends.
    pub left_to_lease: u64,
    /// How long from the report until the last of those leases ends.
    pub lease_ends_in: Option<Duration>,
    /// Claims whose answer did not come, so that they may hold a job until its lease ends.
    pub claims_uncertain: u64,
    /// Whose word it is.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) teller: u64,
}

impl QueueJobs {
    /// Of that queue, with nothing to tell yet.
    #[must_use]
    pub fn new(queue: impl Into<String>) -> Self {
        Self { queue: queue.into(), ..Self::default() }
    }

    /// Told by the worker of that number, which is drawn: words of others of the same queue are
    /// added to it, and do not replace it.
    #[must_use]
    pub fn told_by(self, worker: u64) -> Self {
        Self { teller: worker, ..self }
    }

    /// Adds what another worker says of the same queue.
    pub(crate) fn add(&mut self, other: &Self) {
        self.finished += other.finished;
        self.returned_unstarted += other.returned_unstarted;
        self.returned_started += other.returned_started;
        self.settled_perhaps += other.settled_perhaps;
        self.left_to_lease += other.left_to_lease;
        self.claims_uncertain += other.claims_uncertain;
        self.lease_ends_in = self.lease_ends_in.max(other.lease_ends_in);
    }

    /// Whether a job may have to wait for the end of a lease: one that could not be returned, or
    /// a claim whose answer did not come.
    #[must_use]
    pub fn has_left_any(&self) -> bool {
        self.left_to_lease > 0 || self.claims_uncertain > 0
    }
}

impl fmt::Display for QueueJobs {
    /// `jobs of orders: 3 finished, 1 returned unstarted`; what is nothing is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "jobs of {}: {} finished", self.queue, self.finished)?;
        for (count, what) in [
            (self.returned_unstarted, "returned unstarted"),
            (self.returned_started, "returned half done"),
            (self.settled_perhaps, "settled perhaps"),
            (self.left_to_lease, "left to their lease"),
            (self.claims_uncertain, "claimed perhaps"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        match self.lease_ends_in {
            Some(time) => write!(f, ", the last lease ends in {:.1} s", time.as_secs_f64()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_there_is_and_nothing_else() {
        let mut jobs = QueueJobs::new("orders");
        assert_eq!(jobs.to_string(), "jobs of orders: 0 finished");
        (jobs.returned_started, jobs.left_to_lease, jobs.claims_uncertain) = (2, 1, 1);
        jobs.lease_ends_in = Some(Duration::from_millis(12_340));
        assert_eq!(
            jobs.to_string(),
            "jobs of orders: 0 finished, 2 returned half done, 1 left to their lease, \
             1 claimed perhaps, the last lease ends in 12.3 s"
        );
        assert!(jobs.has_left_any());
        (jobs.left_to_lease, jobs.claims_uncertain) = (0, 0);
        assert!(!jobs.has_left_any(), "what was returned is not left");
    }
}
