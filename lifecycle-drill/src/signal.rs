//! The signals that a scenario sends, with their numbers for exit codes.

use std::fmt;

/// A signal to send to the process under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// `SIGHUP`: the terminal is gone, or "reload" by custom.
    Hup,
    /// `SIGINT`: what Ctrl-C sends, and what Nomad and Fly send at a stop.
    Int,
    /// `SIGKILL`: cannot be caught.
    Kill,
    /// `SIGQUIT`: stop at once.
    Quit,
    /// `SIGTERM`: the usual request to stop.
    Term,
}

impl Signal {
    /// The number of the signal, as in the exit code `128 + n`.
    #[must_use]
    pub fn number(self) -> i32 {
        self.to_os().as_raw()
    }

    pub(crate) fn to_os(self) -> rustix::process::Signal {
        match self {
            Self::Hup => rustix::process::Signal::HUP,
            Self::Int => rustix::process::Signal::INT,
            Self::Kill => rustix::process::Signal::KILL,
            Self::Quit => rustix::process::Signal::QUIT,
            Self::Term => rustix::process::Signal::TERM,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hup => "SIGHUP",
            Self::Int => "SIGINT",
            Self::Kill => "SIGKILL",
            Self::Quit => "SIGQUIT",
            Self::Term => "SIGTERM",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_posix() {
        let numbers = [Signal::Hup, Signal::Int, Signal::Quit, Signal::Kill, Signal::Term]
            .map(Signal::number);
        assert_eq!(numbers, [1, 2, 3, 9, 15]);
        assert_eq!(Signal::Term.to_string(), "SIGTERM");
    }
}
