//! The jobs of this identity, each with the subject that settles it and the end of its lease.
//!
//! The server takes an acknowledgement of any delivery for the newest: it does not fence. So
//! what is said of a claim goes out only while its lease lasts by this process' clock, with some
//! time to spare, and nothing is said twice that could meet another delivery.
//!
//! # Invariants
//! 1. A claim whose lease has ended here is lost here, whatever the server thinks.
//! 2. A return whose answer did not come is not repeated, unless nobody has heard it: the job may
//!    be somebody else's by then.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use tokio::time::Instant;

use super::message::Content;
use crate::claimed::{JobId, Receipt};

/// One claim.
#[derive(Clone)]
pub(super) struct Entry {
    /// Where to say what becomes of it.
    pub(super) reply: Subject,
    pub(super) content: Content,
    pub(super) attempt: u32,
    ends: Instant,
}

/// All jobs of this identity.
#[derive(Default)]
pub(super) struct Held {
    entries: Mutex<HashMap<(JobId, u64), Entry>>,
}

impl Held {
    pub(super) fn add(
        &self,
        receipt: &Receipt,
        reply: Subject,
        content: Content,
        attempt: u32,
        ends: Instant,
    ) {
        let mut entries = self.entries();
        if entries.len() >= SWEEP_FROM {
            let now = Instant::now();
            entries.retain(|_, entry| entry.ends > now);
        }
        entries.insert(key(receipt), Entry { reply, content, attempt, ends });
    }

    /// The claim, if it is ours and stays so long enough to say something of it.
    pub(super) fn get(&self, receipt: &Receipt) -> Option<Entry> {
        let mut entries = self.entries();
        let key = key(receipt);
        if entries.get(&key)?.ends <= Instant::now() + SPARE {
            entries.remove(&key);
            return None;
        }
        entries.get(&key).cloned()
    }

    pub(super) fn extended(&self, receipt: &Receipt, ends: Instant) {
        if let Some(entry) = self.entries().get_mut(&key(receipt)) {
            entry.ends = ends;
        }
    }

    /// As it was before it was removed.
    pub(super) fn keep(&self, receipt: &Receipt, entry: Entry) {
        self.entries().insert(key(receipt), entry);
    }

    pub(super) fn remove(&self, receipt: &Receipt) {
        self.entries().remove(&key(receipt));
    }

    pub(super) fn clear(&self) {
        self.entries().clear();
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<(JobId, u64), Entry>> {
        // Nothing here can panic halfway.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(receipt: &Receipt) -> (JobId, u64) {
    (receipt.id().clone(), receipt.number())
}

/// What is said may be so long on its way before the lease ends.
const SPARE: Duration = Duration::from_millis(50);
/// With that many claims those that nobody has settled are looked for.
const SWEEP_FROM: usize = 10_000;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_lost_shortly_before_its_lease_ends() {
        let held = Held::default();
        let receipt = Receipt::new(JobId::new("1"), 1);
        let ends = Instant::now() + Duration::from_secs(1);
        let content = Content::read(None, Bytes::new(), 1);
        held.add(&receipt, "reply".into(), content, 1, ends);
        assert!(held.get(&Receipt::new(JobId::new("1"), 2)).is_none());
        assert!(held.get(&receipt).is_some());
        tokio::time::advance(Duration::from_millis(960)).await;
        assert!(held.get(&receipt).is_none());
        held.extended(&receipt, ends + SPARE * 9);
        assert!(held.get(&receipt).is_none(), "lost for good");
    }
}
