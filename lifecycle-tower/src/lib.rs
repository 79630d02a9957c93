//! Drains HTTP without losing a request: [`serve()`], a loop that owns its connections, and
//! [`DrainLayer`], for what can be done under another server.
//!
//! ```no_run
//! use lifecycle::{Lifecycle, Report};
//! # #[cfg(feature = "axum")]
//! use axum::{Router, routing::get};
//!
//! # #[cfg(feature = "axum")]
//! #[tokio::main]
//! async fn main() -> Result<Report, Box<dyn std::error::Error>> {
//!     let mut life = Lifecycle::from_env()?; // signals are caught from here on
//!     life.serve_probes().await?; // /livez /readyz /startupz
//!     let app = Router::new().route("/", get(|| async { "hello" }));
//!     let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
//!     life.spawn("http", lifecycle_tower::serve(listener, app));
//!     Ok(life.run().await?)
//! }
//! # #[cfg(not(feature = "axum"))]
//! # fn main() {}
//! ```
//!
//! [`serve()`] takes TCP and Unix sockets ([`OwnedUnixListener`] looks after its file), with
//! the feature `tls` TLS over either, and any [`Listener`] of your own; several on one
//! lifecycle are closed together.
//!
//! # What happens at a stop
//!
//! From the cause on (the lame duck) connections are still accepted and every request is
//! served; HTTP/1 responses say `Connection: close`, so that clients and balancers move
//! away of themselves. At the drain the accept queue is swept, the listener closes,
//! HTTP/2 connections get GOAWAY, event streams end, handlers of upgraded sockets see
//! their [`DrainToken`]; a request that still arrives on a connection that we hold is
//! served. A connection without a request is closed once it has been silent for
//! [`idle_drain_timeout`](Serve::idle_drain_timeout), counted from its last byte. At the
//! hard stop the token fires a second time and upgraded HTTP/1 sockets return an error; at the
//! end of the cancel window what is left is dropped, named in the report.
//!
//! # gRPC
//!
//! tonic's routes are served as they are, by this loop and without tonic's own server:
//! `serve(listener, Routes::new(GreeterServer::new(greeter)))`. Methods find their
//! [`DrainToken`] in `Request::extensions`. At the drain calls and streams are let finish,
//! unless a [`StreamPolicy`] ends them. What is left at the hard stop has the first three
//! quarters of the cancel window (half of a short one) to end by itself; the rest is for the
//! status that it gets otherwise: UNAVAILABLE, in the trailers of a stream or as the whole answer of a
//! call whose handler is still at work (and is dropped). The status cannot reach a client
//! that has not taken the messages before it; such a call ends with its connection. Either
//! way it counts as cut. Told by the content type `application/grpc` and HTTP/2; gRPC-Web
//! (also translated by `tonic-web`) keeps its status in the body and is cut like any other
//! response. With the feature `grpc-health`, `GrpcHealth` is the health service that follows
//! readiness.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc(test(attr(deny(warnings))))]

mod body;
mod chance;
mod future;
mod grpc;
#[cfg(feature = "grpc-health")]
mod grpc_health;
mod head;
mod layer;
mod outcome;
mod reject;
#[cfg(feature = "serve")]
mod serve;
mod service;
#[cfg(feature = "serve")]
mod spread;
mod stream;
#[cfg(feature = "serve")]
mod sync;

pub use body::DrainBody;
pub use future::DrainFuture;
#[cfg(feature = "grpc-health")]
#[cfg_attr(docsrs, doc(cfg(feature = "grpc-health")))]
pub use grpc_health::{GrpcHealth, Serving};
pub use layer::DrainLayer;
pub use reject::Refusal;
#[cfg(all(feature = "serve", unix))]
pub use serve::OwnedUnixListener;
#[cfg(feature = "serve")]
pub use serve::{Listener, Negotiated, PeerAddr, Serve, serve};
#[cfg(feature = "tls")]
pub use serve::{TlsListener, TlsStream};
pub use service::DrainService;
pub use stream::{DrainToken, PolicyFuture, StreamPolicy, WithStreamPolicy};
/// The rustls whose configuration `TlsListener` takes: for the right version of it.
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
