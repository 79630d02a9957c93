//! A server that counts the bytes it has asked for, and counts of what a request asks for: for
//! the bench `serve`, which itself runs without a counting allocator, since that takes time.
#![allow(clippy::print_stdout, reason = "that is what it is asked for")]

use std::alloc::System;
use std::env;
use std::process::ExitCode;

use benches::{Ask, Protocol, Stack, requests_in_memory, serve_as_child};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let heap = || {
        let stats = ALLOCATOR.stats();
        stats.bytes_allocated.saturating_sub(stats.bytes_deallocated) as u64
    };
    if let Some(code) = serve_as_child(&arguments, heap) {
        return code;
    }
    if let [allocations, stack, protocol] = &arguments[..]
        && allocations == "--allocations"
        && let Some((stack, protocol)) = Stack::of_name(stack).zip(Protocol::of_name(protocol))
    {
        let after = |times| requests_in_memory(stack, protocol, Ask::Get, times, allocated);
        let before = allocated();
        let few = after(FEW) - before;
        let before = allocated();
        let many = after(MANY) - before;
        println!("{:.2}", (many as f64 - few as f64) / (MANY - FEW) as f64);
        return ExitCode::SUCCESS;
    }
    eprintln!("error: run by the bench `serve`");
    ExitCode::FAILURE
}

fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;
const FEW: u64 = 1_000;
const MANY: u64 = 11_000;
