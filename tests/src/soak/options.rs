//! What the command `soak` is told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::options::{OptionError, number};

/// How long, how often, and what is to go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How long all cycles take together.
    pub time: Duration,
    /// How many servers start and drain; some, so that there is something to compare.
    pub cycles: u32,
    /// What leaks, to see that it is found out.
    pub leak: Option<Leak>,
    /// The page to write.
    pub markdown: Option<PathBuf>,
}

/// What every cycle is to leave behind: the control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leak {
    /// An open file.
    Descriptors,
    /// Four KiB.
    Memory,
    /// A task that never ends.
    Tasks,
}

impl Options {
    /// From the command line.
    ///
    /// # Errors
    /// When it is not understood; the message says what it takes.
    pub fn parse(arguments: &[String]) -> Result<Self, OptionError> {
        let time = Duration::from_secs(30 * 60);
        let mut options = Self { time, cycles: 1000, leak: None, markdown: None };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value =
                arguments.next().ok_or_else(|| OptionError::new(format!("{name} what?"), USAGE))?;
            let bad = || OptionError::value(name, value, USAGE);
            match name.as_str() {
                "--minutes" => {
                    options.time = Duration::from_secs(60 * number::<u64>(name, value, USAGE)?)
                }
                "--seconds" => options.time = Duration::from_secs(number(name, value, USAGE)?),
                "--cycles" => options.cycles = number(name, value, USAGE)?,
                "--leak" => options.leak = Some(Leak::named(value).ok_or_else(bad)?),
                "--markdown" => options.markdown = Some(PathBuf::from(value)),
                _ => return Err(OptionError::new(format!("{name}?"), USAGE)),
            }
        }
        if options.cycles < CYCLES_LEAST {
            return Err(OptionError::new(format!("{} cycles say nothing", options.cycles), USAGE));
        }
        Ok(options)
    }
}

/// As it is told, the page apart.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seconds {} --cycles {}", self.time.as_secs(), self.cycles)?;
        self.leak.map_or(Ok(()), |leak| write!(f, " --leak {}", leak.name()))
    }
}

impl Leak {
    fn named(name: &str) -> Option<Self> {
        [Self::Descriptors, Self::Memory, Self::Tasks].into_iter().find(|leak| leak.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::Tasks => "tasks",
        }
    }
}

/// Half of them is warm-up, and the rest is halved again.
const CYCLES_LEAST: u32 = 8;
const USAGE: &str = "soak [--minutes 30 | --seconds N] [--cycles 1000] \
                     [--markdown FILE] [--leak descriptors|memory|tasks]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_understood_or_named() {
        let parse = |line: &str| {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            Options::parse(&words).map(|options| options.to_string())
        };
        let line = "--seconds 5 --cycles 30 --leak tasks";
        assert_eq!(parse(line).unwrap(), line);
        assert_eq!(parse("").unwrap(), "--seconds 1800 --cycles 1000");
        assert_eq!(parse("--minutes 2").unwrap(), "--seconds 120 --cycles 1000");
        assert_eq!(parse("--markdown a.md --cycles 8").unwrap(), "--seconds 1800 --cycles 8");
        for line in
            ["--cycles", "--markdown", "--cycles 7", "--cycles x", "--leak water", "--hours 1"]
        {
            assert!(parse(line).unwrap_err().to_string().contains("soak [--minutes"), "{line}");
        }
    }
}
