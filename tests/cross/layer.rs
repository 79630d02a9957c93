//! The layer alone, under axum's own server and by hand.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use lifecycle::Lifecycle;
use lifecycle_tower::{DrainLayer, DrainToken};
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceExt};

use crate::wire::{limited, pass, settings};

#[tokio::test]
async fn a_clone_that_is_ready_and_never_called_holds_nothing() {
    let life = settings().build_local().unwrap();
    let layer = DrainLayer::new(&life.handle());
    let mut service = layer.layer(tower::service_fn(|_: Request<String>| async {
        Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::default()))
    }));
    service.ready().await.unwrap();
    let idle = service.clone();
    assert_eq!(layer.in_flight(), 0);
    let response = service.call(Request::new(String::new())).await.unwrap();
    assert_eq!(layer.in_flight(), 1, "until its body has ended");
    drop(response.into_body().collect().await.unwrap());
    assert_eq!(layer.in_flight(), 0);
    life.handle().shutdown("test");
    assert_eq!(limited(life.run()).await.unwrap().exit_code(), 0);
    drop(idle);
}

#[tokio::test]
async fn a_future_dropped_before_its_answer_is_no_longer_in_flight() {
    let life = settings().build_local().unwrap();
    let layer = DrainLayer::new(&life.handle());
    let mut service = layer.layer(tower::service_fn(|_: Request<String>| async {
        std::future::pending::<()>().await;
        Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::default()))
    }));
    let answer = service.call(Request::get("/x").body(String::new()).unwrap());
    assert_eq!(life.handle().blockers()[0].name, "GET /x");
    drop(answer);
    assert_eq!(layer.in_flight(), 0);
}

#[tokio::test]
async fn counting_only_it_knows_how_many_but_not_whom() {
    let life = settings().build_local().unwrap();
    let layer = DrainLayer::new(&life.handle()).count_only();
    let mut service = layer.layer(tower::service_fn(|_: Request<String>| async {
        Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::default()))
    }));
    let _answer = service.call(Request::new(String::new())).await.unwrap();
    assert_eq!(layer.in_flight(), 1);
    assert!(life.handle().blockers().is_empty());
}

#[tokio::test]
async fn under_axums_own_server_requests_are_counted_and_told_to_leave() {
    let lame_duck = Duration::from_secs(10);
    let settings = settings().grace_period(2 * lame_duck).lame_duck_period(lame_duck);
    let mut life = settings.build_local().unwrap();
    let handle = life.handle();
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .route(
            "/slow",
            get(|axum::Extension(token): axum::Extension<DrainToken>| async move {
                token.draining().await;
                // Sleeps: the work that a handler does.
                tokio::time::sleep(Duration::from_millis(100)).await;
                "slow"
            }),
        )
        .layer(DrainLayer::new(&handle).with_token());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = handle.draining();
    life.spawn(
        "axum",
        async move { axum::serve(listener, app).with_graceful_shutdown(stop).await },
    );
    let run = tokio::spawn(life.run());
    let ask = |path: &'static str| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        limited(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    let slow = tokio::spawn(ask("/slow"));
    while handle.blockers().iter().all(|blocker| blocker.name != "GET /slow") {
        tokio::task::yield_now().await;
    }
    handle.shutdown("test");
    limited(handle.lame_duck()).await;
    let answer = ask("/").await;
    assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    pass(lame_duck).await;
    assert!(slow.await.unwrap().ends_with("slow"));
    assert_eq!(limited(run).await.unwrap().unwrap().exit_code(), 0);
}

#[tokio::test]
async fn a_layer_within_one_that_gives_tokens_does_not_count_twice() {
    let life = Lifecycle::builder().build_local().unwrap();
    let layer = DrainLayer::new(&life.handle()).with_token();
    let inner = tower::service_fn(|_: Request<String>| async {
        Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::default()))
    });
    let mut twice = layer.layer(layer.layer(inner));
    let _answer = twice.call(Request::new(String::new())).await.unwrap();
    assert_eq!(layer.in_flight(), 1);
}
