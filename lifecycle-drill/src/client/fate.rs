//! What became of one request.

use std::{fmt, io};

use rustix::io::Errno;

/// What became of one request, as its client saw it. There is no retry behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// A whole response arrived. One that only the end of its connection ends (HTTP/1.0 without
    /// a length) counts as whole: if it was cut, nobody can tell.
    Answered {
        /// Its status.
        status: u16,
        /// Whether it told us to close the connection.
        close: bool,
    },
    /// The connection was not made in time.
    ConnectTimedOut,
    /// The connection ended in order, after bytes of the request were sent and before any of
    /// the response came.
    EofBeforeResponse,
    /// What came is not HTTP.
    Garbled,
    /// This machine has no file descriptor left for a connection: nothing about the server.
    NoDescriptor,
    /// This machine has no port left to connect from: nothing about the server.
    NoLocalPort,
    /// HTTP/2: the server said that it did not process the stream (above the last id of its
    /// GOAWAY, or refused). Safe to repeat.
    NotProcessed,
    /// The connection was seen to have ended before a byte of the request was sent.
    NotSent,
    /// Nobody listens.
    Refused,
    /// The connection was reset after bytes of the request were sent.
    ResetAfterSent,
    /// The connection was reset before a byte of the request was sent.
    ResetInConnect,
    /// No whole response in time.
    TimedOut,
    /// The response began but did not end.
    Truncated,
}

impl Fate {
    /// Whether a whole response came.
    #[must_use]
    pub fn is_answered(self) -> bool {
        matches!(self, Self::Answered { .. })
    }

    /// The status of the whole response, if one came.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Whether it tells of this machine alone, and nothing of the server.
    #[must_use]
    pub(crate) fn is_of_this_machine(self) -> bool {
        matches!(self, Self::NoDescriptor | Self::NoLocalPort)
    }

    /// Whether a kubelet takes it for the success of a probe: any status of 200 to 399.
    #[must_use]
    pub(crate) fn is_probe_success(self) -> bool {
        matches!(self.status(), Some(200..400))
    }

    /// Whether a kubelet takes it for an answer that says no: any other status.
    #[must_use]
    pub(crate) fn is_probe_refusal(self) -> bool {
        self.is_answered() && !self.is_probe_success()
    }

    /// Whether the request was (or may have been) taken and no whole answer came: what a
    /// client cannot safely repeat.
    #[must_use]
    pub fn is_lost(self) -> bool {
        matches!(
            self,
            Self::EofBeforeResponse
                | Self::Garbled
                | Self::ResetAfterSent
                | Self::TimedOut
                | Self::Truncated
        )
    }

    /// Few words for a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered { .. } => "answered",
            Self::ConnectTimedOut => "connect timed out",
            Self::EofBeforeResponse => "closed before any response",
            Self::Garbled => "garbled",
            Self::NoDescriptor => "no file descriptor",
            Self::NoLocalPort => "no local port",
            Self::NotProcessed => "not processed (says the server)",
            Self::NotSent => "not sent",
            Self::Refused => "refused",
            Self::ResetAfterSent => "reset after sent",
            Self::ResetInConnect => "reset in connect",
            Self::TimedOut => "timed out",
            Self::Truncated => "truncated",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { status, close: true } => write!(f, "answered {status} with close"),
            Self::Answered { status, close: false } => write!(f, "answered {status}"),
            other => f.write_str(other.name()),
        }
    }
}

/// A request that got no whole response.
#[derive(Debug, thiserror::Error)]
#[error("{fate}")]
#[non_exhaustive]
pub struct WireError {
    /// What became of it; never [`Fate::Answered`].
    pub fate: Fate,
    /// What the operating system or the protocol library said, if anything.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl WireError {
    pub(crate) fn new(fate: Fate) -> Self {
        debug_assert!(!fate.is_answered(), "an answer is not an error");
        Self { fate, source: None }
    }

    pub(crate) fn caused(
        fate: Fate,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { source: Some(source.into()), ..Self::new(fate) }
    }

    /// An IO error of connect.
    pub(crate) fn connecting(error: io::Error) -> Self {
        let no_descriptor =
            matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE));
        let fate = match error.kind() {
            _ if no_descriptor => Fate::NoDescriptor,
            io::ErrorKind::ConnectionRefused => Fate::Refused,
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Fate::NoLocalPort,
            io::ErrorKind::TimedOut => Fate::ConnectTimedOut,
            _ => Fate::ResetInConnect,
        };
        Self::caused(fate, error)
    }

    /// An IO error on a connection, on which so many requests waited for their answer and
    /// something of that had come or not.
    pub(crate) fn talking(error: io::Error, unanswered: u32, began: bool) -> Self {
        let fate = match (unanswered, began) {
            (0, _) => Fate::ResetInConnect,
            (_, true) => Fate::Truncated,
            (_, false) => Fate::ResetAfterSent,
        };
        Self::caused(fate, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_is_what_cannot_be_repeated() {
        for fate in [Fate::EofBeforeResponse, Fate::ResetAfterSent, Fate::Truncated] {
            assert!(fate.is_lost() && !fate.is_answered(), "{fate}");
        }
        let answered = Fate::Answered { status: 200, close: true };
        for fate in [answered, Fate::Refused, Fate::ResetInConnect, Fate::NotProcessed] {
            assert!(!fate.is_lost(), "{fate}");
        }
        assert_eq!(answered.to_string(), "answered 200 with close");
    }

    #[test]
    fn a_reset_counts_by_what_was_sent_and_what_came() {
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(WireError::talking(reset(), 0, false).fate, Fate::ResetInConnect);
        assert_eq!(WireError::talking(reset(), 9, false).fate, Fate::ResetAfterSent);
        assert_eq!(WireError::talking(reset(), 9, true).fate, Fate::Truncated);
        let connecting = |errno: Errno| WireError::connecting(errno.into()).fate;
        assert_eq!(connecting(Errno::CONNREFUSED), Fate::Refused);
        assert_eq!(connecting(Errno::MFILE), Fate::NoDescriptor);
        assert_eq!(connecting(Errno::NFILE), Fate::NoDescriptor);
        assert_eq!(connecting(Errno::ADDRNOTAVAIL), Fate::NoLocalPort);
        for fate in [Fate::NoDescriptor, Fate::NoLocalPort] {
            assert!(fate.is_of_this_machine() && !fate.is_lost(), "{fate}");
        }
    }
}
