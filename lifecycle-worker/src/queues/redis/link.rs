//! The way to the server: found, opened, lost and opened again.
//!
//! All keys of a queue are in one slot, so that in a cluster one node has all of it. The link
//! asks any node for a key of the queue and follows `MOVED`: a cluster needs no other client.
//! A slot that is being moved answers some calls with `ASK` or `TRYAGAIN`; they fail, as on a
//! broken connection, and are tried again by the caller.
//!
//! Not here: which script, and what its answer means.
//!
//! # Invariants
//! 1. Nothing waits here but for the server, and every wait is under the caller's deadline.
//! 2. The client's own limits are off (it gives up on any answer after 500 ms unless told): a
//!    limit of ours knows what was asked, and what is to become of it.
//! 3. A call that failed is not repeated here; one that comes later opens the link anew.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, Script, Value};
use redis::{RedisError, ServerErrorKind};
use tokio::time::{Instant, timeout_at};

use super::codec;
use super::fault::{Fault, VERSION_LEAST};

/// The way to the node that has the queue.
#[derive(Debug)]
pub(super) struct Link {
    seeds: Vec<Client>,
    /// A key of the queue: who has it, has the queue.
    probe: String,
    state: Mutex<State>,
    /// Held while one caller opens the link; the others wait for that.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    node: Option<Node>,
    /// Which opening it is, so that a late failure does not close a newer one.
    opened: u64,
    idle: Vec<Waiter>,
}

/// A node, and the connection for commands that are answered at once.
#[derive(Clone, Debug)]
pub(super) struct Node {
    client: Client,
    commands: MultiplexedConnection,
    opening: u64,
}

/// A connection of its own for commands that block, and its id there.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) connection: MultiplexedConnection,
    pub(super) id: i64,
    opening: u64,
}

/// By when, and how long that was at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    at: Instant,
    bound: Duration,
}

impl Limit {
    pub(super) fn of(bound: Duration) -> Self {
        Self { at: Instant::now() + bound, bound }
    }

    /// The same, but not after that.
    pub(super) fn before(self, at: Instant) -> Self {
        Self { at: self.at.min(at), ..self }
    }

    /// When the first of so many has had its part of what is left.
    fn share(self, of: usize) -> Instant {
        let now = Instant::now();
        let left = self.at.saturating_duration_since(now);
        now + left / u32::try_from(of).unwrap_or(u32::MAX).max(1)
    }

    pub(super) async fn hold<T, E: Into<Fault>>(
        self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Fault> {
        match timeout_at(self.at, call).await {
            Ok(answer) => answer.map_err(Into::into),
            Err(_) => Err(Fault::TimedOut(self.bound)),
        }
    }
}

impl Link {
    pub(super) fn new(seeds: Vec<Client>, probe: String) -> Self {
        Self { seeds, probe, state: Mutex::default(), opening: tokio::sync::Mutex::default() }
    }

    /// The node, opened if it is not.
    pub(super) async fn node(&self, limit: Limit) -> Result<Node, Fault> {
        if let Some(node) = self.open_node()? {
            return Ok(node);
        }
        let opening = async { Ok::<_, Fault>(self.opening.lock().await) };
        let _opening = limit.hold(opening).await?;
        if let Some(node) = self.open_node()? {
            return Ok(node);
        }
        let (client, commands) = Box::pin(self.open(limit)).await?;
        let mut state = self.state();
        if state.closed {
            return Err(Fault::Closed);
        }
        state.opened += 1;
        let node = Node { client, commands, opening: state.opened };
        state.node = Some(node.clone());
        Ok(node)
    }

    fn open_node(&self) -> Result<Option<Node>, Fault> {
        let state = self.state();
        if state.closed { Err(Fault::Closed) } else { Ok(state.node.clone()) }
    }

    /// The first seed that leads to the queue, or why the last one does not. One that says nothing
    /// for its share of the time does not stand for the others, which are asked beside it: who is
    /// only slow has all of the time.
    async fn open(&self, limit: Limit) -> Result<(Client, MultiplexedConnection), Fault> {
        let mut last = Fault::Redis(RedisError::from((
            ErrorKind::InvalidClientConfig,
            "no node of the cluster was given",
        )));
        let mut asked = FuturesUnordered::new();
        for (at, seed) in self.seeds.iter().enumerate() {
            asked.push(Box::pin(self.follow(seed.clone())));
            match timeout_at(limit.share(self.seeds.len() - at), asked.next()).await {
                Ok(Some(Ok(found))) => return Ok(found),
                Ok(Some(Err(fault))) => last = fault,
                Ok(None) | Err(_) => {}
            }
        }
        let late = |_| Fault::TimedOut(limit.bound);
        while let Some(answer) = timeout_at(limit.at, asked.next()).await.map_err(late)? {
            match answer {
                Ok(found) => return Ok(found),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    /// From that node to the one that has the queue.
    async fn follow(&self, mut client: Client) -> Result<(Client, MultiplexedConnection), Fault> {
        // Bound: a cluster that agrees with itself needs one step.
        for _ in 0..REDIRECTS_MOST {
            let mut connection = connect(&client).await.map_err(not_redis)?;
            let probed = redis::cmd("EXISTS").arg(&self.probe).exec_async(&mut connection).await;
            let Err(error) = probed else {
                check_version(&mut connection).await?;
                return Ok((client, connection));
            };
            match error.redirect_node() {
                Some((address, _)) if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) => {
                    client = redirected(&client, address)?;
                }
                _ => return Err(not_redis(error)),
            }
        }
        let what = (ErrorKind::ClusterConnectionNotFound, "its nodes send each to another");
        Err(Fault::Redis(what.into()))
    }

    /// What was opened then is of no use any more.
    pub(super) fn lost(&self, node: &Node) {
        let mut state = self.state();
        if state.node.as_ref().is_some_and(|other| other.opening == node.opening) {
            state.node = None;
            state.idle.clear();
        }
    }

    /// Lets go of everything, for good.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.node = None;
        state.idle.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// A connection to wait on, to the same node.
    pub(super) async fn waiter(&self, node: &Node) -> Result<Waiter, Fault> {
        let idle = self.state().idle.pop();
        if let Some(waiter) = idle.filter(|waiter| waiter.opening == node.opening) {
            return Ok(waiter);
        }
        let mut connection = connect(&node.client).await?;
        let id = redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await?;
        Ok(Waiter { connection, id, opening: node.opening })
    }

    /// Keeps a connection on which nothing is under way for the next claim that waits.
    pub(super) fn keep(&self, waiter: Waiter) {
        let mut state = self.state();
        let current = state.node.as_ref().is_some_and(|node| node.opening == waiter.opening);
        if current && state.idle.len() < WAITERS_MOST {
            state.idle.push(waiter);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here can panic halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Calls a script, and loads it first where the server does not know it.
    ///
    /// The future owns all it needs: it may be kept beyond the call that began it.
    pub(super) fn script(
        &self,
        script: &Arc<Script>,
        call: Cmd,
    ) -> impl Future<Output = Result<Value, RedisError>> + Send + 'static {
        let (mut connection, script) = (self.commands.clone(), Arc::clone(script));
        async move {
            match call.query_async(&mut connection).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    script.load_async(&mut connection).await?;
                    call.query_async(&mut connection).await
                }
                answer => answer,
            }
        }
    }

    pub(super) async fn command(&self, call: &Cmd) -> Result<Value, RedisError> {
        call.query_async(&mut self.commands.clone()).await
    }
}

async fn connect(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let config = config.set_connection_timeout(None);
    Box::pin(client.get_multiplexed_async_connection_with_config(&config)).await
}

async fn check_version(connection: &mut MultiplexedConnection) -> Result<(), Fault> {
    let info: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    match codec::version(&info) {
        Some((_, major)) if major >= VERSION_LEAST => Ok(()),
        Some((version, _)) => Err(Fault::Old(version.to_owned())),
        None => Err(Fault::Shape),
    }
}

fn not_redis(error: RedisError) -> Fault {
    match error.kind() {
        ErrorKind::Parse => Fault::NotRedis(error),
        _ => Fault::Redis(error),
    }
}

/// The same client on the node that `MOVED` names, which may leave out a host that it shares.
fn redirected(client: &Client, address: &str) -> Result<Client, Fault> {
    let info = client.get_connection_info();
    let misdirected =
        || Fault::Redis((ErrorKind::ClusterConnectionNotFound, "a node of no address").into());
    let (host, port) = address.rsplit_once(':').ok_or_else(misdirected)?;
    let port = port.parse().map_err(|_| misdirected())?;
    let (ConnectionAddr::Tcp(own, _) | ConnectionAddr::TcpTls { host: own, .. }) = info.addr()
    else {
        return Err(misdirected());
    };
    let host = if host.is_empty() || host == "?" { own } else { host }.to_owned();
    let to = match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    Ok(Client::open(info.clone().set_addr(to))?)
}

const REDIRECTS_MOST: usize = 5;
const WAITERS_MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_keeps_all_but_the_address() {
        let client = Client::open("redis://ada:secret@10.0.0.1:7000").unwrap();
        for (address, to) in [
            ("10.0.0.2:7001", "10.0.0.2:7001"),
            (":7002", "10.0.0.1:7002"),
            ("::1:7003", "::1:7003"),
        ] {
            let moved = redirected(&client, address).unwrap();
            assert_eq!(moved.get_connection_info().addr().to_string(), to);
            assert_eq!(moved.get_connection_info().redis_settings().password(), Some("secret"));
        }
        assert!(redirected(&client, "nowhere").is_err());
        assert!(redirected(&client, "10.0.0.2:port").is_err());
    }
}
