//! A child process that lives and stops with this one.
//!
//! Not here: restarting it, nor its output, which is the caller's `Command` to set.
//!
//! # Invariants
//! 1. From its start to the reading of its exit status the child is known to the control
//!    thread, which kills it should it have to end this process.

use std::fmt;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use rustix::process::{Pid, Signal as OsSignal, kill_process_group};

use crate::component::{Component, Role};
use crate::error::{BoxError, ChildError};
use crate::handle::Handle;
use crate::phase::Phase;
use crate::shared::Shared;
use crate::signal::Signal;

/// A child process as a component: a sidecar, or a program in another language that this
/// one wraps.
///
/// In the drain it is sent SIGTERM and waited for, at the hard stop sent SIGTERM once more,
/// and killed with SIGKILL when the cancel window is over: work that was cut, exit code 3.
/// Signals go to its whole process group, which is its own, so that a shell's children hear
/// them and a terminal's Ctrl-C reaches it only through us. A child that ends by itself
/// before the cause begins the shutdown (unless [`optional`](crate::Spawned::optional) and
/// successful); ending with another status than success, death by our signal, or 128 plus
/// its number, is a failure.
///
/// It is itself what is waited for: when it has ended, what is left of its group is killed.
/// Being in a group of its own, it cannot read from the terminal.
///
/// When this process has to be ended at its deadline, because a thread does not yield, the
/// child is killed first. SIGKILL to this process leaves it running; in a container or a
/// systemd unit the platform ends it then.
///
/// # Examples
/// ```no_run
/// # fn main() -> Result<(), lifecycle::StartError> {
/// use std::process::Command;
///
/// use lifecycle::ChildProcess;
///
/// let mut life = lifecycle::Lifecycle::from_env()?;
/// let mut proxy = Command::new("nginx");
/// proxy.args(["-g", "daemon off;"]);
/// // nginx drains at SIGQUIT; SIGTERM would cut its requests.
/// life.spawn("nginx", ChildProcess::new(proxy).stop_signal(lifecycle::Signal::Quit));
/// # Ok(()) }
/// ```
#[must_use = "a child does nothing until it is spawned"]
pub struct ChildProcess {
    command: Command,
    stop_signal: Signal,
}

impl ChildProcess {
    /// The process of that command, started when [`run`](crate::Lifecycle::run) is.
    pub fn new(command: Command) -> Self {
        Self { command, stop_signal: Signal::Terminate }
    }

    /// The signal that asks it to stop. Default SIGTERM.
    pub fn stop_signal(self, signal: Signal) -> Self {
        Self { stop_signal: signal, ..self }
    }
}

impl Component for ChildProcess {
    async fn run(mut self, handle: Handle) -> Result<(), BoxError> {
        let program = self.command.get_program().to_string_lossy().into_owned();
        self.command.process_group(0);
        let mut command = tokio::process::Command::from(self.command);
        let started = command.kill_on_drop(true).spawn();
        let mut child =
            started.map_err(|source| ChildError::Start { program: program.clone(), source })?;
        let stop = self.stop_signal;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let mut known = Known::new(group, handle.shared());
        let judge = |status: ExitStatus, told: bool| {
            if status.success() || told && is_by(status, stop) {
                return Ok(());
            }
            Err(ChildError::Ended { program: program.clone(), status }.into())
        };

        let mut lame_duck = std::pin::pin!(handle.lame_duck());
        tokio::select! {
            biased;
            status = known.reap(&mut child) => return judge(status?, false),
            () = &mut lame_duck => {}
        }
        // From here on it is what the drain waits for, and may have been told by the platform
        // itself: systemd signals every process of a unit. Not later: past the hard stop the
        // guard is refused, and a child whose turn comes only then would be cut unnamed.
        let guard = handle.enter(&format!("child {program}")).ok();
        let mut draining = std::pin::pin!(handle.draining());
        tokio::select! {
            biased;
            status = known.reap(&mut child) => return judge(status?, true),
            () = &mut draining => {}
        }
        for until in [Phase::Cancelling, Phase::Closing] {
            send(group, os_signal(stop));
            let mut until = std::pin::pin!(handle.reached(until));
            tokio::select! {
                biased;
                status = known.reap(&mut child) => return judge(status?, true),
                () = &mut until => {}
            }
        }
        handle.note(format!("child {program} killed: it did not heed {stop}"));
        drop(guard);
        send(group, OsSignal::KILL);
        known.reap(&mut child).await?;
        Ok(())
    }

    /// It names its own work, and ends by itself.
    fn role(&self) -> Role {
        Role::Worker
    }
}

/// A child in the books of the control thread. Dropped before the child was waited for, as
/// when its runtime is dropped, it kills the whole group.
struct Known {
    group: Option<Pid>,
    shared: Arc<Shared>,
}

impl Known {
    fn new(group: Option<Pid>, shared: &Arc<Shared>) -> Self {
        group.into_iter().for_each(|group| shared.add_child(group));
        Self { group, shared: Arc::clone(shared) }
    }

    /// Waits for its end, kills what it has left behind in its group, and takes it out of the
    /// books in the same step: the number is free for others now.
    async fn reap(&mut self, child: &mut tokio::process::Child) -> io::Result<ExitStatus> {
        let status = child.wait().await?;
        if let Some(group) = self.group.take() {
            kill(group);
            self.shared.remove_child(group);
        }
        Ok(status)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            kill(group);
            self.shared.remove_child(group);
        }
    }
}

/// Kills the whole group of a child.
pub(crate) fn kill(group: Pid) {
    send(Some(group), OsSignal::KILL);
}

/// A group that is gone already needs no signal.
fn send(group: Option<Pid>, signal: OsSignal) {
    if let Some(Err(error)) = group.map(|group| kill_process_group(group, signal)) {
        tracing::debug!(target: "lifecycle", %error, "the child was not signalled");
    }
}

/// Whether the child ended because of that signal, by its own hand or not.
fn is_by(status: ExitStatus, signal: Signal) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    let number = i32::from(signal.number());
    status.signal() == Some(number) || status.code() == Some(128 + number)
}

fn os_signal(signal: Signal) -> OsSignal {
    match signal {
        Signal::Hangup => OsSignal::HUP,
        Signal::Interrupt => OsSignal::INT,
        Signal::Quit => OsSignal::QUIT,
        Signal::Terminate => OsSignal::TERM,
    }
}

impl fmt::Debug for ChildProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildProcess")
            .field("program", &self.command.get_program())
            .field("stop_signal", &self.stop_signal)
            .finish_non_exhaustive()
    }
}
