//! The book of orders: what was ordered, and what has become of it, in a database that web and
//! worker processes share: a SQLite file, or PostgreSQL. With a queue on one of these it is the
//! queue's.
//!
//! Each call is one statement: one that is dropped was done whole or not at all.

use std::env;

use lifecycle_worker::BoxError;
use serde::Serialize;
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::{AnyPool, Row};

/// A clone is the same book.
#[derive(Clone, Debug)]
pub struct Book {
    pool: AnyPool,
    schema: &'static str,
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
    /// Opens the book: `DATABASE_URL`, else the database of a queue on SQLite or PostgreSQL, else
    /// `orders.db` in the current folder. Creates a SQLite file, and nothing in it.
    ///
    /// # Errors
    /// When it cannot be opened.
    ///
    /// # Cancel safety
    /// Cancel safe: the file may have been created.
    pub async fn open(queue_url: &str) -> Result<Self, BoxError> {
        let url = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
        let url = url.map_or_else(|| beside(queue_url), created);
        let schema = match url.split(':').next() {
            Some("sqlite") => SCHEMA_SQLITE,
            Some("postgres" | "postgresql") => SCHEMA_POSTGRES,
            _ => return Err("DATABASE_URL is none of SQLite or PostgreSQL".into()),
        };
        install_default_drivers();
        let pool = AnyPoolOptions::new().max_connections(2).connect(&url).await;
        let pool = pool.map_err(|error| format!("the book of orders cannot be opened: {error}"))?;
        if schema == SCHEMA_SQLITE {
            sqlx::query("PRAGMA journal_mode = WAL").execute(&pool).await?;
        }
        Ok(Self { pool, schema })
    }

    /// Creates what is missing.
    ///
    /// # Errors
    /// When the database cannot be written.
    ///
    /// # Cancel safety
    /// Cancel safe: call again.
    pub async fn prepare(&self) -> Result<(), BoxError> {
        sqlx::query(self.schema).execute(&self.pool).await?;
        Ok(())
    }

    /// Writes down a new order, and gives it its number.
    ///
    /// # Errors
    /// When the database cannot be written.
    ///
    /// # Cancel safety
    /// The order may have been written.
    pub async fn take(&self, item: &str, ms: u32) -> Result<i64, BoxError> {
        let insert = sqlx::query("INSERT INTO orders (item, ms) VALUES ($1, $2) RETURNING id");
        let row = insert.bind(item.to_owned()).bind(i64::from(ms)).fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// Strikes out an order that did not reach the queue.
    ///
    /// # Errors
    /// When the database cannot be written.
    ///
    /// # Cancel safety
    /// The order may have been struck out.
    pub async fn strike(&self, id: i64) -> Result<(), BoxError> {
        sqlx::query("DELETE FROM orders WHERE id = $1").bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// The order is done. Saying so twice changes nothing: a job may be done twice.
    ///
    /// # Errors
    /// When the database cannot be written.
    ///
    /// # Cancel safety
    /// It may have been written.
    pub async fn done(&self, id: i64, attempt: u32, returns: u32) -> Result<(), BoxError> {
        let update = sqlx::query(
            "UPDATE orders SET state = 'done', attempt = $1, returns = $2 \
             WHERE id = $3 AND state = 'taken'",
        );
        update
            .bind(i64::from(attempt))
            .bind(i64::from(returns))
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// That order, if there is one.
    ///
    /// # Errors
    /// When the database cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn entry(&self, id: i64) -> Result<Option<Entry>, BoxError> {
        let select =
            sqlx::query("SELECT id, item, ms, state, attempt, returns FROM orders WHERE id = $1");
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
    /// When the database cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn counts(&self) -> Result<(i64, i64), BoxError> {
        let select = "SELECT count(*) FILTER (WHERE state = 'done'), \
                      count(*) FILTER (WHERE state = 'taken') FROM orders";
        let row = sqlx::query(select).fetch_one(&self.pool).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// Closes its connections.
    ///
    /// # Cancel safety
    /// Cancel safe: it closes all the same.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// The database of that queue, for one that has a book in it too.
fn beside(queue_url: &str) -> String {
    let (place, query) = queue_url.split_once('?').unwrap_or((queue_url, ""));
    match place.split(':').next() {
        Some("sqlite") => created(place.to_owned()),
        Some("postgres" | "postgresql") => {
            // All options but the queue's own are the database's.
            let own = |pair: &&str| !["queue=", "lease="].iter().any(|name| pair.starts_with(name));
            let options: Vec<_> = query.split('&').filter(own).collect();
            format!("{place}?{}", options.join("&"))
        }
        _ => "sqlite:orders.db?mode=rwc".to_owned(),
    }
}

/// A SQLite file is created where it is missing, unless its URL says otherwise.
fn created(mut url: String) -> String {
    if url.starts_with("sqlite:") && !url.contains("mode=") {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str("mode=rwc");
    }
    url
}

const SCHEMA_SQLITE: &str = "CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    item TEXT NOT NULL,
    ms BIGINT NOT NULL,
    state TEXT NOT NULL DEFAULT 'taken',
    attempt BIGINT NOT NULL DEFAULT 0,
    returns BIGINT NOT NULL DEFAULT 0
)";
const SCHEMA_POSTGRES: &str = "CREATE TABLE IF NOT EXISTS orders (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item TEXT NOT NULL,
    ms BIGINT NOT NULL,
    state TEXT NOT NULL DEFAULT 'taken',
    attempt BIGINT NOT NULL DEFAULT 0,
    returns BIGINT NOT NULL DEFAULT 0
)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_created_unless_its_url_says_otherwise() {
        for (given, used) in [
            ("sqlite:a.db", "sqlite:a.db?mode=rwc"),
            ("sqlite:a.db?cache=private", "sqlite:a.db?cache=private&mode=rwc"),
            ("sqlite:a.db?mode=ro", "sqlite:a.db?mode=ro"),
            ("postgres://h/d", "postgres://h/d"),
        ] {
            assert_eq!(created(given.to_owned()), used);
        }
    }

    #[test]
    fn the_book_lies_beside_the_queue() {
        for (queue, book) in [
            ("sqlite:a.db?queue=orders", "sqlite:a.db?mode=rwc"),
            ("sqlite:a.db", "sqlite:a.db?mode=rwc"),
            (
                "postgres://u:p@h/d?queue=orders&sslmode=disable",
                "postgres://u:p@h/d?sslmode=disable",
            ),
            ("postgres://h/d?lease=5s", "postgres://h/d?"),
            ("redis://h/0?queue=orders", "sqlite:orders.db?mode=rwc"),
        ] {
            assert_eq!(beside(queue), book);
        }
    }
}
