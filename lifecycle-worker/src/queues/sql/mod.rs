//! What the SQL queues share: who claims, what a row means, how a call fails, how a claim waits.
//!
//! Not here: statements and connections (`postgres`, `sqlite`).
//!
//! # Invariants
//! 1. A receipt settles its job only by id, owner and claim number, all three.
//! 2. Of a claim's future, only its waiting is dropped with it ([`handed_over`]): jobs that
//!    arrive for nobody are given back.

mod errors;
mod wait;

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use uuid::Uuid;

pub(super) use errors::{Fault, again, mapped, no_nul};
pub(super) use wait::{Offer, Parking, Source, claim};

use crate::capabilities::{Capabilities, Lease};
use crate::claimed::{Claimed, JobId, Receipt};
use crate::error::{BoxError, QueueError};
use crate::queue::{Extended, Settled};

pub(super) use super::handover::handed_over;

/// What a queue's owner may set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) lease: Duration,
    pub(super) call_bound: Duration,
    pub(super) poll: Duration,
}

impl Settings {
    pub(super) fn new(poll: Duration) -> Self {
        Self { lease: LEASE, call_bound: CALL_BOUND, poll }
    }

    pub(super) fn lease(self, lease: Duration) -> Self {
        Self { lease: lease.clamp(SHORTEST, LONGEST), ..self }
    }

    pub(super) fn call_bound(self, call_bound: Duration) -> Self {
        Self { call_bound: call_bound.min(LONGEST), ..self }
    }

    pub(super) fn poll(self, poll: Duration) -> Self {
        Self { poll: poll.clamp(SHORTEST, LONGEST), ..self }
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities::full(Lease::Timed { period: self.lease, longest: None })
            .with_call_bound(self.call_bound)
    }
}

/// A job as the claiming statement returns it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) claim: i64,
    pub(super) kind: String,
    pub(super) payload: Vec<u8>,
    pub(super) headers: Option<String>,
    pub(super) attempts: i64,
    pub(super) returns: i64,
    pub(super) checkpoint: Option<Vec<u8>>,
}

impl Row {
    pub(super) fn claimed(self, lease_ends: Instant) -> Claimed {
        Claimed::new(Receipt::new(job_id(self.id), count(self.claim)), self.kind, self.payload)
            .attempt(small_count(self.attempts))
            .returns(small_count(self.returns))
            .headers(headers_of(self.headers.as_deref()))
            .checkpoint(self.checkpoint.map(Into::into))
            .lease_ends(lease_ends)
    }
}

/// One claim of one job, as a statement takes it.
pub(super) type Key = (i64, i64);

/// A receipt's key; one that no row has, where the receipt is another broker's.
pub(super) fn key(receipt: &Receipt) -> Key {
    let id = receipt.id().as_str().parse().ok();
    let claim = i64::try_from(receipt.number()).ok();
    id.zip(claim).unwrap_or(NO_KEY)
}

/// What became of each key, from those that a statement touched.
pub(super) fn settled(keys: &[Key], touched: &Result<HashSet<Key>, QueueError>) -> Vec<Settled> {
    let one = |key| match touched {
        Ok(touched) if touched.contains(key) => Settled::Done,
        Ok(_) => Settled::Lost,
        Err(error) => Settled::Retry(again(error)),
    };
    keys.iter().map(one).collect()
}

/// What became of an extension, from what became of its receipt.
pub(super) fn extended(said: Settled, lease_ends: Instant) -> Extended {
    match said {
        Settled::Done => Extended::Until(lease_ends),
        Settled::Lost => Extended::Lost,
        Settled::Retry(error) => Extended::Retry(error),
        Settled::Unsupported => Extended::Unsupported,
    }
}

/// A claiming identity: no two values have the same, nor two runs of one program.
pub(super) fn new_owner() -> String {
    format!("{}-{}", Uuid::now_v7(), std::process::id())
}

/// The name, if it can be one: it is sent as the payload of a notification.
pub(super) fn queue_name(name: String) -> Result<Arc<str>, QueueError> {
    if name.is_empty() || name.len() > NAME_MOST || name.contains('\0') {
        let what = format!("a queue's name has 1 to {NAME_MOST} bytes, none of them zero");
        return Err(QueueError::Invalid { what });
    }
    Ok(name.into())
}

/// Headers as JSON text, which keeps their order; `None` where there are none.
pub(super) fn headers_text(headers: &[(String, String)]) -> Result<Option<String>, QueueError> {
    if headers.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_string(headers);
    let invalid = |error| QueueError::Invalid { what: format!("the headers are no JSON: {error}") };
    text.map(Some).map_err(invalid)
}

/// Headers from their text. What somebody else wrote there and is none counts as no header: the
/// job is worth more than they.
fn headers_of(text: Option<&str>) -> Vec<(String, String)> {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

pub(super) fn job_id(id: i64) -> JobId {
    JobId::new(id.to_string())
}

/// Whole microseconds, never early, and at most [`LONGEST`].
pub(super) fn micros(duration: Duration) -> i64 {
    let duration = duration.min(LONGEST);
    i64::try_from(duration.as_nanos().div_ceil(1000)).unwrap_or(i64::MAX)
}

/// A database's count, which is never negative.
pub(super) fn count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

pub(super) fn small_count(number: i64) -> u32 {
    u32::try_from(count(number)).unwrap_or(u32::MAX)
}

/// What a version that the database has means to this program.
pub(super) fn check_version(found: Option<i64>, known: i64) -> Result<(), QueueError> {
    match found {
        Some(version) if version == known => Ok(()),
        Some(version) if version > known => {
            let what = format!("the schema is of version {version}, this program knows {known}");
            Err(QueueError::Unsupported { what })
        }
        Some(version) => {
            let what = format!("the schema is of version {version} of {known}; call `prepare()`");
            Err(QueueError::NotPrepared { what })
        }
        None => {
            let what = "the schema has no version; call `prepare()`".to_owned();
            Err(QueueError::NotPrepared { what })
        }
    }
}

/// A row that cannot be read: somebody has changed the table.
pub(super) fn unreadable(error: &sqlx::Error) -> QueueError {
    let what = format!("a column is not as it was made ({error}); call `prepare()`");
    QueueError::NotPrepared { what }
}

/// Several statements within one bound; what is dropped must be safe to drop.
pub(super) async fn within<T>(
    bound: Duration,
    work: impl Future<Output = Result<T, QueueError>>,
) -> Result<T, QueueError> {
    timeout(bound, work).await.unwrap_or_else(|_| Err(QueueError::timed_out(bound)))
}

/// The error of a task that ended without an answer: it panicked, or its runtime ended.
pub(super) fn no_answer() -> QueueError {
    let source: BoxError = "the task that asked has ended".into();
    QueueError::Unavailable(source)
}

const LEASE: Duration = Duration::from_secs(30);
const CALL_BOUND: Duration = Duration::from_secs(5);
/// Postgres takes 8000 bytes in a notification; this leaves room, and is more than a name.
const NAME_MOST: usize = 255;
/// A hundred years: beyond it, a time may not fit into the database's.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// A lease of nothing would be lost when it is taken, and a poll of nothing would not let go.
const SHORTEST: Duration = Duration::from_millis(1);
/// Ids begin at 1.
const NO_KEY: Key = (-1, -1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_neither_nothing_nor_without_end() {
        for (asked, kept) in [(Duration::ZERO, SHORTEST), (Duration::MAX, LONGEST)] {
            let settings = Settings::new(Duration::from_secs(1)).lease(asked).poll(asked);
            assert_eq!((settings.lease, settings.poll), (kept, kept));
        }
    }

    #[test]
    fn a_receipt_of_another_broker_has_a_key_that_no_row_has() {
        let ours = Receipt::new(job_id(7), 3);
        assert_eq!(key(&ours), (7, 3));
        let theirs = Receipt::new(JobId::new("0-1"), 3);
        assert_eq!(key(&theirs), NO_KEY);
        assert_eq!(key(&Receipt::new(job_id(7), u64::MAX)), NO_KEY);
    }

    #[test]
    fn headers_keep_their_order_and_every_character() {
        let headers = [("b", "1\0"), ("a", "\"ü\n")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let text = headers_text(&headers).unwrap().unwrap();
        assert!(!text.contains('\0'), "{text:?}");
        assert_eq!(headers_of(Some(&text)), headers);
        assert_eq!(headers_text(&[]).unwrap(), None);
        assert_eq!(headers_of(Some("[1]")), []);
        assert_eq!(headers_of(None), []);
    }

    #[test]
    fn a_duration_is_rounded_up_and_capped() {
        assert_eq!(micros(Duration::ZERO), 0);
        assert_eq!(micros(Duration::from_nanos(1)), 1);
        assert_eq!(micros(Duration::from_millis(2)), 2000);
        assert_eq!(micros(Duration::MAX), 3_153_600_000_000_000);
    }

    #[test]
    fn each_receipt_is_told_what_became_of_it() {
        let touched = Ok(HashSet::from([(1, 1), (3, 2)]));
        let said = settled(&[(1, 1), (2, 1), (3, 1)], &touched);
        assert!(said[0].is_done() && said[1].is_lost() && said[2].is_lost(), "{said:?}");
        let failed = Err(QueueError::timed_out(Duration::from_secs(1)));
        let said = settled(&[(1, 1), (2, 1)], &failed);
        assert!(said.iter().all(|said| matches!(said, Settled::Retry(_))), "{said:?}");
    }

    #[test]
    fn a_version_is_this_one_or_an_older_one_or_a_newer_one() {
        assert!(check_version(Some(2), 2).is_ok());
        assert!(matches!(check_version(Some(1), 2), Err(QueueError::NotPrepared { .. })));
        assert!(matches!(check_version(None, 2), Err(QueueError::NotPrepared { .. })));
        assert!(matches!(check_version(Some(3), 2), Err(QueueError::Unsupported { .. })));
    }

    #[test]
    fn a_name_is_neither_empty_nor_long() {
        assert!(queue_name("mail".into()).is_ok());
        assert!(queue_name(String::new()).is_err());
        assert!(queue_name("a\0".into()).is_err());
        assert!(queue_name("x".repeat(256)).is_err());
    }

    #[test]
    fn no_two_owners_are_the_same() {
        assert_ne!(new_owner(), new_owner());
    }
}
