//! Servers side by side: requests a second, what a held connection takes of memory, how long
//! stops take, and what a request costs in instructions and allocations.
#![allow(clippy::disallowed_types, reason = "a bench measures wall time")]
#![allow(clippy::print_stdout, reason = "the table is what a bench is run for")]

mod counted;
mod drain;
mod held;
mod idle;
mod throughput;

use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use benches::{
    Asked, Broken, Comparison, Promise, Wanted, asked, descriptors, locked, pin, print,
    serve_as_child,
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Size {
    rounds: usize,
    /// Rounds of bursts: one is short.
    bursts: usize,
    /// Of requests, to one server.
    burst: Duration,
    /// Held, and closed idle.
    connections: usize,
    /// Requests in the two runs that instructions are the difference of.
    counted: [u64; 2],
}

/// One of the tables.
struct Part {
    name: &'static str,
    title: &'static str,
    /// How it was measured.
    with: String,
    promise: Option<Promise>,
    compare: Box<dyn FnOnce() -> Vec<Comparison>>,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    if let Some(code) = serve_as_child(&arguments, || 0) {
        return code;
    }
    let wanted = match asked(&counted::subjects()) {
        Asked::Done(code) => return code,
        Asked::Measure(wanted) => wanted,
    };
    let size = Size::of(&wanted);
    let needed = size.connections as u64 + OTHERS;
    let most = descriptors(needed);
    if most < needed {
        eprintln!("error: {most} descriptors are allowed, {needed} needed: see --connections");
        return ExitCode::FAILURE;
    }
    let mut is_whole = true;
    for part in parts(size).into_iter().filter(|part| wanted.is_wanted(part.name)) {
        let Part { name, title, with, promise, compare } = part;
        is_whole &= match Broken::attempt(name, compare) {
            Ok(rows) => print(title, &with, promise, &rows),
            Err(broken) => {
                eprintln!("error: {broken}");
                println!("### {title}\n\nNot measured: {broken}.\n");
                false
            }
        };
    }
    if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parts(size: Size) -> Vec<Part> {
    let with = locked(&["lifecycle-tower", "axum", "hyper", "hyper-util", "h2", "tokio"]);
    let stops = size.rounds * STOPS_A_ROUND;
    let rounds = |rounds| format!("{with}; medians of {rounds} interleaved rounds");
    let connections = format!("{}, {} connections", rounds(size.rounds), size.connections);
    vec![
        Part {
            name: "drain",
            title: "serve: a stop",
            with: format!("{with}; {stops} stops"),
            promise: Some(Promise::Latency),
            compare: Box::new(move || drain::compare(stops)),
        },
        Part {
            name: "throughput",
            title: "serve: requests a second",
            with: rounds(size.bursts),
            promise: Some(Promise::Throughput),
            compare: Box::new(move || on_the_clients_core(move || throughput::compare(&size))),
        },
        Part {
            name: "memory",
            title: "serve: memory a held connection",
            with: connections.clone(),
            promise: Some(Promise::Memory),
            compare: Box::new(move || held::compare(&size)),
        },
        Part {
            name: "idle",
            title: "serve: idle connections closed",
            with: connections,
            promise: Some(Promise::Idle),
            compare: Box::new(move || idle::compare(&size)),
        },
        Part {
            name: "instructions",
            title: "serve: one request in memory, without a kernel",
            with,
            promise: None,
            compare: Box::new(move || {
                let counted = counted::compare(&counted::subjects(), size.counted);
                counted.unwrap_or_else(|error| panic!("instructions were not counted: {error}"))
            }),
        },
    ]
}

/// On a thread of its own, since what it starts is pinned with it.
fn on_the_clients_core<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let pinned = thread::spawn(|| {
        pin(CLIENT_CORE);
        run()
    });
    pinned.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

impl Size {
    fn of(wanted: &Wanted) -> Self {
        let size = if wanted.short { SHORT } else { WHOLE };
        Self {
            rounds: wanted.rounds.unwrap_or(size.rounds),
            bursts: wanted.rounds.unwrap_or(size.bursts),
            connections: wanted.connections.unwrap_or(size.connections),
            ..size
        }
    }
}

const WHOLE: Size = Size {
    rounds: 11,
    bursts: 51,
    burst: Duration::from_millis(200),
    connections: 10_000,
    counted: [1_000, 11_000],
};
const SHORT: Size = Size {
    rounds: 3,
    bursts: 3,
    burst: Duration::from_millis(50),
    connections: 500,
    counted: [100, 1_100],
};
const STOPS_A_ROUND: usize = 5;
/// Descriptors beside those of connections.
const OTHERS: u64 = 100;
/// The servers have the other.
const CLIENT_CORE: usize = 1;
