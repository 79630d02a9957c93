//! What the examples share: logs to stdout, the address to listen on, the word `ready`.
#![allow(clippy::print_stdout, reason = "examples log to stdout, as factor XI has it")]

pub mod book;
pub mod grpc;
pub mod queue;
pub mod routes;

/// The README's code is compiled as a doc-test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

use std::env;
use std::error::Error;
use std::io::{self, IsTerminal, stderr, stdout};

use lifecycle::Inherited;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Logs to stdout: JSON unless that is a terminal or `LIFECYCLE_LOG=text`.
pub fn init_logs() {
    logs_to(stdout, stdout().is_terminal());
}

/// The same to stderr, for programs whose output is read by others.
pub fn init_logs_to_stderr() {
    logs_to(stderr, stderr().is_terminal());
}

fn logs_to<W>(writer: W, is_terminal: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let json = match env::var("LIFECYCLE_LOG").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        _ => !is_terminal,
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    if json {
        logs.json().flatten_event(true).init();
    } else {
        logs.with_target(false).init();
    }
}

/// Listens on `HOST` and `PORT` (0.0.0.0:8080), or on the socket named `http` that was inherited.
///
/// # Errors
/// When the address is none, or cannot be bound; the message names it.
///
/// # Cancel safety
/// Cancel safe: dropped, nothing is bound.
pub async fn listen() -> Result<TcpListener, Box<dyn Error>> {
    if let Some(socket) = Inherited::from_env()?.named("http") {
        let listener = TcpListener::from_std(socket.tcp()?)?;
        tracing::info!(addr = %listener.local_addr()?, "listening, on an inherited socket");
        return Ok(listener);
    }
    let host = env::var("HOST").unwrap_or_else(|_| "0.0.0.0".to_owned());
    let port = env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let port: u16 = port.parse().map_err(|_| format!("PORT={port:?} is not a port"))?;
    let bound = TcpListener::bind((host.as_str(), port)).await;
    let listener = bound.map_err(|error| format!("cannot listen on {host}:{port}: {error}"))?;
    tracing::info!(addr = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// A runtime on all threads, or on one if that variable says `current_thread`.
///
/// # Errors
/// When the operating system refuses it.
pub fn runtime(variable: &str) -> io::Result<Runtime> {
    let mut builder = match env::var(variable).as_deref() {
        Ok("current_thread") => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

/// Prints `ready` on a line of its own: signals are caught and the listener is in place.
pub fn say_ready() {
    println!("ready");
}
