//! Under axum's own server: what a layer alone can give, and late requests refused.
//!
//! Run with `cargo run -p examples --bin 04_layer_only`; stop with Ctrl-C or SIGTERM. What is
//! missing, against `lifecycle_tower::serve`, is on the page of `DrainLayer`: above all, a
//! client that has sent half a head holds this server until the deadline.

use lifecycle::{Lifecycle, Report};
use lifecycle_tower::{DrainLayer, Refusal};

#[tokio::main]
async fn main() -> Result<Report, Box<dyn std::error::Error>> {
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    life.serve_probes().await?;
    let handle = life.handle();
    let layer = DrainLayer::new(&handle)
        .with_token() // for handlers that hold a WebSocket
        .refuse_late(Refusal::new());
    let app = examples::routes::routes().layer(layer);
    let listener = examples::listen().await?;
    // A component as any other: aborted when it has not ended by the end of the cancel window.
    life.spawn("http", async move {
        axum::serve(listener, app).with_graceful_shutdown(handle.draining()).await
    });
    examples::say_ready();
    Ok(life.run().await?)
}
