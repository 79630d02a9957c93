//! Memory of a connection that has had one request and is held, idle: by the bytes that the
//! server has asked for, and by the memory that they lie in.
//!
//! The server is a process of its own (`held`, which counts its bytes); the difference between
//! a few connections and many holds nothing else.

use std::path::Path;

use benches::{Ask, Bound, Child, Client, Comparison, Held, Protocol, Stack, interleaved};

use crate::Size;

pub(crate) fn compare(size: &Size) -> Vec<Comparison> {
    let mut rows = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let held = interleaved(
            size.rounds,
            &mut [Stack::Ours, Stack::Axum],
            |stack| stack.name(),
            |stack| a_connection(*stack, protocol, size.connections),
        );
        let row = |what, figure: fn(&[f64; 2]) -> f64| {
            let name = format!("{}, {what}", protocol.name());
            Comparison::of(name, "bytes", [&held[0], &held[1]], figure, Bound::RatioAtMost(1.05))
        };
        rows.push(row("asked for", |[heap, _]| *heap));
        rows.push(row("resident", |[_, resident]| *resident));
    }
    rows
}

/// Asked for, and resident.
fn a_connection(stack: Stack, protocol: Protocol, connections: usize) -> [f64; 2] {
    let mut child = Child::start(Path::new(env!("CARGO_BIN_EXE_held")), stack);
    let addr = child.addr();
    let held = |connections| -> Vec<_> {
        let client = |_| {
            let mut client = Client::connect(addr, protocol, Ask::Get);
            client.request();
            client
        };
        (0..connections).map(client).collect()
    };
    let _few = held(FEW);
    let before = child.held();
    let _many = held(connections);
    let after = child.held();
    let more = |what: fn(&Held) -> u64| {
        what(&after).saturating_sub(what(&before)) as f64 / connections as f64
    };
    [more(|held| held.heap), more(|held| held.resident)]
}

const FEW: usize = 50;
