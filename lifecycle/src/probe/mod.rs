//! The probes: `/livez`, `/readyz`, `/startupz` and what an operator looks at, from what is
//! known; no request waits for a check.
//!
//! # Invariants
//! 1. `/livez` does not fall because of a drain.

mod ask;
mod page;
mod render;
mod server;
mod service;
mod setup;
mod status;

pub(crate) use self::server::Server;
pub use self::service::{ProbeFuture, Probes};

use self::ask::Probe;
use self::server::bind;
use crate::blockers::Blocker;
use crate::health::{CheckKind, Item};
use crate::shared::Shared;

/// All that a shutdown waits for: work, and components and hooks as well.
fn waited_for(shared: &Shared) -> Vec<Blocker> {
    shared.held().beside(shared.gates().blockers(), shared.clock().now_ms())
}

/// What that probe looks at, in the order of its list.
fn items(shared: &Shared, probe: Probe) -> Vec<Item> {
    let own = |name: &str, met| Item { name: name.to_owned(), met, informational: false };
    let mut items = match probe {
        Probe::Live => {
            let now_ms = shared.clock().now_ms();
            let hearts = shared.health().hearts();
            hearts.iter().map(|heart| own(heart.name(), !heart.is_stalled(now_ms))).collect()
        }
        Probe::Ready => {
            vec![own("startup", shared.is_started()), own("shutdown", shared.lets_traffic_in())]
        }
        Probe::Startup => {
            vec![own("run", shared.has_run()), own("warm-up", !shared.health().is_warming_up())]
        }
    };
    items.extend(shared.health().items(match probe {
        Probe::Live => CheckKind::Liveness,
        Probe::Ready => CheckKind::Readiness,
        Probe::Startup => CheckKind::Startup,
    }));
    if probe == Probe::Live && shared.phase().is_shutting_down() {
        // The deadline sees to what is stuck.
        items.iter_mut().for_each(|item| item.met = true);
    }
    items
}
