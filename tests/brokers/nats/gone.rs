//! Streams and consumers that are not there any more, and users who may not ask for them.

use std::time::Duration;

use lifecycle_worker::{NatsQueue, Queue, QueueError, Release, Settled};
use tests::brokers::PrivateNats;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{jobs, most, receipts};

/// Says that to the server's API by hand, and waits until it is done.
async fn by_hand(server: &PrivateNats, call: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let said =
        format!("CONNECT {{\"verbose\":false}}\r\nSUB x 1\r\nPUB $JS.API.{call} x 0\r\n\r\n");
    stream.write_all(said.as_bytes()).await.unwrap();
    let mut heard = String::new();
    let answer = async {
        while !heard.contains("\"success\":true") {
            let mut some = [0; 4096];
            let length = stream.read(&mut some).await.unwrap();
            assert!(length > 0, "{heard}");
            heard.push_str(&String::from_utf8_lossy(&some[..length]));
        }
    };
    timeout(Duration::from_secs(10), answer).await.expect("the server answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_was_deleted_is_missed_by_all_that_ask_for_it() {
    let server = PrivateNats::start().await;
    let queue = NatsQueue::connect(&server.url(), "mail").await.unwrap();
    queue.prepare().await.unwrap();
    queue.push(&jobs(1)).await.unwrap();
    let held = queue.claim(most(1), Duration::from_secs(5)).await.unwrap();
    by_hand(&server, "CONSUMER.DELETE.lifecycle-mail.workers").await;
    let settled = queue.ack(&receipts(&held)).await;
    let missed =
        |settled: &[Settled]| matches!(settled, [Settled::Retry(QueueError::NotPrepared { .. })]);
    assert!(missed(&settled), "{settled:?}");
    let back = Release::unstarted(held[0].receipt.clone());
    for _ in 0..2 {
        let settled = queue.release(std::slice::from_ref(&back)).await;
        assert!(missed(&settled), "nobody has heard it: {settled:?}");
    }
    let error = queue.claim(most(1), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, QueueError::NotPrepared { .. }), "{error:?}");
    by_hand(&server, "STREAM.DELETE.lifecycle-mail").await;
    let settled = queue.ack(&receipts(&held)).await;
    assert!(missed(&settled), "{settled:?}");
}

/// Without the right to look, nobody is left to wait for the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_look_for_the_stream_is_told_so() {
    let user = "{ user: ada, password: x, \
                permissions: { publish: { deny: \"$JS.API.STREAM.INFO.>\" } } }";
    let config = format!("jetstream: enabled\nauthorization {{ users: [\n{user}\n] }}\n");
    let server = PrivateNats::with(&config).await;
    let url = format!("nats://ada:x@127.0.0.1:{}", server.port());
    let queue = NatsQueue::connect(&url, "mail").await.unwrap();
    let error = queue.push(&jobs(1)).await.unwrap_err();
    assert!(matches!(error, QueueError::Denied(_)), "{error:?}");
    assert!(format!("{error:?}").contains("$JS.API.STREAM.INFO.lifecycle-mail"), "{error:?}");
}
