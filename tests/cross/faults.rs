//! Handlers, services and bodies that panic, over HTTP/1 and HTTP/2, under `serve` and
//! under the layer.
//!
//! What a client sees: before the head, HTTP/1 closes without an answer and HTTP/2 resets
//! the stream; within the body, both cut it, never ending it as if it were whole. Nothing is
//! made up: a 500 is for who wants one to say so (`tower_http::catch_panic`). In each case
//! the request counts as in flight until then and no longer, the neighbours are served, and
//! the stop afterwards is clean.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lifecycle_tower::DrainLayer;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use crate::wire::{Server, get as request, limited, settings};

/// Where it panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    PollReady,
    Call,
    Answer,
    AfterAWait,
    FirstFrame,
    LaterFrame,
    DropOfBody,
}

const ALL: [At; 7] = [
    At::PollReady,
    At::Call,
    At::Answer,
    At::AfterAWait,
    At::FirstFrame,
    At::LaterFrame,
    At::DropOfBody,
];

/// A service that panics where the request's path says so, and says hello otherwise.
#[derive(Clone)]
struct Faulty {
    at: At,
}

impl Service<Request> for Faulty {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        assert!(self.at != At::PollReady, "on purpose");
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        let at = self.at;
        assert!(at != At::Call, "on purpose");
        Box::pin(async move {
            assert!(at != At::Answer, "on purpose");
            tokio::task::yield_now().await;
            assert!(at != At::AfterAWait, "on purpose");
            Ok(Response::new(body(at)))
        })
    }
}

fn body(at: At) -> Body {
    struct Panics(bool);
    impl Drop for Panics {
        fn drop(&mut self) {
            assert!(!self.0, "on purpose");
        }
    }
    let panics = Panics(at == At::DropOfBody);
    let frames = stream::iter(0..3_u8).then(move |n| {
        let _panics = &panics;
        let now = matches!((at, n), (At::FirstFrame, 0) | (At::LaterFrame, 2));
        async move {
            tokio::task::yield_now().await;
            assert!(!now, "on purpose");
            Ok::<_, Infallible>(Bytes::from_static(b"part"))
        }
    });
    Body::from_stream(frames)
}

/// `/` says hello; everything else goes to the service that panics.
fn app(at: At) -> Router {
    Router::new().route("/", get(|| async { "hello" })).fallback_service(Faulty { at })
}

/// The answer's body, or none when it did not come whole.
async fn whole(response: hyper::Result<http::Response<Incoming>>) -> Option<Bytes> {
    let body = response.ok()?.into_body();
    limited(body.collect()).await.ok().map(http_body_util::Collected::to_bytes)
}

/// What a panic leaves of a server: nothing in flight, and everybody else served.
async fn is_unharmed(server: &Server, at: At) {
    limited(async {
        while !server.handle.blockers().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut sender = server.http1().await;
    let answer = whole(sender.send_request(request("/")).await).await;
    assert_eq!(answer.as_deref(), Some(&b"hello"[..]), "{at:?}");
}

/// The stop after it is clean, and waits for nothing.
async fn stops_cleanly(server: Server, at: At) {
    let asked = Instant::now();
    server.stop();
    let report = server.report().await;
    assert_eq!(report.exit_code(), 0, "{at:?}");
    assert!(asked.elapsed() < Duration::from_millis(1_500), "{at:?}: {:?}", asked.elapsed());
    let held = report.notes().iter().any(|note| note.text.contains("connections held"));
    assert!(held, "{:?}", report.notes());
}

#[tokio::test]
async fn over_http1_a_panic_costs_its_connection_and_no_other() {
    for at in ALL {
        let server = Server::start(|_| app(at)).await;
        let mut sender = server.http1().await;
        let answer = whole(limited(sender.send_request(request("/faulty"))).await).await;
        assert_eq!(answer, None, "{at:?}: no answer that looks whole");
        limited(async { while sender.ready().await.is_ok() {} }).await;
        is_unharmed(&server, at).await;
        stops_cleanly(server, at).await;
    }
}

#[tokio::test]
async fn over_http2_a_panic_costs_its_stream_and_not_the_connection() {
    for at in ALL {
        let server = Server::start(|_| app(at)).await;
        let (mut sender, conn) = server.http2().await;
        let answer = whole(limited(sender.send_request(request("/faulty"))).await).await;
        assert_eq!(answer, None, "{at:?}: no answer that looks whole");
        let answer = whole(limited(sender.send_request(request("/"))).await).await;
        assert_eq!(answer.as_deref(), Some(&b"hello"[..]), "{at:?}: the same connection");
        is_unharmed(&server, at).await;
        stops_cleanly(server, at).await;
        drop(limited(conn).await);
    }
}

/// Under axum's own server, which knows nothing of us: the guard is the layer's alone.
#[tokio::test]
async fn under_the_layer_a_panic_leaves_nothing_in_flight() {
    for at in ALL {
        let life = settings().build_local().unwrap();
        let handle = life.handle();
        let layer = DrainLayer::new(&handle);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let served = axum::serve(listener, app(at).layer(layer.clone()));
        let served = served.with_graceful_shutdown(handle.draining());
        let served = tokio::spawn(served.into_future());
        for http2 in [false, true] {
            let io = TokioIo::new(TcpStream::connect(addr).await.unwrap());
            let answer = if http2 {
                let executor = TokioExecutor::new();
                let (mut sender, conn) =
                    hyper::client::conn::http2::handshake(executor, io).await.unwrap();
                tokio::spawn(conn);
                whole(limited(sender.send_request(request("/faulty"))).await).await
            } else {
                let (mut sender, conn) = hyper::client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(conn);
                whole(limited(sender.send_request(request("/faulty"))).await).await
            };
            // That server drops a body after its last byte is out.
            assert!(answer.is_none() || at == At::DropOfBody, "{at:?}: {answer:?}");
            limited(async {
                while layer.in_flight() > 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            assert!(handle.blockers().is_empty(), "{at:?}");
        }
        handle.shutdown("test");
        assert_eq!(limited(life.run()).await.unwrap().exit_code(), 0, "{at:?}");
        limited(served).await.unwrap().unwrap();
    }
}

/// By hand, without a router in between: the panic comes out of the layer's own calls.
#[tokio::test]
async fn a_panic_that_passes_through_the_layer_takes_its_guard_along() {
    for at in ALL {
        let life = settings().build_local().unwrap();
        let handle = life.handle();
        let layer = DrainLayer::new(&handle);
        let service = layer.layer(Faulty { at });
        // A task catches panics as every server's does.
        let task = tokio::spawn(async move {
            let request = Request::get("/faulty").body(Body::empty()).unwrap();
            let response = service.oneshot(request).await.unwrap();
            response.into_body().collect().await.unwrap()
        });
        assert!(limited(task).await.is_err_and(|error| error.is_panic()), "{at:?}");
        assert_eq!(layer.in_flight(), 0, "{at:?}");
        assert!(handle.blockers().is_empty(), "{at:?}");
        handle.shutdown("test");
        assert_eq!(limited(life.run()).await.unwrap().exit_code(), 0, "{at:?}");
    }
}

/// The task that took a socket over panics: the socket is dropped, and with it its place.
#[tokio::test]
async fn a_panic_in_the_task_of_an_upgraded_socket_gives_the_socket_back() {
    let server = Server::start(|_| {
        let taken = |mut request: Request| async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let socket = upgrade.await.unwrap();
                assert!(format!("{socket:?}").is_empty(), "on purpose");
            });
            http::Response::builder()
                .status(http::StatusCode::SWITCHING_PROTOCOLS)
                .header("connection", "upgrade")
                .header("upgrade", "chat")
                .body(Body::empty())
                .unwrap()
        };
        Router::new().route("/", get(|| async { "hello" })).route("/chat", get(taken))
    })
    .await;
    let mut wire = server.connect().await;
    wire.send("GET /chat HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n")
        .await;
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    is_unharmed(&server, At::AfterAWait).await;
    stops_cleanly(server, At::AfterAWait).await;
}

/// In the drain too: what has panicked is over, and no work that was cut.
#[tokio::test]
async fn a_panic_during_the_drain_is_waited_for_and_not_cut() {
    let server = Server::start(|handle| {
        let late = move || async move {
            handle.draining().await;
            // Sleeps: the work that a handler does before it panics.
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(handle.blockers().len(), 1, "it holds the drain");
            if true {
                panic!("on purpose")
            }
        };
        Router::new().route("/", get(late))
    })
    .await;
    let mut wire = server.connect().await;
    wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.busy().await;
    server.stop();
    assert_eq!(wire.rest().await, "");
    let report = server.report().await;
    assert_eq!((report.exit_code(), report.cuts().len()), (0, 0));
    assert!(report.took() >= Duration::from_millis(200), "{:?}", report.took());
}
