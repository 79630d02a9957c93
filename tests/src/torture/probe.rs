//! How soon a job that a worker returns can be claimed by somebody else.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use lifecycle_worker::{Attempt, Claimed, Place, Push, Queue};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::ledger::{Event, What, now_ns};
use super::verdict::Verdict;
use super::{Orders, WorkerProcess};

/// One worker alone, with jobs that outlast its grace: told to stop, it returns them, and they
/// are claimed here at once.
pub(super) async fn returns(program: &Path, orders: &Orders, folder: &Path, verdict: &mut Verdict) {
    let mut tries = 0;
    // Its time to return jobs is some tenths of a second, and another process may have had the
    // machine for as long.
    let seen = loop {
        tries += 1;
        let seen = try_once(program, orders, folder, tries).await;
        if seen.is_kept() || tries == seen.tries_most {
            break seen;
        }
    };
    let Seen { returned, after, from_stop, as_declared, attempt, .. } = seen;
    let measured = format!(
        "{returned} of {JOBS}, after {:.1} ms; {:.1} ms from the handler's stop; try {tries}",
        after.as_secs_f64() * 1e3,
        from_stop.as_secs_f64() * 1e3,
    );
    verdict.add("returned jobs claimable within 100 ms", measured, seen.is_kept());
    let promise = match attempt {
        Attempt::NotCounted => "of them with no attempt counted",
        _ => "of them with an attempt counted, as the queue declares",
    };
    verdict.add(promise, as_declared, as_declared == JOBS);
}

/// What a prober has seen.
#[derive(Clone, Copy)]
struct Seen {
    returned: usize,
    /// The longest from the confirmed return to the claim.
    after: Duration,
    from_stop: Duration,
    as_declared: usize,
    attempt: Attempt,
    tries_most: u32,
}

impl Seen {
    fn is_kept(&self) -> bool {
        self.returned == JOBS && self.after < Duration::from_millis(100)
    }
}

async fn try_once(program: &Path, orders: &Orders, folder: &Path, attempt: u32) -> Seen {
    let mut orders = orders.clone();
    orders.queue = format!("probe-{attempt}");
    let queue = orders.connect().await.expect("the queue is there");
    queue.prepare().await.expect("it can be prepared");
    let worker = WorkerProcess::start(program, &orders, folder, &orders.queue).await;
    let worker = worker.expect("a worker starts");
    let long = (orders.grace + orders.lease).as_millis().to_string();
    let jobs: Vec<_> = (0..JOBS).map(|_| Push::new("work", long.clone())).collect();
    queue.push(&jobs).await.expect("a queue takes jobs");
    worker.until("all are begun", |events| events.len() == JOBS).await;
    worker.signal(Signal::TERM);
    let mut claimed = Vec::new();
    let limit = Instant::now() + orders.grace * 2;
    while claimed.len() < JOBS && Instant::now() < limit {
        let some = NonZeroUsize::new(JOBS).expect("some");
        let jobs = queue.claim(some, Duration::ZERO).await.expect("a queue gives jobs");
        let at = now_ns();
        claimed.extend(jobs.into_iter().map(|job| (job, at)));
        // Asked again and again, since how soon it can be claimed is the question.
        sleep(Duration::from_millis(1)).await;
    }
    let exit = worker.exit(orders.grace * 3).await;
    let since = |what: &What| -> Vec<u64> {
        claimed
            .iter()
            .filter_map(|(job, at)| Some(at.saturating_sub(when(&exit.events, job, what)?)))
            .collect()
    };
    let (stopped, returned) = (since(&What::Stop), since(&What::Settled("returned".into())));
    let longest = |times: &[u64]| Duration::from_nanos(times.iter().copied().max().unwrap_or(0));
    let release = queue.capabilities().release.expect("a queue with returns");
    let attempt = release.attempt;
    let tries_most = if release.place == Place::Back { TRIES_BY_COPY_MOST } else { TRIES_MOST };
    let then = if attempt == Attempt::NotCounted { (1, 1) } else { (2, 0) };
    let as_declared = claimed.iter().filter(|(job, _)| (job.attempt, job.returns) == then).count();
    let receipts: Vec<_> = claimed.into_iter().map(|(job, _)| job.receipt).collect();
    drop(queue.ack(&receipts).await);
    drop(queue.close().await);
    let (after, from_stop) = (longest(&returned), longest(&stopped));
    let returned = returned.len();
    Seen { returned, after, from_stop, as_declared, attempt, tries_most }
}

fn when(events: &[Event], job: &Claimed, what: &What) -> Option<u64> {
    let id = job.receipt.id().as_str();
    events.iter().find(|event| event.id == id && event.what == *what).map(|event| event.at)
}

const JOBS: usize = 4;
const TRIES_MOST: u32 = 3;
/// Each job is confirmed when its copy is, and that is on its way to a claim only then.
const TRIES_BY_COPY_MOST: u32 = 6;
