//! What the command `torture` is told.

use std::fmt;
use std::time::Duration;

use crate::options::{OptionError, number};

use super::{BrokerKind, ClaimBy};

/// How worker processes are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KillBy {
    /// By SIGTERM.
    Term,
    /// By SIGKILL.
    Kill,
    /// By one or the other.
    Mixed,
    /// By SIGKILL at a random moment of the stop that SIGTERM has begun.
    Late,
}

/// What to torture, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where the jobs are.
    pub queue: BrokerKind,
    /// How many workers are ended, one after the other.
    pub rounds: u32,
    /// How many there are at a time.
    pub workers: usize,
    /// How they are ended.
    pub kill: KillBy,
    /// Who claims.
    pub claim: ClaimBy,
    /// Of all that is drawn.
    pub seed: u64,
    /// How long a claim lasts.
    pub lease: Duration,
    /// What a worker has from SIGTERM on.
    pub grace: Duration,
}

impl Options {
    /// From the command line.
    ///
    /// # Errors
    /// When it is not understood; the message says what it takes.
    pub fn parse(arguments: &[String]) -> Result<Self, OptionError> {
        let mut queue = None;
        let mut options = Self {
            queue: BrokerKind::Sqlite,
            rounds: 200,
            workers: 4,
            kill: KillBy::Term,
            claim: ClaimBy::Runner,
            seed: fastrand::u64(..),
            lease: Duration::from_secs(5),
            grace: Duration::from_secs(3),
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value =
                arguments.next().ok_or_else(|| OptionError::new(format!("{name} what?"), USAGE))?;
            match name.as_str() {
                "--queue" => {
                    queue = Some(
                        BrokerKind::named(value)
                            .ok_or_else(|| OptionError::value(name, value, USAGE))?,
                    )
                }
                "--rounds" => options.rounds = number(name, value, USAGE)?,
                "--workers" => options.workers = number::<usize>(name, value, USAGE)?.max(1),
                "--seed" => options.seed = number(name, value, USAGE)?,
                "--kill" => {
                    options.kill = KillBy::named(value)
                        .ok_or_else(|| OptionError::value(name, value, USAGE))?
                }
                "--claim" => {
                    options.claim = ClaimBy::named(value)
                        .ok_or_else(|| OptionError::value(name, value, USAGE))?
                }
                _ => return Err(OptionError::new(format!("{name}?"), USAGE)),
            }
        }
        options.queue = queue.ok_or_else(|| OptionError::new("--queue which?", USAGE))?;
        Ok(options)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queue, rounds, workers, kill, claim, seed, .. } = self;
        let (queue, kill, claim) = (queue.name(), kill.name(), claim.name());
        write!(
            f,
            "--queue {queue} --rounds {rounds} --workers {workers} --kill {kill} --claim {claim} \
             --seed {seed}"
        )
    }
}

impl KillBy {
    fn named(name: &str) -> Option<Self> {
        [Self::Term, Self::Kill, Self::Mixed, Self::Late]
            .into_iter()
            .find(|kill| kill.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Term => "term",
            Self::Kill => "kill",
            Self::Mixed => "mixed",
            Self::Late => "late",
        }
    }
}

const USAGE: &str = "torture --queue sqlite|postgres|redis|amqp|nats [--rounds 200] \
                     [--workers 4] [--kill term|kill|mixed|late] [--claim runner|select] [--seed N]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_understood_or_named() {
        let parse = |line: &str| {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            Options::parse(&words).map(|options| options.to_string())
        };
        let line = "--queue redis --rounds 7 --workers 2 --kill mixed --claim select --seed 9";
        assert_eq!(parse(line).unwrap(), line);
        assert!(parse("--queue sqlite").unwrap().contains("--rounds 200 --workers 4 --kill term"));
        for line in
            ["", "--queue", "--queue mysql", "--queue redis --kill no", "--queue redis -v 1"]
        {
            assert!(parse(line).unwrap_err().to_string().contains("torture --queue"), "{line}");
        }
    }
}
