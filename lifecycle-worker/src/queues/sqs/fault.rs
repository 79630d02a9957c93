//! What an error of SQS means to a queue.

use std::error::Error;

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::BatchResultErrorEntry;

use crate::error::{QueueError, chain};

/// What went wrong with a request: unanswered if it may have been carried out all the same.
pub(super) fn mapped<E, R>(error: &SdkError<E, R>) -> QueueError
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(answer) => {
            let code = answer.err().code().unwrap_or_default();
            let message = answer.err().message().unwrap_or_default();
            if code.is_empty() {
                return QueueError::unanswered(format!("{code}: {message}"));
            }
            of_code(code, message)
        }
        // Also when no credentials are found: they may come later, as an instance's do.
        _ if may_be_heard(error) => QueueError::unanswered(chain(error)),
        _ => QueueError::unavailable(chain(error)),
    }
}

/// Whether the request may have gone out, of which no answer came.
fn may_be_heard<E, R>(error: &SdkError<E, R>) -> bool
where
    E: Error + 'static,
    R: std::fmt::Debug + 'static,
{
    let by_sdk = match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::DispatchFailure(failure) => failure.is_io() || failure.is_timeout(),
        _ => true,
    };
    // The client of HTTP knows better: a connection that was never made, or one that has ended.
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut of_client = None::<&hyper_util::client::legacy::Error>;
    // Bound: a chain of errors is short.
    while let (Some(error), None) = (cause, of_client) {
        (cause, of_client) = (error.source(), error.downcast_ref());
    }
    of_client.map_or(by_sdk, |error| !error.is_connect())
}

/// What went wrong with one entry of a batch.
pub(super) fn of_entry(entry: &BatchResultErrorEntry) -> QueueError {
    of_code(entry.code(), entry.message().unwrap_or_default())
}

/// Whether SQS says that the handle is no more the message's newest.
pub(super) fn is_lost(entry: &BatchResultErrorEntry) -> bool {
    let code = entry.code();
    LOST.iter().any(|one| code.ends_with(one))
}

pub(super) fn of_code(code: &str, message: &str) -> QueueError {
    let is_of = |codes: &[&str]| codes.iter().any(|one| code.contains(one));
    let text = || format!("{code}: {message}");
    if code.contains(INTERNAL) {
        QueueError::unanswered(text())
    } else if is_of(&MISSING) {
        let what = format!("{message} ({code}); call `prepare()`");
        QueueError::NotPrepared { what }
    } else if is_of(&REFUSED) {
        QueueError::Denied(text().into())
    } else if is_of(&WRONG) {
        QueueError::Invalid { what: text() }
    } else if code.contains("UnsupportedOperation") {
        QueueError::Unsupported { what: text() }
    } else {
        // Throttling, and what is new.
        QueueError::unavailable(text())
    }
}

/// It does not know what it has done.
const INTERNAL: &str = "Internal";
const MISSING: [&str; 2] = ["NonExistentQueue", "QueueDoesNotExist"];
const REFUSED: [&str; 9] = [
    "AccessDenied",
    "AuthFailure",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClient",
];
const WRONG: [&str; 5] = [
    "BatchRequestTooLong",
    "InvalidAddress",
    "InvalidMessageContents",
    "InvalidParameterValue",
    "MissingParameter",
];
const LOST: [&str; 2] = ["MessageNotInflight", "ReceiptHandleIsInvalid"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart_by_what_to_do() {
        let missing = of_code("AWS.SimpleQueueService.NonExistentQueue", "no such queue");
        assert!(matches!(missing, QueueError::NotPrepared { .. }), "{missing}");
        assert!(missing.to_string().ends_with("call `prepare()`"));
        let denied = of_code("AccessDeniedException", "not you");
        assert!(matches!(denied, QueueError::Denied(_)), "{denied}");
        let wrong = of_code("InvalidParameterValue", "no");
        assert!(matches!(wrong, QueueError::Invalid { .. }), "{wrong}");
        assert!(!of_code("RequestThrottled", "later").is_fatal());
        let entry = |code: &str| {
            let entry = BatchResultErrorEntry::builder().id("0").sender_fault(true).code(code);
            entry.build().expect("an entry")
        };
        assert!(is_lost(&entry("AWS.SimpleQueueService.MessageNotInflight")));
        assert!(is_lost(&entry("ReceiptHandleIsInvalid")) && !is_lost(&entry("InternalError")));
    }
}
