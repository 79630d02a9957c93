//! Requests a second. The server has a core and a current-thread runtime, the client the other
//! core: on one core both would pay for the client, and a runtime on two cores would show who
//! is moved about less.
//!
//! The client has so many requests out that the server always finds the next: what is
//! measured is the server, as its own processor time shows, which stands beside.

use std::time::{Duration, Instant};

use benches::{
    Ask, Bound, Broken, Client, Comparison, OneCore, Protocol, Spread, Stack, core_count,
    interleaved,
};

use crate::Size;

/// What came of one burst.
struct Burst {
    a_second: f64,
    /// Of the server's thread.
    used_us: f64,
    busy: f64,
}

/// A server and its clients.
struct Side {
    server: OneCore,
    clients: Vec<Client>,
    at_once: usize,
}

pub(crate) fn compare(size: &Size) -> Vec<Comparison> {
    let mut rows = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for ask in [Ask::Get, Ask::Post] {
            let name = format!("{} {}", protocol.name(), ask.name());
            rows.extend(compared(&name, &bursts(size, protocol, ask)));
        }
    }
    rows
}

/// What came of each side, ours first.
fn bursts(size: &Size, protocol: Protocol, ask: Ask) -> Vec<Result<Vec<Burst>, Broken>> {
    // Started by its first burst, so that a side that cannot be is given up like any other.
    let mut sides = [Stack::Ours, Stack::Axum].map(|stack| (stack, None::<Side>));
    let run = |(stack, side): &mut (Stack, Option<Side>)| {
        let side = side.get_or_insert_with(|| {
            let mut side = Side::new(*stack, protocol, ask);
            // The first finds everything cold.
            side.burst(size.burst);
            side
        });
        side.burst(size.burst)
    };
    let bursts = interleaved(size.bursts, &mut sides, |(stack, _)| stack.name(), run);
    let ended = |(bursts, (stack, side)): (Result<_, _>, (Stack, Option<Side>))| {
        // One that broke may not be there to be stopped.
        let bursts = bursts?;
        let stop = || {
            side.map(|Side { server, clients, .. }| {
                // An HTTP/2 server waits for clients to answer it.
                drop(clients);
                server.stop()
            })
        };
        Broken::attempt(stack.name(), stop).map(|_took| bursts)
    };
    bursts.into_iter().zip(sides).map(ended).collect()
}

fn compared(name: &str, sides: &[Result<Vec<Burst>, Broken>]) -> [Comparison; 3] {
    let idle = idle(sides);
    let row = |what: &str, unit, figure: fn(&Burst) -> f64, bound| {
        Comparison::of(format!("{name}{what}"), unit, [&sides[0], &sides[1]], figure, bound)
    };
    [
        row("", "requests/s", |burst| burst.a_second, Bound::RatioAtLeast(1.0)).unless(idle),
        row(", the server's processor a request", "us", |burst| burst.used_us, Bound::Beside),
        row(", the server's core busy", "%", |burst| burst.busy * 100.0, Bound::None),
    ]
}

/// Why requests a second say nothing of the servers, if so.
fn idle(sides: &[Result<Vec<Burst>, Broken>]) -> Option<String> {
    if core_count() < 2 {
        return Some("there is one core".to_owned());
    }
    let busy = |bursts: &Vec<Burst>| {
        Spread::of(&bursts.iter().map(|burst| burst.busy).collect::<Vec<_>>()).median
    };
    let least = sides.iter().flatten().map(busy).fold(f64::INFINITY, f64::min);
    (least < BUSY_LEAST)
        .then(|| format!("a server's core was busy for {:.1} % of the time", least * 100.0))
}

impl Side {
    fn new(stack: Stack, protocol: Protocol, ask: Ask) -> Self {
        let server = OneCore::start(stack);
        let (connections, at_once) = match protocol {
            Protocol::Http1 => (HTTP1_CONNECTIONS, 1),
            Protocol::Http2 => (HTTP2_CONNECTIONS, HTTP2_STREAMS),
        };
        let client = |_| Client::connect(server.addr(), protocol, ask);
        let clients = (0..connections).map(client).collect();
        Self { server, clients, at_once }
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

/// Of the time, in the middle round; below it the client is what is measured.
const BUSY_LEAST: f64 = 0.95;
const HTTP1_CONNECTIONS: usize = 32;
const HTTP2_CONNECTIONS: usize = 4;
/// At once on each.
const HTTP2_STREAMS: usize = 16;
