//! Instructions: this program, run again under callgrind, does one subject two different
//! numbers of times; the difference holds neither start nor end of the process.
//!
//! Valgrind hides the vDSO, so reading a clock becomes a system call, whose instructions
//! belong to the kernel and are not counted: a read of the coarse clock counts for less
//! than it costs.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::{env, fmt, fs, io};

use crate::measure::Subject;

/// Why instructions could not be counted.
#[derive(Debug)]
#[non_exhaustive]
pub enum CountError {
    /// Valgrind is not on this machine.
    Missing,
    /// It could not be run.
    Io(io::Error),
    /// It ran, and left no total.
    NoTotal,
}

/// How many an operation of each subject takes, in their order.
///
/// # Errors
/// [`CountError`], without valgrind.
pub fn instructions(subjects: &[Subject]) -> Result<Vec<f64>, CountError> {
    instructions_between(subjects, [FEW, MANY])
}

/// The same by so many times, `few` and `many`, for operations that take longer.
///
/// # Errors
/// [`CountError`], without valgrind.
pub fn instructions_between(
    subjects: &[Subject],
    [few, many]: [u64; 2],
) -> Result<Vec<f64>, CountError> {
    let of = |subject: &Subject| {
        let more = total(subject.name, many)?.saturating_sub(total(subject.name, few)?);
        Ok(more as f64 / (many - few) as f64)
    };
    subjects.iter().map(of).collect()
}

/// The side that valgrind runs.
pub(crate) fn run_subject(subjects: &[Subject], name: &str, times: &str) -> ExitCode {
    let subject = subjects.iter().find(|subject| subject.name == name);
    let (Some(subject), Ok(times)) = (subject, times.parse()) else {
        eprintln!("error: no subject {name:?} or no number {times:?}");
        return ExitCode::FAILURE;
    };
    (subject.make)()(times);
    ExitCode::SUCCESS
}

fn total(name: &str, times: u64) -> Result<u64, CountError> {
    let file = env::temp_dir().join(format!("lifecycle-callgrind.{}", std::process::id()));
    let ran = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(env::current_exe().map_err(CountError::Io)?)
        .args([ARGUMENT, name, &times.to_string()])
        .stderr(Stdio::null())
        .status();
    let total = match ran {
        Ok(status) if status.success() => read_total(&file),
        Ok(_) => Err(CountError::NoTotal),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CountError::Missing),
        Err(error) => return Err(CountError::Io(error)),
    };
    // It is not there when valgrind failed; the next run writes it anew either way.
    fs::remove_file(&file).ok();
    total
}

fn read_total(file: &Path) -> Result<u64, CountError> {
    total_in(&fs::read_to_string(file).map_err(CountError::Io)?).ok_or(CountError::NoTotal)
}

fn total_in(profile: &str) -> Option<u64> {
    let line = profile.lines().rev().find_map(|line| line.strip_prefix("totals:"))?;
    line.trim().parse().ok()
}

impl fmt::Display for CountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no valgrind on the path: install the package `valgrind`"),
            Self::Io(error) => write!(f, "valgrind could not be run: {error}"),
            Self::NoTotal => f.write_str("valgrind failed or left no total"),
        }
    }
}

impl std::error::Error for CountError {}

pub(crate) const ARGUMENT: &str = "--count";
const FEW: u64 = 1_000;
const MANY: u64 = 11_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_last_line_of_its_kind() {
        let profile = "events: Ir\nsummary: 7\n\nfn=(0) x\n1 7\n\ntotals: 7654321\n";
        assert_eq!(total_in(profile), Some(7_654_321));
        assert_eq!(total_in("events: Ir\n"), None);
    }
}
