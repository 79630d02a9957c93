//! The IO object: counts what moves, lingers before it closes, and fails an upgraded
//! socket at the hard stop.
//!
//! # Invariants
//! 1. It holds the connection's guard and its place under the limit, so a socket that somebody took over still counts
//!    until it is dropped.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use lifecycle::{Handle, InFlight, Reached};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep};

use super::listener::{Listener, Negotiated};
use super::state::ConnState;

pub(crate) struct CountedIo<L: Listener> {
    inner: L::Io,
    state: Arc<ConnState>,
    handle: Handle,
    /// Read while finding out the protocol; given to whoever reads first.
    prefix: Vec<u8>,
    prefix_read: usize,
    /// One wait a direction: a socket may be split between two tasks.
    hard_stop: [Option<Pin<Box<Reached>>>; 2],
    linger: Option<Linger>,
    _guard: InFlight,
    _permit: Option<OwnedSemaphorePermit>,
}

/// The end of a connection whose client may still be sending: closing with unread bytes
/// would reset it, and take the response's last bytes with it (RFC 9112, 9.6).
struct Linger {
    quiet: Pin<Box<Sleep>>,
    ends: Instant,
}

impl<L: Listener> CountedIo<L> {
    pub(crate) fn new(
        inner: L::Io,
        state: Arc<ConnState>,
        handle: Handle,
        guard: InFlight,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            inner,
            state,
            handle,
            prefix: Vec::new(),
            prefix_read: 0,
            hard_stop: [None, None],
            linger: None,
            _guard: guard,
            _permit: permit,
        }
    }

    pub(crate) fn inner(&self) -> &L::Io {
        &self.inner
    }

    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Negotiated>> {
        let negotiated = ready!(L::poll_handshake(&mut self.inner, cx));
        // The silence that counts begins after it.
        self.state.read(0);
        Poll::Ready(negotiated)
    }

    /// Gives bytes back that were read to find out the protocol.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        debug_assert!(self.prefix.is_empty(), "given back once");
        self.prefix = bytes.to_vec();
    }

    /// An upgraded socket fails from the hard stop on, and its task is woken then.
    #[inline]
    fn poll_hard_stop(&mut self, way: Way, cx: &mut Context<'_>) -> io::Result<()> {
        if self.state.is_upgraded() { self.poll_upgraded(way, cx) } else { Ok(()) }
    }

    fn poll_upgraded(&mut self, way: Way, cx: &mut Context<'_>) -> io::Result<()> {
        let handle = &self.handle;
        let hard_stop = &mut self.hard_stop[way as usize];
        let hard_stop = hard_stop.get_or_insert_with(|| Box::pin(handle.cancelled()));
        match hard_stop.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "shutdown: hard stop"))
            }
        }
    }

    fn read_prefix(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.prefix[self.prefix_read..];
        let len = rest.len().min(buf.remaining());
        if len == 0 {
            return false;
        }
        buf.put_slice(&rest[..len]);
        self.prefix_read += len;
        if self.prefix_read == self.prefix.len() {
            self.prefix = Vec::new();
            self.prefix_read = 0;
        }
        true
    }

    /// Reads and throws away until the client closes, is quiet for a second, or two
    /// seconds are over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| {
            let now = Instant::now();
            let quiet = Box::pin(tokio::time::sleep_until(now + LINGER_QUIET));
            Linger { quiet, ends: now + LINGER_MOST }
        });
        let mut scrap = [0; 4096];
        // Bounded: a client that sends without end is cut at `LINGER_MOST`.
        for _ in 0..LINGER_READS {
            let mut buf = ReadBuf::new(&mut scrap);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    let now = Instant::now();
                    if now >= linger.ends {
                        return Poll::Ready(());
                    }
                    linger.quiet.as_mut().reset((now + LINGER_QUIET).min(linger.ends));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return linger.quiet.as_mut().poll(cx),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

enum Way {
    Read,
    Write,
}

impl<L: Listener> AsyncRead for CountedIo<L> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.poll_hard_stop(Way::Read, cx)?;
        if !this.prefix.is_empty() && this.read_prefix(buf) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if this.state.looks() {
            let inner = &mut this.inner;
            // Out of its budget, a stream of tokio's says that it has nothing.
            let read = std::future::poll_fn(|cx| Pin::new(&mut *inner).poll_read(cx, buf));
            let read = std::pin::pin!(unconstrained(read)).poll(cx);
            // The runtime may not have heard yet of bytes that are already there.
            let unread = read.is_ready() || L::has_unread(&this.inner);
            this.state.looked(unread);
            ready!(read)?;
        } else {
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        }
        this.state.read(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<L: Listener> AsyncWrite for CountedIo<L> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.poll_hard_stop(Way::Write, cx)?;
        let wrote = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.note_write(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.poll_hard_stop(Way::Write, cx)?;
        let mut space = [MaybeUninit::uninit(); COPIED_MOST];
        let mut copy = ReadBuf::uninit(&mut space);
        let inner = Pin::new(&mut this.inner);
        let wrote = match in_one_piece(bufs, &mut copy) {
            Some(whole) => inner.poll_write(cx, whole),
            None => inner.poll_write_vectored(cx, bufs),
        };
        this.note_write(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        // What a TLS session has encrypted and not yet sent is no more with the socket than
        // what hyper still has. A bare socket never has anything to flush.
        if flushed.is_pending() {
            this.poll_hard_stop(Way::Write, cx)?;
            this.state.set_unsent();
        } else {
            this.state.all_sent();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            let shut = Pin::new(&mut this.inner).poll_shutdown(cx)?;
            if shut.is_pending() {
                this.poll_hard_stop(Way::Write, cx)?;
                return Poll::Pending;
            }
            // An upgraded socket may be read on by its owner; nothing of it is thrown away.
            // A head that was refused half-way has more behind it.
            let refused = this.state.has_read_ahead();
            let lingers = refused || this.state.wants_linger() || L::has_unread(&this.inner);
            if this.state.is_upgraded() || !lingers {
                return Poll::Ready(Ok(()));
            }
            this.state.set_lingering();
        }
        this.poll_linger(cx).map(Ok)
    }
}

impl<L: Listener> CountedIo<L> {
    fn note_write(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.state.wrote();
        } else {
            self.state.set_write_blocked();
        }
        wrote
    }
}

impl<L: Listener> Drop for CountedIo<L> {
    fn drop(&mut self) {
        // A connection that ends without a request says goodbye in its own way (close_notify),
        // as far as that goes without waiting.
        if self.state.is_leaving() {
            let mut cx = Context::from_waker(Waker::noop());
            drop(Pin::new(&mut self.inner).poll_shutdown(&mut cx));
        }
    }
}

/// A few bytes in several pieces as one: the kernel takes longer to walk the pieces than we to
/// copy them. None if they are many.
#[inline]
fn in_one_piece<'a>(bufs: &'a [io::IoSlice<'_>], copy: &'a mut ReadBuf<'_>) -> Option<&'a [u8]> {
    if let [whole] = bufs {
        return Some(whole);
    }
    if bufs.iter().map(|buf| buf.len()).sum::<usize>() > copy.remaining() {
        return None;
    }
    bufs.iter().for_each(|buf| copy.put_slice(buf));
    Some(copy.filled())
}

/// The most bytes that are copied to be written in one piece.
const COPIED_MOST: usize = 2048;
/// How long a client may be quiet, and take in all, before a lingering close ends.
const LINGER_QUIET: Duration = Duration::from_secs(1);
const LINGER_MOST: Duration = Duration::from_secs(2);
/// Reads in one poll, so that one client does not hold the thread.
const LINGER_READS: usize = 16;
