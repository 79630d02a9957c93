//! A queue of one's own, its trait in less than a hundred lines: jobs by when they are due, in this process.
//!
//! Run with `cargo run -p examples --bin 10_own_queue`: it pushes a job and works until Ctrl-C or
//! SIGTERM. `--conformance` runs the queue through the suite that every queue of ours passes.
//! `12_folder_queue` is one that several processes share.
#![allow(clippy::print_stdout, reason = "the suite's report is what was asked for")]

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::process::{ExitCode, Termination};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::Lifecycle;
use lifecycle_worker::{
    Attempt, BoxError, Capabilities, Claimed, Extend, Extended, Fail, Job, JobId, Lease, Next,
    Place, Push, Pushed, Queue, QueueError, Receipt, Release, ReleaseCapabilities, Settled, Worker,
    conformance,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Jobs by when they are due and by number: a returned one lands where it was.
type Due = (Instant, u64);

#[derive(Default)]
struct Jobs {
    ready: BTreeMap<Due, Claimed>,
    /// By the claim's number: who has it, and where it was.
    held: HashMap<u64, (u64, Due, Claimed)>,
    last: u64,
}

/// `me` is the claiming identity; `open` is false once that is closed.
struct OwnQueue {
    me: u64,
    jobs: Arc<(Mutex<Jobs>, Notify)>,
    open: Mutex<bool>,
    interrupt: Notify,
}

impl OwnQueue {
    fn new(me: u64, jobs: &Arc<(Mutex<Jobs>, Notify)>) -> Self {
        Self { me, jobs: Arc::clone(jobs), open: Mutex::new(true), interrupt: Notify::new() }
    }

    fn jobs(&self) -> Result<MutexGuard<'_, Jobs>, QueueError> {
        let open = *self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = self.jobs.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open { Ok(jobs) } else { Err(QueueError::Closed) }
    }

    /// What is due now, and when something is next.
    fn take(&self, max: usize, until: Instant) -> Result<(Vec<Claimed>, Instant), QueueError> {
        let (mut claimed, mut jobs) = (Vec::new(), self.jobs()?);
        while claimed.len() < max
            && let Some(first) = jobs.ready.first_entry()
        {
            if first.key().0 > Instant::now() {
                return Ok((claimed, until.min(first.key().0)));
            }
            let (due, mut job) = first.remove_entry();
            jobs.last += 1;
            job.attempt += 1;
            job.receipt = Receipt::new(job.receipt.id().clone(), jobs.last);
            jobs.held.insert(job.receipt.number(), (self.me, due, job.clone()));
            claimed.push(job);
        }
        Ok((claimed, until))
    }

    /// Ends the claims of `items`; `back` says where a job goes, if anywhere.
    fn settle<T>(
        &self,
        items: &[T],
        receipt: impl Fn(&T) -> &Receipt,
        back: impl Fn(&T, Due, Claimed) -> Option<(Due, Claimed)>,
    ) -> Vec<Settled> {
        let settle = |item: &T| match self.jobs() {
            Err(closed) => Settled::Retry(closed),
            Ok(mut jobs) => match jobs.held.remove(&receipt(item).number()) {
                None => Settled::Lost,
                Some((_, due, job)) => {
                    jobs.ready.extend(back(item, due, job));
                    Settled::Done
                }
            },
        };
        let settled = items.iter().map(settle).collect();
        self.jobs.1.notify_waiters();
        settled
    }
}

impl Queue for OwnQueue {
    fn name(&self) -> &str {
        "own"
    }

    fn capabilities(&self) -> Capabilities {
        let release = ReleaseCapabilities::new(Place::Original, Attempt::NotCounted);
        Capabilities::new(Lease::Connection).with_release(release)
    }

    async fn ping(&self) -> Result<(), QueueError> {
        self.jobs().map(drop)
    }

    async fn push(&self, pushes: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        let mut jobs = self.jobs()?;
        let pushed = pushes.iter().map(|push| {
            jobs.last += 1;
            let id = JobId::new(jobs.last.to_string());
            let receipt = Receipt::new(id.clone(), 0);
            let job = Claimed::new(receipt, push.kind(), push.payload().clone()).attempt(0);
            let due = (Instant::now(), jobs.last);
            jobs.ready.insert(due, job.headers(push.headers().to_vec()));
            Pushed::New(id)
        });
        let pushed = pushed.collect();
        self.jobs.1.notify_waiters();
        Ok(pushed)
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        let until = Instant::now() + wait;
        loop {
            // Before the look: what is pushed after it wakes us.
            let (news, interrupted) = (self.jobs.1.notified(), self.interrupt.notified());
            let (claimed, next) = self.take(max.get(), until)?;
            if !claimed.is_empty() || Instant::now() >= until {
                return Ok(claimed);
            }
            tokio::select! {
                () = news => {}
                () = sleep_until(next) => {}
                () = interrupted => return Ok(Vec::new()),
            }
        }
    }

    async fn interrupt(&self) {
        self.interrupt.notify_waiters();
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Settled> {
        self.settle(receipts, |receipt| receipt, |_, _, _| None)
    }

    async fn release(&self, jobs: &[Release]) -> Vec<Settled> {
        let back = |_: &Release, due, mut job: Claimed| {
            (job.attempt, job.returns) = (job.attempt - 1, job.returns + 1);
            Some((due, job))
        };
        self.settle(jobs, |job| &job.receipt, back)
    }

    async fn fail(&self, jobs: &[Fail]) -> Vec<Settled> {
        let back = |fail: &Fail, due: Due, job| match fail.next {
            Next::Retry(delay) => Some(((Instant::now() + delay, due.1), job)),
            _ => None, // dead letters are not kept
        };
        self.settle(jobs, |job| &job.receipt, back)
    }

    async fn extend(&self, jobs: &[Extend]) -> Vec<Extended> {
        jobs.iter().map(|_| Extended::Unsupported).collect()
    }

    /// As a broker does when a connection ends: what it holds goes back.
    async fn close(&self) -> Result<(), QueueError> {
        if let Ok(mut jobs) = self.jobs() {
            let mine: Vec<_> = jobs.held.extract_if(|_, held| held.0 == self.me).collect();
            jobs.ready.extend(mine.into_iter().map(|(_, (_, due, job))| (due, job)));
        }
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.jobs.1.notify_waiters();
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let jobs = Arc::default();
    if std::env::args().nth(1).as_deref() == Some("--conformance") {
        let report = conformance::suite(async |_| {
            let jobs = Arc::default();
            Ok((OwnQueue::new(1, &jobs), OwnQueue::new(2, &jobs)))
        });
        let report = report.await;
        println!("{report}");
        return Ok(if report.is_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    let queue = OwnQueue::new(1, &jobs);
    queue.push(&[Push::new("mail", "ada@example.org")]).await?;
    life.spawn("mail", Worker::new(queue, mail));
    examples::say_ready();
    Ok(life.run().await?.report())
}

async fn mail(job: Job) -> Result<(), BoxError> {
    tracing::info!(to = std::str::from_utf8(job.payload())?, attempt = job.attempt(), "sent");
    Ok(())
}
