//! Axum in ten lines: probes on 9090, the service on 8080, a drain that loses nothing.
//!
//! Run with `cargo run -p examples --bin 01_axum`; stop with Ctrl-C or SIGTERM.

use axum::{Router, routing::get};
use lifecycle::{Lifecycle, Report};

#[tokio::main]
async fn main() -> Result<Report, Box<dyn std::error::Error>> {
    examples::init_logs();
    let mut life = Lifecycle::from_env()?; // signals are caught from here on
    life.serve_probes().await?; // /livez /readyz /startupz
    let app = Router::new().route("/", get(|| async { "hello" }));
    life.spawn("http", lifecycle_tower::serve(examples::listen().await?, app));
    examples::say_ready();
    Ok(life.run().await?) // the report prints itself and gives the exit code
}
