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
use std::task::{Context, Poll, ready};
use std::time::Duration;

use lifecycle::{Handle, InFlight, Reached};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::state::ConnState;

/// A byte stream that can be looked at without the runtime's readiness in between.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether bytes (or an end) are waiting in the socket at this moment.
    fn has_unread(&self) -> bool;
}

impl Transport for TcpStream {
    fn has_unread(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        // What fails but for emptiness is news too: a read will tell it.
        !matches!(
            socket2::SockRef::from(self).peek(&mut byte),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock
        )
    }
}

pub(crate) struct CountedIo<T> {
    inner: T,
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

impl<T: Transport> CountedIo<T> {
    pub(crate) fn new(
        inner: T,
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

    /// Gives bytes back that were read to find out the protocol.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        debug_assert!(self.prefix.is_empty(), "given back once");
        self.prefix = bytes.to_vec();
    }

    /// An upgraded socket fails from the hard stop on, and its task is woken then.
    fn poll_hard_stop(&mut self, way: Way, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.state.is_upgraded() {
            return Ok(());
        }
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

impl<T: Transport> AsyncRead for CountedIo<T> {
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
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if this.state.looks() {
            // The runtime may not have heard yet of bytes that are already there.
            let unread = read.is_ready() || this.inner.has_unread();
            this.state.looked(unread);
        }
        ready!(read)?;
        this.state.read(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for CountedIo<T> {
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
        let wrote = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.note_write(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
            // An upgraded socket may be read on by its owner; nothing of it is thrown away.
            // A head that was refused half-way has more behind it.
            let refused = this.state.has_part_of_a_head();
            let lingers = refused || this.state.wants_linger() || this.inner.has_unread();
            if this.state.is_upgraded() || !lingers {
                return Poll::Ready(Ok(()));
            }
            this.state.set_lingering();
        }
        this.poll_linger(cx).map(Ok)
    }
}

impl<T: Transport> CountedIo<T> {
    fn note_write(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.state.wrote();
        } else {
            self.state.set_write_blocked();
        }
        wrote
    }
}

/// How long a client may be quiet, and take in all, before a lingering close ends.
const LINGER_QUIET: Duration = Duration::from_secs(1);
const LINGER_MOST: Duration = Duration::from_secs(2);
/// Reads in one poll, so that one client does not hold the thread.
const LINGER_READS: usize = 16;
