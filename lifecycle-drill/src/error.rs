//! What can go wrong with the process under test before a scenario can judge it.

use std::{io, path::PathBuf, time::Duration};

use crate::process::Ended;

/// Why the process under test could not be brought to readiness.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It ended before it was ready, each time on another port.
    #[error("ended before it was ready ({ended}) in {attempts} attempts; output: {tail}")]
    EndedEarly {
        /// How the last attempt ended.
        ended: Ended,
        /// How many ports were tried.
        attempts: u32,
        /// The last lines of its output.
        tail: String,
    },
    /// It was to be PID 1 of a PID namespace, and the system refuses to make one.
    #[error(
        "no PID namespace: {said}. It takes util-linux, and root with CAP_SYS_ADMIN (in a \
         container: --privileged, or --cap-add SYS_ADMIN with a seccomp and AppArmor profile \
         that lets unshare and mount through) or user namespaces (sysctl \
         kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0, \
         user.max_user_namespaces)"
    )]
    NoNamespace {
        /// What the system said.
        said: String,
    },
    /// No free port could be found on the loopback interface.
    #[error("no free port on 127.0.0.1")]
    NoPort,
    /// It ran but did not become ready in time.
    #[error("not ready within {limit:?}; output: {tail}")]
    NotReady {
        /// How long it was given.
        limit: Duration,
        /// The last lines of its output.
        tail: String,
    },
    /// The pseudo-terminal could not be made.
    #[error("cannot open a pseudo-terminal")]
    Pty(#[source] io::Error),
    /// The command could not be run at all; usually the path is wrong.
    #[error("cannot run {}", program.display())]
    Spawn {
        /// The program as given.
        program: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Why a signal could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The process has ended and was reaped: its id may belong to another by now.
    #[error("the process has already ended ({0})")]
    Gone(Ended),
    /// The operating system refused.
    #[error("the signal could not be sent")]
    Os(#[source] io::Error),
}
