//! The jobs that hang on this identity's channel, each with what it takes to write it again.
//!
//! Not here: what is said to the broker.
//!
//! # Invariants
//! 1. A delivery tag is acknowledged once: the broker ends a channel on which it hears one twice.
//! 2. A job whose line is down is not ours any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

use super::fault::Fault;
use super::link::Line;
use super::message::Content;
use super::topology::To;
use crate::claimed::Receipt;

/// What became of a job that was settled.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Done,
    Failed(Fault),
    Lost,
}

/// The outcomes of one batch, once they are known; `None` when nobody will tell.
pub(super) type Outcomes = Shared<BoxFuture<'static, Option<Arc<[Outcome]>>>>;

/// A job on its way: copied to where it belongs, if anywhere, and then acknowledged.
pub(super) struct Move {
    pub(super) number: u64,
    pub(super) line: Arc<Line>,
    pub(super) tag: u64,
    pub(super) copy: Option<(To, Content)>,
}

struct Entry {
    line: Arc<Line>,
    tag: u64,
    content: Content,
    /// Being settled: as which one of a batch.
    settling: Option<(Outcomes, usize)>,
}

impl Entry {
    fn is_of(&self, receipt: &Receipt, owner: &str) -> bool {
        receipt.text() == Some(owner) && self.line.is_up() && self.content.id == *receipt.id()
    }
}

/// What is to be told about one receipt.
pub(super) enum Answer {
    Lost,
    Later(Outcomes, usize),
}

/// All jobs of this identity.
#[derive(Default)]
pub(super) struct Held {
    entries: Mutex<HashMap<u64, Entry>>,
}

impl Held {
    /// Takes what was delivered with that tag; its claim's number.
    pub(super) fn add(&self, line: &Arc<Line>, tag: u64, content: Content) -> u64 {
        let number = number(line.number, tag);
        let mut entries = self.entries();
        if entries.values().next().is_some_and(|entry| entry.line.number != line.number) {
            entries.retain(|_, entry| entry.line.is_up());
        }
        let line = Arc::clone(line);
        entries.insert(number, Entry { line, tag, content, settling: None });
        number
    }

    /// Whether that claim's line is up: nobody else can have the job.
    pub(super) fn is_ours(&self, receipt: &Receipt, owner: &str) -> bool {
        let entries = self.entries();
        entries.get(&receipt.number()).is_some_and(|entry| entry.is_of(receipt, owner))
    }

    /// Begins to settle those of the receipts that are ours and are not being settled already.
    pub(super) fn begin<T>(
        &self,
        jobs: &[T],
        owner: &str,
        receipt: impl Fn(&T) -> &Receipt,
        plan: impl Fn(&T, &Content) -> Option<(To, Content)>,
    ) -> Batch {
        let (tell, told) = oneshot::channel();
        let outcomes = told.map(Result::ok).boxed().shared();
        let (mut moves, mut answers) = (Vec::new(), Vec::with_capacity(jobs.len()));
        let mut entries = self.entries();
        for job in jobs {
            let receipt = receipt(job);
            let number = receipt.number();
            let entry = entries.get_mut(&number).filter(|entry| entry.is_of(receipt, owner));
            let Some(entry) = entry else {
                answers.push(Answer::Lost);
                continue;
            };
            let (outcomes, at) = entry.settling.get_or_insert_with(|| {
                let (line, copy) = (Arc::clone(&entry.line), plan(job, &entry.content));
                moves.push(Move { number, line, tag: entry.tag, copy });
                (outcomes.clone(), moves.len() - 1)
            });
            answers.push(Answer::Later(outcomes.clone(), *at));
        }
        Batch { moves, answers, tell }
    }

    /// Forgets what is settled or lost; the others can be settled again.
    pub(super) fn end(&self, outcomes: impl IntoIterator<Item = (u64, Outcome)>) {
        let mut entries = self.entries();
        for (number, outcome) in outcomes {
            match outcome {
                Outcome::Done | Outcome::Lost => drop(entries.remove(&number)),
                Outcome::Failed(_) => {
                    if let Some(entry) = entries.get_mut(&number) {
                        entry.settling = None;
                    }
                }
            }
        }
    }

    pub(super) fn clear(&self) {
        self.entries().clear();
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        // Nothing here can panic halfway.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has been begun together.
pub(super) struct Batch {
    pub(super) moves: Vec<Move>,
    pub(super) answers: Vec<Answer>,
    pub(super) tell: oneshot::Sender<Arc<[Outcome]>>,
}

/// A claim's number: of the opening, and of the delivery on its channel.
fn number(opening: u64, tag: u64) -> u64 {
    (opening << TAG_BITS) | (tag & ((1 << TAG_BITS) - 1))
}

/// A million deliveries a second for two weeks, and 16 million openings.
const TAG_BITS: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_another_opening_is_another_number() {
        assert_ne!(number(1, 1), number(2, 1));
        assert!(number(2, 1) > number(1, 1 << 39));
        assert_eq!(number(3, 7) >> TAG_BITS, 3);
    }
}
