//! Answers that are made in the cancel window.

use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use lifecycle_tower::DrainToken;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::wire::{Server, hard_stop, limited, wide_window};

/// More than a socket's buffers take at once from a client that does not read.
const BIG: usize = 2 << 20;

/// Answers from the hard stop on.
fn app() -> Router {
    let late = |Extension(token): Extension<DrainToken>| async move {
        token.cancelled().await;
        Bytes::from(vec![b'x'; BIG])
    };
    Router::new().route("/late", get(late))
}

#[tokio::test]
async fn an_answer_to_a_client_that_still_sends_is_not_reset() {
    let server = Server::start_with(wide_window(), |_| app(), |serve| serve).await;
    let (mut read, mut write) = server.connect().await.stream.into_split();
    // The head of one request, and the beginning of another.
    write.write_all(b"GET /late HTTP/1.1\r\nhost: x\r\n\r\nGET /late HTTP/1.1\r\n").await.unwrap();
    server.busy().await;
    hard_stop(&server.handle).await;
    let sends = tokio::spawn(async move {
        while write.write_all(b"x: y\r\n").await.is_ok() {
            // Sleeps: a client that sends on.
            sleep(Duration::from_millis(2)).await;
        }
    });
    let mut answer = Vec::new();
    let mut part = vec![0; 64 << 10];
    let began = Instant::now();
    loop {
        let len = limited(read.read(&mut part)).await.expect("no reset");
        if len == 0 {
            break;
        }
        answer.extend_from_slice(&part[..len]);
        // Sleeps: a client that is slower than its socket, but not than the window.
        sleep(Duration::from_millis(1)).await;
    }
    println!("{} bytes in {:?} after the hard stop", answer.len(), began.elapsed());
    assert!(answer.len() > BIG, "whole: {} bytes", answer.len());
    sends.abort();
    drop(read);
    assert_eq!(server.report().await.exit_code(), 3);
}
