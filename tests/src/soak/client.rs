//! A client that always has a request under way, on a connection that it keeps.

use std::net::SocketAddr;
use std::sync::Arc;

use lifecycle_drill::{Ledger, Wire};
use tokio::sync::RwLock;

use super::server::LIMIT;

/// Where the clients ask. Who connects holds it, so that nobody is still on the way to a server
/// that it does not name any more, however busy the machine is.
#[derive(Clone)]
pub(super) struct Target(Arc<RwLock<Aim>>);

/// What a target is at a moment.
#[derive(Clone, Copy)]
struct Aim {
    server: Option<SocketAddr>,
    leave: Leave,
}

/// When a client goes from the server that is the target no more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// After the request that is under way.
    AtOnce,
    /// When the server says so.
    WhenTold,
}

impl Target {
    pub(super) fn new(server: SocketAddr) -> Self {
        Self(Arc::new(RwLock::new(Aim { server: Some(server), leave: Leave::WhenTold })))
    }

    /// Nobody connects to another server when this returns.
    pub(super) async fn is_now(&self, server: Option<SocketAddr>, leave: Leave) {
        *self.0.write().await = Aim { server, leave };
    }
}

impl Aim {
    fn stays_at(self, server: SocketAddr) -> bool {
        match self.server {
            None => false,
            Some(now) => now == server || self.leave == Leave::WhenTold,
        }
    }
}

/// Asks whoever is the target, until nobody is; never repeats a request.
pub(super) async fn client(target: Target) -> Ledger {
    let mut ledger = Ledger::new();
    loop {
        let aim = target.0.read().await;
        let Some(server) = aim.server else { return ledger };
        let connected = Wire::connect(server, LIMIT).await;
        drop(aim);
        match connected {
            Ok(wire) => ask(wire, server, &target, &mut ledger).await,
            Err(error) => ledger.add(error.fate),
        }
    }
}

/// As long as the connection lasts.
async fn ask(mut wire: Wire, server: SocketAddr, target: &Target, ledger: &mut Ledger) {
    // Copied out: a lock that is held over a request would hold up the target's move.
    while { *target.0.read().await }.stays_at(server) {
        let result = wire.get("/").await;
        ledger.add(Wire::fate(&result));
        if !result.is_ok_and(|response| !response.closes()) {
            return;
        }
    }
}
