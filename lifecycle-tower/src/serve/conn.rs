//! One connection: drives hyper, and closes it by the rule.
//!
//! One task a connection; it wakes for the socket, for its requests, for the next phase
//! and for one timer, never to poll.
//!
//! # Invariants
//! 1. `Conn` is the whole of its task, so its waker never changes: a wait that was polled
//!    once stays armed.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use lifecycle::{BoxError, Handle, InFlight, Phase, Reached};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep};
use tower::Service;

use super::exec::Streams;
use super::io::CountedIo;
use super::listener::Listener;
use super::opening::{Given, Opening};
use super::request::Requests;
use super::rule::{Decision, Facts, Limits, Protocol, Rule};
use super::state::{ConnState, Look};
use crate::chance::draw;

type Io<L> = TokioIo<CountedIo<L>>;
type Http1<L, S> = http1::UpgradeableConnection<Io<L>, Requests<S>>;
type Http2<L, S> = http2::Connection<Io<L>, Requests<S>, Streams>;

/// What is asked of an application, in one place.
pub(crate) trait App<B>:
    Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S, B> App<B> for S
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
}

pub(crate) struct Conn<L: Listener, S: App<B>, B: http_body::Body + Send + 'static>
where
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    proto: Proto<L, S, B>,
    state: Arc<ConnState>,
    handle: Handle,
    limits: Limits,
    rule: Rule,
    last_active: Instant,
    /// The last request's end wakes us.
    watches: bool,
    /// HTTP/2: the last bytes of a response are among what the socket does not take.
    owes_tail: bool,
    phase: Option<NextPhase>,
    timer: Option<Timer>,
}

enum Proto<L: Listener, S: App<B>, B: http_body::Body + Send + 'static>
where
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// In its handshake, or reading the first bytes.
    Opening(Box<Opening<L, S>>),
    Http1(Pin<Box<Http1<L, S>>>),
    Http2(Pin<Box<Http2<L, S>>>),
    /// Between two of the others, while one is made of another.
    Taken(std::marker::PhantomData<fn() -> B>),
}

/// The next phase that changes anything, and the wait for it.
struct NextPhase {
    phase: Phase,
    reached: Pin<Box<Reached>>,
    armed: bool,
}

struct Timer {
    sleep: Pin<Box<Sleep>>,
    at: Instant,
    armed: bool,
}

impl<L, S, B> Conn<L, S, B>
where
    L: Listener,
    S: App<B>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// `guard` and `permit` are kept until the socket is dropped.
    pub(crate) fn new(
        io: L::Io,
        peer: L::Addr,
        given: Given<L, S>,
        (guard, permit): (InFlight, Option<OwnedSemaphorePermit>),
    ) -> Self {
        let (handle, limits) = (given.common.handle.clone(), given.limits);
        let now = Instant::now();
        let old_at = limits.old_at(now, draw);
        let state = Arc::new(ConnState::new(Arc::clone(&given.common), old_at));
        let io = CountedIo::new(io, Arc::clone(&state), handle.clone(), guard, permit);
        Self {
            proto: Proto::Opening(Box::new(Opening::new(io, peer, given, now))),
            state,
            handle,
            limits,
            rule: Rule::new(old_at),
            last_active: now,
            watches: false,
            owes_tail: false,
            phase: None,
            timer: None,
        }
    }

    /// Drives the protocol, and notes whether it still owes the end of a response; ready when
    /// the connection is over.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What ends from here on is in the facts, which are looked at before we sleep.
        if std::mem::take(&mut self.watches) {
            self.state.flights().rest();
        }
        // Taken first: what ends meanwhile may be queued behind what is sent now.
        let tail = self.state.take_tail();
        if self.poll_proto(cx).is_ready() {
            return Poll::Ready(());
        }
        let tail = self.state.take_buffered() || tail;
        self.owes_tail = (self.owes_tail || tail) && self.state.is_write_blocked();
        self.state.flushed();
        Poll::Pending
    }

    fn poll_proto(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.proto {
                Proto::Opening(opening) => {
                    let found = ready!(opening.poll_protocol(cx));
                    let Proto::Opening(opening) =
                        std::mem::replace(&mut self.proto, Proto::Taken(std::marker::PhantomData))
                    else {
                        return Poll::Ready(());
                    };
                    match found {
                        Some(protocol) => self.proto = start(*opening, protocol, &self.state),
                        None => return Poll::Ready(()),
                    }
                }
                // An error is the peer's affair: it left, or it spoke nonsense and was
                // told so. What it cost is in the drain's own books.
                Proto::Http1(conn) => return conn.as_mut().poll(cx).map(drop),
                Proto::Http2(conn) => return conn.as_mut().poll(cx).map(drop),
                Proto::Taken(_) => return Poll::Ready(()),
            }
        }
    }

    /// Sees to it that the phase after `now` wakes us; ready when it has come meanwhile. Asked
    /// before a wait alone, so that what closes at the drain does not arm one more.
    fn poll_phase(&mut self, now: Phase, cx: &mut Context<'_>) -> Poll<()> {
        let next = match now {
            Phase::Closing | Phase::Stopped => return Poll::Pending,
            Phase::Cancelling => Phase::Closing,
            Phase::Draining => Phase::Cancelling,
            _ => Phase::Draining,
        };
        let phase = match &mut self.phase {
            Some(phase) if phase.phase == next => phase,
            other => {
                let reached = Box::pin(self.handle.reached(next));
                other.insert(NextPhase { phase: next, reached, armed: false })
            }
        };
        // Armed once with this task's waker, it needs no further polls until it wakes us.
        if !phase.armed {
            phase.armed = phase.reached.as_mut().poll(cx).is_pending();
        }
        if phase.armed { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Notes what has moved since it was last asked.
    fn facts(&mut self, cx: &Context<'_>) -> Facts {
        let now = Instant::now();
        if self.state.take_active() {
            self.last_active = now;
        }
        let phase = self.handle.phase();
        let protocol = match self.proto {
            Proto::Http1(_) => Protocol::Http1,
            Proto::Http2(_) => Protocol::Http2,
            _ => Protocol::Unknown,
        };
        let http2 = protocol == Protocol::Http2;
        let flights = self.state.flights();
        // The end of the last request must wake us: on HTTP/2 it comes on another task, and
        // from the drain on everything hangs on it.
        let watch = http2 || phase >= Phase::Draining;
        let in_flight = if watch {
            // Known before they are counted: an end in between wakes us.
            self.state.set_task(cx.waker());
            self.watches = true;
            flights.watch()
        } else {
            flights.count()
        };
        Facts {
            phase,
            protocol,
            // On HTTP/2 a stream holds its data until the IO object has it, but not its heads and
            // trailers; what else is unsent, such as answers to PINGs, is no request's.
            busy: in_flight > 0
                || (self.state.is_write_blocked()
                    && (!http2 || self.owes_tail || self.state.has_tail())),
            stream_ended: self.state.is_stream_ended(),
            part_of_a_head: self.state.has_part_of_a_head(),
            lingering: self.state.is_lingering(),
            now,
            last_active: self.last_active,
        }
    }

    fn decide(&mut self, facts: &Facts) -> Decision {
        if let Proto::Opening(opening) = &mut self.proto
            && let Some(handshake) = opening.handshake()
        {
            let idle = self.limits.idle_drain_timeout;
            return handshake.decide(facts.phase, facts.now, idle);
        }
        self.rule.decide(facts, &self.limits)
    }

    fn poll_timer(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = match &mut self.timer {
            Some(timer) => timer,
            none => {
                let sleep = Box::pin(tokio::time::sleep_until(at));
                none.insert(Timer { sleep, at, armed: false })
            }
        };
        // A timer that is due earlier is left alone: it wakes us and we look again. So a
        // busy keep-alive connection resets it once in a timeout, not once a request.
        if at < timer.at || timer.sleep.is_elapsed() {
            timer.sleep.as_mut().reset(at);
            timer.at = at;
            timer.armed = false;
        }
        if !timer.armed {
            ready!(poll_armed(timer, cx));
            return Poll::Ready(());
        }
        if timer.sleep.is_elapsed() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The server's side of the protocol.
fn start<L, S, B>(
    opening: Opening<L, S>,
    protocol: Protocol,
    state: &Arc<ConnState>,
) -> Proto<L, S, B>
where
    L: Listener,
    S: App<B>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (io, service, streams) = opening.into_parts(state);
    let io = TokioIo::new(io);
    if protocol == Protocol::Http2 {
        let mut builder = http2::Builder::new(streams);
        // For WebSockets over HTTP/2 (RFC 8441).
        builder.enable_connect_protocol();
        return Proto::Http2(Box::pin(builder.serve_connection(io, service)));
    }
    // No timer: hyper's head timeout would run on idle connections too; `rule` has ours.
    let conn = http1::Builder::new().serve_connection(io, service).with_upgrades();
    Proto::Http1(Box::pin(conn))
}

fn poll_armed(timer: &mut Timer, cx: &mut Context<'_>) -> Poll<()> {
    // Out of its budget, a `Sleep` is pending without having registered anything.
    let polled = std::pin::pin!(unconstrained(timer.sleep.as_mut())).poll(cx);
    timer.armed = polled.is_pending();
    polled
}

impl<L, S, B> Future for Conn<L, S, B>
where
    L: Listener,
    S: App<B>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.drive(cx).is_ready() {
            return Poll::Ready(());
        }
        // Bounded: GOAWAY is sent once, a last look finds something a few times at most, and
        // phases are few.
        loop {
            let facts = this.facts(cx);
            match this.decide(&facts) {
                Decision::Wait(Some(at)) if this.poll_timer(at, cx).is_ready() => {}
                Decision::Wait(_) => ready!(this.poll_phase(facts.phase, cx)),
                Decision::Close => return Poll::Ready(()),
                Decision::GoAway => {
                    if let Proto::Http2(conn) = &mut this.proto {
                        conn.as_mut().graceful_shutdown();
                    }
                    this.rule.told(facts.now);
                    if this.drive(cx).is_ready() {
                        return Poll::Ready(());
                    }
                }
                Decision::LastLook => {
                    this.state.ask_for_a_look();
                    if this.drive(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    let unread = this.state.take_look() == Some(Look::Unread);
                    if !unread
                        && !this.state.is_write_blocked()
                        && this.state.flights().count() == 0
                        && !this.state.has_tail()
                    {
                        this.state.set_leaving();
                        return Poll::Ready(());
                    }
                    // Something is there; the runtime is about to wake us for it.
                    if !this.rule.found(facts.now) {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }
}

impl<L, S, B> fmt::Debug for Conn<L, S, B>
where
    L: Listener,
    S: App<B>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("state", &self.state).finish_non_exhaustive()
    }
}
