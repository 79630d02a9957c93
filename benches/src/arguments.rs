//! What the command line asks of a bench.

use std::env;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::RangedU64ValueParser;

use crate::count;
use crate::measure::Subject;

/// What a bench is to do.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Asked {
    /// Nothing more.
    Done(ExitCode),
    /// To measure.
    Measure(Wanted),
}

/// What is to be measured
#[derive(Clone, Debug, Default, Parser)]
#[command(bin_name = "cargo bench -p benches --bench NAME --")]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Wanted {
    /// How often
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub rounds: Option<usize>,
    /// Only what has this in its name (not of `gate` and `layer`)
    #[arg(long, value_name = "PART OF A NAME")]
    pub only: Option<String>,
    /// A few rounds: to see that it works
    #[arg(long)]
    pub short: bool,
    /// How many are held, of `serve` and `scaling`
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub connections: Option<usize>,
    /// What cargo says to every bench
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

impl Wanted {
    /// How many rounds: what was asked for, or one of these.
    #[must_use]
    pub fn rounds(&self, whole: usize, short: usize) -> usize {
        self.rounds.unwrap_or(if self.short { short } else { whole })
    }

    /// Whether that is to be measured.
    #[must_use]
    pub fn is_wanted(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }
}

/// Reads the command line, and does what callgrind wants done of `subjects`.
///
/// Nothing is to be measured unless cargo said `--bench`, so that test runners, which say
/// `--list` or nothing, are not held for half a minute.
#[must_use]
pub fn asked(subjects: &[Subject]) -> Asked {
    let arguments: Vec<_> = env::args().collect();
    if let [_, count, name, times] = &arguments[..]
        && count == count::ARGUMENT
    {
        return Asked::Done(count::run_subject(subjects, name, times));
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("a bench: run it with `cargo bench -p benches`");
        return Asked::Done(ExitCode::SUCCESS);
    }
    match Wanted::try_parse_from(arguments) {
        Ok(wanted) => Asked::Measure(wanted),
        Err(error) => {
            // Without a terminal to say it to, its code says it.
            error.print().ok();
            Asked::Done(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Wanted, clap::Error> {
        Wanted::try_parse_from([&["bench", "--bench"], arguments].concat())
    }

    #[test]
    fn rounds_are_a_number_and_not_nought() {
        assert_eq!(parsed(&["--rounds", "3"]).expect("a number").rounds(11, 1), 3);
        assert_eq!(parsed(&["--short"]).expect("short").rounds(11, 1), 1);
        assert_eq!(parsed(&[]).expect("nothing").rounds(11, 1), 11);
        for wrong in [&["--rounds", "0"][..], &["--rounds", "x"], &["--round", "3"], &["--rounds"]]
        {
            parsed(wrong).expect_err("an error");
        }
    }

    #[test]
    fn without_a_name_all_is_wanted() {
        assert!(parsed(&[]).expect("nothing").is_wanted("redis, 50"));
        let only = parsed(&["--only", "redis"]).expect("a name");
        assert!(only.is_wanted("redis, 50") && !only.is_wanted("memory, 50"));
    }
}
