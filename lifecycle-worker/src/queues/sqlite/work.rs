//! What each transaction of the SQLite queue does on its connection.
//!
//! Not here: where it begins and ends (`connection`), who asks for it (`calls`).

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::query::Query as Statement;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Row as _, Sqlite};

use super::calls::limit;
use super::connection::now;
use super::statements;
use crate::push::{Push, Pushed};
use crate::queues::sql::{self, Key, Row};

/// What is missing, in the one transaction: who prepares at the same time waits for its end.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    name: Arc<str>,
) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(statements::VERSIONS).execute(&mut *connection).await?;
    let version = sqlx::query(statements::VERSION).fetch_one(&mut *connection).await?;
    let version: Option<i64> = version.try_get(0)?;
    for (migration, number) in statements::MIGRATIONS.iter().zip(1_i64..) {
        if version.is_none_or(|version| version < number) {
            sqlx::raw_sql(*migration).execute(&mut *connection).await?;
            sqlx::query(statements::APPLIED).bind(number).execute(&mut *connection).await?;
        }
    }
    forget(connection, &name).await
}

/// What is to become of one claimed job.
pub(super) struct Settle {
    pub(super) key: Key,
    pub(super) change: Change,
}

pub(super) enum Change {
    /// Checkpoint, delay.
    Release(Option<Bytes>, i64),
    /// Error, checkpoint, delay (none: dead).
    Fail(String, Option<Bytes>, Option<i64>),
    /// Checkpoint, lease.
    Extend(Option<Bytes>, i64),
}

pub(super) async fn take(
    connection: &mut SqliteConnection,
    name: &str,
    owner: &str,
    lease: Duration,
    max: NonZeroUsize,
) -> Result<Vec<Row>, sqlx::Error> {
    let now = now();
    let rescue = sqlx::query(statements::RESCUE).bind(name.to_owned()).bind(now);
    rescue.execute(&mut *connection).await?;
    let (mut ids, mut below) = (Vec::new(), i64::MAX);
    // Bound: each turn goes to a lower priority, of which there are 65 536.
    while ids.len() < max.get() {
        let level = sqlx::query(statements::LEVEL).bind(name.to_owned()).bind(below);
        let level: Option<i64> = level.fetch_one(&mut *connection).await?.try_get(0)?;
        let Some(level) = level else { break };
        below = level;
        let ready = sqlx::query(statements::READY)
            .bind(name.to_owned())
            .bind(level)
            .bind(now)
            .bind(limit(max.get() - ids.len()));
        for row in ready.fetch_all(&mut *connection).await? {
            ids.push(row.try_get::<i64, _>(0)?);
        }
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ends = now.saturating_add(sql::micros(lease));
    let take = sqlx::query(statements::TAKE).bind(array(ids.iter().map(i64::to_string)));
    let take = take.bind(owner.to_owned()).bind(ends);
    let mut rows = Vec::with_capacity(ids.len());
    for row in take.fetch_all(&mut *connection).await? {
        let (priority, due) = (row.try_get::<i64, _>("priority")?, row.try_get::<i64, _>("due")?);
        rows.push(((-priority, due), job(&row)?));
    }
    rows.sort_by_key(|(place, row)| (*place, row.id));
    let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    let counts = Counts { attempts: limit(rows.len()), ..Counts::default() };
    count(connection, name, owner, counts).await?;
    Ok(rows)
}

pub(super) async fn push(
    connection: &mut SqliteConnection,
    name: &str,
    jobs: Vec<(Push, Option<String>)>,
) -> Result<Vec<Pushed>, sqlx::Error> {
    let now = now();
    let mut pushed = Vec::with_capacity(jobs.len());
    for (job, headers) in jobs {
        if let Some(dedupe) = job.dedupe_key() {
            let key = sqlx::query(statements::KEY)
                .bind(name.to_owned())
                .bind(dedupe.key.clone())
                .bind(now.saturating_add(sql::micros(dedupe.period)))
                .bind(now);
            if key.execute(&mut *connection).await?.rows_affected() == 0 {
                pushed.push(Pushed::Duplicate);
                continue;
            }
        }
        let statement = sqlx::query(statements::PUSH)
            .bind(name.to_owned())
            .bind(job.kind().to_owned())
            .bind(job.payload().to_vec())
            .bind(headers)
            .bind(i64::from(job.priority_value()))
            .bind(now.saturating_add(sql::micros(job.delayed_by())));
        let id: i64 = statement.fetch_one(&mut *connection).await?.try_get(0)?;
        pushed.push(Pushed::New(sql::job_id(id)));
    }
    Ok(pushed)
}

pub(super) async fn settle(
    connection: &mut SqliteConnection,
    name: &str,
    owner: &str,
    settles: Vec<Settle>,
) -> Result<HashSet<Key>, sqlx::Error> {
    let now = now();
    let (mut touched, mut counts) = (HashSet::with_capacity(settles.len()), Counts::default());
    for Settle { key, change } in settles {
        let settled = match &change {
            Change::Release(..) => Counts { attempts: -1, returns: 1, ..Counts::default() },
            Change::Fail(..) | Change::Extend(..) => Counts::default(),
        };
        let fenced = |statement| {
            let statement = sqlx::query(statement).bind(name.to_owned()).bind(owner.to_owned());
            statement.bind(key.0).bind(key.1)
        };
        let blob = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.to_vec());
        let statement: Statement<'_, Sqlite, SqliteArguments> = match change {
            Change::Release(checkpoint, delay) => {
                let earliest = if delay > 0 { now.saturating_add(delay) } else { 0 };
                fenced(statements::RELEASE).bind(blob(checkpoint)).bind(earliest)
            }
            Change::Fail(error, checkpoint, delay) => {
                let due = delay.map(|delay| now.saturating_add(delay));
                let statement = fenced(statements::FAIL).bind(error).bind(blob(checkpoint));
                statement.bind(due).bind(now)
            }
            Change::Extend(checkpoint, lease) => {
                let ends = now.saturating_add(lease);
                fenced(statements::EXTEND).bind(blob(checkpoint)).bind(ends)
            }
        };
        if statement.execute(&mut *connection).await?.rows_affected() > 0 {
            touched.insert(key);
            counts.add(settled);
        }
    }
    count(connection, name, owner, counts).await?;
    Ok(touched)
}

/// Deletes jobs that are done.
pub(super) async fn ack(
    connection: &mut SqliteConnection,
    name: &str,
    owner: &str,
    keys: &[Key],
) -> Result<HashSet<Key>, sqlx::Error> {
    let pairs = array(keys.iter().map(|(id, claim)| format!("[{id},{claim}]")));
    let ack = sqlx::query(statements::ACK).bind(name.to_owned()).bind(owner.to_owned());
    let mut touched = HashSet::with_capacity(keys.len());
    for row in ack.bind(pairs).fetch_all(&mut *connection).await? {
        touched.insert((row.try_get(0)?, row.try_get(1)?));
    }
    let counts = Counts { done: limit(touched.len()), ..Counts::default() };
    count(connection, name, owner, counts).await?;
    Ok(touched)
}

/// A JSON array, for a statement that takes many values at once.
fn array(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(","))
}

/// What is added to an owner's counters.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    done: i64,
    attempts: i64,
    returns: i64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.attempts += other.attempts;
        self.returns += other.returns;
    }
}

async fn count(
    connection: &mut SqliteConnection,
    name: &str,
    owner: &str,
    counts: Counts,
) -> Result<(), sqlx::Error> {
    if counts == Counts::default() {
        return Ok(());
    }
    let statement = sqlx::query(statements::COUNT)
        .bind(name.to_owned())
        .bind(owner.to_owned())
        .bind(counts.done)
        .bind(counts.attempts)
        .bind(counts.returns)
        .bind(now());
    statement.execute(connection).await.map(drop)
}

/// Adds this owner's counters, and those of who vanished a day ago, to the common row.
pub(super) async fn fold(
    connection: &mut SqliteConnection,
    name: Arc<str>,
    owner: String,
) -> Result<(), sqlx::Error> {
    let vanished = now().saturating_sub(sql::micros(A_DAY));
    let statement = sqlx::query(statements::FOLD).bind(name.to_string()).bind(owner);
    let mut counts = Counts::default();
    for row in statement.bind(vanished).fetch_all(&mut *connection).await? {
        counts.add(Counts {
            done: row.try_get(0)?,
            attempts: row.try_get(1)?,
            returns: row.try_get(2)?,
        });
    }
    count(connection, &name, "", counts).await
}

/// Forgets keys whose time is over.
pub(super) async fn forget(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<(), sqlx::Error> {
    let statement = sqlx::query(statements::FORGET).bind(name.to_owned()).bind(now());
    statement.execute(connection).await.map(drop)
}

fn job(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    Ok(Row {
        id: row.try_get("id")?,
        claim: row.try_get("claim")?,
        kind: row.try_get("kind")?,
        payload: row.try_get("payload")?,
        headers: row.try_get("headers")?,
        attempts: row.try_get("attempts")?,
        returns: row.try_get("returns")?,
        checkpoint: row.try_get("checkpoint")?,
    })
}

const A_DAY: Duration = Duration::from_secs(24 * 3600);
