//! The servers that are compared: ours, axum's, and an accept loop under hyper-util's
//! `GracefulShutdown`; all with the same app.

use std::fmt::Debug;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use axum::serve::Listener;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::pool::pin;
use crate::production::production;

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Stack {
    /// `lifecycle_tower::serve` under a lifecycle with a control thread, as in production.
    Ours,
    /// `axum::serve` with graceful shutdown.
    Axum,
    /// hyper's connections in a loop, as hyper-util's documentation has it.
    Hyper,
}

/// A server that runs.
#[derive(Debug)]
pub struct Serving {
    stop: Stop,
    /// The moment at which it had returned.
    ended: JoinHandle<Instant>,
}

/// A server on a thread and a core of its own.
#[derive(Debug)]
pub struct OneCore {
    addr: SocketAddr,
    runtime: Handle,
    stop: Stop,
    ended: Receiver<Instant>,
}

#[derive(Debug)]
enum Stop {
    Ours(lifecycle::Handle),
    Told(oneshot::Sender<()>),
}

/// `GET /` with six bytes, `POST /echo` with what it was sent. Its last call is what the
/// documentation of `lifecycle_tower::serve` asks for, and what `axum::serve` does by itself.
pub fn app() -> Router {
    Router::new()
        .route("/", get(|| async { "hello\n" }))
        .route("/echo", post(|body: Bytes| async move { body }))
        .with_state(())
}

impl Stack {
    /// In the tables, and for a child on its command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "lifecycle-tower",
            Self::Axum => "axum",
            Self::Hyper => "hyper-util",
        }
    }

    /// That of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Ours, Self::Axum, Self::Hyper].into_iter().find(|stack| stack.name() == name)
    }

    /// Serves `app`, from within a runtime.
    ///
    /// # Panics
    /// Without one.
    pub fn start<L>(self, listener: L, app: Router) -> Serving
    where
        L: Listener<Addr: Debug> + lifecycle_tower::Listener,
    {
        if self == Self::Ours {
            return ours(listener, app);
        }
        let (told, signal) = oneshot::channel::<()>();
        let signal = async move { drop(signal.await) };
        let ended = if self == Self::Axum {
            let serving = axum::serve(listener, app).with_graceful_shutdown(signal);
            tokio::spawn(async move {
                serving.into_future().await.expect("it serves");
                Instant::now()
            })
        } else {
            tokio::spawn(async move {
                accept_until(listener, app, signal).await;
                Instant::now()
            })
        };
        Serving { stop: Stop::Told(told), ended }
    }
}

impl Serving {
    /// Tells it to shut down, and resolves to the moment at which it had returned.
    ///
    /// # Panics
    /// When it has not within a minute.
    pub async fn stopped(self) -> Instant {
        self.stop.tell();
        let ended = tokio::time::timeout(LIMIT, self.ended).await;
        ended.expect("it ends in time").expect("it does not panic")
    }
}

impl OneCore {
    /// A server of that kind, on a port of its own.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(stack: Stack) -> Self {
        let (started, start) = sync_channel(1);
        let (over, ended) = sync_channel(1);
        thread::spawn(move || {
            pin(SERVER_CORE);
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                // Connections inherit it, so that both sides send what they have at once.
                rustix::net::sockopt::set_tcp_nodelay(&listener, true).expect("it can be set");
                let addr = listener.local_addr().expect("it has an address");
                let Serving { stop, ended } = stack.start(listener, app());
                started.send((addr, Handle::current(), stop)).expect("it is waited for");
                over.send(ended.await.expect("it does not panic")).ok();
            });
        });
        let (addr, runtime, stop) = start.recv_timeout(LIMIT).expect("it starts");
        Self { addr, runtime, stop, ended }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has used of its processor.
    ///
    /// # Panics
    /// When it is stuck.
    #[must_use]
    pub fn used(&self) -> Duration {
        let (said, used) = sync_channel(1);
        self.runtime.spawn(async move {
            let used = clock_gettime(ClockId::ThreadCPUTime);
            said.send(Duration::new(
                used.tv_sec.unsigned_abs(),
                used.tv_nsec.unsigned_abs() as u32,
            ))
            .ok();
        });
        used.recv_timeout(LIMIT).expect("it is not stuck")
    }

    /// Stops it; how long that took.
    ///
    /// # Panics
    /// When it has not ended within a minute.
    #[must_use]
    pub fn stop(self) -> Duration {
        let told = Instant::now();
        self.stop.tell();
        self.ended.recv_timeout(LIMIT).expect("it ends in time") - told
    }
}

impl Stop {
    fn tell(self) {
        match self {
            Self::Ours(handle) => handle.shutdown("the bench"),
            Self::Told(told) => drop(told.send(())),
        }
    }
}

fn ours<L: lifecycle_tower::Listener>(listener: L, app: Router) -> Serving {
    let mut life = production();
    let handle = life.handle();
    life.spawn("http", lifecycle_tower::serve(listener, app));
    let ended = tokio::spawn(async move {
        let report = life.run().await.expect("it runs");
        let returned = Instant::now();
        assert_eq!(report.exit_code(), 0, "{report}");
        returned
    });
    Serving { stop: Stop::Ours(handle), ended }
}

async fn accept_until<L>(mut listener: L, app: Router, signal: impl Future<Output = ()>)
where
    L: Listener,
{
    let http = auto::Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    let mut signal = std::pin::pin!(signal);
    loop {
        let (io, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut signal => break,
        };
        let service = TowerToHyperService::new(app.clone());
        let conn = http.serve_connection_with_upgrades(TokioIo::new(io), service);
        let conn = graceful.watch(conn.into_owned());
        // What a connection fails of is its client's affair.
        tokio::spawn(async move { drop(conn.await) });
    }
    drop(listener);
    graceful.shutdown().await;
}

const LIMIT: Duration = Duration::from_secs(60);
/// The client's is the other.
pub(crate) const SERVER_CORE: usize = 0;
