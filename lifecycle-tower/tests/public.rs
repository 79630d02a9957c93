//! What users may rely on of the public types: `Send`, `Sync`, `Debug`, size.

use std::convert::Infallible;
use std::fmt::Debug;

use http::{Request, Response};
use lifecycle::Lifecycle;
use lifecycle_tower::{
    DrainBody, DrainFuture, DrainLayer, DrainService, DrainToken, Negotiated, PeerAddr,
    PolicyFuture, Refusal, Serve, StreamPolicy, WithStreamPolicy,
};
use tower::{Layer, Service};

fn shared<T: Send + Sync + Debug>() {}

#[test]
fn public_types_are_send_sync_and_debug() {
    shared::<DrainLayer>();
    shared::<DrainService<()>>();
    shared::<DrainFuture<(), String>>();
    shared::<DrainToken>();
    shared::<PeerAddr>();
    shared::<PolicyFuture<()>>();
    shared::<Refusal>();
    shared::<Serve<tokio::net::TcpListener, ()>>();
    shared::<StreamPolicy>();
    shared::<WithStreamPolicy<()>>();
    shared::<Negotiated>();
    #[cfg(unix)]
    shared::<lifecycle_tower::OwnedUnixListener>();
    #[cfg(feature = "tls")]
    shared::<lifecycle_tower::TlsListener<tokio::net::TcpListener>>();
    #[cfg(feature = "tls")]
    shared::<lifecycle_tower::TlsStream<tokio::net::TcpStream>>();
    fn sent<T: Send + Debug>() {}
    sent::<DrainBody<()>>();
}

#[tokio::test]
async fn the_layers_future_is_at_most_64_bytes_larger() {
    let life = Lifecycle::builder().build_local().expect("defaults");
    let inner = |_: Request<String>| async { Ok::<_, Infallible>(Response::new(String::new())) };
    let bare = size_of_val(&tower::service_fn(inner).call(Request::new(String::new())));
    let mut service = DrainLayer::new(&life.handle()).layer(tower::service_fn(inner));
    let layered = size_of_val(&service.call(Request::new(String::new())));
    assert!(layered <= bare + 64, "{bare} bytes became {layered}");
}
