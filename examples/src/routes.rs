//! Routes that put a connection into every state that a stop has to deal with.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, Query};
use axum::response::Response;
use axum::response::sse::{Event, Sse};
use axum::routing::{any, get, post};
use futures_util::{Stream, StreamExt, stream};
use lifecycle_tower::DrainToken;
use serde::Deserialize;
use tokio::time::{interval, sleep};

#[derive(Deserialize)]
struct Ms {
    #[serde(default)]
    ms: u64,
}

#[derive(Deserialize)]
struct Size {
    #[serde(default)]
    bytes: usize,
}

/// All of them.
pub fn routes() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/work", get(work))
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/big", get(big))
        .route("/events", get(events))
        .route("/ws", any(websocket))
        .route("/block", get(block))
        .route("/pool", get(pool))
        .route("/panic", get(panic))
}

/// `GET /work?ms=N` answers after N milliseconds.
async fn work(Query(Ms { ms }): Query<Ms>) -> String {
    sleep(Duration::from_millis(ms)).await;
    format!("worked {ms} ms\n")
}

/// `GET /big?bytes=N` answers with N bytes in chunks.
async fn big(Query(Size { bytes }): Query<Size>) -> Body {
    const CHUNK: usize = 64 * 1024;
    static ZEROS: [u8; CHUNK] = [b'0'; CHUNK];
    let chunks = stream::unfold(bytes, |left| async move {
        let size = left.min(CHUNK);
        let chunk = Bytes::from_static(&ZEROS[..size]);
        (size > 0).then_some((Ok::<_, Infallible>(chunk), left - size))
    });
    Body::from_stream(chunks)
}

/// `GET /events` ticks every 100 ms for ever; the drain ends it.
async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ticks = stream::unfold(interval(Duration::from_millis(100)), |mut every| async {
        every.tick().await;
        Some(((), every))
    });
    Sse::new(
        ticks.enumerate().map(|(n, ())| Ok(Event::default().event("tick").data(n.to_string()))),
    )
}

/// `GET /ws` echoes, and closes with 1001 (going away) at the drain.
async fn websocket(upgrade: WebSocketUpgrade, Extension(token): Extension<DrainToken>) -> Response {
    upgrade.on_upgrade(|socket| echo(socket, token))
}

async fn echo(mut socket: WebSocket, token: DrainToken) {
    loop {
        let message = tokio::select! {
            message = socket.recv() => message,
            () = token.draining() => {
                let reason = "shutting down".into();
                let goodbye = Message::Close(Some(CloseFrame { code: close_code::AWAY, reason }));
                if socket.send(goodbye).await.is_ok() {
                    // The client's own close, or a second.
                    let closed = async { while let Some(Ok(_)) = socket.recv().await {} };
                    drop(tokio::time::timeout(Duration::from_secs(1), closed).await);
                }
                return;
            }
        };
        match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// `GET /block?ms=N` blocks its runtime thread: what nobody should do.
#[allow(clippy::disallowed_methods, reason = "blocking the thread is the point")]
async fn block(Query(Ms { ms }): Query<Ms>) -> String {
    std::thread::sleep(Duration::from_millis(ms));
    format!("blocked {ms} ms\n")
}

/// `GET /pool?ms=N` blocks in `spawn_blocking`, which cannot be aborted.
#[allow(clippy::disallowed_methods, reason = "blocking the thread is the point")]
async fn pool(Query(Ms { ms }): Query<Ms>) -> String {
    let blocked =
        tokio::task::spawn_blocking(move || std::thread::sleep(Duration::from_millis(ms)));
    match blocked.await {
        Ok(()) => format!("blocked {ms} ms\n"),
        Err(error) => format!("{error}\n"),
    }
}

/// `GET /panic` panics: the connection closes, the process lives.
async fn panic() -> String {
    panic!("asked to")
}
