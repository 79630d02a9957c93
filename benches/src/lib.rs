//! What the benches share: interleaved rounds on pinned threads, counts of instructions,
//! and the table.
//!
//! A bench is a list of [`Subject`]s and of [`Row`]s that compare them; [`run`] does the
//! rest. README.md says how to read what it prints.
//!
//! # Invariants
//! 1. Both sides of a ratio come from the same round, a few milliseconds apart.
//! 2. A figure of two threads is printed only beside a control that shares nothing and
//!    that stayed flat; otherwise the row says "not measured".
#![allow(clippy::print_stdout, reason = "the table is what a bench is run for")]
#![allow(clippy::disallowed_types, reason = "a bench measures wall time")]

mod count;
mod measure;
mod pool;
mod table;

use std::process::ExitCode;

pub use count::CountError;
pub use measure::{Rounds, Setting, Spread, Subject, Work, work};
pub use table::{Reach, Row};

use pool::Pool;

/// The `main` of a bench: measures the subjects and prints the rows made of them.
///
/// Does nothing unless cargo said `--bench`, so that test runners, which say `--list` or
/// nothing, are not held for half a minute.
#[must_use]
pub fn run(title: &str, subjects: &[Subject], rows: fn(&Rounds) -> Vec<Row>) -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [count, name, times] = &arguments[..]
        && count == count::ARGUMENT
    {
        return count::run_subject(subjects, name, times);
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("a bench: run it with `cargo bench -p benches`");
        return ExitCode::SUCCESS;
    }
    let rounds = arguments.iter().position(|argument| argument == "--rounds");
    let rounds = rounds.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(ROUNDS);
    let measured = Rounds::measure(&Pool::pinned(), subjects, rounds);
    let counted = count::instructions(subjects);
    table::print(title, subjects, &measured, counted.as_deref().ok(), &rows(&measured));
    match counted {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: instructions were not counted: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Enough for a median that a neighbour's bursts do not move; about 5 seconds.
const ROUNDS: usize = 151;
