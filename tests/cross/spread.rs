//! A lame duck whose clients are not all told to leave at once. How the share rises is in
//! the tests of `spread.rs`, on paused time.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use lifecycle::{Lifecycle, Phase};
use lifecycle_tower::Serve;
use tokio::net::TcpListener;

use crate::wire::{LIMIT, Server, get as request, limited};

const CLIENTS: usize = 50;

async fn server(
    lame_duck: Duration,
    adjust: impl FnOnce(Serve<TcpListener, Router>) -> Serve<TcpListener, Router>,
) -> Server {
    let settings = Lifecycle::builder().grace_period(6 * LIMIT).lame_duck_period(lame_duck);
    let app = Router::new().route("/", get(|| async { "hello" }));
    Server::start_with(settings, |_| app, adjust).await
}

/// How many of so many clients are told to leave by their next response.
async fn told(server: &Server) -> usize {
    let mut told = 0;
    for _ in 0..CLIENTS {
        let mut client = server.http1().await;
        let response = limited(client.send_request(request("/"))).await.expect("served");
        told += usize::from(response.headers().get("connection").is_some());
    }
    told
}

#[tokio::test]
async fn at_the_beginning_of_a_spread_lame_duck_most_are_not_told_yet() {
    for (adjust, most) in [
        // 50 requests take less than a tenth of a lame duck of 20 s: 5 of them are expected
        // at the most, and a half would be twenty standard deviations away.
        (
            Serve::close_spread as fn(Serve<TcpListener, Router>) -> Serve<TcpListener, Router>,
            CLIENTS / 2,
        ),
        (|serve| serve, CLIENTS),
    ] {
        let server = server(LIMIT, adjust).await;
        assert_eq!(told(&server).await, 0, "while running");
        server.stop();
        limited(server.handle.lame_duck()).await;
        let told = told(&server).await;
        assert_eq!(server.handle.phase(), Phase::LameDuck);
        assert!(if most < CLIENTS { told < most } else { told == CLIENTS }, "{told} were told");
    }
}

#[tokio::test]
async fn in_the_drain_everybody_is_told() {
    // No half a head is too old before its turn has come.
    let patient = |serve: Serve<_, _>| serve.close_spread().idle_drain_timeout(LIMIT);
    let server = server(Duration::from_millis(50), patient).await;
    let mut wires = Vec::new();
    for _ in 0..CLIENTS {
        let mut wire = server.connect().await;
        wire.send("GET / HTTP/1.1\r\nhost: x\r\n").await;
        wires.push(wire);
    }
    server.stop();
    limited(server.handle.draining()).await;
    for mut wire in wires {
        wire.send("\r\n").await;
        let answer = wire.rest().await;
        assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    }
    assert_eq!(server.report().await.exit_code(), 0);
}
