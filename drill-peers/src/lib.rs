//! The routes of the peers that take a tower service, and what all peers are told.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::response::sse::{Event, Sse};
use axum::routing::{any, get, post};
use axum::{Router, response::Response};
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep};

/// What a peer that knows a deadline is given, of the drill's grace of 6 s.
pub const DEADLINE: Duration = Duration::from_secs(4);
pub const CHUNK: Bytes = Bytes::from_static(&[b'0'; 64 * 1024]);

#[derive(Deserialize)]
pub struct Number {
    #[serde(default, alias = "ms")]
    pub bytes: u64,
}

/// Where to listen: `HOST` and `PORT`.
pub fn address() -> SocketAddr {
    let host = std::env::var("HOST").unwrap_or_else(|_| "127.0.0.1".into());
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".into());
    format!("{host}:{port}").parse().expect("HOST and PORT are an address")
}

/// SIGTERM or SIGINT, as axum's documentation has it. Caught from this call on.
pub fn told_to_stop() -> impl Future<Output = ()> {
    let mut term = signal(SignalKind::terminate()).expect("in a runtime");
    let mut int = signal(SignalKind::interrupt()).expect("in a runtime");
    async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    }
}

pub fn routes() -> Router {
    Router::new()
        .route("/readyz", get(|| async { "ok" }))
        .route("/livez", get(|| async { "ok" }))
        .route("/work", get(work))
        .route("/echo", post(|body: Bytes| async { body }))
        .route(
            "/big",
            get(|Query(n): Query<Number>| async move { Body::from_stream(chunks(n.bytes)) }),
        )
        .route("/events", get(events))
        .route("/ws", any(|upgrade: WebSocketUpgrade| async { websocket(upgrade) }))
        .route("/block", get(block))
        .route("/pool", get(pool))
        .route("/panic", get(panic))
}

/// So many bytes, in chunks.
pub fn chunks(bytes: u64) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    stream::unfold(bytes, |left| async move {
        let size = left.min(CHUNK.len() as u64);
        (size > 0).then(|| (Ok(CHUNK.slice(..size as usize)), left - size))
    })
}

async fn work(Query(time): Query<Number>) -> &'static str {
    sleep(Duration::from_millis(time.bytes)).await;
    "worked\n"
}

async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::unfold(interval(Duration::from_millis(100)), |mut every| async move {
        every.tick().await;
        Some((Ok(Event::default().data("tick")), every))
    }))
}

fn websocket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket: WebSocket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

async fn block(Query(time): Query<Number>) -> &'static str {
    std::thread::sleep(Duration::from_millis(time.bytes));
    "blocked\n"
}

async fn pool(Query(time): Query<Number>) -> &'static str {
    let blocks = move || std::thread::sleep(Duration::from_millis(time.bytes));
    tokio::task::spawn_blocking(blocks).await.expect("does not panic");
    "blocked\n"
}

async fn panic() -> &'static str {
    panic!("asked to")
}
