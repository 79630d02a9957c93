//! What goes wrong with a server, as a value that can be told to each of many jobs.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::QueueError;

/// Why a call has no answer that can be used.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The queue was closed.
    Closed,
    /// What answers does not speak Redis' protocol.
    NotRedis(RedisError),
    /// The server's version, which is too old.
    Old(String),
    /// The client or the server says so.
    Redis(RedisError),
    /// No answer came within the bound.
    TimedOut(Duration),
    /// An answer of another shape than our script's.
    Shape,
}

impl Fault {
    /// Whether the connection cannot be used any more, or leads to the wrong node.
    pub(super) fn breaks(&self) -> bool {
        let Self::Redis(error) = self else { return matches!(self, Self::TimedOut(_)) };
        match error.kind() {
            ErrorKind::Server(kind) => matches!(
                kind,
                ServerErrorKind::Moved
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
            ),
            ErrorKind::Extension => false,
            _ => true,
        }
    }

    /// Whether it was the answer to `CLIENT UNBLOCK .. ERROR`.
    pub(super) fn is_unblocked(&self) -> bool {
        matches!(self, Self::Redis(error) if error.code() == Some("UNBLOCKED"))
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<Fault> for QueueError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Closed => Self::Closed,
            Fault::NotRedis(error) => {
                Self::Unsupported { what: format!("what answers there is not Redis ({error})") }
            }
            Fault::Old(version) => Self::Unsupported {
                what: format!("Redis {version}: a queue needs {VERSION_LEAST}.0 or later"),
            },
            Fault::Redis(error) => of_redis(error),
            Fault::TimedOut(bound) => Self::timed_out(bound),
            Fault::Shape => Self::Unsupported {
                what: "the server answered a script with something else".to_owned(),
            },
        }
    }
}

fn of_redis(error: RedisError) -> QueueError {
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "NOPERM" | "WRONGPASS")) => {
            QueueError::Denied(error.into())
        }
        (_, Some("WRONGTYPE")) => QueueError::Invalid {
            what: format!("keys of the queue's name hold something else ({error})"),
        },
        // Other errors of that kind pass: too many clients, a node that is starting.
        (ErrorKind::Server(ServerErrorKind::ResponseError), _)
            if error.detail().is_some_and(|detail| detail.contains("unknown command")) =>
        {
            QueueError::Unsupported { what: error.to_string() }
        }
        _ => QueueError::unavailable(error),
    }
}

/// The oldest major version: its scripts may ask for the time and then write.
pub(super) const VERSION_LEAST: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waiting_mends_is_unavailable() {
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let io = Fault::from(RedisError::from(io));
        assert!(io.breaks());
        assert!(!QueueError::from(io).is_fatal());
        let denied = RedisError::from((ErrorKind::AuthenticationFailed, "wrong"));
        assert!(matches!(QueueError::from(Fault::from(denied)), QueueError::Denied(_)));
        assert!(matches!(QueueError::from(Fault::Closed), QueueError::Closed));
        let old = QueueError::from(Fault::Old("6.2.1".to_owned())).to_string();
        assert_eq!(old, "not supported: Redis 6.2.1: a queue needs 7.0 or later");
    }
}
