//! A serve loop that owns its connections, so that it can bound every one of them.

mod accept;
mod common;
mod conn;
mod end;
mod exec;
mod flights;
mod guard;
mod handshake;
mod held;
mod io;
mod listener;
mod opening;
#[cfg(feature = "tls")]
mod records;
mod request;
mod rule;
mod state;
#[cfg(feature = "tls")]
mod tls;
#[cfg(unix)]
mod unix;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use lifecycle::{BoxError, Component, Gate, Handle, Kind, Phase, Role};
use tokio::sync::Semaphore;
use tower::Service;

use self::accept::Accepted;
use self::common::Common;
use self::conn::Conn;
use self::exec::Streams;
pub use self::listener::{Listener, Negotiated};
use self::opening::{Attach, Given};
use self::rule::Limits;
#[cfg(feature = "tls")]
pub use self::tls::{TlsListener, TlsStream};
#[cfg(unix)]
pub use self::unix::OwnedUnixListener;
use crate::service::Names;
use crate::spread::CloseSpread;

/// Serves HTTP/1 and HTTP/2 (by ALPN, or with prior knowledge, h2c) on `listener` as a
/// component of a [`Lifecycle`](lifecycle::Lifecycle): `app` is an axum `Router` or any tower
/// service of http requests, `listener` tokio's `TcpListener` or any other [`Listener`].
///
/// Several may be spawned on one lifecycle, each with its own listener: each is swept and
/// closed at the drain, and each is in the report.
///
/// A `Router` answers a little faster with `.with_state(())` as its last call, which makes its
/// handlers ready once and not for each request ([axum's words][performance]).
///
/// [performance]: https://docs.rs/axum/0.8/axum/struct.Router.html#a-note-about-performance
///
/// A client that closes its half of an HTTP/1 connection behind its request is taken for gone,
/// as by hyper's other servers: its handler is dropped, which is how handlers hear of clients
/// that leave.
///
/// # Examples
/// A service without axum:
/// ```no_run
/// use std::convert::Infallible;
///
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use lifecycle::{Lifecycle, Report};
///
/// #[tokio::main]
/// async fn main() -> Result<Report, Box<dyn std::error::Error>> {
///     let mut life = Lifecycle::from_env()?;
///     let app = tower::service_fn(|_: Request<_>| async {
///         Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from("hello"))))
///     });
///     let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
///     life.spawn("http", lifecycle_tower::serve(listener, app));
///     Ok(life.run().await?)
/// }
/// ```
pub fn serve<L: Listener, S>(listener: L, app: S) -> Serve<L, S> {
    Serve {
        listener,
        is_shared: false,
        app,
        connection_limit: None,
        limits: Limits {
            header_read_timeout: HEADER_READ_TIMEOUT,
            keep_alive_timeout: KEEP_ALIVE_TIMEOUT,
            idle_drain_timeout: IDLE_DRAIN_TIMEOUT,
            max_connection_age: None,
        },
        handshake_timeout: HANDSHAKE_TIMEOUT,
        attach: Vec::new(),
        names: Names::Kept,
        close_spread: CloseSpread::AtOnce,
    }
}

/// A server to be spawned on a [`Lifecycle`](lifecycle::Lifecycle); made by [`serve`].
#[must_use = "a server does nothing until it is spawned"]
pub struct Serve<L: Listener, S> {
    listener: L,
    is_shared: bool,
    app: S,
    connection_limit: Option<usize>,
    limits: Limits,
    handshake_timeout: Duration,
    attach: Vec<Box<Attach<L>>>,
    names: Names,
    close_spread: CloseSpread,
}

/// The address of the client's end of the connection, in the extensions of a request when
/// [`Serve::with_peer_addr`] asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a newtype, to be matched on in extractors")]
pub struct PeerAddr(pub SocketAddr);

impl<L: Listener, S> Serve<L, S> {
    /// At most this many connections (at least one) at once, upgraded ones included; more wait in the accept queue. Default: no
    /// limit but the process' descriptors, at whose end accepting backs off and recovers.
    ///
    /// The sweep at the drain takes the accept queue beyond it: what was let in by the
    /// system is served.
    pub fn connection_limit(self, connections: usize) -> Self {
        Self { connection_limit: Some(connections.max(1)), ..self }
    }

    /// Other processes listen on the same socket and go on with it: the drain lets it be as it
    /// is, so that what comes waits for them. Sockets from [`lifecycle::Inherited`] are known to
    /// be such without it; those that came in another way are not.
    pub fn shared_listener(self) -> Self {
        Self { is_shared: true, ..self }
    }

    /// How long a request's head may take, from its first byte. Default 30 s, as hyper's.
    pub fn header_read_timeout(mut self, timeout: Duration) -> Self {
        self.limits.header_read_timeout = timeout;
        self
    }

    /// How long a connection may be silent between requests, before its first one too. An
    /// HTTP/2 connection without streams gets GOAWAY then (and its first bytes have the time of
    /// a head on top). Default 75 s: above the 60 s
    /// after which AWS' load balancers give up an idle connection of theirs.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.limits.keep_alive_timeout = timeout;
        self
    }

    /// In the drain, how long a connection without a request may have been silent before
    /// it is closed. Counted from its last byte (or its accept), not from the drain's
    /// start, so most idle connections close at once. Default 1 s.
    pub fn idle_drain_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle_drain_timeout = timeout;
        self
    }

    /// How old a connection may become, so that clients find new servers and balancers level
    /// the load. Off by default. Each connection has its own limit within a tenth of `age`,
    /// as [grpc-go] has it, so that those made together do not come back together.
    ///
    /// On HTTP/2 an old connection gets GOAWAY, and its streams finish, however long they
    /// take. On HTTP/1 its next response says `Connection: close`; without one it stays
    /// until [`keep_alive_timeout`](Self::keep_alive_timeout) closes it, since an idle
    /// HTTP/1 connection that is closed may lose the request on its way. A response that
    /// lasts, and an upgraded socket, are left alone.
    ///
    /// [grpc-go]: https://pkg.go.dev/google.golang.org/grpc/keepalive#ServerParameters
    pub fn max_connection_age(mut self, age: Duration) -> Self {
        self.limits.max_connection_age = Some(age);
        self
    }

    /// Lets the share of HTTP/1 responses that say `Connection: close` rise from none to all
    /// over the lame duck, so that clients do not all reconnect at once. Off by default:
    /// every response from the cause on says it.
    ///
    /// What it costs: a client that was not told in the lame duck, and is idle at its end,
    /// is closed after [`idle_drain_timeout`](Self::idle_drain_timeout) with its next request
    /// perhaps on the way, and HTTP/1 cannot tell it whether that was served. A client with
    /// n requests spread evenly over the lame duck escapes with a probability of n!/nⁿ (1 in
    /// 26 with 5 requests, 1 in 2755 with 10). So it is for many busy clients, and for those
    /// that reconnect at a price (TLS); a lame duck should last many times their interval.
    pub fn close_spread(self) -> Self {
        Self { close_spread: CloseSpread::OverLameDuck, ..self }
    }

    /// Counts requests without noting their names and ages, as
    /// [`DrainLayer::count_only`](crate::DrainLayer::count_only).
    pub fn count_only(self) -> Self {
        Self { names: Names::Dropped, ..self }
    }

    /// How long what comes before HTTP may take, such as a TLS handshake, from the accept on.
    /// Default 10 s, as Kestrel's and Netty's. In the drain it has
    /// [`idle_drain_timeout`](Self::idle_drain_timeout) at most.
    pub fn handshake_timeout(self, timeout: Duration) -> Self {
        Self { handshake_timeout: timeout, ..self }
    }

    /// Puts what `info` makes of a connection into the extensions of each of its requests.
    ///
    /// Called once a connection, after its handshake: a TLS client's certificate is known.
    /// For a handler that extracts an axum `ConnectInfo` of a type of your own, return it in
    /// one.
    ///
    /// # Examples
    /// The user at the other end of a Unix socket:
    /// ```
    /// # #[cfg(unix)]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::convert::Infallible;
    /// # use http::{Request, Response};
    /// # let path = std::env::temp_dir().join(format!("doc-{}.sock", std::process::id()));
    /// #[derive(Clone, Copy)]
    /// struct User(Option<u32>);
    ///
    /// let app = tower::service_fn(|request: Request<_>| async move {
    ///     let user = request.extensions().get::<User>().and_then(|User(uid)| *uid);
    ///     Ok::<_, Infallible>(Response::new(format!("hello, {user:?}")))
    /// });
    /// let listener = lifecycle_tower::OwnedUnixListener::bind(path)?;
    /// let server = lifecycle_tower::serve(listener, app).with_connection_info(|socket, _peer| {
    ///     User(socket.peer_cred().ok().map(|cred| cred.uid()))
    /// });
    /// # lifecycle::Lifecycle::builder().build_local()?.spawn("http", server);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(unix))]
    /// # fn main() {}
    /// ```
    pub fn with_connection_info<T>(
        mut self,
        info: impl Fn(&L::Io, &L::Addr) -> T + Send + Sync + 'static,
    ) -> Self
    where
        T: Clone + Send + Sync + 'static,
    {
        self.attach.push(Box::new(move |io, peer, extensions| {
            extensions.insert(info(io, peer));
        }));
        self
    }

    /// Puts the client's [`PeerAddr`] into the extensions of every request.
    pub fn with_peer_addr(self) -> Self
    where
        L: Listener<Addr = SocketAddr>,
    {
        self.with_connection_info(|_, peer| PeerAddr(*peer))
    }

    /// Puts axum's `ConnectInfo` of the client's address into the extensions of every request,
    /// for handlers that extract it: `ConnectInfo<SocketAddr>`, with tokio's own `SocketAddr`
    /// for a Unix socket.
    #[cfg(feature = "axum")]
    pub fn with_axum_connect_info(self) -> Self {
        self.with_connection_info(|_, peer| axum::extract::ConnectInfo(peer.clone()))
    }
}

impl<L, S, B> Component for Serve<L, S>
where
    L: Listener,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    async fn run(self, handle: Handle) -> Result<(), BoxError> {
        let server = Server {
            app: self.app,
            conns: handle.gate(Kind::Connection),
            tasks: handle.gate(Kind::Connection),
            limits: self.limits,
            handshake_timeout: self.handshake_timeout,
            attach: self.attach.into(),
            common: Arc::new(Common {
                requests: handle.gate(Kind::Request),
                handle,
                names: self.names,
                close_spread: self.close_spread,
            }),
        };
        let limit =
            self.connection_limit.map(|most| Arc::new(Semaphore::new(most.min(PERMITS_MOST))));
        server.run(self.listener, self.is_shared, limit).await;
        Ok(())
    }

    fn role(&self) -> Role {
        Role::Server
    }
}

/// A server that runs.
struct Server<L: Listener, S> {
    app: S,
    /// Counts sockets, upgraded ones too.
    conns: Gate,
    /// Counts the tasks of HTTP/2 streams.
    tasks: Gate,
    limits: Limits,
    handshake_timeout: Duration,
    attach: Arc<[Box<Attach<L>>]>,
    common: Arc<Common>,
}

impl<L, S, B> Server<L, S>
where
    L: Listener,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    async fn run(mut self, mut listener: L, is_shared: bool, limit: Option<Arc<Semaphore>>) {
        let handle = self.common.handle.clone();
        let addr =
            listener.local_addr().map_or_else(|_| "?".to_owned(), |addr| format!("{addr:?}"));
        accept::accept_until_draining(&mut listener, limit.as_ref(), &handle, |accepted| {
            self.spawn(accepted);
        })
        .await;
        let swept = accept::sweep(listener, is_shared, |accepted| self.spawn(accepted)).await;
        self.conns.close();
        tracing::info!(
            name: "listener.closed",
            target: "lifecycle",
            addr,
            swept,
            connections = self.conns.in_flight(),
            "listener.closed"
        );
        handle.note(format!(
            "listener {addr} closed; swept: {swept}, connections held: {}",
            self.conns.in_flight()
        ));
        let Self { conns, tasks, common, .. } = self;
        // Requests are admitted as long as a connection is held, but not past the hard stop.
        tokio::select! {
            () = conns.drained() => {}
            () = handle.reached(Phase::Cancelling) => {}
        }
        common.requests.close();
        // Bounded by `Closing`, at which every connection drops itself; should one be stuck
        // in a thread that does not yield, the coordinator gives us up.
        conns.drained().await;
        tasks.close();
        tasks.drained().await;
        common.requests.drained().await;
    }

    fn spawn(&mut self, accepted: Accepted<L>) {
        let Accepted { io, peer, permit } = accepted;
        self.common.handle.saw_connection();
        // Counted before its task exists: no moment at which it is accepted and unknown.
        let Ok(guard) = self.conns.enter_unnamed() else {
            return;
        };
        let given = Given::<L, _> {
            app: self.app.clone(),
            common: Arc::clone(&self.common),
            limits: self.limits,
            handshake_timeout: self.handshake_timeout,
            attach: Arc::clone(&self.attach),
            streams: Streams::new(self.tasks.clone()),
        };
        drop(tokio::spawn(Conn::new(io, peer, given, (guard, permit))));
    }
}

impl<L: Listener, S> fmt::Debug for Serve<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener.local_addr().ok())
            .field("connection_limit", &self.connection_limit)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);
const IDLE_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
const PERMITS_MOST: usize = Semaphore::MAX_PERMITS;
