//! Threads that stay, each pinned to a core of its own.
//!
//! They outlive every round, so that what is kept by thread (shards, allocator arenas) is
//! the same in all of them.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

pub(crate) struct Pool {
    workers: Vec<SyncSender<Job>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Pool {
    /// Two threads; one where there is only one core to pin to.
    pub(crate) fn pinned() -> Self {
        let workers = cores().into_iter().take(THREADS).map(worker).collect();
        Self { workers }
    }

    pub(crate) fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Runs a job on that thread; the result comes through the channel.
    pub(crate) fn on<T: Send + 'static>(
        &self,
        thread: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Receiver<T> {
        let (done, result) = sync_channel(1);
        let job = move || done.send(job()).expect("the result is waited for");
        self.workers[thread].send(Box::new(job)).expect("the thread lives");
        result
    }
}

fn worker(core: usize) -> SyncSender<Job> {
    let (jobs, todo) = sync_channel::<Job>(1);
    thread::spawn(move || {
        pin_to(core);
        while let Ok(job) = todo.recv() {
            job();
        }
    });
    jobs
}

/// Keeps this thread, and those that it starts, on the core of that number among those that
/// the process began with; on the last where there are fewer.
///
/// # Panics
/// Where the system does not tell or give them.
pub fn pin(nth: usize) {
    let cores = CORES.get_or_init(cores);
    pin_to(cores[nth.min(cores.len() - 1)]);
}

/// Of how many cores this process may have threads run at the same time.
///
/// # Panics
/// Where the system does not tell.
#[must_use]
pub fn core_count() -> usize {
    CORES.get_or_init(cores).len()
}

fn pin_to(core: usize) {
    let mut own = CpuSet::new();
    own.set(core);
    sched_setaffinity(None, &own).expect("a core of the allowed ones can be had");
}

fn cores() -> Vec<usize> {
    let allowed = sched_getaffinity(None).expect("the system tells the cores");
    (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect()
}

/// Before the first was pinned.
static CORES: OnceLock<Vec<usize>> = OnceLock::new();
/// One line of the cache going back and forth takes two.
const THREADS: usize = 2;
