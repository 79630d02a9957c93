//! Connections of the PostgreSQL queue: one statement on one of them, within a limit.
//!
//! Not here: what the statements say (`statements`).
//!
//! # Invariants
//! 1. A connection whose statement was left in the middle is closed and never lent again.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection, PgPool, Postgres};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::QueueError;
use crate::queues::sql::{Fault, mapped};

/// The options that a URL means.
pub(super) fn options(url: &str) -> Result<PgConnectOptions, QueueError> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        let what = "the URL of a PostgreSQL queue begins with postgres://".to_owned();
        return Err(QueueError::Invalid { what });
    }
    let options: PgConnectOptions = url.parse().map_err(|error| {
        // The text of the error has no part of the URL, which may hold a password.
        QueueError::Invalid { what: format!("the URL is none of PostgreSQL: {error}") }
    })?;
    Ok(options.disable_statement_logging())
}

/// A pool on those options, after one connection has shown that they work.
pub(super) async fn pool(options: PgConnectOptions) -> Result<PgPool, QueueError> {
    let first = timeout(CONNECT_BOUND, Box::pin(PgConnection::connect_with(&options))).await;
    let first = first.map_err(|_| QueueError::timed_out(CONNECT_BOUND))?.map_err(first_error)?;
    if timeout(CONNECT_BOUND, first.close()).await.is_err() {
        tracing::debug!("the connection that was tried did not close in time");
    }
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        // A round trip before each statement would double their time; a connection that has
        // just worked needs none.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED {
                    // One that says nothing is closed, and leaves time for a new one.
                    let late = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
                    timeout(PING_BOUND, connection.ping()).await.map_err(late)??;
                }
                Ok(true)
            })
        });
    Ok(pool.connect_lazy_with(options))
}

/// A connection that is closed when it is dropped before it is known to be whole.
struct Borrowed {
    connection: PoolConnection<Postgres>,
    whole: bool,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.whole {
            // The pool asks it whether it is there, and without a bound: one that says nothing would
            // keep its place for good.
            tokio::spawn(timeout(PING_BOUND, self.connection.return_to_pool()));
        } else {
            self.connection.close_on_drop();
        }
    }
}

impl Borrowed {
    async fn rows(
        mut self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let rows = query.fetch_all(&mut *self.connection).await;
        self.whole = matches!(rows, Ok(_) | Err(sqlx::Error::Database(_)));
        rows
    }
}

/// The rows of a statement, or an error within `bound`.
pub(super) async fn rows(
    pool: &PgPool,
    query: Query<'static, Postgres, PgArguments>,
    bound: Duration,
) -> Result<Vec<PgRow>, QueueError> {
    let (rows, _) = rows_since(pool, query, bound, Duration::ZERO).await?;
    Ok(rows)
}

/// The rows, and when the statement was sent: a connection within `bound`, the answer within
/// `extra` more.
pub(super) async fn rows_since(
    pool: &PgPool,
    query: Query<'static, Postgres, PgArguments>,
    bound: Duration,
    extra: Duration,
) -> Result<(Vec<PgRow>, Instant), QueueError> {
    let limit = Instant::now() + bound;
    let late = |_| QueueError::timed_out(bound);
    // In a box: connecting takes some kilobytes.
    let acquired = timeout_at(limit, Box::pin(pool.acquire())).await;
    // Nothing was sent, so nothing can have been done.
    let none =
        |_| QueueError::unavailable(format!("no connection within {} ms", bound.as_millis()));
    let connection = acquired.map_err(none)?.map_err(error)?;
    let sent = Instant::now();
    let rows = Borrowed { connection, whole: false }.rows(query);
    let rows = timeout_at(limit + extra, rows).await.map_err(late)?.map_err(error)?;
    Ok((rows, sent))
}

pub(super) fn error(error: sqlx::Error) -> QueueError {
    mapped(error, |error| fault(error.code().as_deref().unwrap_or_default()))
}

/// Of the first connection: a server without TLS, or another's certificate, is not waited for.
fn first_error(cause: sqlx::Error) -> QueueError {
    let tls = match &cause {
        sqlx::Error::Tls(source) => Some(format!("TLS: {source}")),
        _ => None,
    };
    match (error(cause), tls) {
        (QueueError::Unavailable(_), Some(what)) => QueueError::Invalid { what },
        (error, _) => error,
    }
}

/// Whose fault an SQLSTATE is.
fn fault(code: &str) -> Fault {
    match code {
        // Credentials, permission, a role that may not log in.
        "28000" | "28P01" | "42501" => Fault::Denied,
        // The database is not there: the URL's fault.
        "3D000" => Fault::Invalid,
        // Schema, table, column, function, or a type of one that is another.
        "3F000" | "42P01" | "42703" | "42883" | "42804" => Fault::NotPrepared,
        // Data that is none, or too long; a statement that this server does not understand.
        code if code.starts_with("22") || code.starts_with("42") => Fault::Invalid,
        _ => Fault::Unavailable,
    }
}

/// Enough for a worker's claim, settles and ticker at once.
const CONNECTIONS: u32 = 8;
/// [`crate::Capabilities::call_bound`]'s default, which cannot be set before there is a queue.
const CONNECT_BOUND: Duration = Duration::from_secs(5);
/// How long an idle connection is taken to be one.
const TRUSTED: Duration = Duration::from_secs(1);
/// How long a connection that is not in use may take to show that it is one.
const PING_BOUND: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_whose_fault_it_is() {
        let faults = [
            ("28P01", Fault::Denied),
            ("42501", Fault::Denied),
            ("3D000", Fault::Invalid),
            ("42P01", Fault::NotPrepared),
            ("3F000", Fault::NotPrepared),
            ("22021", Fault::Invalid),
            ("42601", Fault::Invalid),
            ("40P01", Fault::Unavailable),
            ("53300", Fault::Unavailable),
            ("57P01", Fault::Unavailable),
            ("", Fault::Unavailable),
        ];
        for (code, expected) in faults {
            assert_eq!(fault(code), expected, "{code}");
        }
    }

    #[test]
    fn a_url_is_one_of_postgres() {
        assert!(options("postgres://u:secret@localhost:5432/db").is_ok());
        for url in ["", "redis://localhost", "localhost", "postgres://u:secret@localhost:none/"] {
            let error = options(url).unwrap_err();
            assert!(matches!(error, QueueError::Invalid { .. }), "{error:?}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
