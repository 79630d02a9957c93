//! What the command line asks of a bench.

use std::env;
use std::process::ExitCode;

use crate::count;
use crate::measure::Subject;

/// What a bench is to do.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Asked {
    /// Nothing more.
    Done(ExitCode),
    /// To measure.
    Measure {
        /// How often.
        rounds: Option<usize>,
        /// Only what has this in its name.
        only: Option<String>,
    },
}

/// Reads the command line, and does what callgrind wants done of `subjects`.
///
/// Nothing is to be measured unless cargo said `--bench`, so that test runners, which say
/// `--list` or nothing, are not held for half a minute.
#[must_use]
pub fn asked(subjects: &[Subject]) -> Asked {
    let arguments: Vec<_> = env::args().skip(1).collect();
    if let [count, name, times] = &arguments[..]
        && count == count::ARGUMENT
    {
        return Asked::Done(count::run_subject(subjects, name, times));
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("a bench: run it with `cargo bench -p benches`");
        return Asked::Done(ExitCode::SUCCESS);
    }
    Asked::Measure { rounds: number_after("--rounds"), only: after("--only") }
}

/// The number behind `name` on the command line.
#[must_use]
pub fn number_after(name: &str) -> Option<usize> {
    after(name)?.parse().ok()
}

/// Whether `name` is on the command line.
#[must_use]
pub fn has_flag(name: &str) -> bool {
    env::args().any(|argument| argument == name)
}

fn after(name: &str) -> Option<String> {
    env::args().skip_while(|argument| argument != name).nth(1)
}
