//! A gRPC service beside a plain route: tonic's routes around our own connections, since
//! tonic's server can neither be drained with a deadline nor end a stream at one.
//!
//! Run with `cargo run -p examples --bin 03_tonic`, then, without TLS:
//! `grpcurl -plaintext -proto work.proto -d '{"n": 3000}' localhost:8080 examples.Work/Once`
//! (the messages are in `src/grpc.rs`); stop with Ctrl-C or SIGTERM. Calls in flight are
//! finished, streams see the drain, and what is left at the deadline ends with UNAVAILABLE.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Path;
use axum::routing::{get, post};
use examples::grpc::WorkServer;
use lifecycle::{Lifecycle, Report};
use lifecycle_tower::serve;
use tonic::service::Routes;

#[tokio::main]
async fn main() -> Result<Report, Box<dyn std::error::Error>> {
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    life.serve_probes().await?;
    // tonic answers unknown paths with 200; beside plain routes 404 says more, and gRPC
    // clients read it as UNIMPLEMENTED all the same.
    let calls = Routes::new(WorkServer::default()).into_axum_router().reset_fallback();
    let app =
        calls.route("/work/{ms}", get(work)).route("/echo", post(|body: Bytes| async { body }));
    // Clients keep a gRPC connection for ever: from time to time they have to look again.
    let server = serve(examples::listen().await?, app).max_connection_age(HOUR);
    life.spawn("grpc", server);
    examples::say_ready();
    Ok(life.run().await?)
}

async fn work(Path(ms): Path<u64>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    "done"
}

const HOUR: Duration = Duration::from_secs(3600);
