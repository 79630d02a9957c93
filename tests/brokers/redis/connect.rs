//! What is said when a queue cannot be connected to.

use std::future::Future;
use std::time::Duration;

use lifecycle_worker::{Queue, QueueError, RedisQueue};
use tests::brokers::{PrivateRedis, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::{jobs, most};

/// A server that handles each connection so; its URL.
async fn server<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(handle(socket));
        }
    });
    format!("redis://127.0.0.1:{port}")
}

async fn refusal(url: &str) -> QueueError {
    RedisQueue::connect(url, "mail").await.err().unwrap()
}

#[tokio::test]
async fn a_password_is_used_and_missed() {
    let redis = PrivateRedis::with_password("open sesame").await;
    let port = redis.port();
    let right = format!("redis://:open%20sesame@127.0.0.1:{port}");
    RedisQueue::connect(&right, "mail").await.unwrap().ping().await.unwrap();
    for wrong in ["redis://:shut@127.0.0.1", "redis://127.0.0.1", "redis://ada:x@127.0.0.1"] {
        let error = refusal(&format!("{wrong}:{port}")).await;
        assert!(matches!(error, QueueError::Denied(_)), "{wrong}: {error:?}");
    }
}

#[tokio::test]
async fn a_user_without_rights_is_denied() {
    let redis = PrivateRedis::start().await;
    redis.cli(&["acl", "setuser", "ada", "on", ">x", "~other:*", "+@all"]).await;
    let url = format!("redis://ada:x@127.0.0.1:{}", redis.port());
    let error = refusal(&url).await;
    assert!(matches!(error, QueueError::Denied(_)), "{error:?}");
    redis.cli(&["acl", "setuser", "ada", "~lifecycle:{mail}:*", "-@all", "+exists", "+info"]).await;
    let queue = RedisQueue::connect(&url, "mail").await.unwrap();
    let error = queue.ping().await.unwrap_err();
    assert!(matches!(error, QueueError::Denied(_)), "{error:?}");
}

#[tokio::test]
async fn what_is_no_url_or_name_is_invalid() {
    for url in ["", "mail", "http://127.0.0.1", "redis://", "redis://127.0.0.1/x", "redis://:p@"] {
        let error = refusal(url).await;
        assert!(matches!(error, QueueError::Invalid { .. }), "{url}: {error:?}");
    }
    let error = refusal("rediss://127.0.0.1").await;
    assert!(error.to_string().contains("rustls::crypto"), "{error}");
    for name in ["", "a}", "{", "{a}"] {
        let error = RedisQueue::connect("redis://127.0.0.1:1", name).await.err().unwrap();
        assert!(matches!(error, QueueError::Invalid { .. }), "{name}: {error:?}");
    }
    let error = RedisQueue::cluster([""; 0], "mail").await.err().unwrap();
    assert!(matches!(error, QueueError::Invalid { .. }), "{error:?}");
}

#[tokio::test]
async fn databases_sockets_and_both_protocols_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s.sock").to_str().unwrap().to_owned();
    let redis = PrivateRedis::with(&["--unixsocket", &socket], None).await;
    let paths = ["/3", "/?protocol=resp3"].map(|path| redis.url() + path);
    for url in paths.into_iter().chain([format!("redis+unix://{socket}")]) {
        let queue = RedisQueue::connect(&url, "mail").await.unwrap();
        assert!(queue.claim(most(9), Duration::from_millis(5)).await.unwrap().is_empty(), "{url}");
        queue.push(&jobs(2)).await.unwrap();
        assert_eq!(queue.claim(most(9), Duration::from_secs(5)).await.unwrap().len(), 2, "{url}");
        queue.close().await.unwrap();
        redis.cli(&["flushall"]).await;
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable_at_once() {
    let began = Instant::now();
    let error = refusal(&format!("redis://127.0.0.1:{}", free_port())).await;
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn somebody_who_says_nothing_is_unavailable_after_the_bound() {
    let url = server(|socket| async move {
        let (mut socket, mut bytes) = (socket, vec![0; 1024]);
        while socket.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    });
    let (url, began) = (url.await, Instant::now());
    let error = refusal(&url).await;
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    assert!((4..7).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_is_no_redis_is_not_supported() {
    let url = server(|mut socket| async move {
        let said = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        drop(socket.write_all(said).await);
        let mut rest = Vec::new();
        drop(socket.read_to_end(&mut rest).await);
    });
    let error = refusal(&url.await).await;
    assert!(matches!(error, QueueError::Unsupported { .. }), "{error:?}");
    assert!(error.to_string().contains("not Redis"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_too_old_is_not_supported_and_both_versions_are_said() {
    let url = server(old_server);
    let error = refusal(&url.await).await;
    let said = "not supported: Redis 6.2.7: a queue needs 7.0 or later";
    assert_eq!(error.to_string(), said);
}

/// Says `OK` to every command but `EXISTS` and `INFO`.
async fn old_server(mut socket: TcpStream) {
    let mut bytes = vec![0; 4096];
    while let Ok(count @ 1..) = socket.read(&mut bytes).await {
        let text = String::from_utf8_lossy(&bytes[..count]).to_uppercase();
        let info = "redis_version:6.2.7\r\n";
        for line in text.split('*').skip(1) {
            let answer = match line {
                line if line.contains("EXISTS") => ":0\r\n".to_owned(),
                line if line.contains("INFO\r") && !line.contains("SETINFO") => {
                    format!("${}\r\n{info}\r\n", info.len())
                }
                _ => "+OK\r\n".to_owned(),
            };
            drop(socket.write_all(answer.as_bytes()).await);
        }
    }
}
