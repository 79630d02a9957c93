//! Requests a second. The server has a core and a current-thread runtime, the client the other
//! core: on one core both would pay for the client, and a runtime on two cores would show who
//! is moved about less.
//!
//! The client has so many requests out that the server always finds the next: what is
//! measured is the server, as its own processor time shows, which stands beside.

use std::time::{Duration, Instant};

use benches::{Ask, Bound, Client, Comparison, OneCore, Protocol, Stack, interleaved};

use crate::Size;

/// What came of one burst.
struct Burst {
    a_second: f64,
    /// Of the server's thread.
    used_us: f64,
    busy: f64,
}

/// The clients of one server.
struct Side<'a> {
    server: &'a OneCore,
    clients: Vec<Client>,
    at_once: usize,
}

pub(crate) fn compare(size: &Size) -> Vec<Comparison> {
    let servers = [Stack::Ours, Stack::Axum].map(OneCore::start);
    let mut rows = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for ask in [Ask::Get, Ask::Post] {
            let name = format!("{} {}", protocol.name(), ask.name());
            let mut sides = servers.each_ref().map(|server| Side::new(server, protocol, ask));
            // The first of each finds everything cold.
            for side in &mut sides {
                side.burst(size.burst);
            }
            let bursts = interleaved(size.rounds, &mut sides, |side| side.burst(size.burst));
            rows.extend(compared(&name, &bursts));
        }
    }
    for server in servers {
        let _took = server.stop();
    }
    rows
}

fn compared(name: &str, bursts: &[Vec<Burst>]) -> [Comparison; 3] {
    let row = |what: &str, unit, figure: fn(&Burst) -> f64, bound| {
        let [ours, theirs] = [0, 1].map(|side| bursts[side].iter().map(figure).collect());
        Comparison { name: format!("{name}{what}"), unit, ours, theirs, bound }
    };
    [
        row("", "requests/s", |burst| burst.a_second, Bound::RatioAtLeast(1.0)),
        row(", the server's processor a request", "us", |burst| burst.used_us, Bound::None),
        row(", the server's core busy", "%", |burst| burst.busy * 100.0, Bound::None),
    ]
}

impl<'a> Side<'a> {
    fn new(server: &'a OneCore, protocol: Protocol, ask: Ask) -> Self {
        let (connections, at_once) = match protocol {
            Protocol::Http1 => (HTTP1_CONNECTIONS, 1),
            Protocol::Http2 => (HTTP2_CONNECTIONS, HTTP2_STREAMS),
        };
        let client = |_| Client::connect(server.addr(), protocol, ask);
        Self { server, clients: (0..connections).map(client).collect(), at_once }
    }

    fn burst(&mut self, time: Duration) -> Burst {
        let (used, began) = (self.server.used(), Instant::now());
        let mut done = 0;
        for client in &mut self.clients {
            client.send(self.at_once);
        }
        while began.elapsed() < time {
            for client in &mut self.clients {
                let ended = client.receive();
                client.send(ended);
                done += ended;
            }
        }
        // What is out still counts, so that nothing of it is left to the next.
        for client in &mut self.clients {
            let mut out = self.at_once;
            while out > 0 {
                let ended = client.receive();
                client.send(0);
                out -= ended;
                done += ended;
            }
        }
        let wall = began.elapsed();
        let used = self.server.used() - used;
        Burst {
            a_second: done as f64 / wall.as_secs_f64(),
            used_us: used.as_secs_f64() * 1e6 / done as f64,
            busy: used.as_secs_f64() / wall.as_secs_f64(),
        }
    }
}

const HTTP1_CONNECTIONS: usize = 32;
const HTTP2_CONNECTIONS: usize = 4;
/// At once on each.
const HTTP2_STREAMS: usize = 16;
