//! TLS over any listener: the handshake is done by the connection's own task.
//!
//! Not here: how long a handshake may take (`handshake`).
//!
//! # Invariants
//! 1. Accepting does not wait for a byte of the client's.
//! 2. A stream that is dropped says goodbye only where `io` asks for it: after work that was
//!    cut, a proper end would be a lie.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::{fmt, mem};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::{ServerConfig, ServerConnection};
use tokio_rustls::{Accept, TlsAcceptor, server};

use super::listener::{Listener, Negotiated};
use super::records::Records;

/// Speaks TLS on the connections of another [`Listener`].
///
/// The handshake is the connection's own affair: it never keeps another from being accepted,
/// it counts as a connection (under the
/// [`connection_limit`](crate::Serve::connection_limit) too), and it is bounded by
/// [`handshake_timeout`](crate::Serve::handshake_timeout), in the drain also by
/// [`idle_drain_timeout`](crate::Serve::idle_drain_timeout). One that fails is in the log at
/// DEBUG. HTTP/1 or HTTP/2 is chosen by ALPN; without it the first bytes tell.
///
/// The configuration is that of `rustls` 0.23, which is re-exported as
/// [`rustls`](crate::rustls). This crate chooses no cryptography: enable `ring` or
/// `aws_lc_rs` on your own dependency on rustls.
///
/// # Examples
/// ```no_run
/// use std::sync::Arc;
///
/// use lifecycle_tower::rustls::ServerConfig;
/// use lifecycle_tower::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
/// use lifecycle_tower::{TlsListener, serve};
/// # use lifecycle::{Lifecycle, Report};
///
/// # #[tokio::main]
/// # async fn main() -> Result<Report, Box<dyn std::error::Error>> {
/// # let mut life = Lifecycle::from_env()?;
/// # let app = tower::service_fn(|_: http::Request<_>| async {
/// #     Ok::<_, std::io::Error>(http::Response::new(String::new()))
/// # });
/// let certs = CertificateDer::pem_file_iter("cert.pem")?.collect::<Result<_, _>>()?;
/// let key = PrivateKeyDer::from_pem_file("key.pem")?;
/// let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certs, key)?;
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:8443").await?;
/// life.spawn("https", serve(TlsListener::new(listener, Arc::new(config)), app));
/// # Ok(life.run().await?)
/// # }
/// ```
#[must_use = "a listener does nothing until it is served"]
pub struct TlsListener<L> {
    inner: L,
    acceptor: TlsAcceptor,
}

/// A connection of a [`TlsListener`]. It does its handshake when it is first used.
///
/// [`Serve::with_connection_info`](crate::Serve::with_connection_info) shows it to you after
/// the handshake, for the client's certificate or the name that it asked for.
pub struct TlsStream<T> {
    state: State<T>,
}

enum State<T> {
    Handshake(Box<Accept<Records<T>>>),
    Open(Box<server::TlsStream<Records<T>>>),
    /// The handshake has failed, and its error was told.
    Failed,
}

impl<L> TlsListener<L> {
    /// Speaks TLS by `config` on what `listener` accepts.
    ///
    /// A configuration without ALPN protocols gets `h2` and `http/1.1`, on a copy, since
    /// HTTP/2 is not to be had over TLS otherwise. Set `alpn_protocols` yourself for one of
    /// them alone.
    pub fn new(listener: L, config: Arc<ServerConfig>) -> Self {
        let mut config = config;
        if config.alpn_protocols.is_empty() {
            Arc::make_mut(&mut config).alpn_protocols = vec![ALPN_H2.into(), ALPN_HTTP1.into()];
        }
        Self { inner: listener, acceptor: TlsAcceptor::from(config) }
    }

    fn begin<T, A>(&self, (io, peer): (T, A)) -> (TlsStream<T>, A)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let accept = self.acceptor.accept(Records::new(io));
        (TlsStream { state: State::Handshake(Box::new(accept)) }, peer)
    }
}

impl<L: Listener> Listener for TlsListener<L> {
    type Io = TlsStream<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> io::Result<(Self::Io, L::Addr)> {
        let accepted = self.inner.accept().await?;
        Ok(self.begin(accepted))
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.inner.local_addr()
    }

    fn try_accept(&mut self) -> io::Result<(Self::Io, L::Addr)> {
        let accepted = self.inner.try_accept()?;
        Ok(self.begin(accepted))
    }

    fn refuse_new(&mut self) {
        self.inner.refuse_new();
    }

    /// What rustls has decrypted, the read before this has given; what it has not is a part of
    /// a record, or still in the socket.
    fn has_unread(stream: &Self::Io) -> bool {
        let State::Open(open) = &stream.state else {
            return false;
        };
        let records = open.get_ref().0;
        records.is_inside() || L::has_unread(records.inner())
    }

    fn poll_handshake(stream: &mut Self::Io, cx: &mut Context<'_>) -> Poll<io::Result<Negotiated>> {
        let open = ready!(stream.poll_open(cx))?;
        Poll::Ready(Ok(match open.get_ref().1.alpn_protocol() {
            Some(ALPN_H2) => Negotiated::Http2,
            Some(_) => Negotiated::Http1,
            None => Negotiated::Nothing,
        }))
    }
}

impl<T> TlsStream<T> {
    /// The stream beneath and the session; `None` before the end of the handshake.
    #[must_use]
    pub fn get_ref(&self) -> Option<(&T, &ServerConnection)> {
        match &self.state {
            State::Open(open) => {
                let (records, session) = open.get_ref();
                Some((records.inner(), session))
            }
            State::Handshake(_) | State::Failed => None,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> TlsStream<T> {
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<&mut server::TlsStream<Records<T>>>> {
        if let State::Handshake(accept) = &mut self.state {
            let done = ready!(Pin::new(&mut **accept).poll(cx));
            // The handshake is over, one way or the other.
            drop(mem::replace(&mut self.state, State::Failed));
            self.state = State::Open(Box::new(done?));
        }
        match &mut self.state {
            State::Open(open) => Poll::Ready(Ok(open)),
            State::Handshake(_) | State::Failed => {
                Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_read(cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_shutdown(cx)
    }
}

impl<L: fmt::Debug> fmt::Debug for TlsListener<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsListener").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for TlsStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Handshake(_) => "handshake",
            State::Open(_) => "open",
            State::Failed => "failed",
        };
        f.debug_struct("TlsStream").field("state", &state).finish_non_exhaustive()
    }
}

const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";
