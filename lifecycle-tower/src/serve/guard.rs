//! One request of a connection in flight, and who keeps it so.

use std::fmt;
use std::sync::Arc;

use lifecycle::{InFlight, Stage};

use super::common::Common;
use super::state::ConnState;

/// One request of a connection in flight.
pub(crate) struct RequestGuard {
    guard: Option<InFlight>,
    conn: Arc<ConnState>,
    held_by: HeldBy,
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
        Self { guard: Some(guard), conn, held_by }
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
            HeldBy::Data => self.conn.set_tail(),
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
