//! The runner: claims, starts, extends, settles and stops.
//!
//! `claimer` gets jobs and starts them, `execute` is one job's task, `heartbeat` keeps leases,
//! `settler` tells the queue what is `todo`, `stop` is the order of the end; they share the
//! `ledger`.

mod claimer;
mod execute;
mod heartbeat;
mod ledger;
mod settler;
mod standing;
mod stop;
mod tally;
mod todo;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::yield_now;

use crate::retry::Retry;
use crate::settlement::Settlement;
use crate::worker::Unstoppable;

#[cfg(feature = "schedule")]
pub(crate) use claimer::pause;
pub(crate) use ledger::Ledger;
pub(crate) use standing::Standing;
pub(crate) use stop::run;

pub(crate) type OnSettled = Box<dyn Fn(&Settlement) + Send + Sync>;

/// What a worker was told.
pub(crate) struct Settings {
    pub(crate) concurrency: usize,
    pub(crate) prefetch: usize,
    pub(crate) retry: Retry,
    pub(crate) job_timeout: Option<Duration>,
    pub(crate) claim_wait: Duration,
    pub(crate) unstoppable: Unstoppable,
    pub(crate) on_settled: Option<Arc<OnSettled>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("concurrency", &self.concurrency)
            .field("prefetch", &self.prefetch)
            .field("retry", &self.retry)
            .field("job_timeout", &self.job_timeout)
            .field("claim_wait", &self.claim_wait)
            .field("unstoppable", &self.unstoppable)
            .finish_non_exhaustive()
    }
}

/// Lets other tasks run as long as that changes a number, for a few turns at most.
async fn while_it_changes(number: impl Fn() -> usize) {
    let mut before = number();
    for _ in 0..TURNS_MOST {
        one_turn().await;
        let now = number();
        if now == before {
            return;
        }
        before = now;
    }
}

/// Lets those that can run now run first. On one thread without tokio's own yield: that also waits for
/// a look at the sockets, system calls that jobs which end at once would pay for. On more than one,
/// whoever wakes itself wakes another thread too, which costs more.
async fn one_turn() {
    if Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread {
        return yield_now().await;
    }
    let mut is_over = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

const TURNS_MOST: usize = 16;
/// Between two claims that find nothing: what is asked more often than that costs a core, or
/// money.
pub(crate) const CLAIM_WAIT_LEAST: Duration = Duration::from_millis(10);
