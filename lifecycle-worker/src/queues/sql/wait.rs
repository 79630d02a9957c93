//! How a claim waits: it may be dropped, the statement that takes jobs may not.
//!
//! Not here: who wakes it (a listener, a push of this process).
//!
//! # Invariants
//! 1. A claim is registered for wake-ups before it looks: a push between the look and the wait
//!    wakes it.
//! 2. It waits no longer than the queue's poll period, the next due time and its own end.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::claimed::Claimed;
use crate::error::QueueError;

/// Where claims wait.
#[derive(Debug, Default)]
pub(in super::super) struct Parking {
    wake: Notify,
    interrupt: Notify,
}

impl Parking {
    /// There may be jobs: waiting claims look again.
    pub(in super::super) fn wake(&self) {
        self.wake.notify_waiters();
    }

    /// Waiting claims end.
    pub(in super::super) fn interrupt(&self) {
        self.interrupt.notify_waiters();
    }
}

/// What a look for jobs found.
#[derive(Debug)]
pub(in super::super) enum Offer {
    /// These, claimed.
    Jobs(Vec<Claimed>),
    /// None; after so long one may be due, if nothing is pushed before.
    Nothing(Option<Duration>),
}

/// A queue, to a claim that waits.
pub(in super::super) trait Source: Sync {
    /// Claims up to `max` jobs that are claimable now. Dropping it loses none.
    fn take(
        &self,
        max: NonZeroUsize,
    ) -> impl Future<Output = Result<Vec<Claimed>, QueueError>> + Send;

    /// Looks for jobs and claims them. Dropping it loses none.
    fn look(&self, max: NonZeroUsize) -> impl Future<Output = Result<Offer, QueueError>> + Send;

    /// A claim is about to wait: whoever can wake it should be there.
    fn before_waiting(&self);
}

/// Claims up to `max` jobs and waits up to `wait` for the first.
pub(in super::super) async fn claim(
    source: &impl Source,
    parking: &Parking,
    poll: Duration,
    max: NonZeroUsize,
    wait: Duration,
) -> Result<Vec<Claimed>, QueueError> {
    if wait.is_zero() {
        return source.take(max).await;
    }
    let now = Instant::now();
    let end = now.checked_add(wait).unwrap_or(now + A_LONG_TIME);
    let mut interrupted = pin!(parking.interrupt.notified());
    interrupted.as_mut().enable();
    // Bound: ends at `end`, and each turn but the last waits.
    loop {
        let mut woken = pin!(parking.wake.notified());
        woken.as_mut().enable();
        let next = match source.look(max).await? {
            Offer::Jobs(jobs) => return Ok(jobs),
            Offer::Nothing(next) => next,
        };
        if Instant::now() >= end {
            return Ok(Vec::new());
        }
        source.before_waiting();
        let pause = next.map_or(poll, |next| next.clamp(LOOK_AGAIN, poll.max(LOOK_AGAIN)));
        tokio::select! {
            biased;
            () = interrupted.as_mut() => return Ok(Vec::new()),
            () = woken => {}
            () = sleep_until(end.min(Instant::now() + pause)) => {}
        }
        if Instant::now() >= end {
            return Ok(Vec::new());
        }
    }
}

/// A job that another claim holds locked looks due: not before so long.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// A month, for a wait that is longer than the clock.
const A_LONG_TIME: Duration = Duration::from_secs(30 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio_test::task::spawn;
    use tokio_test::{assert_pending, assert_ready};

    use super::*;
    use crate::claimed::Receipt;
    use crate::queues::sql::job_id;

    fn one() -> Vec<Claimed> {
        vec![Claimed::new(Receipt::new(job_id(1), 1), "mail", "")]
    }

    /// Offers what is in it, once.
    #[derive(Default)]
    struct Shelf {
        jobs: Mutex<Vec<Claimed>>,
        next: Option<Duration>,
        looks: Mutex<u32>,
    }

    impl Source for Shelf {
        async fn take(&self, _: NonZeroUsize) -> Result<Vec<Claimed>, QueueError> {
            Ok(std::mem::take(&mut *self.jobs.lock().unwrap()))
        }

        async fn look(&self, max: NonZeroUsize) -> Result<Offer, QueueError> {
            *self.looks.lock().unwrap() += 1;
            let jobs = self.take(max).await?;
            Ok(if jobs.is_empty() { Offer::Nothing(self.next) } else { Offer::Jobs(jobs) })
        }

        fn before_waiting(&self) {}
    }

    const POLL: Duration = Duration::from_secs(60);
    const WAIT: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_makes_a_waiting_claim_look_again() {
        let (shelf, parking) = (Shelf::default(), Parking::default());
        let mut claim = spawn(claim(&shelf, &parking, POLL, NonZeroUsize::MIN, WAIT));
        assert_pending!(claim.poll());
        shelf.jobs.lock().unwrap().extend(one());
        assert!(!claim.is_woken());
        parking.wake();
        assert!(claim.is_woken());
        assert_eq!(assert_ready!(claim.poll()).unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupt_ends_a_waiting_claim_and_no_later_one() {
        let (shelf, parking) = (Shelf::default(), Parking::default());
        parking.interrupt();
        let mut claim = spawn(claim(&shelf, &parking, POLL, NonZeroUsize::MIN, WAIT));
        assert_pending!(claim.poll());
        parking.interrupt();
        assert!(assert_ready!(claim.poll()).unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_looks_when_a_job_is_due_and_ends_with_its_wait() {
        let parking = Parking::default();
        let next = Some(Duration::from_secs(5));
        let shelf = Shelf { next, ..Shelf::default() };
        let began = Instant::now();
        let wait = Duration::from_secs(14);
        let jobs = claim(&shelf, &parking, POLL, NonZeroUsize::MIN, wait).await.unwrap();
        assert!(jobs.is_empty());
        assert_eq!(began.elapsed().as_secs(), 14);
        assert_eq!(*shelf.looks.lock().unwrap(), 3, "at 0, 5 and 10 s");
    }
}
