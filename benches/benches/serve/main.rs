//! Servers side by side: requests a second, what a held connection takes of memory, how long
//! stops take, and what a request costs in instructions and allocations.
#![allow(clippy::disallowed_types, reason = "a bench measures wall time")]

mod counted;
mod drain;
mod held;
mod idle;
mod throughput;

use std::process::ExitCode;
use std::time::Duration;
use std::{env, io, thread};

use benches::{
    Asked, CountError, Promise, asked, has_flag, locked, number_after, pin, print, serve_as_child,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Size {
    rounds: usize,
    /// Of requests, to one server.
    burst: Duration,
    /// Held, and closed idle.
    connections: usize,
    /// Requests in the two runs that instructions are the difference of.
    counted: [u64; 2],
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    if let Some(code) = serve_as_child(&arguments, || 0) {
        return code;
    }
    let subjects = counted::subjects();
    let (rounds, only) = match asked(&subjects) {
        Asked::Done(code) => return code,
        Asked::Measure { rounds, only } => (rounds, only),
    };
    let size = if has_flag("--short") { SHORT } else { WHOLE };
    let size = Size {
        rounds: rounds.unwrap_or(size.rounds),
        connections: number_after("--connections").unwrap_or(size.connections),
        ..size
    };
    if let Err(error) = let_hold(size.connections) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    let wanted = |part: &str| only.as_deref().is_none_or(|only| part.contains(only));
    let with = locked(&["lifecycle-tower", "axum", "hyper", "hyper-util", "h2", "tokio"]);
    if wanted("drain") {
        let stops = size.rounds * STOPS_A_ROUND;
        print(
            "serve: a stop",
            &format!("{with}; {stops} stops"),
            Some(Promise::Latency),
            &drain::compare(stops),
        );
    }
    let rounds = format!("{with}; medians of {} interleaved rounds", size.rounds);
    if wanted("throughput") {
        // A thread of its own, since what it starts is pinned with it.
        let compared = thread::spawn(move || {
            pin(CLIENT_CORE);
            throughput::compare(&size)
        });
        let rows = compared.join().expect("it does not panic");
        print("serve: requests a second", &rounds, Some(Promise::Throughput), &rows);
    }
    if wanted("memory") {
        let with = format!("{rounds}, {} connections", size.connections);
        print(
            "serve: memory a held connection",
            &with,
            Some(Promise::Memory),
            &held::compare(&size),
        );
    }
    if wanted("idle") {
        let with = format!("{rounds}, {} connections", size.connections);
        print("serve: idle connections closed", &with, Some(Promise::Idle), &idle::compare(&size));
    }
    if wanted("instructions") {
        let title = "serve: one request in memory, without a kernel";
        match counted::compare(&subjects, size.counted) {
            Ok(rows) => print(title, &with, None, &rows),
            Err(error) => return not_counted(&error),
        }
    }
    ExitCode::SUCCESS
}

/// Raises the number of descriptors, for the children too, to what is allowed.
fn let_hold(connections: usize) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    match limit.maximum {
        Some(most) if most < connections as u64 + OTHERS => Err(io::Error::other(format!(
            "{most} descriptors are allowed: too few for {connections} connections"
        ))),
        _ => Ok(()),
    }
}

fn not_counted(error: &CountError) -> ExitCode {
    eprintln!("error: instructions were not counted: {error}");
    ExitCode::FAILURE
}

const WHOLE: Size = Size {
    rounds: 11,
    burst: Duration::from_millis(200),
    connections: 10_000,
    counted: [1_000, 11_000],
};
const SHORT: Size =
    Size { rounds: 3, burst: Duration::from_millis(50), connections: 500, counted: [100, 1_100] };
const STOPS_A_ROUND: usize = 5;
/// Descriptors beside those of connections.
const OTHERS: u64 = 100;
/// The servers have the other.
const CLIENT_CORE: usize = 1;
