//! The routes of `target` and the front of `orders` behind plain `axum::serve` with its own
//! graceful shutdown: what `lifecycle-drill rollout --compare-with` is shown against.
//!
//! Run with `PORT=8080 cargo run -p examples --bin plain`. No lifecycle here: at SIGTERM the
//! listener closes at once, and readiness never fails while it can be asked.

use std::error::Error;

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let signal = signal(SignalKind::terminate())?;
    let listener = examples::listen().await?;
    let server = axum::serve(listener, app()).with_graceful_shutdown(caught(signal));
    examples::say_ready();
    Ok(server.await?)
}

async fn caught(mut signal: Signal) {
    signal.recv().await;
}

fn app() -> Router {
    let probes = ["/readyz", "/livez", "/startupz"];
    let router = Router::new().route("/orders", post(place)).merge(examples::routes::routes());
    probes.into_iter().fold(router, |router, path| router.route(path, get(|| async { "ok\n" })))
}

/// Takes an order, and forgets it: only its stop is looked at.
async fn place(Json(order): Json<serde_json::Value>) -> (StatusCode, Json<serde_json::Value>) {
    (StatusCode::ACCEPTED, Json(order))
}
