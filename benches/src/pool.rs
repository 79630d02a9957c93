//! Threads that stay, each pinned to a core of its own.
//!
//! They outlive every round, so that what is kept by thread (shards, allocator arenas) is
//! the same in all of them.

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
        let allowed = sched_getaffinity(None).expect("the system tells the cores");
        let cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let workers = cores.take(THREADS).map(worker).collect();
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
        let mut own = CpuSet::new();
        own.set(core);
        sched_setaffinity(None, &own).expect("a core of the allowed ones can be had");
        while let Ok(job) = todo.recv() {
            job();
        }
    });
    jobs
}

/// One line of the cache going back and forth takes two.
const THREADS: usize = 2;
