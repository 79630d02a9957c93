//! The signals that a platform stops a process with.
//!
//! Installing the handlers is the one thing here that touches the operating system; it
//! is done when the control thread starts, before the constructor returns.

use std::fmt;
#[cfg(all(unix, feature = "signal"))]
use std::io::IsTerminal;

/// A signal that begins or hastens a shutdown.
///
/// SIGTERM and SIGINT drain in full (SIGINT without the lame duck when stderr is a
/// terminal, since then it is a person's Ctrl-C); SIGQUIT is a hard stop at once; SIGHUP
/// is as SIGTERM, unless [`on_reload`](crate::Lifecycle::on_reload) was given a hook for it,
/// or it was ignored at the start, as `nohup` has it (seen on Linux).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Signal {
    /// SIGHUP.
    Hangup,
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// Its number, the same on every Unix.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::Terminate => 15,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// A signal as it was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) signal: Signal,
    pub(crate) by: By,
}

/// Who has sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Somebody who has pressed Ctrl-C and waits for it.
    Person,
    #[cfg(any(all(unix, feature = "signal"), feature = "test-kit"))]
    Platform,
}

/// Where the coordinator's signals come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Nowhere: a lifecycle inside a test, or a build without the feature `signal`.
    Never,
    /// A test.
    #[cfg(feature = "test-kit")]
    Virtual(tokio::sync::mpsc::Receiver<Heard>),
    /// The operating system.
    #[cfg(all(unix, feature = "signal"))]
    System(system::Caught),
}

impl Source {
    /// The next signal.
    ///
    /// # Cancel safety
    /// Cancel safe: a signal that is not returned is kept for the next call.
    pub(crate) async fn next(&mut self) -> Heard {
        match self {
            Self::Never => std::future::pending().await,
            #[cfg(feature = "test-kit")]
            Self::Virtual(heard) => match heard.recv().await {
                Some(heard) => heard,
                None => std::future::pending().await,
            },
            #[cfg(all(unix, feature = "signal"))]
            Self::System(caught) => {
                let signal = caught.next().await;
                let pressed = signal == Signal::Interrupt && std::io::stderr().is_terminal();
                Heard { signal, by: if pressed { By::Person } else { By::Platform } }
            }
        }
    }
}

#[cfg(all(unix, feature = "signal"))]
pub(crate) mod system {
    //! The operating system's signals, by way of tokio.

    use std::io;

    use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

    use super::Signal;

    /// Handlers in place; dispositions stay changed for the life of the process.
    #[derive(Debug)]
    pub(crate) struct Caught {
        hangup: Option<Stream>,
        interrupt: Stream,
        quit: Stream,
        terminate: Stream,
    }

    impl Caught {
        /// Installs the handlers; must be called inside a runtime.
        pub(crate) fn install() -> io::Result<Self> {
            Ok(Self {
                hangup: if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) },
                interrupt: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
                terminate: signal(SignalKind::terminate())?,
            })
        }

        pub(super) async fn next(&mut self) -> Signal {
            tokio::select! {
                biased;
                _ = self.quit.recv() => Signal::Quit,
                _ = self.terminate.recv() => Signal::Terminate,
                _ = self.interrupt.recv() => Signal::Interrupt,
                () = received(&mut self.hangup) => Signal::Hangup,
            }
        }
    }

    async fn received(stream: &mut Option<Stream>) {
        match stream {
            Some(stream) => drop(stream.recv().await),
            None => std::future::pending().await,
        }
    }

    /// Whether SIGHUP was ignored when the process started.
    fn ignores_hangup() -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & 1 == 1)
    }
}
