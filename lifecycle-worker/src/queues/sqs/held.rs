//! What this process has claimed, and until when: the fence that SQS does not have.
//!
//! SQS deletes a message by an old receipt handle too. So a claim is settled only while its
//! lease lasts by this process' clock, counted from before the request that took it: nobody
//! else can have it then.
//!
//! # Invariants
//! 1. A claim is settled once: what is settled is forgotten.
//! 2. What has ended is forgotten at the next claim.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::message::Content;
use super::{LONGEST, SECOND};
use crate::claimed::{JobId, Receipt};
use crate::sync::locked;

/// One claim.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) id: JobId,
    pub(super) handle: String,
    pub(super) content: Arc<Content>,
    pub(super) attempt: u32,
    /// A FIFO queue's.
    pub(super) group: Option<String>,
    /// From before the request that took it.
    pub(super) received: Instant,
    pub(super) ends: Instant,
}

impl Claim {
    /// The longest that it can be hidden from now on: SQS counts from the receive. A second is for
    /// the way, and one since times are rounded up.
    pub(super) fn longest_delay(&self) -> Duration {
        LONGEST.saturating_sub(self.received.elapsed() + 2 * SECOND)
    }
}

/// All claims that last, by their handles.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<String, Claim>>);

impl Held {
    pub(super) fn take(&self, claims: impl IntoIterator<Item = Claim>) {
        let mut held = locked(&self.0);
        let now = Instant::now();
        held.retain(|_, claim| claim.ends > now);
        held.extend(claims.into_iter().map(|claim| (claim.handle.clone(), claim)));
    }

    /// The claim of that receipt, if it is held and lasts for a moment.
    pub(super) fn claim(&self, receipt: &Receipt) -> Option<Claim> {
        let handle = receipt.text()?;
        let claim = locked(&self.0).get(handle).cloned()?;
        (claim.id == *receipt.id() && claim.ends > Instant::now() + MARGIN).then_some(claim)
    }

    pub(super) fn extended(&self, handle: &str, ends: Instant) {
        if let Some(claim) = locked(&self.0).get_mut(handle) {
            claim.ends = ends;
        }
    }

    pub(super) fn forget(&self, handle: &str) {
        locked(&self.0).remove(handle);
    }
}

/// A request that is sent later than this before the end may arrive after it.
const MARGIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(handle: &str, lasts: Duration) -> Claim {
        let content = Content { body: "x".into(), attributes: Default::default() };
        Claim {
            id: JobId::new("1"),
            handle: handle.to_owned(),
            content: Arc::new(content),
            attempt: 1,
            group: None,
            received: Instant::now(),
            ends: Instant::now() + lasts,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_good_until_its_end_and_once() {
        let held = Held::default();
        held.take([claim("a", Duration::from_secs(1)), claim("b", Duration::from_secs(1))]);
        let receipt = |handle: &str| Receipt::new(JobId::new("1"), 1).with_text(handle);
        assert!(held.claim(&receipt("a")).is_some());
        assert!(held.claim(&receipt("c")).is_none());
        assert!(held.claim(&Receipt::new(JobId::new("2"), 1).with_text("a")).is_none());
        assert!(held.claim(&Receipt::new(JobId::new("1"), 1)).is_none());
        held.extended("a", Instant::now() + Duration::from_secs(3));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(held.claim(&receipt("a")).is_some());
        assert!(held.claim(&receipt("b")).is_none(), "its lease has ended");
        held.forget("a");
        assert!(held.claim(&receipt("a")).is_none());
        held.take([]);
        assert!(locked(&held.0).is_empty());
    }
}
