//! One GET on a connection of its own, by whichever HTTP the peer speaks: what probes do.

use std::time::Duration;

use super::{
    dial::{Alpn, Peer},
    fate::{Fate, WireError},
    h2c::H2c,
    wire::Wire,
};

/// Asks once. The limit is for each step.
pub(crate) async fn ask(peer: &Peer, path: &str, limit: Duration) -> Fate {
    // Boxed, so that the futures of those who ask stay small.
    let fate = match peer.speaks {
        Alpn::Http1 => Box::pin(by_http1(peer, path, limit)).await,
        Alpn::Http2 => Box::pin(by_http2(peer, path, limit)).await,
    };
    fate.unwrap_or_else(|error| error.fate)
}

async fn by_http1(peer: &Peer, path: &str, limit: Duration) -> Result<Fate, WireError> {
    let mut wire = Wire::open(peer, Alpn::Http1, limit).await?;
    Ok(Wire::fate(&wire.get(path).await))
}

async fn by_http2(peer: &Peer, path: &str, limit: Duration) -> Result<Fate, WireError> {
    H2c::connect(peer, limit).await?.get(path).await
}
