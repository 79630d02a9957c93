//! gRPC under `serve`: tonic's routes and tonic's client around our connections.

use std::convert::Infallible;
use std::future::IntoFuture;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use lifecycle::Phase;
use lifecycle_tower::{DrainToken, StreamPolicy};
use tests::grpc::{Client, Number, number, server};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::service_fn;

use crate::wire::{Server, hard_stop, limited, settings, wide_window};

type Call = http::Request<Body>;
type Answer = http::Response<tonic::body::Body>;
type Numbers = BoxStream<'static, Result<Number, Status>>;

/// The token, as tonic hands it to a method.
fn token<T>(request: &Request<T>) -> DrainToken {
    request.extensions().get::<DrainToken>().cloned().expect("in every request")
}

fn numbers(stream: impl Stream<Item = Result<Number, Status>> + Send + 'static) -> Numbers {
    stream.boxed()
}

/// One number, and then nothing for ever.
fn one_and_silence(n: u64) -> Numbers {
    numbers(stream::iter([Ok(number(n))]).chain(stream::pending()))
}

/// A method of each kind that ends when its client does, or never.
fn endless() -> Router {
    async fn unary(_: Request<Number>) -> Result<Response<Number>, Status> {
        std::future::pending().await
    }
    async fn client(request: Request<Streaming<Number>>) -> Result<Response<Number>, Status> {
        let mut sum = 0;
        let mut numbers = request.into_inner();
        while let Some(number) = numbers.next().await {
            sum += number?.n;
        }
        Ok(Response::new(number(sum)))
    }
    async fn server_side(request: Request<Number>) -> Result<Response<Numbers>, Status> {
        Ok(Response::new(one_and_silence(request.into_inner().n)))
    }
    async fn both(request: Request<Streaming<Number>>) -> Result<Response<Numbers>, Status> {
        Ok(Response::new(numbers(request.into_inner())))
    }
    Router::new()
        .route(
            "/t/Unary",
            post(|call: Call| async { server().unary(service_fn(unary), call).await }),
        )
        .route(
            "/t/Client",
            post(|call: Call| async { server().client_streaming(service_fn(client), call).await }),
        )
        .route(
            "/t/Server",
            post(|call: Call| async {
                server().server_streaming(service_fn(server_side), call).await
            }),
        )
        .route(
            "/t/Both",
            post(|call: Call| async { server().streaming(service_fn(both), call).await }),
        )
}

/// Waits until so many requests are in flight.
async fn in_flight(server: &Server, count: usize) {
    limited(async {
        while server.handle.blockers().len() < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A stream of one number that stays open.
fn open(n: u64) -> impl Stream<Item = Number> + Send + 'static {
    stream::iter([number(n)]).chain(stream::pending())
}

fn assert_unavailable(ended: Result<impl std::fmt::Debug, Status>) {
    let status = ended.expect_err("cut");
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "shutdown: hard stop"));
}

#[tokio::test]
async fn calls_of_all_kinds_end_with_unavailable_at_the_hard_stop() {
    let server = Server::start_with(wide_window(), |_| endless(), |serve| serve).await;
    let client = Client::new(server.addr);
    let unary = tokio::spawn({
        let client = client.clone();
        async move { client.unary("/t/Unary", 1).await }
    });
    let sum = tokio::spawn({
        let client = client.clone();
        async move { client.client_streaming("/t/Client", open(1)).await }
    });
    let mut ticks = limited(client.server_streaming("/t/Server", 7)).await.unwrap();
    assert_eq!(limited(ticks.message()).await.unwrap(), Some(number(7)));
    let mut echo = limited(client.streaming("/t/Both", open(3))).await.unwrap();
    assert_eq!(limited(echo.message()).await.unwrap(), Some(number(3)));
    in_flight(&server, 4).await;
    hard_stop(&server.handle).await;
    assert_unavailable(limited(unary).await.unwrap());
    assert_unavailable(limited(sum).await.unwrap());
    assert_unavailable(limited(ticks.message()).await);
    assert_unavailable(limited(echo.message()).await);
    let report = server.report().await;
    assert_eq!(report.exit_code(), 3);
    assert_eq!(report.cuts().len(), 1, "none was left at the end of the cancel window");
    let cut = &report.cuts()[0];
    assert_eq!(cut.phase, Phase::Draining);
    let mut names: Vec<_> = cut.blockers.iter().map(|blocker| blocker.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["POST /t/Both", "POST /t/Client", "POST /t/Server", "POST /t/Unary"]);
}

#[tokio::test]
async fn a_call_that_sees_its_token_ends_by_itself_within_the_cancel_window() {
    async fn unary(request: Request<Number>) -> Result<Response<Number>, Status> {
        token(&request).cancelled().await;
        Err(Status::aborted("resume at 42"))
    }
    async fn server_side(request: Request<Number>) -> Result<Response<Numbers>, Status> {
        let token = token(&request);
        let goodbye = stream::once(async move {
            token.cancelled().await;
            Err(Status::aborted("resume at 43"))
        });
        Ok(Response::new(numbers(stream::iter([Ok(number(1))]).chain(goodbye))))
    }
    let app = |_| {
        Router::new()
            .route(
                "/t/Unary",
                post(|call: Call| async { server().unary(service_fn(unary), call).await }),
            )
            .route(
                "/t/Server",
                post(|call: Call| async {
                    server().server_streaming(service_fn(server_side), call).await
                }),
            )
    };
    let server = Server::start_with(wide_window(), app, |serve| serve).await;
    let client = Client::new(server.addr);
    let mut ticks = limited(client.server_streaming("/t/Server", 1)).await.unwrap();
    assert_eq!(limited(ticks.message()).await.unwrap(), Some(number(1)));
    let unary = tokio::spawn(async move { client.unary("/t/Unary", 1).await });
    in_flight(&server, 2).await;
    hard_stop(&server.handle).await;
    let status = limited(unary).await.unwrap().expect_err("its own end");
    assert_eq!((status.code(), status.message()), (Code::Aborted, "resume at 42"));
    let status = limited(ticks.message()).await.expect_err("its own end");
    assert_eq!((status.code(), status.message()), (Code::Aborted, "resume at 43"));
    assert_eq!(server.report().await.exit_code(), 3, "the drain's time was over all the same");
}

#[tokio::test]
async fn every_kind_of_call_sees_the_drain_in_its_extensions() {
    async fn unary(request: Request<Number>) -> Result<Response<Number>, Status> {
        token(&request).draining().await;
        Ok(Response::new(number(1)))
    }
    async fn client(request: Request<Streaming<Number>>) -> Result<Response<Number>, Status> {
        let token = token(&request);
        let taken = request.into_inner().take_until(token.draining());
        Ok(Response::new(number(taken.count().await as u64)))
    }
    async fn server_side(request: Request<Number>) -> Result<Response<Numbers>, Status> {
        let draining = token(&request).draining();
        Ok(Response::new(numbers(one_and_silence(1).take_until(draining))))
    }
    async fn both(request: Request<Streaming<Number>>) -> Result<Response<Numbers>, Status> {
        let draining = token(&request).draining();
        Ok(Response::new(numbers(request.into_inner().take_until(draining))))
    }
    let server = Server::start(|_| {
        Router::new()
            .route(
                "/t/Unary",
                post(|call: Call| async { server().unary(service_fn(unary), call).await }),
            )
            .route(
                "/t/Client",
                post(|call: Call| async {
                    server().client_streaming(service_fn(client), call).await
                }),
            )
            .route(
                "/t/Server",
                post(|call: Call| async {
                    server().server_streaming(service_fn(server_side), call).await
                }),
            )
            .route(
                "/t/Both",
                post(|call: Call| async { server().streaming(service_fn(both), call).await }),
            )
    })
    .await;
    let client = Client::new(server.addr);
    let unary = tokio::spawn({
        let client = client.clone();
        async move { client.unary("/t/Unary", 1).await }
    });
    let sum = tokio::spawn({
        let client = client.clone();
        async move { client.client_streaming("/t/Client", open(1)).await }
    });
    let mut ticks = limited(client.server_streaming("/t/Server", 1)).await.unwrap();
    assert_eq!(limited(ticks.message()).await.unwrap(), Some(number(1)));
    let mut echo = limited(client.streaming("/t/Both", open(5))).await.unwrap();
    assert_eq!(limited(echo.message()).await.unwrap(), Some(number(5)));
    in_flight(&server, 4).await;
    server.stop();
    assert_eq!(limited(unary).await.unwrap().unwrap(), 1);
    assert!(limited(sum).await.unwrap().is_ok());
    assert_eq!(limited(ticks.message()).await.unwrap(), None, "status OK");
    assert_eq!(limited(echo.message()).await.unwrap(), None, "status OK");
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn grpc_streams_finish_in_the_drain_unless_told_to_end_with_unavailable() {
    async fn server_side(request: Request<Number>) -> Result<Response<Numbers>, Status> {
        Ok(Response::new(one_and_silence(request.into_inner().n)))
    }
    async fn until_drained(request: Request<Number>) -> Result<Response<Numbers>, Status> {
        let token = token(&request);
        let last = stream::once(async move {
            token.draining().await;
            Ok(number(2))
        });
        Ok(Response::new(numbers(stream::iter([Ok(number(1))]).chain(last))))
    }
    let endless =
        |call: Call| async { server().server_streaming(service_fn(server_side), call).await };
    let server = Server::start(|_| {
        Router::new()
            .route("/t/Ended", post(endless).layer(StreamPolicy::EndAtDrain))
            .route(
                "/t/Spread",
                post(endless).layer(StreamPolicy::EndWithin(Duration::from_millis(200))),
            )
            .route(
                "/t/Kept",
                post(|call: Call| async {
                    server().server_streaming(service_fn(until_drained), call).await
                }),
            )
    })
    .await;
    let client = Client::new(server.addr);
    let mut streams = Vec::new();
    for path in ["/t/Ended", "/t/Spread", "/t/Kept"] {
        let mut ticks = limited(client.server_streaming(path, 1)).await.unwrap();
        assert_eq!(limited(ticks.message()).await.unwrap(), Some(number(1)));
        streams.push(ticks);
    }
    server.stop();
    let mut kept = streams.pop().unwrap();
    assert_eq!(limited(kept.message()).await.unwrap(), Some(number(2)), "after the drain began");
    assert_eq!(limited(kept.message()).await.unwrap(), None, "status OK");
    for mut ticks in streams {
        let status = limited(ticks.message()).await.expect_err("ended");
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "shutdown: drain"));
    }
    assert_eq!(server.report().await.exit_code(), 0, "ending by policy cuts nothing");
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_hold_the_process_beyond_the_window() {
    async fn flood(_: Request<Number>) -> Result<Response<Numbers>, Status> {
        Ok(Response::new(numbers(stream::iter(0..).map(|n| Ok(number(n))))))
    }
    let app = |_| {
        Router::new().route(
            "/t/Flood",
            post(|call: Call| async { server().server_streaming(service_fn(flood), call).await }),
        )
    };
    let server = Server::start_with(wide_window(), app, |serve| serve).await;
    let client = Client::new(server.addr);
    let unread = limited(client.server_streaming("/t/Flood", 1)).await.unwrap();
    in_flight(&server, 1).await;
    hard_stop(&server.handle).await;
    let report = server.report().await;
    // The cancel window ends at 36 s, and the process would be ended at 39 s.
    assert!(report.took() < Duration::from_secs(38), "{report}");
    assert_eq!(report.exit_code(), 3);
    let phases: Vec<_> = report.cuts().iter().map(|cut| cut.phase).collect();
    assert_eq!(phases, [Phase::Draining, Phase::Cancelling], "its status could not be sent");
    assert_eq!(report.cuts()[1].blockers[0].name, "POST /t/Flood");
    drop(unread);
}

#[tokio::test]
async fn a_client_that_sends_without_end_still_gets_its_status() {
    async fn ignore(request: Request<Streaming<Number>>) -> Result<Response<Number>, Status> {
        let _kept = request;
        std::future::pending().await
    }
    let app = |_| {
        Router::new().route(
            "/t/Ignore",
            post(|call: Call| async { server().client_streaming(service_fn(ignore), call).await }),
        )
    };
    let server = Server::start_with(wide_window(), app, |serve| serve).await;
    let client = Client::new(server.addr);
    let flood = stream::iter(0..).map(number);
    let call = tokio::spawn(async move { client.client_streaming("/t/Ignore", flood).await });
    in_flight(&server, 1).await;
    hard_stop(&server.handle).await;
    assert_unavailable(limited(call).await.unwrap());
    assert_eq!(server.report().await.exit_code(), 3);
}

#[tokio::test]
async fn grpc_web_and_http1_are_not_grpc_and_are_cut_as_any_other() {
    fn forever(kind: &'static str) -> http::Response<Body> {
        let one = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from("one")))]);
        let body = StreamBody::new(one.chain(stream::pending()));
        let response = http::Response::builder().header("content-type", kind);
        response.body(Body::new(body)).unwrap()
    }
    let server = Server::start(|_| {
        Router::new()
            .route("/web", axum::routing::get(|| async { forever("application/grpc-web") }))
            .route("/one", axum::routing::get(|| async { forever("application/grpc") }))
    })
    .await;
    let (mut sender, _conn) = server.http2().await;
    let web = limited(sender.send_request(crate::wire::get("/web"))).await.unwrap();
    let mut web = web.into_body();
    assert!(limited(web.frame()).await.unwrap().unwrap().is_data());
    let mut one = server.connect().await;
    one.send("GET /one HTTP/1.1\r\nhost: x\r\n\r\n").await;
    one.expect("one").await;
    server.stop();
    let rest = one.rest().await;
    assert!(!rest.contains("grpc-status") && !rest.ends_with("0\r\n\r\n"), "{rest:?}");
    let end = limited(web.frame()).await;
    assert!(!matches!(end, Some(Ok(frame)) if frame.is_trailers()), "no trailers");
    assert_eq!(server.report().await.exit_code(), 3);
}

#[tokio::test]
async fn under_the_layer_alone_a_stream_that_its_policy_ends_ends_with_unavailable_too() {
    async fn server_side(request: Request<Number>) -> Result<Response<Numbers>, Status> {
        Ok(Response::new(one_and_silence(request.into_inner().n)))
    }
    let endless =
        |call: Call| async { server().server_streaming(service_fn(server_side), call).await };
    let life = settings().build_local().unwrap();
    let handle = life.handle();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let app = Router::new()
        .route("/t/Ended", post(endless).layer(StreamPolicy::EndAtDrain))
        .layer(lifecycle_tower::DrainLayer::new(&handle));
    let server = axum::serve(listener, app).with_graceful_shutdown(handle.draining());
    tokio::spawn(server.into_future());
    let run = tokio::spawn(life.run());
    let client = Client::new(addr);
    let mut ended = limited(client.server_streaming("/t/Ended", 1)).await.unwrap();
    assert_eq!(limited(ended.message()).await.unwrap(), Some(number(1)));
    handle.shutdown("test");
    let status = limited(ended.message()).await.expect_err("ended");
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "shutdown: drain"));
    assert_eq!(limited(run).await.unwrap().unwrap().exit_code(), 0);
}

#[tokio::test]
async fn tonic_routes_are_served_as_they_are() {
    #[derive(Clone)]
    struct Doubling;
    impl tonic::server::NamedService for Doubling {
        const NAME: &'static str = "t.Doubling";
    }
    impl tower::Service<http::Request<tonic::body::Body>> for Doubling {
        type Response = Answer;
        type Error = Infallible;
        type Future = futures_util::future::BoxFuture<'static, Result<Answer, Infallible>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, call: http::Request<tonic::body::Body>) -> Self::Future {
            let double = service_fn(|request: Request<Number>| async move {
                Ok::<_, Status>(Response::new(number(2 * request.into_inner().n)))
            });
            Box::pin(async move { Ok(server().unary(double, call).await) })
        }
    }
    let mut life = settings().build_local().unwrap();
    let handle = life.handle();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    life.spawn("grpc", lifecycle_tower::serve(listener, tonic::service::Routes::new(Doubling)));
    let run = tokio::spawn(life.run());
    let client = Client::new(addr);
    assert_eq!(limited(client.unary("/t.Doubling/Once", 21)).await.unwrap(), 42);
    let status = limited(client.unary("/t.Nobody/Once", 1)).await.expect_err("no such service");
    assert_eq!(status.code(), Code::Unimplemented);
    handle.shutdown("test");
    assert_eq!(limited(run).await.unwrap().unwrap().exit_code(), 0);
}
