//! Real processes, real signals, real sockets.
#![allow(clippy::large_futures, reason = "a test runs a few at a time")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(clippy::print_stdout, reason = "some tests print what they measured")]

mod compare;
mod deploy;
mod handed_down;
mod idle;
mod kubelet;
mod layer_only;
mod probe_faults;
mod probed;
mod probes;
mod rollout;
mod status_page;
mod stuck;
mod systemd;
mod target;
mod tls;
mod tonic;
mod transcripts;
