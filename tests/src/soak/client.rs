//! A client that always has a request under way, on a connection that it keeps.

use std::net::SocketAddr;
use std::time::Duration;

use lifecycle_drill::{Ledger, Wire};
use tokio::sync::watch;

/// Asks whoever is at that address, until there is none; never repeats a request.
pub(super) async fn client(mut address: watch::Receiver<Option<SocketAddr>>) -> Ledger {
    let mut ledger = Ledger::new();
    loop {
        let Some(server) = *address.borrow_and_update() else { return ledger };
        match Wire::connect(server, LIMIT).await {
            Ok(wire) => ask(wire, &address, &mut ledger).await,
            Err(error) => ledger.add(error.fate),
        }
    }
}

/// As long as the connection lasts.
async fn ask(mut wire: Wire, address: &watch::Receiver<Option<SocketAddr>>, ledger: &mut Ledger) {
    while address.borrow().is_some() {
        let result = wire.get("/").await;
        ledger.add(Wire::fate(&result));
        if !result.is_ok_and(|response| !response.closes()) {
            return;
        }
    }
}

/// Nothing takes that long unless it hangs.
const LIMIT: Duration = Duration::from_secs(10);
