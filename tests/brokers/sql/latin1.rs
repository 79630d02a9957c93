//! A database whose encoding has few characters.

use std::time::Duration;

use lifecycle_worker::{Fail, Next, PostgresQueue, Queue};
use tests::brokers::PrivatePostgres;

use super::common::{jobs, most, postgres_pool};

/// An error is for people: what cannot be written of it is no reason to keep a job, and no reason
/// at all to keep its neighbours.
#[tokio::test]
async fn an_error_that_a_database_cannot_write_is_kept_in_ascii() {
    let server = PrivatePostgres::start().await;
    let pool = postgres_pool(&server.url()).await;
    let create = "CREATE DATABASE narrow ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' \
                  TEMPLATE template0";
    sqlx::query(create).execute(&pool).await.unwrap();
    let url = format!("{}/narrow", server.url().strip_suffix("/postgres").unwrap());
    let queue = PostgresQueue::connect(&url, "mail").await.unwrap();
    queue.prepare().await.unwrap();
    queue.push(&jobs(4)).await.unwrap();
    let held = queue.claim(most(4), Duration::ZERO).await.unwrap();
    let errors = ["caf\u{e9}", "a \u{2192} b", "plain", "a\0b"];
    let fails = held.iter().zip(errors);
    let fails = fails.map(|(job, error)| Fail::new(job.receipt.clone(), error, Next::Dead));
    let settled = queue.fail(&fails.collect::<Vec<_>>()).await;
    assert!(settled.iter().all(lifecycle_worker::Settled::is_done), "{settled:?}");
    let mut dead: Vec<_> =
        queue.dead(most(9)).await.unwrap().into_iter().map(|job| job.error).collect();
    dead.sort();
    assert_eq!(dead, ["a ? b", "a?b", "caf\u{e9}", "plain"]);
}
