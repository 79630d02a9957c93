//! The layer: makes the service that counts requests. Its page says what it cannot do.

use std::sync::Arc;

use lifecycle::{Handle, Kind};
use tower_layer::Layer;

use crate::reject::Refusal;
use crate::service::{DrainService, Names, Settings};
use crate::stream::DrainToken;

/// What of a drain can be had under another server: axum's own, tonic's, any that takes a
/// tower service.
///
/// It counts requests until their bodies end and names them, so that the drain waits for them
/// and the report knows them; tells HTTP/1 clients to leave from the cause on; ends event
/// streams at the drain ([`StreamPolicy`](crate::StreamPolicy)); on request, gives handlers a
/// [`DrainToken`] ([`with_token`](Self::with_token)) and refuses late requests
/// ([`refuse_late`](Self::refuse_late)). Put it outermost, and once: two of them count twice
/// unless the outer one gives tokens.
///
/// # Under axum's server
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<lifecycle::Report, Box<dyn std::error::Error>> {
/// use axum::{Router, routing::get};
/// use lifecycle::Lifecycle;
/// use lifecycle_tower::{DrainLayer, Refusal};
///
/// let mut life = Lifecycle::from_env()?;
/// life.serve_probes().await?;
/// let handle = life.handle();
/// let layer = DrainLayer::new(&handle).refuse_late(Refusal::new());
/// let app = Router::new().route("/", get(|| async { "hello" })).layer(layer);
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
/// life.spawn("http", async move {
///     axum::serve(listener, app).with_graceful_shutdown(handle.draining()).await
/// });
/// # Ok(
/// life.run().await?
/// # ) }
/// ```
/// Under tonic's it is `Server::builder().layer(layer)` and
/// `serve_with_shutdown(addr, handle.draining())`.
///
/// # What is missing
/// A layer sees requests, not connections, and what a server does to those at the drain is up
/// to it. [`serve`](crate::serve()) does all of this; under axum's server or tonic's:
///
/// * *GOAWAY*: the server's own `draining` future sends it, all at once when the drain
///   begins; in the lame duck HTTP/2 clients are told nothing, since hyper strips
///   `Connection` from their responses.
/// * *Idle connections*: hyper closes them the moment the drain begins. A client that was just
///   sending its next request loses it; under `serve` a connection gets its second.
/// * *Half a head, an HTTP/2 greeting without more*: nothing bounds them. Axum waits for ever
///   for a client that has sent half a head.
/// * *Peers that do not read or do not send on*: nothing bounds those either, nor HTTP/2 peers
///   that do not answer.
/// * *Upgraded sockets*: axum and tonic forget them. A WebSocket is not waited for and not
///   ended; hold a guard of [`Handle::enter`](lifecycle::Handle::enter) in its handler, and
///   wait on the token.
/// * *The accept queue*: connections that the kernel has accepted and the server has not are
///   reset when the listener closes.
/// * *The last byte*: a request is in flight until its body has ended, not until it is with
///   the socket. The server's own shutdown covers what it still buffers.
/// * *A deadline*: both servers wait for every connection without one. As a component of the
///   lifecycle the server is aborted at the end of the cancel window, and that is the bound for
///   all of the above: the report names the component as cut, and the exit code is 3. What the
///   server has spawned (every connection is a task) ends with the runtime.
///
/// The example `04_layer_only` is played the drill's scenarios; `tests/e2e/layer_only.rs` lists
/// those that it passes and, with what is seen, those that it cannot.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lifecycle_tower::DrainLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let life = lifecycle::Lifecycle::builder().build_local()?;
/// let service = ServiceBuilder::new()
///     .layer(DrainLayer::new(&life.handle()))
///     .service_fn(|_: http::Request<String>| async {
///         Ok::<_, std::convert::Infallible>(http::Response::new("hello".to_owned()))
///     });
/// let response = service.oneshot(http::Request::new(String::new())).await?;
/// assert_eq!(life.handle().blockers().len(), 1, "in flight until its body has ended");
/// drop(response);
/// assert!(life.handle().blockers().is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put around a service"]
pub struct DrainLayer {
    settings: Settings,
}

impl DrainLayer {
    /// A layer whose requests the drain of that lifecycle waits for. Make one and clone it.
    pub fn new(handle: &Handle) -> Self {
        handle.listening();
        let requests = handle.gate(Kind::Request);
        let (handle, names, extras) = (handle.clone(), Names::Kept, None);
        Self { settings: Settings { handle, requests, names, extras } }
    }

    /// Counts requests without noting their names and ages: cheaper (`cargo bench -p benches
    /// --bench layer` says by how much), and a drain that can say how many it waits for, but
    /// not whom.
    pub fn count_only(self) -> Self {
        Self { settings: Settings { names: Names::Dropped, ..self.settings } }
    }

    /// Puts a [`DrainToken`] into the extensions of every request. Costs up to
    /// three allocations a request, so it is asked for; [`serve`](crate::serve()) always does it.
    pub fn with_token(mut self) -> Self {
        let token = DrainToken::new(self.settings.handle.clone());
        self.settings.extras.get_or_insert_default().token = Some(token);
        self
    }

    /// Refuses requests that come once the drain has begun ([`Refusal`] says how), in place of
    /// serving them. In the lame duck all are served.
    ///
    /// For balancers that keep sending on connections that they hold and do not mind a 503:
    /// most clients do, and a request that is served is never lost. Without effect under
    /// [`serve`](crate::serve()), which serves what comes on a connection that it holds. A
    /// refused request is in flight until it has its answer, as any other: at most for
    /// the time that its body may take.
    pub fn refuse_late(mut self, refusal: Refusal) -> Self {
        self.settings.extras.get_or_insert_default().refusal = Some(refusal);
        self
    }

    /// How many requests are in flight, bodies included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.settings.requests.in_flight()
    }
}

impl<S> Layer<S> for DrainLayer {
    type Service = DrainService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DrainService::new(inner, Arc::new(self.settings.clone()))
    }
}
