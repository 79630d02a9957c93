//! Wakes waiting claims when another process pushes or returns a job: `LISTEN`.
//!
//! Not here: what wakes them without it (the poll).
//!
//! # Invariants
//! 1. It has a connection of its own, which no call waits for.
//! 2. Whenever it begins to listen, and whenever it lost its connection, waiting claims look
//!    for what they may have missed.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::{error::Elapsed, sleep, timeout};

use crate::queues::sql::Parking;

/// Listens until it is aborted, on one connection after the other.
pub(super) async fn listen(
    options: Arc<PgConnectOptions>,
    queue: Arc<str>,
    parking: Arc<Parking>,
) -> std::convert::Infallible {
    // Bound: ends with its task, which the queue aborts.
    loop {
        let lost = connection(&options, &queue, &parking).await;
        tracing::debug!(queue = &*queue, ?lost, "not listening; claims poll");
        parking.wake();
        sleep(AGAIN).await;
    }
}

#[derive(Debug)]
enum Lost {
    Error(#[allow(dead_code, reason = "read by Debug, in the log")] sqlx::Error),
    Silent,
    Ended,
}

impl From<sqlx::Error> for Lost {
    fn from(error: sqlx::Error) -> Self {
        Self::Error(error)
    }
}

impl From<Elapsed> for Lost {
    fn from(_: Elapsed) -> Self {
        Self::Silent
    }
}

/// Listens on one connection until it is lost.
async fn connection(
    options: &Arc<PgConnectOptions>,
    queue: &str,
    parking: &Parking,
) -> Result<std::convert::Infallible, Lost> {
    // A pool of its own: in the queue's, it would take a connection from the calls.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .acquire_timeout(ANSWER)
        .connect_lazy_with((**options).clone());
    let mut listener = timeout(ANSWER, Box::pin(PgListener::connect_with(&pool))).await??;
    listener.eager_reconnect(false);
    timeout(ANSWER, Box::pin(listener.listen(CHANNEL))).await??;
    parking.wake();
    // Bound: each turn ends with a notification, or within SILENCE and ANSWER.
    loop {
        match timeout(SILENCE, Box::pin(listener.try_recv())).await {
            Ok(Ok(Some(notification))) if notification.payload() == queue => parking.wake(),
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => return Err(Lost::Ended),
            Ok(Err(error)) => return Err(error.into()),
            // A connection whose other end vanished would stay silent for ever.
            Err(_) => {
                timeout(ANSWER, sqlx::query("SELECT 1").execute(&mut listener)).await??;
            }
        }
    }
}

/// All queues of a database share it; the payload says which one is meant.
pub(super) const CHANNEL: &str = "lifecycle_worker";
const SILENCE: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(500);
