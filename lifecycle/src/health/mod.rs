//! What is known of the process' health: checks, heartbeats, and whether the start is over.
//!
//! Not here: phases and policy (`readiness`), who asks (`probe`).

mod board;
mod check;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

pub use self::board::{CheckKind, CheckState, CheckStatus};
pub use self::check::Check;

use self::board::{Entry, Found};
pub(crate) use self::check::Checks;
pub(crate) use self::watchdog::{Heart, Heartbeat, Pulse};
use crate::sync::{AtomicBool, Mutex, Ordering, locked};
use crate::telemetry;

#[derive(Debug)]
pub(crate) struct Health {
    entries: Mutex<Vec<Entry>>,
    hearts: Mutex<Vec<Arc<Heart>>>,
    /// Something has changed that readiness may hang on.
    changed: Notify,
    /// The start goes on in the background until somebody says that it is over.
    warming_up: AtomicBool,
}

/// One line of a probe's list.
#[cfg(feature = "probes")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) met: bool,
    pub(crate) informational: bool,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            entries: Mutex::new(Vec::new()),
            hearts: Mutex::new(Vec::new()),
            changed: Notify::new(),
            warming_up: AtomicBool::new(false),
        }
    }

    pub(crate) fn add(&self, entry: Entry) {
        locked(&self.entries).push(entry);
    }

    /// Notes what the check at that position has found.
    pub(crate) fn note(&self, position: usize, found: Found, took: Duration, now_ms: u64) {
        let flip = {
            let mut entries = locked(&self.entries);
            let Some(entry) = entries.get_mut(position) else { return };
            let flip = entry.note(found, took, now_ms);
            flip.map(|flip| (flip, entry.status(now_ms)))
        };
        if let Some((flip, status)) = flip {
            telemetry::check_changed(&status, flip.from, flip.to);
            self.changed.notify_one();
        }
    }

    /// Waits until readiness may have changed.
    ///
    /// # Cancel safety
    /// Cancel safe: a change that was not seen is seen by the next call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Has the coordinator look at everything again.
    pub(crate) fn look_again(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn warm_up(&self) {
        // Ordering: Relaxed, a hint that publishes nothing.
        self.warming_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn startup_done(&self) {
        // Ordering: Relaxed, as above.
        self.warming_up.store(false, Ordering::Relaxed);
        self.changed.notify_one();
    }

    pub(crate) fn is_warming_up(&self) -> bool {
        // Ordering: Relaxed, as above.
        self.warming_up.load(Ordering::Relaxed)
    }

    pub(crate) fn add_heart(&self, heart: Heart) -> Arc<Heart> {
        let heart = Arc::new(heart);
        locked(&self.hearts).push(Arc::clone(&heart));
        heart
    }

    pub(crate) fn hearts(&self) -> Vec<Arc<Heart>> {
        locked(&self.hearts).clone()
    }

    /// Says which hearts have stalled or recovered since the last look.
    pub(crate) fn look(&self, now_ms: u64) {
        for heart in self.hearts() {
            if let Some(pulse) = heart.pulse(now_ms) {
                telemetry::heart_changed(
                    heart.name(),
                    pulse,
                    heart.silent_for(now_ms),
                    heart.limit(),
                );
            }
        }
    }

    /// How often to look: a stall is said within one and a half of its limit. `None` without
    /// hearts, so that nothing wakes for none.
    pub(crate) fn look_every(&self) -> Option<Duration> {
        let least = self.hearts().iter().map(|heart| heart.limit()).min()?;
        Some((least / 2).max(LOOK_LEAST))
    }

    /// Whether every check of that kind lets its probe pass.
    pub(crate) fn allows(&self, kind: CheckKind) -> bool {
        locked(&self.entries).iter().filter(|entry| entry.kind() == kind).all(Entry::allows)
    }

    /// The checks of that kind, for a probe's list.
    #[cfg(feature = "probes")]
    pub(crate) fn items(&self, kind: CheckKind) -> Vec<Item> {
        let entries = locked(&self.entries);
        let of_kind = entries.iter().filter(|entry| entry.kind() == kind);
        of_kind
            .map(|entry| Item {
                name: entry.name().to_owned(),
                met: entry.is_met(),
                informational: !entry.is_met() && entry.allows(),
            })
            .collect()
    }

    pub(crate) fn statuses(&self, now_ms: u64) -> Vec<CheckStatus> {
        locked(&self.entries).iter().map(|entry| entry.status(now_ms)).collect()
    }
}

const LOOK_LEAST: Duration = Duration::from_millis(10);
