//! How the errors of sqlx become ours.
//!
//! Not here: what a code of one database means (`postgres`, `sqlite`).

use sqlx::error::DatabaseError;

use crate::error::{QueueError, chain};

/// Whose fault an error of the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Fault {
    /// The credentials are wrong, or allow too little.
    Denied,
    /// What was asked for is none.
    Invalid,
    /// A table, a schema or a column is missing.
    NotPrepared,
    /// It may work later.
    Unavailable,
}

/// The error as ours; `fault` knows the codes of the database.
pub(in super::super) fn mapped(
    error: sqlx::Error,
    fault: fn(&dyn DatabaseError) -> Fault,
) -> QueueError {
    match error {
        sqlx::Error::PoolClosed => QueueError::Closed,
        sqlx::Error::PoolTimedOut => QueueError::unavailable(
            "no connection: it is refused or not answered, or all of the pool's are in use",
        ),
        sqlx::Error::Tls(source) if is_missing(&*source) => {
            let what = "TLS, unless by the feature `postgres-tls` or by one of sqlx".to_owned();
            QueueError::Unsupported { what }
        }
        // A handshake that broke off in a server's restart is one of these too, by some libraries.
        sqlx::Error::Tls(source) => QueueError::unavailable(format!("TLS: {source}")),
        sqlx::Error::Configuration(source) => QueueError::Invalid { what: source.to_string() },
        sqlx::Error::InvalidArgument(what) => QueueError::Invalid { what },
        sqlx::Error::Encode(source) => QueueError::Invalid { what: source.to_string() },
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::Decode(_) => super::unreadable(&error),
        sqlx::Error::Database(error) => {
            let message = error.message().to_owned();
            match fault(&*error) {
                Fault::Denied => QueueError::Denied(error),
                Fault::Invalid => QueueError::Invalid { what: message },
                Fault::NotPrepared => {
                    QueueError::NotPrepared { what: format!("{message}; call `prepare()`") }
                }
                Fault::Unavailable => QueueError::Unavailable(error),
            }
        }
        error => QueueError::unavailable(error),
    }
}

/// Whether that is sqlx's word for being built without TLS, which has no other name.
fn is_missing(tls: &(dyn std::error::Error + Send + Sync)) -> bool {
    tls.to_string().contains("built without TLS support")
}

/// The same error once more, for the next of many receipts.
pub(in super::super) fn again(error: &QueueError) -> QueueError {
    let source = |source: &crate::BoxError| chain(&**source).into();
    match error {
        QueueError::Closed => QueueError::Closed,
        QueueError::Denied(because) => QueueError::Denied(source(because)),
        QueueError::Invalid { what } => QueueError::Invalid { what: what.clone() },
        QueueError::NotPrepared { what } => QueueError::NotPrepared { what: what.clone() },
        QueueError::Unavailable(because) => QueueError::Unavailable(source(because)),
        QueueError::Unsupported { what } => QueueError::Unsupported { what: what.clone() },
    }
}

/// Text of a column: databases take no zero in it.
pub(in super::super) fn no_nul<'a>(what: &str, text: &'a str) -> Result<&'a str, QueueError> {
    if text.contains('\0') {
        return Err(QueueError::Invalid { what: format!("{what} has a zero byte: {text:?}") });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unused(_: &dyn DatabaseError) -> Fault {
        Fault::Unavailable
    }

    #[test]
    fn what_waiting_mends_is_unavailable() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        for error in [sqlx::Error::Io(refused), sqlx::Error::PoolTimedOut] {
            assert!(!mapped(error, unused).is_fatal());
        }
        assert!(matches!(mapped(sqlx::Error::PoolClosed, unused), QueueError::Closed));
        let error = mapped(sqlx::Error::Configuration("no port".into()), unused);
        assert_eq!(error.to_string(), "no port");
    }

    #[test]
    fn tls_that_is_not_there_is_told_from_a_handshake_that_failed() {
        let tls = |said: &str| mapped(sqlx::Error::Tls(said.into()), unused);
        // As sqlx 0.9 says it.
        let missing = tls("required, but SQLx was built without TLS support enabled");
        assert!(matches!(missing, QueueError::Unsupported { .. }), "{missing:?}");
        assert!(!tls("unexpected EOF during handshake").is_fatal());
    }

    #[test]
    fn an_error_told_again_reads_the_same() {
        let error = QueueError::unavailable("refused");
        assert_eq!(chain(&again(&error)), chain(&error));
        let error = QueueError::NotPrepared { what: "no table".into() };
        assert_eq!(chain(&again(&error)), chain(&error));
    }

    #[test]
    fn a_zero_byte_is_no_text() {
        assert_eq!(no_nul("a kind", "mail").unwrap(), "mail");
        let error = no_nul("a kind", "ma\0il").unwrap_err();
        assert_eq!(error.to_string(), r#"a kind has a zero byte: "ma\0il""#);
    }
}
