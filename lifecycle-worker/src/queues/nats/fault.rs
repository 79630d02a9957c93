//! What goes wrong with a server, told by whose fault it is.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::{ConnectError, ConnectErrorKind, RequestError, RequestErrorKind};

use crate::error::{BoxError, QueueError, chain};

/// What a failed connection says.
pub(super) fn of_connect(error: ConnectError) -> QueueError {
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            QueueError::Denied(error.into())
        }
        ConnectErrorKind::ServerParse => not_a_url(),
        _ => QueueError::unavailable(error),
    }
}

/// The URL itself may have a password in it.
pub(super) fn not_a_url() -> QueueError {
    QueueError::Invalid { what: "not a URL like nats://user:password@host:4222".to_owned() }
}

/// What a call of the JetStream API says, which hides its code among its sources.
pub(super) fn of_api(error: impl std::error::Error + Send + Sync + 'static) -> QueueError {
    match code(&error) {
        Some(ErrorCode::STREAM_NOT_FOUND | ErrorCode::CONSUMER_NOT_FOUND) => {
            QueueError::NotPrepared { what: chain(&error) }
        }
        Some(ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT) => {
            no_jetstream()
        }
        Some(_) => QueueError::Invalid { what: chain(&error) },
        None if chain(&error).contains("no responders") => no_jetstream(),
        None => QueueError::unavailable(error),
    }
}

/// What a published message's answer says.
pub(super) fn of_publish(error: PublishError) -> QueueError {
    match error.kind() {
        PublishErrorKind::StreamNotFound => missing(),
        PublishErrorKind::MaxPayloadExceeded => too_large(),
        _ => QueueError::unavailable(error),
    }
}

/// What a request's answer says.
pub(super) fn of_request(error: RequestError) -> QueueError {
    match error.kind() {
        RequestErrorKind::NoResponders => missing(),
        RequestErrorKind::MaxPayloadExceeded => too_large(),
        _ => QueueError::unavailable(error),
    }
}

pub(super) fn missing() -> QueueError {
    QueueError::NotPrepared { what: "the stream or its consumer is not there".to_owned() }
}

pub(super) fn no_jetstream() -> QueueError {
    QueueError::Unsupported { what: "the server has no JetStream, or not for this account".into() }
}

fn too_large() -> QueueError {
    QueueError::Invalid { what: "a job is larger than the server's max_payload".to_owned() }
}

/// The server's own code, somewhere among the sources.
fn code(error: &(dyn std::error::Error + 'static)) -> Option<ErrorCode> {
    let mut next = Some(error);
    // Bound: a chain of errors is short.
    for _ in 0..SOURCES_MOST {
        let error = next?;
        if let Some(said) = error.downcast_ref::<async_nats::jetstream::Error>() {
            return Some(said.error_code());
        }
        next = error.source();
    }
    None
}

/// What the server says instead of a job.
pub(super) fn of_status(status: u16, description: Option<&str>) -> QueueError {
    let text = description.unwrap_or_default();
    match status {
        NO_RESPONDERS => missing(),
        CONFLICT if text.contains("Deleted") => missing(),
        _ => QueueError::unavailable(BoxError::from(format!("status {status} {text}"))),
    }
}

const SOURCES_MOST: usize = 8;
const CONFLICT: u16 = 409;
const NO_RESPONDERS: u16 = 503;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_by_whose_fault_it_is() {
        assert!(matches!(of_status(503, None), QueueError::NotPrepared { .. }));
        let deleted = of_status(409, Some("Consumer Deleted"));
        assert!(matches!(deleted, QueueError::NotPrepared { .. }));
        assert!(!of_status(409, Some("Exceeded MaxWaiting")).is_fatal());
    }
}
