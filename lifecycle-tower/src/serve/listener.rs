//! What a server listens on: TCP here, Unix sockets in `unix`, TLS in `tls`, or a user's own.
//!
//! # Invariants
//! 1. What a listener does not know how to do is left out safely: without a sweep of its own
//!    it is asked once more for what is waiting, without a look of its own a read is the look.

use std::fmt;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::unconstrained;

/// Where [`serve`](crate::serve()) takes its connections from.
///
/// Implemented for tokio's [`TcpListener`] and `UnixListener`, for
/// [`OwnedUnixListener`](crate::OwnedUnixListener), and, with the feature `tls`, for
/// `TlsListener` around any of them.
///
/// The first two methods are all that a listener of your own needs; those of
/// `axum::serve::Listener` do the same, but for the errors, which are ours to wait out. The
/// others have defaults that are right for what has no operating system's queue behind it. A
/// listener that wraps another hands all of them on.
///
/// # Examples
/// In memory, for tests and for services within one process:
/// ```
/// use std::io;
///
/// use lifecycle_tower::Listener;
/// use tokio::io::DuplexStream;
/// use tokio::sync::mpsc;
///
/// struct InMemory(mpsc::Receiver<DuplexStream>);
///
/// impl Listener for InMemory {
///     type Io = DuplexStream;
///     type Addr = ();
///
///     async fn accept(&mut self) -> io::Result<(DuplexStream, ())> {
///         match self.0.recv().await {
///             Some(connection) => Ok((connection, ())),
///             // No sender is left: nobody will connect any more, which is no error.
///             None => std::future::pending().await,
///         }
///     }
///
///     fn local_addr(&self) -> io::Result<()> {
///         Ok(())
///     }
/// }
///
/// # use lifecycle::Lifecycle;
/// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (connect, connections) = mpsc::channel(16);
/// let app = tower::service_fn(|_: http::Request<_>| async {
///     Ok::<_, io::Error>(http::Response::new(String::from("hello")))
/// });
/// let mut life = Lifecycle::builder().build_local()?;
/// life.spawn("in-memory", lifecycle_tower::serve(InMemory(connections), app));
/// let (mut client, server) = tokio::io::duplex(1024);
/// connect.send(server).await?;
/// client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await?;
/// life.handle().shutdown("the example ends");
/// let report = life.run().await?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).await?;
/// assert!(answer.ends_with("hello") && report.exit_code() == 0);
/// # Ok(())
/// # }
/// ```
pub trait Listener: Sized + Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// What is known of an end of a connection: it is in the report (the listener's own), and
    /// handlers can ask for it (the client's).
    type Addr: Clone + fmt::Debug + Send + Sync + 'static;

    /// Takes the next connection.
    ///
    /// It must not do more than that: a handshake belongs to
    /// [`poll_handshake`](Self::poll_handshake), or one slow client keeps all others waiting.
    ///
    /// # Cancel safety
    /// Must be cancel safe: it is dropped when the drain begins, and no connection may be
    /// lost with it.
    /// One to which nobody can connect any more stays pending: an error would be tried again
    /// for ever.
    ///
    /// # Errors
    /// None ends the server. After a connection's own failure (reset, aborted, timed out) the
    /// next is taken at once, up to 16 in a row; after others, such as having no descriptor
    /// left, it is asked again after 5 ms, and longer with each failure, up to a second.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Self::Addr)>> + Send;

    /// Its own address, for the log and the report.
    ///
    /// # Errors
    /// As the system has it; then `?` stands for the address.
    fn local_addr(&self) -> io::Result<Self::Addr>;

    /// Takes a connection that is waiting at this moment: the sweep before the close, since
    /// closing resets what is left in a system's queue.
    ///
    /// The default polls [`accept`](Self::accept) once. Override it where that may be pending
    /// although a connection waits, as it may with every socket that a runtime watches.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when none is waiting; others as of `accept`.
    fn try_accept(&mut self) -> io::Result<(Self::Io, Self::Addr)> {
        // Without its budget, which tokio's own types may be out of though something waits.
        let once = pin!(unconstrained(self.accept()));
        match once.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(accepted) => accepted,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Lets nobody connect from here on, if that can be had, and keeps what is in the queue:
    /// comes before the sweep, so that no connection arrives between the last look and the
    /// close. The default does nothing.
    ///
    /// Those of TCP and Unix sockets change the socket itself, so for every process that
    /// shares it. They leave one alone that was handed down ([`lifecycle::was_inherited`]), and
    /// none is called with [`Serve::shared_listener`](crate::Serve::shared_listener).
    fn refuse_new(&mut self) {}

    /// Whether bytes (or an end) are waiting that a read would give, though it said that it
    /// has none: a runtime hears of them a moment later than the socket. An idle connection
    /// is closed after that last look only. The default is that a read knows.
    fn has_unread(_io: &Self::Io) -> bool {
        false
    }

    /// Does what must come before the first byte of HTTP, in the connection's own task, within
    /// [`handshake_timeout`](crate::Serve::handshake_timeout); it is not called again once it
    /// is ready. The default is that there is nothing to do.
    ///
    /// # Errors
    /// Closes the connection; it is in the log at DEBUG, since any client can cause it.
    fn poll_handshake(_io: &mut Self::Io, _cx: &mut Context<'_>) -> Poll<io::Result<Negotiated>> {
        Poll::Ready(Ok(Negotiated::Nothing))
    }
}

/// What a handshake has agreed on, such as by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Negotiated {
    /// HTTP/1.1, and HTTP/1.0.
    Http1,
    /// HTTP/2: it begins before the client has sent a byte of it.
    Http2,
    /// The first bytes tell.
    Nothing,
}

impl Listener for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        at_once(&stream);
        Ok((stream, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    /// Asks the socket itself, since tokio's `accept` may be pending for other reasons than an
    /// empty queue.
    fn try_accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = socket2::SockRef::from(&*self).accept()?;
        socket.set_nonblocking(true)?;
        let stream = TcpStream::from_std(socket.into())?;
        at_once(&stream);
        let peer = peer.as_socket().map_or_else(|| stream.peer_addr(), Ok)?;
        Ok((stream, peer))
    }

    /// On Linux a filter makes the listener deaf to new SYNs: a client whose SYN falls into
    /// that fraction of a millisecond sends it again after a second and is refused, with
    /// nothing lost. A handshake that is still on its way across a network at that moment is
    /// reset; so is, where the filter is not to be had, what arrives in the last microseconds.
    fn refuse_new(&mut self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if !lifecycle::was_inherited(&*self) {
            use socket2::SockFilter;
            // Classic BPF on the TCP header: load the flags' byte; with SYN set keep 0 bytes
            // of the segment, else all of it.
            let filter = [
                SockFilter::new(0x30, 0, 0, 13),
                SockFilter::new(0x45, 0, 1, 0x02),
                SockFilter::new(0x06, 0, 0, 0),
                SockFilter::new(0x06, 0, 0, u32::MAX),
            ];
            if let Err(error) = socket2::SockRef::from(&*self).attach_filter(&filter) {
                tracing::debug!(target: "lifecycle", %error, "SYNs are not filtered");
            }
        }
    }

    fn has_unread(stream: &TcpStream) -> bool {
        peeks(&socket2::SockRef::from(stream))
    }
}

/// Small writes go out at once; batching them is the caller's to do.
fn at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(target: "lifecycle", %error, "TCP_NODELAY was not set");
    }
}

/// Whether a read of the socket itself would give anything.
pub(crate) fn peeks(socket: &socket2::Socket) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    // What fails but for emptiness is news too: a read will tell it.
    !matches!(
        socket.peek(&mut byte),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock
    )
}
