//! A claim's answer on its way to whoever asked for it, which is never thrown away.
//!
//! Not here: how a claim waits, what it asks the broker.
//!
//! # Invariants
//! 1. What claims is on a task of its own: it is not dropped with the future that waits for it.
//! 2. Jobs that nobody takes, since the wait was dropped or too long, are handed to `undo`.

use std::future::Future;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::claimed::Claimed;
use crate::error::QueueError;

/// Drives what claims on a task of its own and waits for it up to `bound`. When nobody
/// takes its jobs any more (the wait was dropped or too long), `undo` gets them.
pub(super) async fn handed_over<W, U>(
    bound: Duration,
    limit: Duration,
    work: W,
    undo: impl FnOnce(Vec<Claimed>) -> U + Send + 'static,
) -> Result<Vec<Claimed>, QueueError>
where
    W: Future<Output = Result<Vec<Claimed>, QueueError>> + Send + 'static,
    U: Future<Output = ()> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    let (back, came_back) = oneshot::channel();
    tokio::spawn(async move {
        let answer = work.await.map(|jobs| Lent { jobs, back: Some(back) });
        // An answer that nobody takes comes back when it is dropped, here or later.
        drop(tell.send(answer));
        if let Ok(Ok(jobs)) = timeout(limit, came_back).await {
            undo(jobs).await;
        }
    });
    match timeout(bound, told).await {
        Ok(Ok(answer)) => answer.map(Lent::take),
        Ok(Err(_)) => Err(QueueError::unavailable("the task that claims has ended")),
        Err(_) => Err(QueueError::timed_out(bound)),
    }
}

/// Jobs on their way to whoever asked: dropped, they go back.
#[derive(Debug)]
struct Lent {
    jobs: Vec<Claimed>,
    back: Option<oneshot::Sender<Vec<Claimed>>>,
}

impl Lent {
    fn take(mut self) -> Vec<Claimed> {
        self.back = None;
        std::mem::take(&mut self.jobs)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(back) = self.back.take() else { return };
        if !self.jobs.is_empty() {
            // The task has ended only if its runtime has: the lease covers the jobs.
            drop(back.send(std::mem::take(&mut self.jobs)));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::task::spawn;

    use super::*;
    use crate::claimed::{JobId, Receipt};

    fn one() -> Vec<Claimed> {
        vec![Claimed::new(Receipt::new(JobId::new("1"), 1), "mail", "")]
    }

    const WAIT: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn jobs_that_nobody_waits_for_go_back() {
        let second = Duration::from_secs(1);
        for polls in 0..4 {
            let (tell, told) = oneshot::channel();
            let undo = |jobs| async move { drop(tell.send(jobs)) };
            let work = async {
                tokio::task::yield_now().await;
                Ok(one())
            };
            let mut claim = spawn(handed_over(second, WAIT, work, undo));
            let mut taken = 0;
            for _ in 0..polls {
                if let std::task::Poll::Ready(jobs) = claim.poll() {
                    taken = jobs.unwrap().len();
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(claim);
            let returned = if polls == 0 { 0 } else { told.await.map_or(0, |jobs| jobs.len()) };
            assert_eq!(taken + returned, usize::from(polls > 0), "after {polls} polls");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_that_come_too_late_go_back() {
        let second = Duration::from_secs(1);
        let (tell, told) = oneshot::channel();
        let undo = |jobs| async move { drop(tell.send(jobs)) };
        let work = async move {
            tokio::time::sleep(2 * second).await;
            Ok(one())
        };
        let error = handed_over(second, WAIT, work, undo).await.unwrap_err();
        assert!(!error.is_fatal());
        assert_eq!(told.await.unwrap().len(), 1);
    }
}
