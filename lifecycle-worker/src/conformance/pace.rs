//! How slow the queue and this machine are while a check runs: a lease may be too short for them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// The longest time that was lost. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Arc<watch::Sender<Duration>>);

impl Pace {
    /// Something took so long that should have taken none.
    pub(super) fn lost(&self, time: Duration) {
        self.0.send_if_modified(|most| {
            let is_more = time > *most;
            *most = time.max(*most);
            is_more
        });
    }

    pub(super) fn longest(&self) -> Duration {
        *self.0.borrow()
    }

    /// Looks at how late this machine's timers are, until it is dropped.
    pub(super) async fn look(&self) -> Infallible {
        // Bound: the check's.
        loop {
            let began = Instant::now();
            sleep(TICK).await;
            self.lost(began.elapsed().saturating_sub(TICK));
        }
    }
}

const TICK: Duration = Duration::from_millis(50);

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_moment_in_which_nothing_runs_is_seen() {
        let (pace, stall) = (Pace::default(), Duration::from_millis(200));
        let clone = pace.clone();
        let looking = tokio::spawn(async move { clone.look().await });
        // Sleeps: the timers are what is looked at.
        sleep(TICK / 2).await;
        let until = Instant::now() + stall;
        while Instant::now() < until {}
        // Sleeps: as above.
        sleep(TICK * 2).await;
        looking.abort();
        assert!(pace.longest() > stall / 2, "{:?}", pace.longest());
    }
}
