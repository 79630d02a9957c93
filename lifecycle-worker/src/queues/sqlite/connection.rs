//! Connections of the SQLite queue: transactions that nobody drops, and one look without one.
//!
//! Not here: what the statements say (`statements`).
//!
//! # Invariants
//! 1. A transaction runs on a task of its own to its end: dropping a call never leaves one open
//!    on a pooled connection.
//! 2. Of one value, one transaction runs at a time: SQLite has one writer, and those who wait
//!    for it here wait in their order. Between processes there is no order, and whoever waits
//!    asks at even intervals: SQLite's own are ever longer, so that a worker that returns its
//!    jobs would starve beside busy ones.
//! 3. A connection whose transaction did not end as it should is closed: SQLite itself ends one
//!    that it cannot write, and the driver would count it for ever.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Sqlite, SqlitePool, Transaction};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::error::QueueError;
use crate::queues::sql::{Fault, mapped, no_answer};

/// What a transaction does.
pub(super) type Work<T> = Box<
    dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send,
>;

/// The options that a URL means, with ours.
pub(super) fn options(url: &str) -> Result<SqliteConnectOptions, QueueError> {
    let invalid = |what: String| QueueError::Invalid { what };
    if !url.starts_with("sqlite:") {
        return Err(invalid("the URL of a SQLite queue begins with sqlite:".to_owned()));
    }
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    if path.is_empty() || path.contains(":memory:") || path.contains("mode=memory") {
        return Err(invalid("a SQLite queue needs a file: sqlite:///path/to/file".to_owned()));
    }
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|error| invalid(format!("the URL is none of SQLite: {error}")))?;
    Ok(options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .disable_statement_logging())
}

/// A pool on that file for what writes: one connection, which asks for the lock by [`begin`].
pub(super) fn writing(options: SqliteConnectOptions) -> SqlitePool {
    let pool = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
    pool.connect_lazy_with(options.busy_timeout(ASK_AGAIN))
}

/// A pool on that file, which is created if it is missing.
pub(super) async fn pool(options: SqliteConnectOptions) -> Result<SqlitePool, QueueError> {
    let file = options.get_filename().to_owned();
    let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
    let pool = pool.connect_lazy_with(options);
    // Two processes that open a new file at once both turn it to WAL, and one may be told that
    // it is busy without having waited.
    let opened = timeout(BUSY, async {
        // Bound: BUSY, above.
        loop {
            match pool.acquire().await.map_err(first_error) {
                Err(QueueError::Unavailable(_)) => sleep(OPEN_AGAIN).await,
                opened => return opened.map(drop),
            }
        }
    });
    let opened = opened.await.unwrap_or_else(|_| Err(QueueError::timed_out(BUSY)));
    opened.map(|()| pool).map_err(|error| match error {
        // SQLite does not say which.
        QueueError::Invalid { what } => {
            QueueError::Invalid { what: format!("{}: {what}", file.display()) }
        }
        error => error,
    })
}

/// The answer of a transaction within `bound`; what takes longer goes on without us. One that
/// nobody waits for before it begins does not begin.
pub(super) async fn write<T: Send + 'static>(
    pool: &SqlitePool,
    writer: &Arc<Semaphore>,
    bound: Duration,
    work: Work<T>,
) -> Result<T, QueueError> {
    let (tell, told) = oneshot::channel();
    let (pool, writer) = (pool.clone(), Arc::clone(writer));
    tokio::spawn(async move {
        let Ok(_turn) = writer.acquire_owned().await else { return };
        if !tell.is_closed() {
            // Whoever asked may have left; the work is done all the same.
            drop(tell.send(transaction(&pool, work).await));
        }
    });
    match timeout(bound, told).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(no_answer()),
        Err(_) => Err(QueueError::timed_out(bound)),
    }
}

/// Never dropped: on a task of its own.
pub(super) async fn transaction<T>(pool: &SqlitePool, work: Work<T>) -> Result<T, QueueError> {
    let mut connection = pool.acquire().await.map_err(error)?;
    let answer = on(&mut connection, work).await;
    if matches!(answer, Err(Failed { then: Then::Close, .. })) {
        // It may take itself to be in a transaction that SQLite has ended: that never mends.
        connection.close_on_drop();
    }
    answer.map_err(|failed| error(failed.cause))
}

/// Why there is no answer, and what is to become of the connection.
struct Failed {
    cause: sqlx::Error,
    then: Then,
}

enum Then {
    Close,
    Keep,
}

async fn on<T>(connection: &mut SqliteConnection, work: Work<T>) -> Result<T, Failed> {
    let until = Instant::now() + BUSY;
    // Bound: `until`; the time that SQLite itself waits is added to each turn.
    loop {
        match connection.begin_with("BEGIN IMMEDIATE").await {
            Err(cause) if is_busy(&cause) && Instant::now() < until => {
                // Drawn, so that those who wait do not ask in step.
                sleep(ASK_AGAIN.mul_f64(0.5 + fastrand::f64())).await;
            }
            Err(cause) if is_busy(&cause) => return Err(Failed { cause, then: Then::Keep }),
            Err(cause) => return Err(Failed { cause, then: Then::Close }),
            Ok(transaction) => return within(transaction, work).await,
        }
    }
}

async fn within<T>(mut transaction: Transaction<'_, Sqlite>, work: Work<T>) -> Result<T, Failed> {
    match work(&mut transaction).await {
        Ok(answer) => {
            let committed = transaction.commit().await;
            committed.map(|()| answer).map_err(|cause| Failed { cause, then: Then::Close })
        }
        Err(cause) => match transaction.rollback().await {
            Ok(()) => Err(Failed { cause, then: Then::Keep }),
            Err(error) => {
                tracing::debug!(%error, "the connection is closed");
                Err(Failed { cause, then: Then::Close })
            }
        },
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    code(error) == Some(BUSY_CODE)
}

/// The low byte of SQLite's own code.
fn code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.map(|code| code & 0xff)
}

/// The machine's clock, in microseconds since 1970: the one that all processes on a file share.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn error(error: sqlx::Error) -> QueueError {
    mapped(error, |error| fault(error.code().as_deref().unwrap_or_default(), error.message()))
}

/// Of the first time that the file is opened, where `CANTOPEN` is a folder that is missing.
fn first_error(cause: sqlx::Error) -> QueueError {
    match &cause {
        sqlx::Error::Database(said) if code(&cause) == Some(CANTOPEN) => {
            QueueError::Invalid { what: said.message().to_owned() }
        }
        _ => error(cause),
    }
}

/// Whose fault a code is; its low byte is what is documented, the rest a detail.
fn fault(code: &str, message: &str) -> Fault {
    let code = code.parse::<i32>().unwrap_or_default() & 0xff;
    let missing = ["no such table", "no such column", "has no column"];
    match code {
        // SQLITE_ERROR says by its words alone what it is.
        1 if missing.iter().any(|words| message.contains(words)) => Fault::NotPrepared,
        // A statement that this SQLite does not understand.
        1 if message.contains("syntax error") => Fault::Invalid,
        // PERM, READONLY, AUTH.
        3 | 8 | 23 => Fault::Denied,
        // CORRUPT, TOOBIG, MISMATCH, NOTADB.
        11 | 18 | 20 | 26 => Fault::Invalid,
        // CANTOPEN among them: a file that was there once, and a process without descriptors.
        _ => Fault::Unavailable,
    }
}

const BUSY_CODE: i32 = 5;
const CANTOPEN: i32 = 14;
/// One writes, the others look.
const CONNECTIONS: u32 = 4;
/// How long SQLite asks again for a lock that another process has, and a file may take to open.
const BUSY: Duration = Duration::from_secs(5);
/// How long to wait before the lock is asked for again; about what a transaction takes.
const ASK_AGAIN: Duration = Duration::from_millis(2);
const OPEN_AGAIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_of_a_file() {
        assert!(options("sqlite:///var/lib/app/jobs.db").is_ok());
        assert!(options("sqlite:jobs.db").is_ok());
        for url in ["", "jobs.db", "sqlite:", "sqlite::memory:", "sqlite://a?mode=memory"] {
            let error = options(url).unwrap_err();
            assert!(matches!(error, QueueError::Invalid { .. }), "{url}: {error:?}");
        }
    }

    #[test]
    fn a_code_says_whose_fault_it_is() {
        let faults = [
            ("1", "no such table: lifecycle_worker_jobs", Fault::NotPrepared),
            ("1", "near \"SELEC\": syntax error", Fault::Invalid),
            ("1", "cannot start a transaction within a transaction", Fault::Unavailable),
            ("5", "database is locked", Fault::Unavailable),
            ("517", "database is locked", Fault::Unavailable),
            ("8", "attempt to write a readonly database", Fault::Denied),
            ("1032", "attempt to write a readonly database", Fault::Denied),
            ("14", "unable to open database file", Fault::Unavailable),
            ("26", "file is not a database", Fault::Invalid),
        ];
        for (code, message, expected) in faults {
            assert_eq!(fault(code, message), expected, "{code} {message}");
        }
    }
}
