//! What is wrong with a schedule, said when it is made.

use thiserror::Error;

use crate::error::BoxError;

/// Why a schedule cannot be made: the caller's fault, all of it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The cron expression is none.
    #[error("schedule {name:?}: {expression:?} is not a cron expression")]
    Expression {
        /// The schedule's name.
        name: String,
        /// What was given.
        expression: String,
        /// What is wrong with it.
        source: BoxError,
    },
    /// The name is empty, longer than 100 bytes, has control characters, or is taken.
    #[error("schedule {name:?}: a name is not empty, 100 bytes at most, printable and given once")]
    Name {
        /// What was given.
        name: String,
    },
    /// No time matches the expression, as the 30th of February.
    #[error("schedule {name:?}: no time matches {expression:?}")]
    Never {
        /// The schedule's name.
        name: String,
        /// What was given.
        expression: String,
    },
    /// The queue knows no dedupe keys: two clocks would enqueue each tick twice.
    #[error("the queue {queue:?} cannot keep two clocks apart: it has no dedupe keys")]
    NoDedupe {
        /// The queue's name.
        queue: String,
    },
    /// The time zone is unknown.
    #[error("schedule {name:?}: {zone:?} is not a time zone, as Europe/Berlin or UTC is")]
    Zone {
        /// The schedule's name.
        name: String,
        /// What was given.
        zone: String,
        /// What is wrong with it.
        source: BoxError,
    },
}
