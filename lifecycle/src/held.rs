//! What holds a shutdown beside the gates: tasks, the hook that runs, a `main` that has not
//! reached `run`. The coordinator alone knows; here it says so, for those who are asked.
//!
//! Not here: what is in flight (`in_flight`).

#[cfg(feature = "probes")]
use std::time::Duration;

use crate::blockers::Blocker;
use crate::sync::{Mutex, locked};

/// The last word of the coordinator, and when it was said.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<(u64, Vec<Blocker>)>);

impl Held {
    pub(crate) fn set(&self, held: Vec<Blocker>, now_ms: u64) {
        *locked(&self.0) = (now_ms, held);
    }

    /// Beside those of the gates, the oldest first; all as old as they are by now.
    #[cfg(feature = "probes")]
    pub(crate) fn beside(&self, mut all: Vec<Blocker>, now_ms: u64) -> Vec<Blocker> {
        let (noted_ms, held) = locked(&self.0).clone();
        let ago = Duration::from_millis(now_ms.saturating_sub(noted_ms));
        all.extend(held.into_iter().map(|one| Blocker { age: one.age + ago, ..one }));
        all.sort_by_key(|blocker| std::cmp::Reverse(blocker.age));
        all
    }
}
