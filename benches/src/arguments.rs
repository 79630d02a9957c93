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
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let rounds = after("--rounds").and_then(|rounds| rounds.parse().ok());
    Asked::Measure { rounds, only: after("--only").cloned() }
}
