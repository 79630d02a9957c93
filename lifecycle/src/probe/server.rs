//! The probe server, on the control thread: a blocked application runtime does not blind it.
//!
//! # Invariants
//! 1. It is the last thing to stop, just before the report; who waits with `/drainz` then
//!    still gets the answer.
//! 2. A new connection is always taken: a crowd that is mute or reads nothing loses its oldest
//!    members to it, never the platform its answer.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::service::Probes;
use crate::handle::Handle;
use crate::shared::Shared;
use crate::sync::{AtomicBool, AtomicUsize, Ordering};

/// The servers on their listeners; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Server {
    listeners: JoinSet<()>,
    stop: watch::Sender<bool>,
    common: Common,
}

/// What every connection needs.
#[derive(Clone, Debug)]
struct Common {
    probes: Probes,
    stop: watch::Receiver<bool>,
    /// Connections on which somebody waits for the drain, or has waited.
    waiting: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let (stop, told) = watch::channel(false);
        let probes = Probes::new(Handle::new(shared));
        let common = Common { probes, stop: told, waiting: Arc::default() };
        Self { listeners: JoinSet::new(), stop, common }
    }

    /// Serves on a listener that is already in non-blocking mode.
    pub(crate) fn serve(&mut self, listener: TcpListener) {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                self.listeners.spawn(accept(listener, self.common.clone()));
            }
            Err(error) => {
                tracing::error!(target: "lifecycle", %error, "the probe listener cannot be used");
            }
        }
    }

    /// Closes the listeners. Who has waited for the drain is answered, for a moment at most.
    pub(crate) async fn end(mut self, left: Duration) {
        self.stop.send_replace(true);
        // Ordering: Relaxed, one thread.
        if self.common.waiting.load(Ordering::Relaxed) > 0 {
            let all = async { while self.listeners.join_next().await.is_some() {} };
            drop(timeout(left.min(END_MOST), all).await);
        }
    }
}

/// A listener in non-blocking mode. One on `[::]` takes IPv4 as well, whatever the system's
/// default is.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    // std's queue of 128 makes one of many at once wait for a second: the kubelet's timeout.
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn accept(listener: tokio::net::TcpListener, common: Common) {
    let mut connections = JoinSet::new();
    let mut by_age = VecDeque::new();
    let mut stop = common.stop.clone();
    loop {
        tokio::select! {
            biased;
            () = told(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    make_room(&mut by_age);
                    let waiter = Arc::new(Waiter::new(Arc::clone(&common.waiting)));
                    let connection = connection(stream, common.clone(), Arc::clone(&waiter));
                    by_age.push_back((connections.spawn(connection), Arc::downgrade(&waiter)));
                }
                // Out of descriptors, or a client that has already gone: never a spin.
                Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The oldest goes when there are too many: a prober asks at once, so it is one that is mute.
/// Those who wait for the drain are spared, up to half of the places.
fn make_room(by_age: &mut VecDeque<(AbortHandle, Weak<Waiter>)>) {
    by_age.retain(|(connection, _)| !connection.is_finished());
    while by_age.len() >= CONNECTIONS_MOST {
        let waits = |waiter: &Weak<Waiter>| waiter.upgrade().is_some_and(|one| one.waits());
        let waiting = by_age.iter().filter(|(_, waiter)| waits(waiter)).count();
        let spared = waiting <= CONNECTIONS_MOST / 2;
        let oldest = by_age.iter().position(|(_, waiter)| !(spared && waits(waiter)));
        if let Some((oldest, _)) = by_age.remove(oldest.unwrap_or(0)) {
            oldest.abort();
        }
    }
}

async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn connection(stream: tokio::net::TcpStream, common: Common, waiter: Arc<Waiter>) {
    let Common { probes, mut stop, .. } = common;
    let service = service_fn(|request| {
        let asked = Probes::asked(&request);
        let waits = asked.waits();
        if waits {
            waiter.begin();
        }
        let answer = probes.respond(asked);
        async move {
            let mut response = answer.await?;
            if waits {
                // The process is about to go, and the answer says so whoever is faster.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        // `printf "GET /livez ..." | nc -N` closes its half at once, and waits for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let mut ends = Instant::now() + CONNECTION_TIMEOUT;
    let mut stopping = false;
    loop {
        tokio::select! {
            _ = served.as_mut() => return,
            () = told(&mut stop), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
            // A client that reads nothing is dropped; one that waits for the drain is not.
            () = sleep_until(ends) => {
                if !waiter.waits() {
                    return;
                }
                ends = Instant::now() + CONNECTION_TIMEOUT;
            }
        }
    }
}

/// One connection's place among those that wait.
#[derive(Debug)]
struct Waiter {
    waits: AtomicBool,
    all: Arc<AtomicUsize>,
}

impl Waiter {
    fn new(all: Arc<AtomicUsize>) -> Self {
        Self { waits: AtomicBool::new(false), all }
    }

    fn begin(&self) {
        // Ordering: Relaxed, one thread; and so is what follows.
        if !self.waits.swap(true, Ordering::Relaxed) {
            self.all.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waits(&self) -> bool {
        // Ordering: Relaxed, as above.
        self.waits.load(Ordering::Relaxed)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.waits() {
            // Ordering: Relaxed, as in `begin`.
            self.all.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A platform asks over a few; hundreds at once are answered all the same.
const CONNECTIONS_MOST: usize = 512;
/// Connections that wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 1_024;
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// For the head of a request, and between two on one connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// For a whole connection; a probing platform opens another.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// What an answer under way may take at the end.
const END_MOST: Duration = Duration::from_millis(100);
