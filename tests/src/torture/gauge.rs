//! How full a queue is: by its own counts, or, where it has none, by what the ledgers say.
//!
//! Not here: what became of each job (`judge`).

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use lifecycle_worker::{AnyQueue, Queue, Stats};
use tokio::time::{Instant, sleep};

use super::ledger::{Tail, What};

/// A look at one queue, again and again.
pub(super) struct Gauge {
    queue: AnyQueue,
    /// Where the queue has no counts.
    tail: Option<Tail>,
    done: HashSet<String>,
    dead: u64,
    /// When a ledger last had news.
    heard: Instant,
}

impl Gauge {
    pub(super) fn new(queue: AnyQueue, folder: &Path) -> Self {
        let tail = (!queue.capabilities().stats).then(|| Tail::new(folder));
        Self { queue, tail, done: HashSet::new(), dead: 0, heard: Instant::now() }
    }

    /// How many of those wait; with ledgers, those under way are among them.
    pub(super) async fn ready(&mut self, pushed: &HashSet<String>) -> u64 {
        if self.tail.is_none() {
            return self.queue.stats().await.expect("a queue counts").ready;
        }
        self.hear();
        (pushed.len() - self.done.len()) as u64
    }

    /// Waits until the queue is empty, or for long enough; its own counts.
    pub(super) async fn drained(
        &mut self,
        pushed: &HashSet<String>,
        lease: Duration,
    ) -> Option<Stats> {
        let limit = Instant::now() + lease * 2 + DRAINED_WITHIN;
        loop {
            let stats = match self.tail {
                Some(_) => None,
                None => Some(self.queue.stats().await.expect("a queue counts")),
            };
            let is_empty = match stats {
                Some(stats) => stats.ready + stats.scheduled + stats.running == 0,
                None => {
                    self.hear();
                    // Of a worker that was killed, the lease has to end, and not all that it has
                    // acknowledged need be written down. A second copy comes at once.
                    let all = self.done.len() == pushed.len();
                    self.heard.elapsed() > if all { QUIET } else { lease * 2 + QUIET }
                }
            };
            if is_empty || Instant::now() > limit {
                return stats;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The jobs that are left when all workers are gone: what can be claimed, and what is dead.
    /// Where there are counts, those have it.
    pub(super) async fn left(&mut self, stats: Option<Stats>) -> Vec<String> {
        if let Some(stats) = stats {
            let count = stats.ready + stats.scheduled + stats.running + stats.dead;
            return (0..count).map(|_| format!("one of {stats:?}")).collect();
        }
        self.hear();
        let mut left: Vec<_> = (0..self.dead).map(|_| "a dead letter".to_owned()).collect();
        let most = NonZeroUsize::new(500).expect("some");
        loop {
            let jobs = self.queue.claim(most, LAST_LOOK).await.expect("a queue gives jobs");
            if jobs.is_empty() {
                return left;
            }
            left.extend(jobs.iter().map(|job| job.receipt.id().to_string()));
            let receipts: Vec<_> = jobs.into_iter().map(|job| job.receipt).collect();
            drop(self.queue.ack(&receipts).await);
        }
    }

    fn hear(&mut self) {
        let news = self.tail.as_mut().map(Tail::news).unwrap_or_default();
        if !news.is_empty() {
            self.heard = Instant::now();
        }
        for event in news {
            match event.what {
                What::Settled(outcome) if outcome == "done" => {
                    self.done.insert(event.id);
                }
                What::Settled(outcome) if outcome == "dead" => self.dead += 1,
                _ => {}
            }
        }
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(50);
const DRAINED_WITHIN: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(2);
const LAST_LOOK: Duration = Duration::from_secs(1);
