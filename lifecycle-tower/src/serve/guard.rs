//! One request of a connection in flight, and who keeps it so.
//!
//! # Invariants
//! 1. HTTP/2: a flight does not end before the end of its response was given to the protocol.
//! 2. Only a response that has ended is owed: nobody waits for the rest of one that was reset.

use std::fmt;
use std::sync::Arc;

use lifecycle::{InFlight, Stage};

use super::common::Common;
use super::state::ConnState;
use crate::sync::{AtomicBool, Ordering};

/// One request of a connection in flight.
pub(crate) struct RequestGuard {
    guard: Option<InFlight>,
    conn: Arc<ConnState>,
    held_by: HeldBy,
    /// HTTP/2: the end of the response is with the protocol.
    ended: AtomicBool,
    /// HTTP/2: data of the response was thrown away.
    discarded: AtomicBool,
}

/// Who keeps a response's last bytes between the body's end and the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeldBy {
    /// HTTP/1: the connection's write buffer, seen to be empty by its task.
    Connection,
    /// HTTP/2: the stream's own buffers, which hold the guard with the data.
    Data,
    /// HTTP/2: nobody any more, the last of the data went into the connection's buffers.
    Buffer,
}

impl RequestGuard {
    /// A request whose head is complete; `flights` counts it already.
    pub(crate) fn new(guard: InFlight, conn: Arc<ConnState>, held_by: HeldBy) -> Self {
        let (ended, discarded) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { guard: Some(guard), conn, held_by, ended, discarded }
    }

    pub(crate) fn common(&self) -> &Common {
        self.conn.common()
    }

    /// Whether the response that is made now tells its client to leave.
    pub(crate) fn tells_to_leave(&self) -> bool {
        self.conn.tells_to_leave()
    }

    /// The drain ends the response's stream.
    pub(crate) fn end_stream(&self) {
        if self.held_by == HeldBy::Connection {
            self.conn.set_stream_ended();
        }
    }

    pub(crate) fn set_stage(&self, stage: Stage) {
        if let Some(guard) = &self.guard {
            guard.set_stage(stage);
        }
    }

    /// HTTP/2: the end of the response is with the protocol, perhaps behind data that is not yet.
    pub(crate) fn set_ended(&self) {
        // Ordering: Relaxed, read by who drops the last reference, after all others.
        self.ended.store(true, Ordering::Relaxed);
    }

    /// HTTP/2: what is left of its data was thrown away.
    pub(crate) fn set_discarded(&self) {
        // Ordering: Relaxed, as in `set_ended`.
        self.discarded.store(true, Ordering::Relaxed);
    }

    /// HTTP/2: the last of its data is with the connection's own buffers.
    pub(crate) fn end_in_buffer(mut self) {
        debug_assert_eq!(
            self.held_by,
            HeldBy::Data,
            "HTTP/1 has one buffer, which its task watches"
        );
        self.held_by = HeldBy::Buffer;
    }

    /// An HTTP/1 connection becomes another protocol's: in flight until the socket is
    /// dropped.
    pub(crate) fn upgrade(mut self) {
        debug_assert_eq!(self.held_by, HeldBy::Connection, "HTTP/2 upgrades one stream only");
        if let Some(guard) = self.guard.take() {
            self.conn.hold(guard);
        }
        self.conn.set_upgraded();
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        match self.held_by {
            HeldBy::Connection => {
                self.conn.http1_end();
                if let Some(guard) = self.guard.take() {
                    self.conn.hold(guard);
                }
            }
            // Ordering: Relaxed, as in `set_ended`.
            _ if self.discarded.load(Ordering::Relaxed) => {}
            HeldBy::Data if self.ended.load(Ordering::Relaxed) => self.conn.set_tail(),
            HeldBy::Data => {}
            HeldBy::Buffer => self.conn.set_buffered(),
        }
        self.conn.end_flight();
    }
}

impl fmt::Debug for RequestGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestGuard").field("held_by", &self.held_by).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use super::*;

    fn guard(conn: &Arc<ConnState>) -> RequestGuard {
        conn.http2_head();
        let guard = conn.common().requests.enter_unnamed().expect("open");
        RequestGuard::new(guard, Arc::clone(conn), HeldBy::Data)
    }

    #[tokio::test]
    async fn only_what_has_ended_is_owed() {
        let conn = Arc::new(ConnState::of_nobody());
        drop(guard(&conn));
        assert!(!conn.take_tail() && !conn.take_buffered(), "reset, or never answered");
        let ended = guard(&conn);
        ended.set_ended();
        drop(ended);
        assert!(conn.take_tail() && !conn.take_buffered());
        guard(&conn).end_in_buffer();
        assert!(!conn.take_tail() && conn.take_buffered());
        let reset = guard(&conn);
        reset.set_ended();
        reset.set_discarded();
        drop(reset);
        assert!(!conn.take_tail() && !conn.take_buffered(), "its data was thrown away");
        assert_eq!(conn.flights().count(), 0);
    }
}
