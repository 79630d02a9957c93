//! Responses that last: what becomes of them at the drain, and of their connections after.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use lifecycle::Handle;
use lifecycle_tower::StreamPolicy;

use crate::http1::{hello, server_handle};
use crate::wire::{Server, limited, settings};

/// A body whose second half comes when the drain has begun.
fn until_draining(handle: Handle) -> Body {
    let parts = stream::unfold(0, move |n| {
        let handle = handle.clone();
        async move {
            if n == 1 {
                handle.draining().await;
            }
            (n < 2).then(|| (Ok::<_, std::io::Error>(Bytes::from("part")), n + 1))
        }
    });
    Body::from_stream(parts)
}

#[tokio::test]
async fn a_pipelined_request_is_answered_when_the_first_answer_did_not_say_close() {
    let server = Server::start(|handle| {
        let slow = move || async move { until_draining(handle) };
        hello(server_handle()).route("/slow", get(slow))
    })
    .await;
    let mut wire = server.connect().await;
    wire.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    wire.expect("part").await;
    wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.stop();
    let both = wire.rest().await;
    assert!(both.ends_with("hello"), "{both}");
    assert_eq!(both.matches("connection: close").count(), 1, "the second says it: {both}");
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn event_streams_end_cleanly_and_others_by_their_policy() {
    fn forever(kind: &'static str) -> http::Response<Body> {
        let ticks = stream::unfold(true, |first| async move {
            if !first {
                std::future::pending::<()>().await;
            }
            Some((Ok::<_, std::io::Error>(Bytes::from("data: tick\n\n")), false))
        });
        let response = http::Response::builder().header("content-type", kind);
        response.body(Body::from_stream(ticks)).unwrap()
    }
    let server = Server::start(|_| {
        Router::new()
            .route("/sse", get(|| async { forever("text/event-stream") }))
            .route(
                "/asked",
                get(|| async { forever("text/plain") }).layer(StreamPolicy::EndAtDrain),
            )
            .route(
                "/spread",
                get(|| async { forever("text/plain") })
                    .layer(StreamPolicy::EndWithin(Duration::from_millis(200))),
            )
            .route(
                "/kept",
                get(|| async { forever("text/event-stream") }).layer(StreamPolicy::LetFinish),
            )
    })
    .await;
    let mut wires = Vec::new();
    for path in ["/sse", "/asked", "/spread", "/kept"] {
        let mut wire = server.connect().await;
        wire.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        wire.expect("tick").await;
        wires.push(wire);
    }
    server.stop();
    let kept = wires.pop().unwrap();
    for wire in wires {
        let body = wire.rest().await;
        assert!(body.ends_with("\r\n0\r\n\r\n"), "a clean final chunk: {body:?}");
    }
    let body = kept.rest().await;
    assert!(!body.ends_with("0\r\n\r\n"), "cut at the hard stop: {body:?}");
    let report = server.report().await;
    assert_eq!(report.exit_code(), 3);
    assert_eq!(report.cuts()[0].blockers.len(), 1);
    assert_eq!(report.cuts()[0].blockers[0].name, "GET /kept");
}

#[tokio::test]
async fn a_client_not_told_by_its_last_answer_has_a_second_for_its_next_request() {
    let server = Server::start(|handle| {
        let slow = move || async move { until_draining(handle) };
        Router::new().route("/", get(|| async { "hello" })).route("/slow", get(slow))
    })
    .await;
    let mut wire = server.connect().await;
    wire.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    wire.expect("part").await;
    server.stop();
    wire.expect("\r\n0\r\n\r\n").await;
    // Sleeps: the time that a client takes between two requests.
    tokio::time::sleep(Duration::from_millis(100)).await;
    wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = wire.rest().await;
    assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn a_finite_answer_is_never_ended_by_a_stream_policy() {
    use http_body_util::Full;
    let mut life = settings().build_local().unwrap();
    let handle = life.handle();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let token = handle.clone();
    let app = tower::ServiceBuilder::new().layer(StreamPolicy::EndAtDrain).service_fn(
        move |_: http::Request<hyper::body::Incoming>| {
            let handle = token.clone();
            async move {
                handle.shutdown("test");
                handle.draining().await;
                let whole = Full::new(Bytes::from("the whole answer"));
                Ok::<_, std::convert::Infallible>(http::Response::new(whole))
            }
        },
    );
    life.spawn("http", lifecycle_tower::serve(listener, app));
    let run = tokio::spawn(life.run());
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    limited(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("content-length: 16") && answer.ends_with("answer"), "{answer}");
    assert_eq!(limited(run).await.unwrap().unwrap().exit_code(), 0);
}
