//! What a connection's task, its IO object and its requests know in common.
//!
//! All but `flights`, `task` and how HTTP/2 responses have ended is written and read by the
//! connection's own task (until an upgrade hands the IO object to another); it is atomic only
//! because the three live apart.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use lifecycle::InFlight;
use tokio::time::Instant;

use super::common::Common;
use super::flights::Flights;
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, Ordering};

pub(crate) struct ConnState {
    /// By way of its connection, so that a request counts no reference that all threads share.
    common: Arc<Common>,
    /// From then on its client is told to leave.
    old_at: Option<Instant>,
    flights: Flights,
    /// The connection's task, which has one waker all its life.
    task: OnceLock<Waker>,
    /// Bytes read since the last complete request head; of an HTTP/1 connection without a
    /// request, of the next head.
    since_head: AtomicU64,
    /// Those of them that came with the request before: a space too many in its head, perhaps.
    came_along: AtomicU64,
    /// Bytes of the request's body that were not read with its head; `UNKNOWN` if chunked.
    body_left: AtomicU64,
    /// A byte was read or written since last asked.
    active: AtomicBool,
    /// The socket takes no more for now, so a response is not wholly sent.
    write_blocked: AtomicBool,
    /// The IO object itself (a TLS session) keeps bytes that the socket does not take.
    unsent: AtomicBool,
    /// HTTP/2: a response has ended, and its last bytes may be on their way to the connection's
    /// buffers.
    tail: AtomicBool,
    /// HTTP/2: a response has ended whose last bytes went into the connection's buffers.
    buffered: AtomicBool,
    /// Closed by the rule, with nothing cut.
    leaving: AtomicBool,
    /// After the last response, read on until the client closes.
    linger: AtomicBool,
    lingering: AtomicBool,
    /// The last response was a stream that the drain ended.
    stream_ended: AtomicBool,
    upgraded: AtomicBool,
    look: AtomicU8,
    /// The guard of a response whose last bytes are on their way to the socket, or of the
    /// request that was upgraded.
    held: Mutex<Option<InFlight>>,
    /// There may be one, so that a connection without does not take the lock at every poll.
    holds: AtomicBool,
}

/// What a last look at the socket found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing is waiting to be read.
    Empty,
    /// Bytes are waiting.
    Unread,
}

impl ConnState {
    pub(crate) fn new(common: Arc<Common>, old_at: Option<Instant>) -> Self {
        Self {
            common,
            old_at,
            flights: Flights::new(),
            task: OnceLock::new(),
            since_head: AtomicU64::new(0),
            came_along: AtomicU64::new(0),
            body_left: AtomicU64::new(0),
            active: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
            tail: AtomicBool::new(false),
            buffered: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            linger: AtomicBool::new(false),
            lingering: AtomicBool::new(false),
            stream_ended: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            look: AtomicU8::new(LOOK_NONE),
            held: Mutex::new(None),
            holds: AtomicBool::new(false),
        }
    }

    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    /// Whether a response that is made now tells its client to leave.
    pub(crate) fn tells_to_leave(&self) -> bool {
        self.common.tells_to_leave(self.old_at)
    }

    pub(crate) fn flights(&self) -> &Flights {
        &self.flights
    }

    /// Makes the connection's task known to who ends a flight.
    pub(crate) fn set_task(&self, waker: &Waker) {
        let task = self.task.get_or_init(|| waker.clone());
        debug_assert!(task.will_wake(waker), "the connection is the whole of its task");
    }

    /// Ends the flight of a request.
    pub(crate) fn end_flight(&self) {
        if self.flights.end()
            && let Some(task) = self.task.get()
        {
            task.wake_by_ref();
        }
    }

    /// The head of an HTTP/1 request is complete: about `head` bytes, with a body of that
    /// length to follow (`None` if it does not say).
    pub(crate) fn http1_head(&self, head: u64, body: Option<u64>) {
        // Ordering: Relaxed throughout this file, one task (see the top).
        let with_head = self.since_head.load(Ordering::Relaxed).saturating_sub(head);
        // If they were no part of this head either, they were of the one before.
        let came_along = self.came_along.load(Ordering::Relaxed);
        let with_head = with_head.checked_sub(came_along).unwrap_or(with_head);
        // What was read beyond the body is the next request's.
        let left = body.map_or(UNKNOWN, |body| body.saturating_sub(with_head));
        let ahead = body.map_or(0, |body| with_head.saturating_sub(body));
        // Ordering: Relaxed, as above.
        self.body_left.store(left, Ordering::Relaxed);
        self.since_head.store(ahead, Ordering::Relaxed);
        self.stream_ended.store(false, Ordering::Relaxed);
        self.flights.begin();
    }

    /// The head of an HTTP/2 request is complete.
    pub(crate) fn http2_head(&self) {
        // Ordering: Relaxed, one task. An HTTP/2 client answers our close with its own.
        self.linger.store(true, Ordering::Relaxed);
        self.flights.begin();
    }

    /// The response of an HTTP/1 request is complete.
    pub(crate) fn http1_end(&self) {
        // Ordering: Relaxed, one task.
        let read = self.since_head.load(Ordering::Relaxed);
        let left = self.body_left.load(Ordering::Relaxed);
        // A body that was not wholly read, or a client that sends ahead: more is on its way,
        // and closing on it would reset the response.
        self.linger.store(read != left, Ordering::Relaxed);
        // Ordering: Relaxed, one task. Nothing, if it is not known how much was to come.
        let next = read.saturating_sub(left);
        self.since_head.store(next, Ordering::Relaxed);
        self.came_along.store(next, Ordering::Relaxed);
    }

    pub(crate) fn set_stream_ended(&self) {
        // Ordering: Relaxed, one task.
        self.stream_ended.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stream_ended(&self) -> bool {
        // Ordering: Relaxed, one task.
        self.stream_ended.load(Ordering::Relaxed)
    }

    pub(crate) fn read(&self, bytes: usize) {
        // Ordering: Relaxed, one task; a load and a store, no read-modify-write needed.
        let before = self.since_head.load(Ordering::Relaxed);
        self.since_head.store(before + bytes as u64, Ordering::Relaxed);
        self.active.store(true, Ordering::Relaxed);
    }

    pub(crate) fn wrote(&self) {
        // Ordering: Relaxed, one task.
        self.active.store(true, Ordering::Relaxed);
        self.write_blocked.store(false, Ordering::Relaxed);
    }

    pub(crate) fn set_write_blocked(&self) {
        // Ordering: Relaxed, one task.
        self.write_blocked.store(true, Ordering::Relaxed);
    }

    /// Whether written bytes are anywhere but with the socket.
    pub(crate) fn is_write_blocked(&self) -> bool {
        // Ordering: Relaxed, one task.
        self.write_blocked.load(Ordering::Relaxed) || self.is_unsent()
    }

    pub(crate) fn set_unsent(&self) {
        // Ordering: Relaxed, one task.
        self.unsent.store(true, Ordering::Relaxed);
    }

    fn is_unsent(&self) -> bool {
        // Ordering: Relaxed, one task.
        self.unsent.load(Ordering::Relaxed)
    }

    /// HTTP/2: whether a response has ended since this was last taken. What it left behind is
    /// with the protocol by then, so the next drive of that has sent it, or is blocked.
    pub(crate) fn take_tail(&self) -> bool {
        let tail = self.has_tail();
        if tail {
            // Ordering: Relaxed, one after this load is for the next to take, at worst for nothing.
            self.tail.store(false, Ordering::Relaxed);
        }
        tail
    }

    /// HTTP/2: the same of one whose end went into the buffers, to be asked behind the drive that
    /// sent them, or was blocked.
    pub(crate) fn take_buffered(&self) -> bool {
        // Ordering: Relaxed, as in `take_tail`.
        let buffered = self.buffered.load(Ordering::Relaxed);
        if buffered {
            self.buffered.store(false, Ordering::Relaxed);
        }
        buffered
    }

    /// HTTP/2: a response has ended, to be told before its flight does.
    pub(crate) fn set_tail(&self) {
        // Ordering: Relaxed, the end of the flight publishes it.
        self.tail.store(true, Ordering::Relaxed);
    }

    /// The same of one whose last bytes are in the connection's buffers.
    pub(crate) fn set_buffered(&self) {
        // Ordering: Relaxed, as in `set_tail`.
        self.buffered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_tail(&self) -> bool {
        // Ordering: Relaxed, another task's mark is seen with the end of its flight.
        self.tail.load(Ordering::Relaxed)
    }

    /// The IO object has given all that it had to the socket.
    pub(crate) fn all_sent(&self) {
        if self.is_unsent() {
            // Ordering: Relaxed, one task.
            self.unsent.store(false, Ordering::Relaxed);
            self.active.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_leaving(&self) {
        // Ordering: Relaxed, one task.
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        // Ordering: Relaxed, one task.
        self.leaving.load(Ordering::Relaxed)
    }

    /// Whether a head has begun since the last response.
    pub(crate) fn has_part_of_a_head(&self) -> bool {
        // Ordering: Relaxed, one task.
        self.since_head.load(Ordering::Relaxed) > self.came_along.load(Ordering::Relaxed)
    }

    /// The same, what came with the request before included.
    pub(crate) fn has_read_ahead(&self) -> bool {
        // Ordering: Relaxed, one task.
        self.since_head.load(Ordering::Relaxed) > 0
    }

    /// Whether a byte has moved since the last time this was asked.
    pub(crate) fn take_active(&self) -> bool {
        // Ordering: Relaxed, one task.
        let active = self.active.load(Ordering::Relaxed);
        if active {
            self.active.store(false, Ordering::Relaxed);
        }
        active
    }

    pub(crate) fn wants_linger(&self) -> bool {
        // Ordering: Relaxed, one task.
        self.linger.load(Ordering::Relaxed)
    }

    pub(crate) fn set_lingering(&self) {
        // Ordering: Relaxed, one task.
        self.lingering.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_lingering(&self) -> bool {
        // Ordering: Relaxed, one task.
        self.lingering.load(Ordering::Relaxed)
    }

    /// An HTTP/1 connection becomes another protocol's.
    pub(crate) fn set_upgraded(&self) {
        // Ordering: Relaxed, as in `is_upgraded`.
        self.upgraded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        // Ordering: Relaxed, set by the task that then hands the IO object over.
        self.upgraded.load(Ordering::Relaxed)
    }

    /// Asks the IO object to look at the socket itself when it is next read.
    pub(crate) fn ask_for_a_look(&self) {
        // Ordering: Relaxed, one task.
        self.look.store(LOOK_ASKED, Ordering::Relaxed);
    }

    pub(crate) fn looks(&self) -> bool {
        // Ordering: Relaxed, one task.
        self.look.load(Ordering::Relaxed) == LOOK_ASKED
    }

    pub(crate) fn looked(&self, unread: bool) {
        let found = if unread { LOOK_UNREAD } else { LOOK_EMPTY };
        // Ordering: Relaxed, one task.
        self.look.store(found, Ordering::Relaxed);
    }

    /// What the look found; `None` when nothing was read at all.
    pub(crate) fn take_look(&self) -> Option<Look> {
        // Ordering: Relaxed, one task.
        let look = self.look.load(Ordering::Relaxed);
        self.look.store(LOOK_NONE, Ordering::Relaxed);
        match look {
            LOOK_EMPTY => Some(Look::Empty),
            LOOK_UNREAD => Some(Look::Unread),
            _ => None,
        }
    }

    /// Keeps the guard of a response until its last bytes are with the socket.
    pub(crate) fn hold(&self, guard: InFlight) {
        // Ordering: Relaxed, one task.
        self.holds.store(true, Ordering::Relaxed);
        drop(self.swap_held(Some(guard)));
    }

    /// Lets go of a guard kept for the last bytes, once they are sent.
    pub(crate) fn flushed(&self) {
        // Ordering: Relaxed, one task.
        let holds = self.holds.load(Ordering::Relaxed);
        if holds && !self.is_write_blocked() && !self.is_upgraded() {
            // Ordering: Relaxed, one task.
            self.holds.store(false, Ordering::Relaxed);
            drop(self.swap_held(None));
        }
    }

    /// The one before is dropped by the caller, without the lock: that may wake a task.
    fn swap_held(&self, guard: Option<InFlight>) -> Option<InFlight> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut held, guard)
    }
}

impl fmt::Debug for ConnState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnState").field("flights", &self.flights).finish_non_exhaustive()
    }
}

/// A body that does not say how long it is.
const UNKNOWN: u64 = u64::MAX;

const LOOK_NONE: u8 = 0;
const LOOK_ASKED: u8 = 1;
const LOOK_EMPTY: u8 = 2;
const LOOK_UNREAD: u8 = 3;

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use lifecycle::{Kind, Lifecycle};

    use super::*;
    use crate::service::Names;
    use crate::spread::CloseSpread;

    impl ConnState {
        /// Of a connection that is not there, in a server that does not run.
        pub(crate) fn of_nobody() -> Self {
            let handle = Lifecycle::builder().build_local().expect("defaults").handle();
            let requests = handle.gate(Kind::Request);
            let (names, close_spread) = (Names::Kept, CloseSpread::AtOnce);
            Self::new(Arc::new(Common { handle, requests, names, close_spread }), None)
        }
    }

    /// One HTTP/1 request: bytes read up to its head, then after it; whether to linger at
    /// its end, and whether a part of the next head has come.
    fn request(first: usize, head: u64, body: Option<u64>, later: usize) -> (bool, bool) {
        let state = ConnState::of_nobody();
        state.read(first);
        state.http1_head(head, body);
        state.read(later);
        state.http1_end();
        assert!(state.flights.end() || state.flights.count() == 0);
        (state.wants_linger(), state.has_read_ahead())
    }

    #[tokio::test]
    async fn lingers_after_unread_bodies_and_clients_that_send_ahead_only() {
        assert_eq!(request(50, 50, Some(0), 0), (false, false), "a plain GET");
        assert_eq!(request(55, 50, Some(5), 0), (false, false), "a body in the head's segment");
        assert_eq!(request(50, 50, Some(5), 5), (false, false), "a body of its own segment");
        assert_eq!(request(52, 50, Some(5), 3), (false, false), "a body in two");
        assert_eq!(request(50, 50, Some(5), 3), (true, false), "a body not wholly read");
        assert_eq!(request(70, 50, Some(0), 0), (true, true), "half a head behind a GET");
        assert_eq!(request(55, 50, Some(5), 9), (true, true), "half a head behind a POST");
        assert_eq!(request(50, 50, None, 99), (true, false), "chunked: nobody knows");
        assert_eq!(request(48, 50, Some(0), 0), (false, false), "a head without spaces");
    }

    #[tokio::test]
    async fn a_byte_too_many_with_a_head_is_no_part_of_the_next() {
        let state = ConnState::of_nobody();
        for _ in 0..1000 {
            state.read(51);
            assert!(state.has_part_of_a_head());
            state.http1_head(50, Some(0));
            state.http1_end();
            assert!(state.flights.end() || state.flights.count() == 0);
            assert!(state.has_read_ahead() && !state.has_part_of_a_head());
        }
        // Not added up: a body is still known to have come whole.
        state.read(51);
        state.http1_head(50, Some(500));
        assert_eq!(state.body_left.load(Ordering::Relaxed), 499);
    }

    #[tokio::test]
    async fn requests_that_were_sent_ahead_are_each_told_apart() {
        let state = ConnState::of_nobody();
        state.read(90);
        for left in [60, 30, 0] {
            state.http1_head(30, Some(0));
            assert_eq!(state.since_head.load(Ordering::Relaxed), left);
            state.http1_end();
            assert!(state.flights.end() || state.flights.count() == 0);
        }
    }
}
