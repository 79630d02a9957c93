//! Servers that start and drain in one process under load, again and again: does anything leak?
//! Exits with 1 when something does, or when a request or a job was lost.
//!
//! `cargo run --release -p tests --bin soak -- [--minutes 30 | --seconds N] [--cycles 1000]
//! [--markdown FILE]`
//!
//! `--leak descriptors|memory|tasks` is the control: it has to be found out.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::alloc::System;
use std::env;
use std::process::ExitCode;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tests::soak::{Options, page, soak};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let options = match Options::parse(&arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("soak: {error}");
            return ExitCode::from(2);
        }
    };
    println!("soak {options}");
    let verdict = Box::pin(soak(&options)).await.judge();
    println!("{verdict}");
    if let Some(file) = &options.markdown
        && let Err(error) = page::write(file, &options, &verdict)
    {
        eprintln!("soak: {}: {error}", file.display());
        return ExitCode::from(2);
    }
    ExitCode::from(u8::from(!verdict.is_kept()))
}

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;
