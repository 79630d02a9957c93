//! What the benches share: interleaved rounds on pinned threads, counts of instructions,
//! and the tables.
//!
//! A bench of one operation is a list of [`Subject`]s and of [`Row`]s that compare them;
//! [`run`] does the rest. A bench of throughput is a list of [`Contest`]s, which [`compete`]
//! runs; one of something that ends, a list of [`Race`]s, for [`race`]; one of growth, a list of
//! [`Curve`]s; one of servers compares [`Stack`]s. All of them also write their rows for `results`
//! ([`record`]), which puts the runs together ([`Results`]). README.md says how to read what they
//! print.
//!
//! # Invariants
//! 1. Both sides of a ratio come from the same round, a few milliseconds apart.
//! 2. A figure of two threads is printed only beside a control that shares nothing and
//!    that stayed flat; otherwise the row says "not measured".
#![allow(clippy::print_stdout, reason = "the table is what a bench is run for")]
#![allow(clippy::disallowed_types, reason = "a bench measures wall time")]

mod arguments;
mod child;
mod client;
mod comparison;
mod contest;
mod count;
mod curve;
mod in_memory;
mod limits;
mod machine;
mod measure;
mod pool;
mod production;
mod promise;
mod quote;
mod race;
mod record;
mod results;
mod servers;
mod sides;
mod table;
mod wire;

use std::process::ExitCode;

pub use arguments::{Asked, Wanted, asked};
pub use child::{Child, Held, Stopped, serve_as_child};
pub use client::Client;
pub use comparison::{Bound, Comparison, print};
pub use contest::{Contest, Goal, Moment, Shape, Side, Took, compete};
pub use count::{CountError, instructions, instructions_between};
pub use curve::{Curve, Growth, Point};
pub use in_memory::requests as requests_in_memory;
pub use limits::descriptors;
pub use machine::{locked, machine};
pub use measure::{Rounds, Setting, Spread, Subject, Work, work};
pub use pool::{core_count, pin};
pub use production::production;
pub use promise::{Promise, Shown};
pub use quote::{Compared, Server};
pub use race::{Entrant, Race, race};
pub use record::{Line, NoRow, Record, lines_of, record, record_with};
pub use results::{Results, between};
pub use servers::{OneCore, Serving, Stack, app};
pub use sides::{Broken, Spoilt, interleaved};
pub use table::{Reach, Row};
pub use wire::{Ask, Protocol, Wire};

use pool::Pool;

/// The `main` of a bench of one operation: measures the subjects and prints the rows made of
/// them.
#[must_use]
pub fn run(title: &str, subjects: &[Subject], rows: fn(&Rounds) -> Vec<Row>) -> ExitCode {
    let rounds = match asked(subjects) {
        Asked::Done(code) => return code,
        Asked::Measure(wanted) if wanted.only.is_some() || wanted.connections.is_some() => {
            eprintln!("error: all of it is measured, and without connections");
            return ExitCode::from(2);
        }
        Asked::Measure(wanted) => wanted.rounds(ROUNDS, ROUNDS_SHORT),
    };
    let measured = Rounds::measure(&Pool::pinned(), subjects, rounds);
    let counted = instructions(subjects);
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
const ROUNDS_SHORT: usize = 5;
