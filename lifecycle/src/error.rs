//! The errors of this crate: one small enum per operation, facts of the domain.
//!
//! `Debug` reads like `Display` with its sources, since that is what `main` prints when
//! it returns an error.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::env::show;

/// Any error that a component or hook returns.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A grace period that contradicts itself: the operator's or the caller's mistake.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BudgetError {
    /// An adaptive lame duck would last at least longer than it may last.
    #[error("the least lame duck of {} is longer than the lame duck of {}", show(.least), show(.lame_duck))]
    LameDuckLeastTooLong {
        /// The least, as it was set.
        least: Duration,
        /// The lame duck, as it was set or follows from the grace.
        lame_duck: Duration,
    },
    /// The lame duck would last into the hard stop.
    #[error(
        "the lame duck of {} does not fit: grace {} less margin {}, reserve for hooks {} and \
         cancel window {} leaves {} for lame duck and drain together",
        show(.lame_duck), show(.grace), show(.margin), show(.reserve), show(.window),
        show(.drain_ends)
    )]
    LameDuckTooLong {
        /// As it was set.
        lame_duck: Duration,
        /// The grace period less the preStop time.
        grace: Duration,
        /// Kept free before the platform's SIGKILL.
        margin: Duration,
        /// Kept for returns and hooks.
        reserve: Duration,
        /// Between the cancel and the end of what did not heed it.
        window: Duration,
        /// When the drain must end.
        drain_ends: Duration,
    },
    /// The preStop hook leaves nothing of the grace.
    #[error("the preStop time of {} leaves nothing of the grace of {}", show(.pre_stop), show(.grace))]
    PreStopTakesAll {
        /// The grace period as it was set.
        grace: Duration,
        /// The preStop time as it was set.
        pre_stop: Duration,
    },
    /// Longer than any platform gives: a year at most.
    #[error("the grace of {} is too long: a year at most", show(.grace))]
    TooLong {
        /// The grace period as it was set.
        grace: Duration,
    },
    /// The fixed parts alone are longer than the grace.
    #[error(
        "the grace of {} is too short: margin {}, reserve for hooks {} and cancel window {} \
         take {} before any drain",
        show(.grace), show(.margin), show(.reserve), show(.window),
        show(&(*.margin + *.reserve + *.window))
    )]
    TooShort {
        /// The grace period less the preStop time.
        grace: Duration,
        /// Kept free before the platform's SIGKILL.
        margin: Duration,
        /// Kept for returns and hooks.
        reserve: Duration,
        /// Between the cancel and the end of what did not heed it.
        window: Duration,
    },
}

/// Why a [`Lifecycle`](crate::Lifecycle) could not be made.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The grace period contradicts itself.
    #[error("the shutdown budget contradicts itself")]
    Budget(#[source] BudgetError),
    /// The operating system refused the control thread or its signal handlers.
    #[error("cannot start the control thread")]
    ControlThread(#[source] io::Error),
    /// A variable of the environment has a value that it does not take.
    #[error("{name}={value:?} is not understood: it takes {takes}")]
    Variable {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// The forms that it takes.
        takes: &'static str,
    },
}

/// Why the probe server could not be started.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The address cannot be bound; most often another process has it.
    #[error(
        "cannot bind the probe server to {addr} (LIFECYCLE_PROBE_ADDR sets another, `off` none)"
    )]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The coordinator has already ended.
    #[error("the lifecycle has already ended")]
    Ended,
    /// The listener cannot be used.
    #[error("cannot use the listener for the probe server")]
    Listener(#[source] io::Error),
}

/// Why [`Lifecycle::run`](crate::Lifecycle::run) could not run. Running out of time is not
/// among the reasons: that is a [`Report`](crate::Report). Running twice is no reason either:
/// it does not compile.
/// ```compile_fail,E0382
/// # async fn twice(life: lifecycle::Lifecycle) -> Result<(), lifecycle::RunError> {
/// life.run().await?;
/// life.run().await?;
/// # Ok(()) }
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The control thread has panicked, and the process may not be ended
    /// ([`ForcedExit::Never`](crate::ForcedExit::Never)).
    #[error("the control thread ended before its report")]
    ControlThreadLost,
    /// The shutdown was over before `run` was reached: the start took longer than the grace.
    #[error("the shutdown was over before `run` was reached")]
    Ended,
    /// The caller's mistake.
    #[error("the components cannot be run as they are registered")]
    Misuse(#[source] Misuse),
}

/// How a [`ChildProcess`](crate::ChildProcess) failed.
#[cfg(all(unix, feature = "process"))]
#[cfg_attr(docsrs, doc(cfg(feature = "process")))]
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ChildError {
    /// It ended with that status.
    #[error("{program} ended: {status}")]
    Ended {
        /// The program.
        program: String,
        /// Its status.
        status: std::process::ExitStatus,
    },
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Why sockets could not be inherited: what `LISTEN_FDS` and its sisters say is not so.
#[cfg(all(target_os = "linux", feature = "systemd"))]
#[cfg_attr(docsrs, doc(cfg(feature = "systemd")))]
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum InheritError {
    /// A descriptor is announced and not there.
    #[error("LISTEN_FDS announces descriptor {descriptor}, which is closed")]
    Closed {
        /// The descriptor.
        descriptor: u32,
    },
    /// The operating system refused a look at it or its use.
    #[error("cannot use the inherited descriptor {descriptor}")]
    Descriptor {
        /// The descriptor.
        descriptor: u32,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// A socket is not of the kind that is asked for.
    #[error("the inherited socket {name:?} (descriptor {descriptor}) is no {wanted}")]
    Kind {
        /// Its name.
        name: String,
        /// Its descriptor.
        descriptor: u32,
        /// What it should be.
        wanted: &'static str,
    },
    /// There are not as many names as sockets.
    #[error("LISTEN_FDNAMES has {names} names for {count} sockets")]
    Names {
        /// How many names.
        names: usize,
        /// How many sockets.
        count: usize,
    },
    /// A descriptor is no socket.
    #[error("LISTEN_FDS announces descriptor {descriptor}, which is no socket")]
    NoSocket {
        /// The descriptor.
        descriptor: u32,
    },
    /// A descriptor was opened by this process, or was taken before.
    #[error(
        "LISTEN_FDS announces descriptor {descriptor}, which was not inherited, or was taken \
         already"
    )]
    NotInherited {
        /// The descriptor.
        descriptor: u32,
    },
    /// They are another process': a wrapper's that did not `exec`, or the parent's.
    #[error("LISTEN_FDS is for process {pid}, and this is process {own_pid}")]
    OtherProcess {
        /// The process in `LISTEN_PID`.
        pid: u32,
        /// This process.
        own_pid: u32,
    },
    /// A variable has a value that it does not take.
    #[error("{name}={value:?} is not understood: it takes {takes}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it takes.
        takes: &'static str,
    },
}

/// A mistake in how components were registered.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// Each is to drain after the next, and the last after the first.
    #[error("these are to drain after one another: {}", circle(.names))]
    AfterCircle {
        /// The circle.
        names: Vec<String>,
    },
    /// A component is to drain after one that there is not.
    #[error("{name:?} is to drain after {after:?}, which is not registered")]
    AfterUnknown {
        /// The component.
        name: String,
        /// Whom it is to follow.
        after: String,
    },
    /// Two components have one name.
    #[error("two components are named {name:?}")]
    NameTaken {
        /// The name used twice.
        name: String,
    },
}

/// The gate is closed: the work came too late.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("refused: the drain is over")]
#[non_exhaustive]
pub struct Refused;

fn circle(names: &[String]) -> String {
    let round = names.iter().chain(names.first());
    round.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" after ")
}

/// Writes an error as one line with its sources, joined by a colon.
pub(crate) fn with_sources(error: &dyn Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{error}")?;
    let mut source = error.source();
    while let Some(error) = source {
        write!(f, ": {error}")?;
        source = error.source();
    }
    Ok(())
}

impl fmt::Debug for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_sources(self, f)
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_sources(self, f)
    }
}

impl fmt::Debug for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_sources(self, f)
    }
}

impl fmt::Debug for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_sources(self, f)
    }
}

#[cfg(all(unix, feature = "process"))]
impl fmt::Debug for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_sources(self, f)
    }
}

#[cfg(all(target_os = "linux", feature = "systemd"))]
impl fmt::Debug for InheritError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_sources(self, f)
    }
}

impl fmt::Debug for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_sources(self, f)
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_sources(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_reads_like_display_with_its_sources() {
        let source = io::Error::new(io::ErrorKind::AddrInUse, "address in use");
        let error = ProbeError::Bind { addr: ([127, 0, 0, 1], 9090).into(), source };
        assert_eq!(
            format!("{error:?}"),
            "cannot bind the probe server to 127.0.0.1:9090 (LIFECYCLE_PROBE_ADDR sets \
             another, `off` none): address in use"
        );
    }
}
