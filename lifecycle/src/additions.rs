//! What others put into the report: notes, and what became of jobs.

use std::time::Duration;

use crate::jobs::QueueJobs;
use crate::report::Note;
use crate::sync::{Mutex, locked};

#[derive(Debug, Default)]
pub(crate) struct Additions {
    jobs: Mutex<Vec<QueueJobs>>,
    notes: Mutex<Vec<Note>>,
}

impl Additions {
    /// `at` is since the cause.
    pub(crate) fn note(&self, at: Duration, text: String) {
        let mut notes = locked(&self.notes);
        if notes.len() < NOTES_MOST {
            notes.push(Note { at, text });
        }
    }

    /// Keeps the last word of each worker about its queue.
    pub(crate) fn jobs_of(&self, of: QueueJobs) {
        let mut jobs = locked(&self.jobs);
        jobs.retain(|other| (&other.queue, other.teller) != (&of.queue, of.teller));
        jobs.push(of);
    }

    /// One for each queue: what its workers have said, added up.
    pub(crate) fn jobs(&self) -> Vec<QueueJobs> {
        let mut all: Vec<QueueJobs> = Vec::new();
        for jobs in &*locked(&self.jobs) {
            match all.iter_mut().find(|other| other.queue == jobs.queue) {
                Some(other) => other.add(jobs),
                None => all.push(QueueJobs { teller: 0, ..jobs.clone() }),
            }
        }
        all
    }

    pub(crate) fn notes(&self) -> Vec<Note> {
        locked(&self.notes).clone()
    }
}

/// A report is for people: beyond this many notes nobody reads.
const NOTES_MOST: usize = 100;
