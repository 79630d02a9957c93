//! The crates together, in one process: real sockets, real HTTP clients, a coordinator in
//! the test's own runtime.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(clippy::print_stdout, reason = "some tests print what they measured")]

mod age;
mod bad_heads;
mod cancel;
mod faults;
mod grpc;
mod grpc_health;
mod hard_stop;
mod http1;
mod http2;
mod latency;
mod layer;
mod listeners;
mod metrics;
mod refuse;
mod server;
mod spread;
mod streams;
mod tls;
mod tonic_layer;
mod unix;
mod unsent;
mod upgrade;
mod wire;
