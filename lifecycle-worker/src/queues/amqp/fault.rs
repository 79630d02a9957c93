//! What goes wrong with a broker, as a value that can be told to each of many jobs.

use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

use crate::error::QueueError;

/// Why a call has no answer that can be used.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The queue was closed.
    Closed,
    /// The connection has ended before the answer.
    Ended,
    /// What was asked for cannot be written down in AMQP.
    Invalid(String),
    /// The client or the broker says so.
    Lapin(Error),
    /// The broker refused a message: its queue is full, or its node is going.
    Refused,
    /// The broker has ended a consumer: the queue was deleted, or its node is going.
    Revoked,
    /// No answer came within the bound.
    TimedOut(Duration),
    /// No queue takes what was published.
    Unroutable(String),
    /// This queue does not do that.
    Unsupported(String),
}

impl Fault {
    /// Of a publish: whether it says that an exchange is missing, or not for this user, and has
    /// ended the channel.
    pub(super) fn refuses_exchange(&self) -> bool {
        matches!(self.said(), Some(AMQPErrorKind::Soft(_))) && !self.is_too_large()
    }

    /// Of a publish: whether the channel was at its end already, because of another message: this
    /// one was not sent; or it was all the same, and the broker ends the connection with the first
    /// such. What was on the connection's other channels then may be there.
    pub(super) fn is_unsent(&self) -> bool {
        let Self::Lapin(error) = self else { return false };
        let late = AMQPErrorKind::Hard(AMQPHardError::CHANNELERROR);
        matches!(error.kind(), ErrorKind::InvalidChannelState(..)) || self.said() == Some(&late)
    }

    /// Whether the broker has ended a channel, and the connection goes on.
    pub(super) fn is_of_channel(&self) -> bool {
        matches!(self.said(), Some(AMQPErrorKind::Soft(_)))
    }

    /// Of a publish: whether the message was too large for the broker.
    pub(super) fn is_too_large(&self) -> bool {
        matches!(self.said(), Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)))
    }

    /// Of a publish: whether the broker has looked at a message, and does not mind its size.
    pub(super) fn is_of_any_size(&self) -> bool {
        matches!(self, Self::Refused | Self::Unroutable(_)) || self.refuses_exchange()
    }

    fn said(&self) -> Option<&AMQPErrorKind> {
        let Self::Lapin(error) = self else { return None };
        let ErrorKind::ProtocolError(said) = error.kind() else { return None };
        Some(said.kind())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Lapin(error)
    }
}

impl From<Fault> for QueueError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Closed => Self::Closed,
            Fault::Ended => Self::unavailable("the connection has ended"),
            Fault::Invalid(what) => Self::Invalid { what },
            Fault::Lapin(error) => of_lapin(error),
            Fault::Refused => Self::unavailable("the broker refused the message"),
            Fault::Revoked => Self::unavailable("the broker has ended the consumer"),
            Fault::TimedOut(bound) => Self::timed_out(bound),
            Fault::Unroutable(key) => {
                Self::NotPrepared { what: format!("no queue takes {key}; call `prepare()`") }
            }
            Fault::Unsupported(what) => Self::Unsupported { what },
        }
    }
}

fn of_lapin(error: Error) -> QueueError {
    let ErrorKind::ProtocolError(said) = error.kind() else { return of_client(error) };
    let message = said.get_message().to_string();
    match said.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => QueueError::Denied(error.into()),
        // It is there, on a node that is not: it comes back with that.
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)
            if message.contains("down or inaccessible") =>
        {
            QueueError::unavailable(error)
        }
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => {
            QueueError::NotPrepared { what: format!("{message}; call `prepare()`") }
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
            if message.contains("message size") =>
        {
            QueueError::Invalid { what: message }
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
            if OTHERWISE.iter().any(|words| message.contains(words)) =>
        {
            QueueError::Invalid { what: format!("the broker has it otherwise: {message}") }
        }
        // A virtual host that is not there, or not for this user.
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if message.contains("not found") => {
            QueueError::Invalid { what: message }
        }
        // One connection or channel too many, until another ends.
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if is_limit(&message) => {
            QueueError::unavailable(error)
        }
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => QueueError::Denied(error.into()),
        AMQPErrorKind::Hard(AMQPHardError::NOTIMPLEMENTED) => {
            QueueError::Unsupported { what: message }
        }
        _ => QueueError::unavailable(error),
    }
}

/// Whether a limit is reached, or cannot be asked for. Names are in quotes, and may say anything.
fn is_limit(message: &str) -> bool {
    let is_so = |words: &str| LIMITS.iter().any(|limit| words.contains(limit));
    message.split('\'').step_by(2).any(is_so)
}

fn of_client(error: Error) -> QueueError {
    match error.kind() {
        ErrorKind::InvalidProtocolVersion(_) | ErrorKind::ParsingError(_) => {
            QueueError::Unsupported {
                what: format!("what answers there is no AMQP 0-9-1 ({error})"),
            }
        }
        ErrorKind::AuthProviderError(_) => QueueError::Denied(error.into()),
        ErrorKind::SerialisationError(_) => {
            QueueError::Invalid { what: format!("no AMQP message ({error})") }
        }
        _ => QueueError::unavailable(error),
    }
}

/// Of what is declared. All else that fails so may do at another time: a job that was not
/// acknowledged in time, a limit of queues.
const OTHERWISE: [&str; 3] = ["inequivalent arg", "invalid arg", "invalid property"];
const LIMITS: [&str; 3] = ["limit", "maximum allowed", "channel_max"];

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn said(kind: impl Into<AMQPErrorKind>, message: &str) -> QueueError {
        let error = AMQPError::new(kind.into(), message.into());
        Fault::from(Error::from(ErrorKind::ProtocolError(error))).into()
    }

    #[test]
    fn what_the_broker_says_is_told_by_whose_fault_it_is() {
        let refused = said(AMQPSoftError::ACCESSREFUSED, "ACCESS_REFUSED");
        assert!(matches!(refused, QueueError::Denied(_)));
        let missing = said(AMQPSoftError::NOTFOUND, "NOT_FOUND - no queue 'mail'");
        assert_eq!(
            missing.to_string(),
            "not prepared: NOT_FOUND - no queue 'mail'; call `prepare()`"
        );
        let vhost = said(AMQPHardError::NOTALLOWED, "NOT_ALLOWED - vhost x not found");
        assert!(matches!(vhost, QueueError::Invalid { .. }));
        let vhost = said(AMQPHardError::NOTALLOWED, "NOT_ALLOWED - access to vhost 'x' refused");
        assert!(matches!(vhost, QueueError::Denied(_)));
        let other = said(AMQPSoftError::PRECONDITIONFAILED, "inequivalent arg 'x-queue-type'");
        assert!(matches!(other, QueueError::Invalid { .. }));
        assert!(!said(AMQPHardError::CONNECTIONFORCED, "shutdown").is_fatal());
        let io = Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert!(!QueueError::from(Fault::from(io)).is_fatal());
    }

    #[test]
    fn a_channel_that_a_job_or_a_limit_has_ended_is_opened_again() {
        for message in [
            "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value \
             used: 1800000 ms. This timeout value can be configured, see consumers doc guide",
            "PRECONDITION_FAILED - unknown delivery tag 7",
            "PRECONDITION_FAILED - cannot declare queue 'mail': queue limit in vhost '/' (9) is \
             reached",
        ] {
            let error = said(AMQPSoftError::PRECONDITIONFAILED, message);
            assert!(!error.is_fatal(), "{error:?}");
        }
        let large = said(AMQPSoftError::PRECONDITIONFAILED, "message size 9 is larger than 8");
        assert!(matches!(large, QueueError::Invalid { .. }));
    }

    #[test]
    fn a_limit_of_connections_is_waited_for() {
        for message in [
            "NOT_ALLOWED - access to vhost '/' refused for user 'ada': connection limit (1) is \
             reached",
            "NOT_ALLOWED - access to vhost '/' refused for user 'ada': connection limit cannot be \
             queried, timeout",
            "NOT_ALLOWED - connection refused for user 'ada': user connection limit (1) is reached",
            "NOT_ALLOWED - connection refused: node connection limit (9) is reached",
            "NOT_ALLOWED - number of channels opened (7) has reached the negotiated channel_max (7)",
            "NOT_ALLOWED - number of channels opened for user 'ada' has reached the maximum allowed \
             user limit of (7)",
        ] {
            let error = said(AMQPHardError::NOTALLOWED, message);
            assert!(!error.is_fatal(), "{error:?}");
        }
        let named = "NOT_ALLOWED - access to vhost 'limits' refused for user 'limit'";
        assert!(matches!(said(AMQPHardError::NOTALLOWED, named), QueueError::Denied(_)));
    }

    #[test]
    fn what_came_too_late_for_its_channel_was_not_sent() {
        let kind = AMQPErrorKind::from(AMQPHardError::CHANNELERROR);
        let error = AMQPError::new(kind, "CHANNEL_ERROR - expected 'channel.open'".into());
        let late = Fault::from(Error::from(ErrorKind::ProtocolError(error)));
        assert!(late.is_unsent() && !late.refuses_exchange());
        let forced = AMQPError::new(AMQPHardError::CONNECTIONFORCED.into(), "shutdown".into());
        let forced = Fault::from(Error::from(ErrorKind::ProtocolError(forced)));
        assert!(!forced.is_unsent(), "it may have been");
    }
}
