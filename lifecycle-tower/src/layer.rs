//! The layer: makes the service that counts requests.

use lifecycle::{Gate, Handle, Kind};
use tower_layer::Layer;

use crate::service::{DrainService, Names};
use crate::stream::DrainToken;

/// Counts requests until their bodies end, names them, tells HTTP/1 clients to leave from
/// the cause of a shutdown on, ends event streams at the drain, and gives every request a
/// [`DrainToken`].
///
/// [`serve`](crate::serve()) does all of it by itself; use the layer only under another
/// server. It sees requests, not connections, so there it **cannot** close idle or slow
/// connections, send GOAWAY, wait for an upgraded socket, or bound a peer that does not
/// read: what those do to the drain is up to that server.
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
pub struct DrainLayer {
    handle: Handle,
    requests: Gate,
    token: DrainToken,
    names: Names,
}

impl DrainLayer {
    /// A layer whose requests the drain of that lifecycle waits for. Make one and clone it.
    #[must_use]
    pub fn new(handle: &Handle) -> Self {
        handle.listening();
        Self {
            handle: handle.clone(),
            requests: handle.gate(Kind::Request),
            token: DrainToken::new(handle.clone()),
            names: Names::Kept,
        }
    }

    /// Counts requests without noting their names and ages: cheaper (`cargo bench -p benches
    /// --bench layer` says by how much), and a drain that can say how many it waits for, but
    /// not whom.
    #[must_use]
    pub fn count_only(self) -> Self {
        Self { names: Names::Dropped, ..self }
    }

    /// How many requests are in flight, bodies included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.requests.in_flight()
    }
}

impl<S> Layer<S> for DrainLayer {
    type Service = DrainService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let (handle, requests) = (self.handle.clone(), self.requests.clone());
        DrainService::new(inner, handle, requests, self.token.clone(), self.names)
    }
}
