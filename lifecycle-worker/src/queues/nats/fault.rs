//! What goes wrong with a server, told by whose fault it is.

use std::fmt::{Debug, Display};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamErrorKind, PublishError, PublishErrorKind,
    RequestErrorKind as ApiErrorKind,
};
use async_nats::jetstream::stream::{ConsumerErrorKind, RawMessageErrorKind};
use async_nats::{ConnectError, ConnectErrorKind, RequestError, RequestErrorKind};

use crate::error::{BoxError, QueueError, chain};

/// What a failed connection says.
pub(super) fn of_connect(error: ConnectError) -> QueueError {
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            // Its own words have the source's in them, which says the same.
            QueueError::Denied(error.kind().to_string().into())
        }
        ConnectErrorKind::ServerParse => not_a_url(),
        _ => QueueError::unavailable(error),
    }
}

/// The URL itself may have a password in it.
pub(super) fn not_a_url() -> QueueError {
    QueueError::Invalid { what: "not a URL like nats://user:password@host:4222".to_owned() }
}

/// What a call of the JetStream API says.
pub(super) fn of_api<K: Coded>(error: async_nats::error::Error<K>) -> QueueError {
    match error.kind().code() {
        Some((_, ErrorCode::STREAM_NOT_FOUND | ErrorCode::CONSUMER_NOT_FOUND)) => missing(),
        Some((
            _,
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT,
        )) => no_jetstream(),
        Some((OWN_FAULT.., _)) => QueueError::unavailable(error),
        Some(_) => QueueError::Invalid { what: chain(&error) },
        // Also "no responders": a server without JetStream says so when it is connected to, and
        // one in a cluster may have no leader for a while.
        None => QueueError::unavailable(error),
    }
}

/// A kind of error that may have the server's own codes in it: as HTTP has them, and its own.
pub(super) trait Coded: Clone + Debug + Display + PartialEq + Send + Sync + 'static {
    fn code(&self) -> Option<(usize, ErrorCode)>;
}

impl Coded for ConsumerErrorKind {
    fn code(&self) -> Option<(usize, ErrorCode)> {
        let Self::JetStream(said) = self else { return None };
        Some((said.code(), said.error_code()))
    }
}

impl Coded for CreateStreamErrorKind {
    fn code(&self) -> Option<(usize, ErrorCode)> {
        match self {
            Self::JetStream(said) => Some((said.code(), said.error_code())),
            Self::JetStreamUnavailable => Some((OWN_FAULT, ErrorCode::JETSTREAM_NOT_ENABLED)),
            _ => None,
        }
    }
}

impl Coded for GetStreamErrorKind {
    fn code(&self) -> Option<(usize, ErrorCode)> {
        let Self::JetStream(said) = self else { return None };
        Some((said.code(), said.error_code()))
    }
}

impl Coded for RawMessageErrorKind {
    fn code(&self) -> Option<(usize, ErrorCode)> {
        let Self::JetStream(said) = self else { return None };
        Some((said.code(), said.error_code()))
    }
}

impl Coded for ApiErrorKind {
    fn code(&self) -> Option<(usize, ErrorCode)> {
        None
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
    let what = "the stream or its consumer is not there; call `prepare()`".to_owned();
    QueueError::NotPrepared { what }
}

pub(super) fn no_jetstream() -> QueueError {
    QueueError::Unsupported { what: "the server has no JetStream, or not for this account".into() }
}

pub(super) fn too_large() -> QueueError {
    QueueError::Invalid {
        what: "a job is larger than the server's max_payload, or leaves no room \
               in it for an error"
            .to_owned(),
    }
}

/// What the server says instead of a job.
pub(super) fn of_status(status: u16, description: Option<&str>) -> QueueError {
    let text = description.unwrap_or_default();
    match status {
        CONFLICT if text.contains("Deleted") => missing(),
        _ => QueueError::unavailable(BoxError::from(format!("status {status} {text}"))),
    }
}

const CONFLICT: u16 = 409;
pub(super) const NO_RESPONDERS: u16 = 503;
/// From here on it is the server's fault, which may pass.
const OWN_FAULT: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_told_by_its_code() {
        let said = r#"{"code":404,"err_code":10059,"description":"stream not found"}"#;
        let said: async_nats::jetstream::Error = serde_json::from_str(said).unwrap();
        let error = of_api(async_nats::error::Error::new(GetStreamErrorKind::JetStream(said)));
        assert!(matches!(error, QueueError::NotPrepared { .. }), "{error:?}");
        let said = r#"{"code":503,"err_code":10008,"description":"temporarily unavailable"}"#;
        let said: async_nats::jetstream::Error = serde_json::from_str(said).unwrap();
        let error = of_api(async_nats::error::Error::new(GetStreamErrorKind::JetStream(said)));
        assert!(!error.is_fatal(), "a cluster without a leader: {error:?}");
        let none =
            of_api(async_nats::error::Error::new(CreateStreamErrorKind::JetStreamUnavailable));
        assert!(matches!(none, QueueError::Unsupported { .. }), "{none:?}");
    }

    #[test]
    fn a_status_is_told_by_whose_fault_it_is() {
        assert!(!of_status(503, None).is_fatal(), "its leader may be on its way");
        let deleted = of_status(409, Some("Consumer Deleted"));
        assert!(matches!(deleted, QueueError::NotPrepared { .. }));
        assert!(!of_status(409, Some("Exceeded MaxWaiting")).is_fatal());
    }
}
