//! Short forms of the command `torture`: workers ended at random, judged by their ledgers; and
//! the control, which has to be found out.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// What the command says, and whether it found every promise kept.
async fn torture(arguments: &str) -> (bool, String) {
    let command = Command::new(env!("CARGO_BIN_EXE_torture"))
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(LIMIT, command).await.expect("it ends in time").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    // It panics with another.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}\n{errors}");
    println!("{said}");
    (output.status.success(), said)
}

async fn keeps_its_promises(arguments: &str) {
    let (is_kept, said) = torture(arguments).await;
    assert!(is_kept, "{said}");
    assert!(!said.contains("BROKEN"), "{said}");
}

/// Of the loop that is dropped, jobs stay claimed; the same judge says so.
async fn is_found_out(queue: &str) {
    let (is_kept, said) = torture(&format!("--queue {queue} --rounds 4 --claim select")).await;
    assert!(!is_kept, "{said}");
    let stranded = said.lines().find(|line| line.starts_with("| stranded by an orderly exit"));
    let count = stranded.and_then(|line| line.split('|').nth(2)?.trim().parse::<u32>().ok());
    assert!(count.is_some_and(|count| count > 0), "{said}");
}

#[tokio::test]
async fn workers_on_sqlite_are_told_to_stop_at_random() {
    keeps_its_promises("--queue sqlite --rounds 6").await;
}

#[tokio::test]
async fn workers_on_postgres_are_told_to_stop_at_random() {
    keeps_its_promises("--queue postgres --rounds 6").await;
}

#[tokio::test]
async fn workers_on_redis_are_told_to_stop_at_random() {
    keeps_its_promises("--queue redis --rounds 6").await;
}

#[tokio::test]
async fn workers_on_rabbitmq_are_told_to_stop_at_random() {
    keeps_its_promises("--queue amqp --rounds 6").await;
}

#[tokio::test]
async fn workers_on_nats_are_told_to_stop_at_random() {
    keeps_its_promises("--queue nats --rounds 6").await;
}

#[tokio::test]
async fn workers_on_sqlite_are_killed_at_random() {
    keeps_its_promises("--queue sqlite --rounds 6 --kill mixed").await;
}

#[tokio::test]
async fn workers_on_postgres_are_killed_at_random() {
    keeps_its_promises("--queue postgres --rounds 6 --kill kill").await;
}

#[tokio::test]
async fn workers_on_redis_are_killed_at_random() {
    keeps_its_promises("--queue redis --rounds 6 --kill mixed").await;
}

#[tokio::test]
async fn workers_on_rabbitmq_are_killed_at_random() {
    keeps_its_promises("--queue amqp --rounds 6 --kill mixed").await;
}

/// The jobs that are there twice then are counted apart.
#[tokio::test]
async fn workers_on_rabbitmq_are_killed_while_they_stop() {
    keeps_its_promises("--queue amqp --rounds 6 --kill late").await;
}

#[tokio::test]
async fn workers_on_nats_are_killed_at_random() {
    keeps_its_promises("--queue nats --rounds 6 --kill mixed").await;
}

#[tokio::test]
async fn a_loop_on_sqlite_that_select_drops_is_found_out() {
    is_found_out("sqlite").await;
}

#[tokio::test]
async fn a_loop_on_postgres_that_select_drops_is_found_out() {
    is_found_out("postgres").await;
}

#[tokio::test]
async fn a_loop_on_redis_that_select_drops_is_found_out() {
    is_found_out("redis").await;
}

#[tokio::test]
async fn a_loop_on_rabbitmq_that_select_drops_is_found_out() {
    is_found_out("amqp").await;
}

#[tokio::test]
async fn a_loop_on_nats_that_select_drops_is_found_out() {
    is_found_out("nats").await;
}

const LIMIT: Duration = Duration::from_secs(120);
