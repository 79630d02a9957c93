//! The calls of the SQLite queue: arguments into statements, rows into an answer.
//!
//! Not here: the statements themselves, connections, waiting.

use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::query::Query as Statement;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Decode, Row as _, Sqlite, Type};
use tokio::time::Instant;

use super::connection::{self, Work, now};
use super::work::{self, Change, Settle};
use super::{SqliteQueue, statements};
use crate::claimed::{Claimed, Receipt};
use crate::error::QueueError;
use crate::push::{Push, Pushed};
use crate::queue::{Extend, Extended, Fail, Next, Queue, Release, Settled};
use crate::queues::sql::{self, Offer, Row, Source, no_nul};
use crate::stats::{DeadJob, Stats};

impl Source for SqliteQueue {
    async fn take(&self, max: NonZeroUsize) -> Result<Vec<Claimed>, QueueError> {
        match self.look(max).await? {
            Offer::Jobs(jobs) => Ok(jobs),
            Offer::Nothing(_) => Ok(Vec::new()),
        }
    }

    async fn look(&self, max: NonZeroUsize) -> Result<Offer, QueueError> {
        sql::within(self.settings.call_bound, async {
            let next = self.next().await?;
            if next.is_none_or(|next| !next.is_zero()) {
                return Ok(Offer::Nothing(next));
            }
            let (queue, undoing) = (self.clone(), self.clone());
            let work = Box::pin(async move { queue.claim_now(max).await });
            let undo = |jobs| async move { undoing.give_back(jobs).await };
            let (bound, lease) = (self.settings.call_bound, self.settings.lease);
            let jobs = sql::handed_over(bound, lease, work, undo).await?;
            Ok(if jobs.is_empty() { Offer::Nothing(None) } else { Offer::Jobs(jobs) })
        })
        .await
    }

    /// Clones wake each other, and for others there is the poll.
    fn before_waiting(&self) {}
}

impl SqliteQueue {
    /// How long until a job may be claimable: zero for now.
    async fn next(&self) -> Result<Option<Duration>, QueueError> {
        let row = self.read(sqlx::query(statements::NEXT).bind(self.name_text())).await?;
        let due: Option<i64> = row.try_get(0).map_err(|error| sql::unreadable(&error))?;
        let ends: Option<i64> = row.try_get(1).map_err(|error| sql::unreadable(&error))?;
        let first = due.into_iter().chain(ends).min();
        let left = |at: i64| sql::count(at.saturating_sub(now()));
        Ok(first.map(|at| Duration::from_micros(left(at))))
    }

    /// The claiming transaction. Never dropped: it runs on a task of its own.
    async fn claim_now(&self, max: NonZeroUsize) -> Result<Vec<Claimed>, QueueError> {
        let shared = Arc::clone(&self.shared);
        let lease = self.settings.lease;
        // Jobs for nobody are no use: a turn that comes too late claims nothing.
        let turn = Arc::clone(&shared.writer).acquire_owned();
        let Ok(Ok(_turn)) = tokio::time::timeout(self.settings.call_bound, turn).await else {
            return Err(QueueError::timed_out(self.settings.call_bound));
        };
        let (name, owner) = (self.name_text(), shared.owner.clone());
        let work: Work<(Vec<Row>, Instant)> = Box::new(move |connection| {
            Box::pin(async move {
                let began = Instant::now();
                let rows = work::take(connection, &name, &owner, lease, max).await?;
                Ok((rows, began))
            })
        });
        let (rows, began) = connection::transaction(&shared.writing, work).await?;
        Ok(rows.into_iter().map(|row| row.claimed(began + lease)).collect())
    }

    /// Releases jobs that nobody waits for any more.
    async fn give_back(&self, jobs: Vec<Claimed>) {
        let jobs: Vec<_> = jobs.into_iter().map(|job| Release::unstarted(job.receipt)).collect();
        let lost = self.release(&jobs).await.iter().filter(|said| !said.is_done()).count();
        if lost > 0 {
            tracing::warn!(lost, "claimed for nobody: these jobs wait for their lease to end");
        }
    }

    pub(super) async fn push_all(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        if jobs.is_empty() {
            return self.open().map(|()| Vec::new());
        }
        for job in jobs {
            no_nul("the kind of a job", job.kind())?;
            no_nul("a dedupe key", job.dedupe_key().map_or("", |dedupe| &dedupe.key))?;
        }
        let headers = jobs.iter().map(|job| sql::headers_text(job.headers()));
        let headers = headers.collect::<Result<Vec<_>, _>>()?;
        let jobs: Vec<_> = jobs.iter().cloned().zip(headers).collect();
        let forget = jobs.iter().any(|(job, _)| job.dedupe_key().is_some()) && self.may_forget();
        let name = self.name_text();
        let pushed = self.write(Box::new(move |connection| {
            Box::pin(async move {
                if forget {
                    work::forget(connection, &name).await?;
                }
                work::push(connection, &name, jobs).await
            })
        }));
        let pushed = pushed.await?;
        self.shared.parking.wake();
        Ok(pushed)
    }

    /// Whether it is time to clean keys: once in a while, by whoever pushes some.
    fn may_forget(&self) -> bool {
        let mut forgot = self.shared.forgot.lock().unwrap_or_else(PoisonError::into_inner);
        let due = forgot.is_none_or(|at| at.elapsed() >= FORGET_PERIOD);
        if due {
            *forgot = Some(Instant::now());
        }
        due
    }

    pub(super) async fn ack_all(&self, receipts: &[Receipt]) -> Vec<Settled> {
        let keys: Vec<_> = receipts.iter().map(sql::key).collect();
        if keys.is_empty() {
            return Vec::new();
        }
        let (name, owner, mine) = (self.name_text(), self.shared.owner.clone(), keys.clone());
        let touched = self.write(Box::new(move |connection| {
            Box::pin(async move { work::ack(connection, &name, &owner, &mine).await })
        }));
        sql::settled(&keys, &touched.await)
    }

    pub(super) async fn release_all(&self, jobs: &[Release]) -> Vec<Settled> {
        let settles = jobs.iter().map(|job| Settle {
            key: sql::key(&job.receipt),
            change: Change::Release(job.checkpoint.clone(), sql::micros(job.delay)),
        });
        let said = self.settle(settles.collect()).await;
        self.shared.parking.wake();
        said
    }

    pub(super) async fn fail_all(&self, jobs: &[Fail]) -> Vec<Settled> {
        let settles = jobs.iter().map(|job| {
            let delay = match job.next {
                Next::Dead => None,
                Next::Retry(delay) => Some(sql::micros(delay)),
            };
            // An error is for people: a zero byte in it is no reason not to keep it.
            let error = job.error.replace('\0', "\u{fffd}");
            let change = Change::Fail(error, job.checkpoint.clone(), delay);
            Settle { key: sql::key(&job.receipt), change }
        });
        let said = self.settle(settles.collect()).await;
        self.shared.parking.wake();
        said
    }

    pub(super) async fn extend_all(&self, jobs: &[Extend]) -> Vec<Extended> {
        let lease = sql::micros(self.settings.lease);
        let settles = jobs.iter().map(|job| Settle {
            key: sql::key(&job.receipt),
            change: Change::Extend(job.checkpoint.clone(), lease),
        });
        let ends = Instant::now() + self.settings.lease;
        let said = self.settle(settles.collect()).await.into_iter();
        said.map(|said| sql::extended(said, ends)).collect()
    }

    /// All of them, in one transaction.
    async fn settle(&self, settles: Vec<Settle>) -> Vec<Settled> {
        if settles.is_empty() {
            return Vec::new();
        }
        let keys: Vec<_> = settles.iter().map(|settle| settle.key).collect();
        let (name, owner) = (self.name_text(), self.shared.owner.clone());
        let touched = self.write(Box::new(move |connection| {
            Box::pin(async move { work::settle(connection, &name, &owner, settles).await })
        }));
        sql::settled(&keys, &touched.await)
    }

    /// One row, outside a transaction.
    pub(super) fn read(
        &self,
        statement: Statement<'static, Sqlite, SqliteArguments>,
    ) -> BoxFuture<'_, Result<SqliteRow, QueueError>> {
        // In a box: a statement on its way is some kilobytes.
        Box::pin(sql::within(self.settings.call_bound, async {
            self.open()?;
            statement.fetch_one(&self.shared.pool).await.map_err(connection::error)
        }))
    }

    /// All rows, outside a transaction.
    pub(super) fn read_all(
        &self,
        statement: Statement<'static, Sqlite, SqliteArguments>,
    ) -> BoxFuture<'_, Result<Vec<SqliteRow>, QueueError>> {
        // In a box: a statement on its way is some kilobytes.
        Box::pin(sql::within(self.settings.call_bound, async {
            self.open()?;
            statement.fetch_all(&self.shared.pool).await.map_err(connection::error)
        }))
    }

    fn name_text(&self) -> String {
        self.shared.name.to_string()
    }
}

pub(super) fn dead(row: &SqliteRow) -> Result<DeadJob, QueueError> {
    let id = sql::job_id(column(row, "id")?);
    let attempts = sql::small_count(column(row, "attempts")?);
    let kind: String = column(row, "kind")?;
    let (payload, error): (Vec<u8>, String) = (column(row, "payload")?, column(row, "error")?);
    Ok(DeadJob::new(id, kind, payload, attempts, error))
}

pub(super) fn stats(row: &SqliteRow) -> Result<Stats, QueueError> {
    let number = |name| column(row, name).map(sql::count);
    Ok(Stats {
        ready: number("ready")?,
        scheduled: number("scheduled")?,
        running: number("running")?,
        done: number("done")?,
        dead: number("dead")?,
        attempts: number("attempts")?,
        returns: number("returns")?,
    })
}

fn column<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    name: &str,
) -> Result<T, QueueError> {
    row.try_get(name).map_err(connection::error)
}

pub(super) fn limit(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

const FORGET_PERIOD: Duration = Duration::from_secs(60);
