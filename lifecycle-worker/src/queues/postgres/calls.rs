//! The calls of the PostgreSQL queue: arguments into a statement, rows into an answer.
//!
//! Not here: the statements themselves, connections, waiting.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query as Statement;
use sqlx::{Decode, Postgres, Row as _, Type};
use tokio::time::Instant;

use super::listen::CHANNEL;
use super::{PostgresQueue, Touched, connection, statements};
use crate::claimed::Claimed;
use crate::error::QueueError;
use crate::push::{Push, Pushed};
use crate::queue::{Extend, Extended, Fail, Next, Queue, Release, Settled};
use crate::queues::sql::{self, Key, Offer, Source, no_nul};
use crate::stats::{DeadJob, Stats};

impl Source for PostgresQueue {
    async fn take(&self, max: NonZeroUsize) -> Result<Vec<Claimed>, QueueError> {
        self.open()?;
        let (queue, undoing) = (self.clone(), self.clone());
        let work = Box::pin(async move { queue.claim_now(max).await });
        let undo = |jobs| async move { undoing.give_back(jobs).await };
        sql::handed_over(self.settings.call_bound, self.settings.lease, work, undo).await
    }

    async fn look(&self, max: NonZeroUsize) -> Result<Offer, QueueError> {
        sql::within(self.settings.call_bound, async {
            let jobs = self.take(max).await?;
            if !jobs.is_empty() {
                return Ok(Offer::Jobs(jobs));
            }
            let next = sqlx::query(statements::NEXT).bind(self.shared.name.to_string());
            let next: Option<i64> = value(&self.rows(next).await?)?;
            Ok(Offer::Nothing(next.map(|next| Duration::from_micros(sql::count(next)))))
        })
        .await
    }

    fn before_waiting(&self) {
        self.start_listening();
    }
}

impl PostgresQueue {
    /// The claiming statement. Never dropped: it runs on a task of its own.
    async fn claim_now(&self, max: NonZeroUsize) -> Result<Vec<Claimed>, QueueError> {
        let settings = self.settings;
        let statement = sqlx::query(statements::CLAIM)
            .bind(self.shared.name.to_string())
            .bind(self.shared.owner.clone())
            .bind(limit(max))
            .bind(sql::micros(settings.lease));
        let (bound, extra) = (settings.call_bound, settings.lease);
        let answer = connection::rows_since(&self.shared.pool, statement, bound, extra).await;
        let (rows, sent) = answer?;
        let ends = sent + settings.lease;
        rows.iter().map(|row| job(row).map(|job| job.claimed(ends))).collect()
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
        let statement = push_statement(&self.shared.name, jobs)?;
        let rows = self.rows(statement).await?;
        let mut ids = HashMap::with_capacity(rows.len());
        for row in &rows {
            // Places count from 1.
            ids.insert(column::<i64>(row, "place")? - 1, column::<i64>(row, "id")?);
        }
        self.shared.parking.wake();
        if jobs.iter().any(|job| job.dedupe_key().is_some()) && self.may_forget() {
            let queue = self.clone();
            // On a task: the jobs are pushed, and nobody has to wait for the cleaning.
            tokio::spawn(async move {
                if let Err(error) = queue.forget_keys().await {
                    tracing::debug!(%error, "expired keys are cleaned another time");
                }
            });
        }
        let said = (0_i64..).take(jobs.len()).map(|place| match ids.get(&place) {
            Some(id) => Pushed::New(sql::job_id(*id)),
            None => Pushed::Duplicate,
        });
        Ok(said.collect())
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

    pub(super) async fn forget_keys(&self) -> Result<(), QueueError> {
        let statement = sqlx::query(statements::FORGET).bind(self.shared.name.to_string());
        self.rows(statement).await.map(drop)
    }

    pub(super) async fn release_all(&self, jobs: &[Release]) -> Vec<Settled> {
        let keys: Vec<_> = jobs.iter().map(|job| sql::key(&job.receipt)).collect();
        let checkpoints = jobs.iter().map(|job| blob(job.checkpoint.as_ref()));
        let delays = jobs.iter().map(|job| sql::micros(job.delay));
        let statement = self
            .keyed(statements::RELEASE, &keys)
            .bind(checkpoints.collect::<Vec<_>>())
            .bind(delays.collect::<Vec<_>>())
            .bind(CHANNEL);
        let touched = self.touch(statement).await;
        self.shared.parking.wake();
        sql::settled(&keys, &touched)
    }

    pub(super) async fn fail_all(&self, jobs: &[Fail]) -> Vec<Settled> {
        // An error is for people: a zero byte in it is no reason not to keep it.
        let whole = |job: &Fail| job.error.replace('\0', "\u{fffd}");
        let mut touched = self.fail_these(jobs, whole).await;
        if !matches!(touched, Err(QueueError::Invalid { .. })) {
            self.shared.parking.wake();
            return settled(jobs, &touched);
        }
        // The database's encoding may have no such characters: that is one job's, and its error
        // is less than the job.
        let ascii =
            |job: &Fail| job.error.replace(|char: char| !matches!(char, '\u{1}'..='\u{7f}'), "?");
        let mut said = Vec::with_capacity(jobs.len());
        for job in jobs {
            let job = std::slice::from_ref(job);
            touched = self.fail_these(job, whole).await;
            if matches!(touched, Err(QueueError::Invalid { .. })) {
                touched = self.fail_these(job, ascii).await;
            }
            said.extend(settled(job, &touched));
        }
        self.shared.parking.wake();
        said
    }

    async fn fail_these(&self, jobs: &[Fail], error: impl Fn(&Fail) -> String) -> Touched {
        let errors = jobs.iter().map(error);
        let checkpoints = jobs.iter().map(|job| blob(job.checkpoint.as_ref()));
        let delays = jobs.iter().map(|job| match job.next {
            Next::Dead => None,
            Next::Retry(delay) => Some(sql::micros(delay)),
        });
        let statement = self
            .keyed(statements::FAIL, &keys(jobs))
            .bind(errors.collect::<Vec<_>>())
            .bind(checkpoints.collect::<Vec<_>>())
            .bind(delays.collect::<Vec<_>>())
            .bind(CHANNEL);
        self.touch(statement).await
    }

    pub(super) async fn extend_all(&self, jobs: &[Extend]) -> Vec<Extended> {
        let keys: Vec<_> = jobs.iter().map(|job| sql::key(&job.receipt)).collect();
        let checkpoints = jobs.iter().map(|job| blob(job.checkpoint.as_ref()));
        let statement = self
            .keyed(statements::EXTEND, &keys)
            .bind(checkpoints.collect::<Vec<_>>())
            .bind(sql::micros(self.settings.lease));
        let ends = Instant::now() + self.settings.lease;
        let touched = self.touch(statement).await;
        let said = sql::settled(&keys, &touched).into_iter();
        said.map(|said| sql::extended(said, ends)).collect()
    }

    /// A statement that settles, with its first four arguments.
    pub(super) fn keyed(
        &self,
        statement: &'static str,
        keys: &[Key],
    ) -> Statement<'static, Postgres, PgArguments> {
        let (ids, claims): (Vec<_>, Vec<_>) = keys.iter().copied().unzip();
        sqlx::query(statement)
            .bind(self.shared.name.to_string())
            .bind(self.shared.owner.clone())
            .bind(ids)
            .bind(claims)
    }

    /// The keys of the jobs that a statement settled.
    pub(super) async fn touch(
        &self,
        statement: Statement<'static, Postgres, PgArguments>,
    ) -> Touched {
        let rows = self.rows(statement).await?;
        rows.iter().map(|row| Ok((column(row, "id")?, column(row, "claim")?))).collect()
    }
}

fn keys(jobs: &[Fail]) -> Vec<Key> {
    jobs.iter().map(|job| sql::key(&job.receipt)).collect()
}

fn settled(jobs: &[Fail], touched: &Touched) -> Vec<Settled> {
    sql::settled(&keys(jobs), touched)
}

fn push_statement(
    queue: &str,
    jobs: &[Push],
) -> Result<Statement<'static, Postgres, PgArguments>, QueueError> {
    let mut kinds = Vec::with_capacity(jobs.len());
    let mut headers = Vec::with_capacity(jobs.len());
    let mut keys = Vec::with_capacity(jobs.len());
    for job in jobs {
        kinds.push(no_nul("the kind of a job", job.kind())?);
        headers.push(sql::headers_text(job.headers())?);
        let key = job.dedupe_key().map(|dedupe| no_nul("a dedupe key", &dedupe.key));
        keys.push(key.transpose()?);
    }
    let payloads = jobs.iter().map(|job| &**job.payload()).collect::<Vec<_>>();
    let priorities = jobs.iter().map(Push::priority_value).collect::<Vec<_>>();
    let delays = jobs.iter().map(|job| sql::micros(job.delayed_by())).collect::<Vec<_>>();
    let period = |job: &Push| job.dedupe_key().map(|dedupe| sql::micros(dedupe.period));
    let periods = jobs.iter().map(period).collect::<Vec<_>>();
    Ok(sqlx::query(statements::PUSH)
        .bind(queue)
        .bind(kinds)
        .bind(payloads)
        .bind(headers)
        .bind(priorities)
        .bind(delays)
        .bind(keys)
        .bind(periods)
        .bind(CHANNEL))
}

fn blob(bytes: Option<&bytes::Bytes>) -> Option<&[u8]> {
    bytes.map(|bytes| &**bytes)
}

fn job(row: &PgRow) -> Result<sql::Row, QueueError> {
    Ok(sql::Row {
        id: column(row, "id")?,
        claim: column(row, "claim")?,
        kind: column(row, "kind")?,
        payload: column(row, "payload")?,
        headers: column(row, "headers")?,
        attempts: column::<i32>(row, "attempts")?.into(),
        returns: column::<i32>(row, "returns")?.into(),
        checkpoint: column(row, "checkpoint")?,
    })
}

pub(super) fn dead(row: &PgRow) -> Result<DeadJob, QueueError> {
    let id = sql::job_id(column(row, "id")?);
    let attempts = sql::small_count(column::<i32>(row, "attempts")?.into());
    let kind: String = column(row, "kind")?;
    let (payload, error): (Vec<u8>, String) = (column(row, "payload")?, column(row, "error")?);
    Ok(DeadJob::new(id, kind, payload, attempts, error))
}

pub(super) fn stats(rows: &[PgRow]) -> Result<Stats, QueueError> {
    let Some(row) = rows.first() else { return Ok(Stats::default()) };
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

/// The one value of an answer that is one.
pub(super) fn value(rows: &[PgRow]) -> Result<Option<i64>, QueueError> {
    let row = rows.first().map(|row| row.try_get::<Option<i64>, _>(0));
    row.transpose().map(Option::flatten).map_err(connection::error)
}

fn column<'r, T: Decode<'r, Postgres> + Type<Postgres>>(
    row: &'r PgRow,
    name: &str,
) -> Result<T, QueueError> {
    row.try_get(name).map_err(connection::error)
}

pub(super) fn limit(max: NonZeroUsize) -> i64 {
    i64::try_from(max.get()).unwrap_or(i64::MAX)
}

/// The version that this program knows.
pub(super) const VERSION: i64 = statements::MIGRATIONS.len() as i64;
const FORGET_PERIOD: Duration = Duration::from_secs(60);
