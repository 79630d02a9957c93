//! What became of a worker's jobs since the cause, for the report.
//!
//! Pure: the settler and the heartbeat tell it, the report reads it.

use lifecycle::QueueJobs;
use tokio::time::Instant;

use crate::queue::Start;

/// Counted from the moment the worker is quiet.
#[derive(Debug, Default)]
pub(super) struct Tally {
    is_counting: bool,
    finished: u64,
    returned_unstarted: u64,
    returned_started: u64,
    settled_perhaps: u64,
    left_to_lease: u64,
    claims_uncertain: u64,
    last_lease_ends: Option<Instant>,
}

impl Tally {
    pub(super) fn begin(&mut self) {
        self.is_counting = true;
    }

    /// Whether the worker is quiet.
    pub(super) fn is_counting(&self) -> bool {
        self.is_counting
    }

    /// Done or failed, and settled.
    pub(super) fn finished(&mut self) {
        self.finished += u64::from(self.is_counting);
    }

    pub(super) fn returned(&mut self, start: Start) {
        let count = match start {
            Start::Started => &mut self.returned_started,
            Start::Unstarted => &mut self.returned_unstarted,
        };
        *count += u64::from(self.is_counting);
    }

    /// The queue was told before, and its answer was lost; now the claim is none any more.
    pub(super) fn settled_perhaps(&mut self) {
        self.settled_perhaps += u64::from(self.is_counting);
    }

    /// The queue gives it out again when its lease ends.
    pub(super) fn lost(&mut self, lease_ends: Option<Instant>) {
        if self.is_counting {
            self.left_to_lease += 1;
            self.last_lease_ends = self.last_lease_ends.max(lease_ends);
        }
    }

    pub(super) fn claim_uncertain(&mut self) {
        self.claims_uncertain += 1;
    }

    /// As the report shows it; `left` are still held.
    pub(super) fn report(
        &self,
        queue: &str,
        left: impl Iterator<Item = Option<Instant>>,
    ) -> QueueJobs {
        let mut jobs = QueueJobs::new(queue);
        jobs.finished = self.finished;
        jobs.returned_unstarted = self.returned_unstarted;
        jobs.returned_started = self.returned_started;
        jobs.settled_perhaps = self.settled_perhaps;
        jobs.claims_uncertain = self.claims_uncertain;
        jobs.left_to_lease = self.left_to_lease;
        let mut last = self.last_lease_ends;
        for lease_ends in left {
            jobs.left_to_lease += 1;
            last = last.max(lease_ends);
        }
        jobs.lease_ends_in = last.map(|at| at.saturating_duration_since(Instant::now()));
        jobs
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counts_from_the_cause_on() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        tally.finished();
        tally.returned(Start::Started);
        tally.lost(Some(now));
        tally.begin();
        tally.finished();
        tally.returned(Start::Unstarted);
        tally.lost(Some(now + Duration::from_secs(3)));
        let left = [Some(now + Duration::from_secs(9)), None];
        assert_eq!(
            tally.report("mail", left.into_iter()).to_string(),
            "jobs of mail: 1 finished, 1 returned unstarted, 3 left to their lease, \
             the last lease ends in 9.0 s"
        );
    }
}
