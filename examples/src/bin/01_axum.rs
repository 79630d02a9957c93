//! Axum in ten lines: probes on 9090, the service on 8080, a drain that loses nothing.
//!
//! Run with `cargo run -p examples --bin 01_axum`; stop with Ctrl-C or SIGTERM. From here
//! on it is the quick start of the README, to the letter (a test compares them).
#![allow(clippy::print_stdout, reason = "examples log to stdout, as factor XI has it")]

use std::io::IsTerminal;

use axum::{Router, routing::get};
use lifecycle::{Lifecycle, Report};

#[tokio::main]
async fn main() -> Result<Report, Box<dyn std::error::Error>> {
    let mut life = Lifecycle::from_env()?; // signals are caught from here on
    init_logs();
    life.serve_probes().await?; // /livez /readyz /startupz on 0.0.0.0:9090
    let app = Router::new().route("/", get(|| async { "hello\n" }));
    let (host, port) = (var("HOST", "0.0.0.0"), var("PORT", "8080").parse::<u16>()?);
    let listener = tokio::net::TcpListener::bind((host.as_str(), port)).await?;
    life.spawn("http", lifecycle_tower::serve(listener, app));
    println!("ready");
    Ok(life.run().await?) // the report prints itself and gives the exit code
}

fn init_logs() {
    let text = match std::env::var("LIFECYCLE_LOG").as_deref() {
        Ok("text") => true,
        Ok("json") => false,
        _ => std::io::stdout().is_terminal(),
    };
    let logs = tracing_subscriber::fmt();
    if text { logs.init() } else { logs.json().init() }
}

fn var(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}
