//! The futures of the layer and of `serve` dropped after any number of polls.
//!
//! A line `/// Cancels: ` names what a test is for (see `lifecycle/tests/cancel.rs`).

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::task::Poll;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use lifecycle::{BoxError, Cause, Component, Handle, Phase, Role};
use lifecycle_tower::{DrainLayer, Serve, StreamPolicy, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service};

use crate::wire::{limited, settings};

/// Polls `future` as often as it is woken, `polls` times at most, and drops it; what it gave
/// if it ended before.
async fn polled<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(move |cx| {
        let Some(rest) = left.checked_sub(1) else { return Poll::Ready(None) };
        left = rest;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Answers after three yields.
async fn slow(_: Request<String>) -> Result<Response<Full<Bytes>>, Infallible> {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    Ok(Response::new(Full::from("hello")))
}

/// Cancels: DrainFuture, PolicyFuture
#[tokio::test]
async fn an_answer_dropped_after_any_poll_is_no_longer_in_flight() {
    for polls in 0..6 {
        let life = settings().build_local().unwrap();
        let layer = DrainLayer::new(&life.handle());
        let inner = StreamPolicy::EndAtDrain.layer(tower::service_fn(slow));
        let mut service = layer.layer(inner);
        let request = Request::get("/x").body(String::new()).unwrap();
        let answer = service.call(request);
        assert_eq!(layer.in_flight(), 1, "from the call on, polled or not");
        let answer = polled(polls, answer).await;
        assert_eq!(answer.is_some(), polls > 3, "{polls}");
        assert_eq!(layer.in_flight(), usize::from(answer.is_some()), "until its body has ended");
        if let Some(answer) = answer {
            let body = polled(polls - 4, answer.unwrap().into_body().collect()).await;
            assert_eq!(body.is_some(), polls > 4, "{polls}");
        }
        assert_eq!(layer.in_flight(), 0);
        assert!(life.handle().blockers().is_empty());
        life.handle().shutdown("test");
        assert_eq!(limited(life.run()).await.unwrap().exit_code(), 0);
    }
}

/// A server that is dropped after so many polls.
struct Dropped {
    serve: Serve<TcpListener, Router>,
    polls: usize,
}

impl Component for Dropped {
    async fn run(self, handle: Handle) -> Result<(), BoxError> {
        polled(self.polls, self.serve.run(handle)).await.unwrap_or(Ok(()))
    }

    fn role(&self) -> Role {
        Role::Server
    }
}

/// Cancels: Serve
///
/// Its listener is gone then; what it had accepted is served to the end and waited for.
#[tokio::test]
async fn a_server_dropped_after_any_poll_leaves_nobody_half_served() {
    let mut asked_to_end = 0;
    for polls in 0..14 {
        let mut life = settings().build_local().unwrap();
        let handle = life.handle();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let late = handle.clone();
        let late = get(move || async move {
            late.draining().await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            "hello"
        });
        let app = Router::new().route("/", late);
        life.spawn("http", Dropped { serve: serve(listener, app), polls });
        // One at a time, so that each is worth a poll of the server.
        let asked = handle.clone();
        let asking = tokio::spawn(async move {
            let mut streams = Vec::new();
            for n in 1..=4 {
                let Ok(mut stream) = TcpStream::connect(addr).await else { break };
                drop(stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await);
                streams.push(stream);
                while asked.phase() < Phase::Draining && asked.blockers().len() < n {
                    tokio::task::yield_now().await;
                }
            }
            asked.shutdown("test");
            let mut whole = 0;
            for mut stream in streams {
                let mut answer = String::new();
                // Never accepted: closed or reset by the system, without a byte.
                drop(stream.read_to_string(&mut answer).await);
                assert!(answer.is_empty() || answer.ends_with("hello"), "half: {answer:?}");
                whole += usize::from(!answer.is_empty());
            }
            whole
        });
        let report = limited(life.run()).await.unwrap();
        let whole = limited(asking).await.unwrap();
        assert_eq!(report.in_flight_at_cause(), whole, "{polls}: each that was in flight");
        assert!(report.cuts().is_empty(), "{polls}: {:?}", report.cuts());
        assert!(handle.blockers().is_empty(), "{polls}");
        assert!(TcpStream::connect(addr).await.is_err(), "{polls}: the listener has closed");
        if let Cause::Requested { .. } = report.cause() {
            assert_eq!((whole, report.exit_code()), (4, 0), "{polls}: dropped in the drain");
            asked_to_end += 1;
        } else {
            assert_eq!(report.exit_code(), 1, "{polls}: nobody had asked it to end");
        }
    }
    assert!((2..10).contains(&asked_to_end), "dropped before the stop and in it: {asked_to_end}");
}
