//! HTTP/1 under `serve`.

use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use lifecycle::{Handle, Phase};
use tokio::time::Instant;

use crate::wire::{Server, limited, pass, settings};

pub(crate) fn hello(_: Handle) -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/echo", post(|body: Bytes| async { body }))
}

#[tokio::test]
async fn a_stop_raised_inside_a_handler_still_answers_its_request() {
    let server = Server::start(|handle| {
        Router::new().route(
            "/stop",
            get(move || async move {
                handle.shutdown("from inside");
                handle.draining().await;
                "stopping"
            }),
        )
    })
    .await;
    let mut wire = server.connect().await;
    wire.send("GET /stop HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = wire.rest().await;
    assert!(answer.contains("connection: close") && answer.ends_with("stopping"), "{answer}");
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn a_body_half_sent_at_the_stop_arrives_whole() {
    let server = Server::start(hello).await;
    let mut wire = server.connect().await;
    wire.send("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhello").await;
    let handle = server.handle.clone();
    server.busy().await;
    server.stop();
    limited(handle.draining()).await;
    wire.send("world").await;
    let answer = wire.rest().await;
    assert!(answer.contains("connection: close") && answer.ends_with("helloworld"), "{answer}");
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn a_young_half_head_is_finished_after_the_listener_has_closed() {
    let server = Server::start(hello).await;
    let mut fresh = server.connect().await;
    let mut reused = server.connect().await;
    reused.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    reused.expect("hello").await;
    for wire in [&mut fresh, &mut reused] {
        wire.send("GET / HTTP/1.1\r\nho").await;
    }
    server.stop();
    let handle = server.handle.clone();
    limited(handle.draining()).await;
    // Sleeps: the scenario is "0.3 s after the close".
    tokio::time::sleep(Duration::from_millis(300)).await;
    let refused = tokio::net::TcpStream::connect(server.addr).await;
    assert!(refused.is_err(), "the listener has closed");
    for mut wire in [fresh, reused] {
        wire.send("st: x\r\n\r\n").await;
        let answer = wire.rest().await;
        assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    }
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn silence_counts_from_the_last_byte_not_from_the_drain() {
    let idle_time = Duration::from_secs(10);
    let settings = settings().grace_period(Duration::from_secs(40));
    let server =
        Server::start_with(settings, hello, |serve| serve.idle_drain_timeout(idle_time)).await;
    let mute = server.connect().await;
    let mut half = server.connect().await;
    half.send("GET / HT").await;
    let mut idle = server.connect().await;
    idle.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    idle.expect("hello").await;
    // Sleeps: what was sent has been read; nothing happens that could be awaited.
    tokio::time::sleep(Duration::from_millis(50)).await;
    pass(idle_time).await;
    let asked = Instant::now();
    server.stop();
    assert_eq!(server.report().await.exit_code(), 0);
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    assert_eq!(mute.rest().await, "");
    assert_eq!(half.rest().await, "");
    idle.rest().await;
}

#[tokio::test]
async fn a_request_already_on_its_way_to_an_idle_connection_is_answered() {
    // The bytes are in the socket, the runtime has not heard of them: the last look must.
    for _ in 0..50 {
        let server =
            Server::start_with(settings(), hello, |serve| serve.idle_drain_timeout(Duration::ZERO))
                .await;
        let mut wire = server.connect().await;
        wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        wire.expect("hello").await;
        server.stop();
        // Without a yield in between, both are there when the connection's task looks.
        let sent = wire.stream.try_write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert!(sent > 0);
        let both = wire.rest().await;
        assert_eq!(both.matches("hello").count(), 2, "{both}");
        assert_eq!(server.report().await.exit_code(), 0);
    }
}

pub(crate) fn server_handle() -> Handle {
    lifecycle::Lifecycle::builder().build_local().unwrap().handle()
}

#[tokio::test]
async fn a_response_that_nobody_reads_is_in_flight_until_it_is_with_the_socket() {
    // One big piece: the body has ended long before the socket has taken it.
    let server =
        Server::start(|_| Router::new().route("/big", get(|| async { vec![b'x'; 32 << 20] })))
            .await;
    let mut wire = server.connect().await;
    wire.send("GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await;
    wire.expect("200 OK").await;
    server.stop();
    let handle = server.handle.clone();
    limited(handle.cancelled()).await;
    let report = server.report().await;
    assert_eq!(report.exit_code(), 3);
    assert_eq!(report.cuts()[0].phase, Phase::Draining);
    assert_eq!(report.cuts()[0].blockers[0].name, "GET /big");
    drop(wire);
}

#[tokio::test]
async fn an_early_answer_to_a_large_upload_arrives_in_full() {
    let server = Server::start_with(
        settings().grace_period(Duration::from_secs(20)).lame_duck_period(Duration::from_secs(10)),
        hello,
        |serve| serve,
    )
    .await;
    server.stop();
    limited(server.handle.lame_duck()).await;
    let wire = server.connect().await;
    let (mut read, mut write) = wire.stream.into_split();
    let upload = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let head =
            format!("POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 4 << 20);
        write.write_all(head.as_bytes()).await?;
        for _ in 0..64 {
            write.write_all(&[b'x'; 64 << 10]).await?;
        }
        Ok::<_, std::io::Error>(write)
    });
    let mut answer = String::new();
    use tokio::io::AsyncReadExt;
    limited(read.read_to_string(&mut answer)).await.expect("no reset");
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("connection: close"), "{answer}");
    limited(upload).await.unwrap().expect("the upload was read, not reset");
    pass(Duration::from_secs(10)).await;
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn a_panicking_handler_costs_its_connection_only() {
    let server = Server::start(|_| {
        Router::new().route("/", get(|| async { "hello" })).route(
            "/panic",
            get(|| async {
                if true {
                    panic!("on purpose")
                }
            }),
        )
    })
    .await;
    let mut wire = server.connect().await;
    wire.send("GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(wire.rest().await, "");
    assert!(server.handle.blockers().is_empty());
    let mut wire = server.connect().await;
    wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    wire.expect("hello").await;
    server.stop();
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn a_client_that_sends_ahead_gets_its_first_answer_whole() {
    const SIZE: usize = 1_000_000;
    for _ in 0..5 {
        let server = Server::start(|handle| {
            let big = move || async move {
                handle.draining().await;
                // Sleeps: the work that a handler does.
                tokio::time::sleep(Duration::from_millis(60)).await;
                "y".repeat(SIZE)
            };
            Router::new().route("/", get(big))
        })
        .await;
        let mut wire = server.connect().await;
        wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        server.busy().await;
        server.stop();
        for _ in 0..3 {
            wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            // Sleeps: each in a segment of its own.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = wire.rest().await;
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        assert_eq!(body.len(), SIZE);
        assert_eq!(server.report().await.exit_code(), 0);
    }
}

/// Whether the server closes within that time, by timeouts of 0.3 s for a head and 10 s
/// between requests.
async fn closes_within(limit: Duration, request: &[&str]) -> bool {
    let server = Server::start_with(
        settings(),
        |_| hello(server_handle()),
        |serve| {
            let serve = serve.keep_alive_timeout(Duration::from_secs(10));
            serve.header_read_timeout(Duration::from_millis(300))
        },
    )
    .await;
    let mut wire = server.connect().await;
    for part in request {
        wire.send(part).await;
        // Sleeps: each in a segment of its own.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wire.expect("hello").await;
    tokio::time::timeout(limit, wire.rest()).await.is_ok()
}

/// By the time of a head.
async fn closes_soon(request: &[&str]) -> bool {
    closes_within(Duration::from_secs(6), request).await
}

/// By the time between requests, if at all.
async fn stays(request: &[&str]) -> bool {
    !closes_within(Duration::from_secs(1), request).await
}

#[tokio::test]
async fn a_head_has_its_timeout_and_the_rest_between_requests_another() {
    let post = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n";
    assert!(stays(&[post, "hello"]).await, "a body is no head");
    assert!(stays(&[&format!("{post}hello")]).await, "in one segment neither");
    let get = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    assert!(stays(&[get]).await);
    assert!(closes_soon(&[get, "GET / HT"]).await, "half a head");
    assert!(closes_soon(&[&format!("{get}GET"), " / HT"]).await, "half a head in two segments");
}

/// A client that writes its heads a byte longer than others keeps its connection between
/// requests for as long as they do.
#[tokio::test]
async fn a_head_with_more_bytes_than_it_needs_is_no_half_a_head() {
    for head in [
        "GET / HTTP/1.1\r\nhost: x \r\n\r\n",
        "GET / HTTP/1.1\r\nhost:  x\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /#fragment HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        assert!(stays(&[head]).await, "{head:?}");
        assert!(stays(&[head, head]).await, "{head:?}, again");
    }
}

#[tokio::test]
async fn a_timeout_without_end_is_none() {
    let server = Server::start_with(settings(), hello, |serve| {
        let serve = serve.keep_alive_timeout(Duration::MAX);
        serve.header_read_timeout(Duration::MAX).idle_drain_timeout(Duration::ZERO)
    })
    .await;
    let mut wire = server.connect().await;
    wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    wire.expect("hello").await;
    server.stop();
    assert_eq!(server.report().await.exit_code(), 0);
}

/// A `Sleep` polled without coop budget is pending and registers nothing: whatever budget a
/// handler leaves, the connection keeps its timeout.
#[tokio::test]
async fn a_handler_that_uses_up_the_budget_costs_its_connection_no_timeout() {
    for spent in 115..132_u32 {
        let app = move |_| {
            let spend = move || async move {
                for _ in 0..spent {
                    tokio::task::coop::consume_budget().await;
                }
                "hello"
            };
            Router::new().route("/", get(spend))
        };
        let server = Server::start_with(settings(), app, |serve| {
            serve.keep_alive_timeout(Duration::from_millis(100))
        })
        .await;
        let mut wire = server.connect().await;
        wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        wire.expect("hello").await;
        let closed = tokio::time::timeout(Duration::from_secs(2), wire.rest()).await;
        assert!(closed.is_ok(), "never closed after {spent} units");
    }
}

#[tokio::test]
async fn a_post_read_to_its_end_does_not_linger() {
    let server = Server::start(|handle| {
        let late = move |body: Bytes| async move {
            handle.draining().await;
            body
        };
        Router::new().route("/", post(late))
    })
    .await;
    let mut wire = server.connect().await;
    wire.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello").await;
    server.busy().await;
    server.stop();
    wire.expect("hello").await;
    // The client keeps its end open; nothing of it is on its way.
    let answered = Instant::now();
    assert_eq!(server.report().await.exit_code(), 0);
    // One that lingers does so for a second.
    assert!(answered.elapsed() < Duration::from_millis(900), "{:?}", answered.elapsed());
    drop(wire);
}
