//! What keeps the tool from judging at all.

use std::{fmt, io, path::PathBuf, time::Duration};

use lifecycle_drill::{StartError, rollout::RolloutError};
use tokio::signal::unix::SignalKind;

use super::{NOT_STARTED, USAGE};

/// Why nothing was judged, or the judgement could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Somebody stopped us.
    #[error("interrupted")]
    Interrupted(SignalKind),
    /// Neither `--` nor the file names a command.
    #[error("no command: give it behind `--`, or as `command = [..]` in drill.toml")]
    NoCommand,
    /// The servers to compare cannot be built.
    #[error("cannot build {}", folder.display())]
    Build { folder: PathBuf, source: io::Error },
    /// A file with one of the marks between which the table goes.
    #[error("{} has one mark of the table and not the other", file.display())]
    HalfMarked { file: PathBuf },
    /// Nothing of the grace would be left for a drain.
    #[error("a lame duck of {lame_duck:?} leaves nothing of a grace of {grace:?} for the drain")]
    LameDuckTooLong { lame_duck: Duration, grace: Duration },
    /// A name that no server has.
    #[error("no server is named `{0}`: `lifecycle`, or a program of the peers")]
    NoServer(String),
    /// A name that no scenario has.
    #[error("no scenario is named `{0}`: `lifecycle-drill list` shows the names")]
    NoScenario(String),
    /// Every scenario was left out, or skipped for want of what it needs.
    #[error("nothing was played: {0}")]
    NothingPlayed(&'static str),
    /// The configuration cannot be read.
    #[error("cannot read {}", file.display())]
    ReadConfig { file: PathBuf, source: io::Error },
    /// The configuration says what we do not understand; the source names the key.
    #[error("{}", file.display())]
    ParseConfig { file: PathBuf, source: Box<toml::de::Error> },
    /// The rolling update could not be brought to its end.
    #[error("the rollout was not brought to its end")]
    Rollout(#[from] RolloutError),
    /// The tool itself cannot run.
    #[error("no runtime")]
    Runtime(#[source] io::Error),
    /// The command cannot be brought to readiness.
    #[error("the command could not be started")]
    Start(#[from] StartError),
    /// Two reports in one stream are neither.
    #[error("`{first}` and `{second}` cannot both go to stdout")]
    TwoToStdout { first: &'static str, second: &'static str },
    /// A report cannot be written.
    #[error("cannot write {}", file.display())]
    Write { file: PathBuf, source: io::Error },
}

impl CliError {
    /// What the process is to end with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Start(_)
            | Self::Rollout(RolloutError::NotReady { .. } | RolloutError::Start(_)) => NOT_STARTED,
            Self::Interrupted(by) => u8::try_from(128 + by.as_raw_value()).unwrap_or(USAGE),
            _ => USAGE,
        }
    }
}

/// The error with its sources, in one line.
pub(crate) fn chain(error: &(impl std::error::Error + 'static)) -> impl fmt::Display {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
