//! The crates together, in one process: real sockets, real HTTP clients, a coordinator in
//! the test's own runtime.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(clippy::print_stdout, reason = "some tests print what they measured")]

mod bad_heads;
mod cancel;
mod faults;
mod http1;
mod http2;
mod latency;
mod layer;
mod listeners;
mod server;
mod streams;
mod tls;
mod unix;
mod upgrade;
mod wire;
