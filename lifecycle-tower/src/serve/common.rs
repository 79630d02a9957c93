//! What all connections of one server share.

use lifecycle::{Gate, Handle};
use tokio::time::Instant;

use crate::service::Names;
use crate::spread::CloseSpread;

/// What all connections of one server share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) handle: Handle,
    pub(crate) requests: Gate,
    pub(crate) names: Names,
    pub(crate) close_spread: CloseSpread,
}

impl Common {
    /// Whether a response on a connection that is old from then on tells its client to leave.
    pub(crate) fn tells_to_leave(&self, old_at: Option<Instant>) -> bool {
        self.close_spread.tells(&self.handle) || old_at.is_some_and(|at| at <= Instant::now())
    }
}
