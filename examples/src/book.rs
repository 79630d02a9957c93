//! The book of orders: what was ordered, and what has become of it, in a SQLite file that web
//! and worker processes share. With a queue on SQLite it is the queue's file.
//!
//! Each call is one statement: one that is dropped was done whole or not at all.

use std::env;
use std::str::FromStr;
use std::time::Duration;

use lifecycle_worker::BoxError;
use serde::Serialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{Row, SqlitePool};

/// A clone is the same book.
#[derive(Clone, Debug)]
pub struct Book {
    pool: SqlitePool,
}

/// An order as it stands.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// What was ordered.
    pub item: String,
    /// How long it takes to prepare, in milliseconds.
    pub ms: i64,
    /// `taken`, then `done`.
    pub state: String,
    /// Which attempt has done it; 0 before.
    pub attempt: i64,
    /// How often workers had to give it back before.
    pub returns: i64,
}

impl Book {
    /// Opens the book: `DATABASE_URL`, else the file of a queue on SQLite, else `orders.db` in
    /// the current folder. Creates the file, and nothing in it.
    ///
    /// # Errors
    /// When it cannot be opened.
    ///
    /// # Cancel safety
    /// Cancel safe: the file may have been created.
    pub async fn open(queue_url: &str) -> Result<Self, BoxError> {
        let url = match env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => url,
            _ if queue_url.starts_with("sqlite:") => {
                queue_url.split('?').next().unwrap_or_default().to_owned()
            }
            _ => "sqlite:orders.db".to_owned(),
        };
        let options = SqliteConnectOptions::from_str(&url)
            .map_err(|error| format!("DATABASE_URL is none of SQLite: {error}"))?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await;
        let pool = pool.map_err(|error| format!("the book of orders cannot be opened: {error}"))?;
        Ok(Self { pool })
    }

    /// Creates what is missing.
    ///
    /// # Errors
    /// When the file cannot be written.
    ///
    /// # Cancel safety
    /// Cancel safe: call again.
    pub async fn prepare(&self) -> Result<(), BoxError> {
        sqlx::query(SCHEMA).execute(&self.pool).await?;
        Ok(())
    }

    /// Writes down a new order, and gives it its number.
    ///
    /// # Errors
    /// When the file cannot be written.
    ///
    /// # Cancel safety
    /// The order may have been written.
    pub async fn take(&self, item: &str, ms: u32) -> Result<i64, BoxError> {
        let insert = sqlx::query("INSERT INTO orders (item, ms) VALUES (?, ?) RETURNING id");
        let row = insert.bind(item.to_owned()).bind(ms).fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// Strikes out an order that did not reach the queue.
    ///
    /// # Errors
    /// When the file cannot be written.
    ///
    /// # Cancel safety
    /// The order may have been struck out.
    pub async fn strike(&self, id: i64) -> Result<(), BoxError> {
        sqlx::query("DELETE FROM orders WHERE id = ?").bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// The order is done. Saying so twice changes nothing: a job may be done twice.
    ///
    /// # Errors
    /// When the file cannot be written.
    ///
    /// # Cancel safety
    /// It may have been written.
    pub async fn done(&self, id: i64, attempt: u32, returns: u32) -> Result<(), BoxError> {
        let update = sqlx::query(
            "UPDATE orders SET state = 'done', attempt = ?, returns = ? \
             WHERE id = ? AND state = 'taken'",
        );
        update.bind(attempt).bind(returns).bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// That order, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn entry(&self, id: i64) -> Result<Option<Entry>, BoxError> {
        let select =
            sqlx::query("SELECT id, item, ms, state, attempt, returns FROM orders WHERE id = ?");
        let Some(row) = select.bind(id).fetch_optional(&self.pool).await? else { return Ok(None) };
        Ok(Some(Entry {
            id: row.try_get(0)?,
            item: row.try_get(1)?,
            ms: row.try_get(2)?,
            state: row.try_get(3)?,
            attempt: row.try_get(4)?,
            returns: row.try_get(5)?,
        }))
    }

    /// How many orders are done, and how many are not.
    ///
    /// # Errors
    /// When the file cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn counts(&self) -> Result<(i64, i64), BoxError> {
        let select = "SELECT count(*) FILTER (WHERE state = 'done'), \
                      count(*) FILTER (WHERE state = 'taken') FROM orders";
        let row = sqlx::query(select).fetch_one(&self.pool).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// Closes the file.
    ///
    /// # Cancel safety
    /// Cancel safe: it closes all the same.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    item TEXT NOT NULL,
    ms INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'taken',
    attempt INTEGER NOT NULL DEFAULT 0,
    returns INTEGER NOT NULL DEFAULT 0
)";
