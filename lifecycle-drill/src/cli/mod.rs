//! The command line: one file a subcommand, and what they share.
//!
//! `run` is meant where no subcommand is named. Exit codes: [`Ended`].

mod compare;
mod config;
mod error;
mod escape;
mod html;
mod json;
mod junit;
mod kind;
mod lanes;
mod list;
mod options;
mod report;
mod rollout;
mod run;
mod table;
mod timeline;
mod values;
mod written;

use std::{ffi::OsString, fmt, io, process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser, Subcommand};
use lifecycle_drill::{Process, Setting, Signal, StartError, Subject};
use tokio::signal::unix::{SignalKind, signal};

use self::error::CliError;

/// Drills how a command stops: starts it, plays clients, sends signals, and judges what they saw.
///
/// Without a subcommand: `run`. Exit code 0: all that was played passed; 1: something failed (in
/// `compare`: our server did); 2: nothing was judged, as the options are wrong, nothing could be
/// played, or something was missing or broke on our side, a report that cannot be written
/// included; 3: the command could not be started.
#[derive(Debug, Parser)]
#[command(name = "lifecycle-drill", version, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays the scenarios against a command, and judges (the default)
    Run(Box<run::Run>),
    /// Lists the scenarios, and what each needs
    List(list::List),
    /// Replaces replicas of a command behind haproxy under load, and counts what failed
    Rollout(Box<rollout::Roll>),
    /// Plays the same scenarios against servers of several frameworks, and writes a table
    Compare(compare::Compare),
}

/// How the tool ends, as its exit code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// All that was played passed.
    Passed,
    /// Something failed.
    Failed,
    /// Nothing failed, but a scenario could not start the command.
    NotStarted,
}

/// Parses the arguments, runs the subcommand, and tells what went wrong on stderr.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(with_default(args)) {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(USAGE);
            // A closed stderr hides the text; the code tells the rest.
            return error.print().map_or(ExitCode::from(USAGE), |()| ExitCode::from(code));
        }
    };
    let ended = match cli.command {
        Command::Run(run) => block_on(run.run()),
        Command::List(list) => list.run(),
        Command::Rollout(roll) => block_on(roll.run()),
        Command::Compare(compare) => block_on(compare.run()),
    };
    match ended {
        Ok(Ended::Passed) => ExitCode::SUCCESS,
        Ok(Ended::Failed) => ExitCode::from(1),
        Ok(Ended::NotStarted) => ExitCode::from(NOT_STARTED),
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs a subcommand that plays scenarios. What it has started is killed when we are told to
/// stop.
fn block_on(play: impl Future<Output = Result<Ended, CliError>>) -> Result<Ended, CliError> {
    let runtime = tokio::runtime::Runtime::new().map_err(CliError::Runtime)?;
    runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(CliError::Runtime);
        let mut hangup = listen(SignalKind::hangup())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut quit = listen(SignalKind::quit())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let by = tokio::select! {
            ended = play => return ended,
            _ = hangup.recv() => SignalKind::hangup(),
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = quit.recv() => SignalKind::quit(),
            _ = terminate.recv() => SignalKind::terminate(),
        };
        Err(CliError::Interrupted(by))
    })
}

/// Starts the command once for itself, since one that never runs is no verdict about how it stops,
/// and stops it as the platform does: what only an orderly end removes (a lock, a file with its
/// process id) must not be in the way of the next.
async fn trial(subject: &Subject, stop: Signal, grace: Duration) -> Result<(), StartError> {
    let mut process = Process::start(subject, Setting::Plain).await?;
    // One that has ended by itself, or does not end, is for the scenarios to see.
    if process.signal(stop).is_ok() && process.wait(grace).await.is_none() {
        note("the first start went on for its whole grace period, and was killed");
    }
    Ok(())
}

/// The arguments with `run` in front where no subcommand is named.
fn with_default(mut args: Vec<OsString>) -> Vec<OsString> {
    let named = args.get(1).and_then(|arg| arg.to_str()).is_some_and(|first| {
        let ours = ["help", "-h", "--help", "-V", "--version"];
        ours.contains(&first) || Cli::command().find_subcommand(first).is_some()
    });
    if !named {
        args.insert(args.len().min(1), "run".into());
    }
    args
}

/// Prints to stdout; a reader that has gone (`| head`) is no error.
fn print(text: &str) -> Result<(), CliError> {
    use io::Write as _;
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::Write { file: "-".into(), source: error })
        }
        _ => Ok(()),
    }
}

/// Prints a line to stderr; a reader that has gone (`2>&1 | head`) is no error.
fn note(line: impl fmt::Display) {
    use io::Write as _;
    let _unread = writeln!(io::stderr().lock(), "{line}");
}

fn complain(error: &CliError) {
    note(format_args!("lifecycle-drill: {}", error::chain(error)));
}

const USAGE: u8 = 2;
const NOT_STARTED: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn with_default_of(args: &[&str]) -> Vec<String> {
        let args = with_default(args.iter().map(OsString::from).collect());
        args.into_iter().map(|arg| arg.into_string().unwrap()).collect()
    }

    #[test]
    fn run_is_meant_where_no_subcommand_is_named() {
        assert_eq!(with_default_of(&["x", "--", "list"]), ["x", "run", "--", "list"]);
        assert_eq!(with_default_of(&["x", "--tls"]), ["x", "run", "--tls"]);
        assert_eq!(with_default_of(&["x"]), ["x", "run"]);
        assert_eq!(with_default_of(&["x", "list"]), ["x", "list"]);
        assert_eq!(with_default_of(&["x", "--help"]), ["x", "--help"]);
    }

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
