//! The control thread: one OS thread of our own with the coordinator on it, so that a
//! blocked or starved application runtime can neither hide a signal nor outlive the
//! deadline. It ends the process when the process does not end itself.
//!
//! # Invariants
//! 1. When the constructor returns, the signal handlers are in place.
//! 2. It does not end before the process does, but for a `Lifecycle` that has ended: a panic
//!    ends the process.
//! 3. Once the cause has come, the process is gone soon after `exit_by`, whatever blocks:
//!    a second thread, the last resort, waits for nothing but the clock.

use std::io;
use std::sync::{Arc, OnceLock, mpsc as std_mpsc};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::command::Command;
use crate::coordinator::{Coordinator, Finish};
use crate::exit::{ExitPolicy, ExitReason};
use crate::machine::Machine;
use crate::report::Cause;
use crate::shared::{Shared, Timeline};
use crate::signal::Source;
use crate::sync::{Mutex, locked};

/// Whether the process may be ended from here.
///
/// Default `AtDeadline`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForcedExit {
    /// Ends the process when it still lives at its deadline, even after
    /// [`run`](crate::Lifecycle::run) has returned (a runtime's drop waits for
    /// `spawn_blocking` without limit), and at a third signal.
    #[default]
    AtDeadline,
    /// Never ends the process. Then a blocked thread can hold it until SIGKILL.
    Never,
}

/// Starts the control thread and returns when its signal handlers are in place.
pub(crate) fn start(
    shared: Arc<Shared>,
    machine: Machine,
    policy: ExitPolicy,
    forced: ForcedExit,
    commands: mpsc::Receiver<Command>,
) -> io::Result<()> {
    let (installed, wait) = std_mpsc::sync_channel(1);
    thread::Builder::new().name("lifecycle".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                // The constructor waits for this; should it be gone, nobody needs to know.
                drop(installed.send(Err(error)));
                return;
            }
        };
        let last_resort = LastResort::new(forced, Arc::clone(&shared));
        let begun = {
            let last_resort = Arc::clone(&last_resort);
            Arc::new(move |timeline: Timeline| last_resort.arm(timeline))
        };
        let _unheard = Unheard(Arc::clone(&last_resort));
        runtime.block_on(async move {
            let source = install();
            let mut source = match source {
                Ok(source) => source,
                Err(error) => return drop(installed.send(Err(error))),
            };
            drop(installed.send(Ok(())));
            let coordinator = Coordinator::new(shared, machine, policy, begun);
            // On the heap: it holds the coordinator.
            let life = live(coordinator, commands, &mut source, forced, &last_resort);
            Box::pin(life).await;
        });
    })?;
    wait.recv().unwrap_or_else(|_| Err(io::Error::other("the control thread died at its start")))
}

async fn live(
    mut coordinator: Coordinator,
    mut commands: mpsc::Receiver<Command>,
    signals: &mut Source,
    forced: ForcedExit,
    last_resort: &LastResort,
) {
    let finish = Box::pin(coordinator.drive(&mut commands, signals)).await;
    // A `run` that comes now is told so.
    drop(commands);
    let report = match finish {
        Finish::Reported(report) => {
            last_resort.code(report.exit_code());
            if forced == ForcedExit::Never {
                return;
            }
            if coordinator.was_dropped() {
                // Nobody is left to stop: signals do what they would have done without us.
                last_resort.disarm();
                let signal = match report.cause() {
                    Cause::Signal(signal) => *signal,
                    _ if matches!(signals, Source::Never) => return,
                    _ => coordinator.one_more_signal(signals).await,
                };
                exit(128 + signal.number());
            }
            let exit_by = coordinator.exit_by();
            tokio::select! {
                biased;
                signal = coordinator.one_more_signal(signals) => {
                    let code = coordinator.policy().code(ExitReason::Forced(signal));
                    report.print_once();
                    last_resort.shared.kill_children();
                    exit(code);
                }
                () = sleep_until(exit_by) => report,
            }
        }
        Finish::Now(report) => report,
    };
    if forced == ForcedExit::AtDeadline {
        report.print_once();
        last_resort.shared.kill_children();
        exit(report.exit_code());
    }
}

#[cfg(all(unix, feature = "signal"))]
fn install() -> io::Result<Source> {
    crate::signal::system::Caught::install().map(Source::System)
}

#[cfg(not(all(unix, feature = "signal")))]
fn install() -> io::Result<Source> {
    Ok(Source::Never)
}

/// Ends the process when even the control thread is stuck, as in a write to a log whose
/// reader has stopped reading. Its thread starts with the cause: an idle process has none.
#[derive(Debug)]
struct LastResort {
    forced: ForcedExit,
    shared: Arc<Shared>,
    at: Mutex<Option<Instant>>,
    thread: OnceLock<Thread>,
    code: OnceLock<u8>,
}

impl LastResort {
    fn new(forced: ForcedExit, shared: Arc<Shared>) -> Arc<Self> {
        let (at, thread, code) = (Mutex::new(None), OnceLock::new(), OnceLock::new());
        Arc::new(Self { forced, shared, at, thread, code })
    }

    /// Sets or moves the moment.
    fn arm(self: &Arc<Self>, timeline: Timeline) {
        if self.forced == ForcedExit::Never {
            return;
        }
        let budget = timeline.budget;
        let margin = budget.grace.saturating_sub(budget.exit_by);
        let after = budget.exit_by + (margin / 2).min(AFTER_EXIT_BY);
        *locked(&self.at) = Some(timeline.cause_at + after);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
            return;
        }
        let this = Arc::clone(self);
        let name = "lifecycle-exit".to_owned();
        // Without this thread the control thread still ends the process by itself.
        if let Ok(started) = thread::Builder::new().name(name).spawn(move || this.wait()) {
            drop(self.thread.set(started.thread().clone()));
        }
    }

    fn disarm(&self) {
        *locked(&self.at) = None;
    }

    fn code(&self, code: u8) {
        self.code.get_or_init(|| code);
    }

    fn wait(&self) {
        loop {
            let left = locked(&self.at).map(|at| at.saturating_duration_since(Instant::now()));
            match left {
                None => thread::park(),
                Some(left) if !left.is_zero() => thread::park_timeout(left),
                Some(_) => self.end(),
            }
        }
    }

    /// Ends the process. Nothing is printed: a blocked stderr may be why we are here. Nor
    /// is it left to `exit` alone, which flushes stdout and runs handlers that can block.
    fn end(&self) -> ! {
        self.shared.kill_children();
        let killer = thread::Builder::new().name("lifecycle-kill".to_owned()).spawn(|| {
            thread::park_timeout(EXIT_TAKES_MOST);
            kill();
        });
        if killer.is_err() {
            kill();
        }
        exit(*self.code.get().unwrap_or(&STUCK))
    }
}

/// Ends the process when the control thread panics (by way of a user's log, most likely):
/// from then on every signal would be swallowed.
struct Unheard(Arc<LastResort>);

impl Drop for Unheard {
    fn drop(&mut self) {
        if thread::panicking() && self.0.forced == ForcedExit::AtDeadline {
            self.0.shared.kill_children();
            exit(FAILED);
        }
    }
}

/// As the platform would a moment later.
fn kill() {
    #[cfg(unix)]
    {
        let own = rustix::process::getpid();
        let killed = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        debug_assert!(killed.is_ok(), "every process may kill itself");
    }
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "the one place: a runtime that does not end must not outlive the deadline"
)]
fn exit(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

/// The last resort gives the control thread this long to print its report.
const AFTER_EXIT_BY: Duration = Duration::from_millis(100);
/// How long `exit` may take before the process kills itself.
const EXIT_TAKES_MOST: Duration = Duration::from_millis(50);
/// The exit code of a panic of ours, as of a component's.
const FAILED: u8 = 1;
/// Its exit code when there is no report: work was cut.
const STUCK: u8 = 3;
