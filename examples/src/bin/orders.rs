//! A small shop: takes orders over HTTP, each of which takes its time, and loses none of
//! them when it is stopped.
//!
//! Run with `cargo run -p examples --bin orders`, then
//! `curl -d '{"item":"tea","ms":3000}' -H 'content-type: application/json' localhost:8080/orders`
//! and press Ctrl-C (or send SIGTERM) while that is under way: the order is finished, the
//! answer arrives, and the report says what happened.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use lifecycle::{Lifecycle, Report, StopTimeout};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Order {
    item: String,
    /// How long it takes to prepare, in milliseconds.
    #[serde(default)]
    ms: u64,
}

/// The orders taken so far, by number.
type Book = Arc<Mutex<BTreeMap<usize, Order>>>;

async fn place(State(book): State<Book>, Json(order): Json<Order>) -> (StatusCode, String) {
    sleep(Duration::from_millis(order.ms)).await;
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    let number = book.len() + 1;
    book.insert(number, order);
    (StatusCode::CREATED, format!("order {number} is ready\n"))
}

async fn show(
    State(book): State<Book>,
    Path(number): Path<usize>,
) -> Result<Json<Order>, StatusCode> {
    let book = book.lock().unwrap_or_else(PoisonError::into_inner);
    book.get(&number).cloned().map(Json).ok_or(StatusCode::NOT_FOUND)
}

#[tokio::main]
async fn main() -> Result<Report, Box<dyn Error>> {
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    life.serve_probes().await?;
    // Under systemd the one grace period counts, whatever the unit's `TimeoutStopSec` is.
    life.notify_systemd(StopTimeout::Extend).await;
    let book = Book::default();
    let app = Router::new()
        .route("/orders", post(place))
        .route("/orders/{number}", get(show))
        .with_state(book.clone())
        .merge(examples::routes::routes());
    let listener = examples::listen().await?;
    life.spawn("http", lifecycle_tower::serve(listener, app));
    let handle = life.handle();
    life.on_close("book", async move {
        let orders = book.lock().unwrap_or_else(PoisonError::into_inner).len();
        handle.note(format!("orders in the book: {orders}"));
    });
    examples::say_ready();
    Ok(life.run().await?)
}
