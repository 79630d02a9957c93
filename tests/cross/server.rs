//! The server around its connections: limits, addresses, the sweep.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Extension};
use axum::routing::get;
use lifecycle::Phase;
use lifecycle_tower::PeerAddr;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::listeners::until_refused;
use crate::wire::{Server, limited, settings};

#[tokio::test]
async fn handlers_can_ask_for_the_peer_in_axums_way_and_in_ours() {
    let server = Server::start_with(
        settings(),
        |_| {
            Router::new().route(
                "/",
                get(
                    |ConnectInfo(axum): ConnectInfo<SocketAddr>,
                     Extension(PeerAddr(own)): Extension<PeerAddr>| async move {
                        format!("{axum} {own}")
                    },
                ),
            )
        },
        |serve| serve.with_peer_addr().with_axum_connect_info(),
    )
    .await;
    let mut wire = server.connect().await;
    let own = wire.stream.local_addr().unwrap();
    wire.send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let answer = wire.rest().await;
    assert!(answer.ends_with(&format!("{own} {own}")), "{answer}");
    server.stop();
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn beyond_the_limit_connections_wait_and_the_sweep_takes_them_all_the_same() {
    let server = Server::start_with(
        settings(),
        |_| Router::new().route("/", get(|| async { "hello" })),
        |serve| serve.connection_limit(1),
    )
    .await;
    let mut first = server.connect().await;
    first.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    first.expect("hello").await;
    let mut second = server.connect().await;
    second.send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(200), second.expect("hello")).await;
    assert!(early.is_err(), "the first holds the only place");
    drop(first);
    assert!(second.rest().await.ends_with("hello"), "served when the place is free");

    let mut holder = server.connect().await;
    holder.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    holder.expect("hello").await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut wire = server.connect().await;
        wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        waiting.push(wire);
    }
    server.stop();
    for wire in waiting {
        let answer = wire.rest().await;
        assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    }
    let report = server.report().await;
    assert_eq!(report.exit_code(), 0);
    assert!(report.to_string().contains("swept: 20"), "{report}");
}

#[tokio::test]
async fn after_the_drain_has_begun_connecting_is_refused() {
    let server = Server::start(|_| Router::new().route("/", get(|| async { "hello" }))).await;
    let (addr, handle) = (server.addr, server.handle.clone());
    server.stop();
    assert_eq!(server.report().await.exit_code(), 0);
    assert_eq!(handle.phase(), Phase::Stopped);
    let refused = limited(TcpStream::connect(addr)).await.expect_err("closed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// The sweep under fire: clients that connect and send in one go, all through the close.
/// Each is answered, or is refused before it has sent a byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_is_reset_after_it_has_sent() {
    for _ in 0..20 {
        let server = Server::start(|_| Router::new().route("/", get(|| async { "hello" }))).await;
        let addr = server.addr;
        let (idle, mut all_at_work) = mpsc::channel(1);
        let client = || until_refused(move || TcpStream::connect(addr), idle.clone());
        let clients: Vec<_> = (0..16).map(|_| tokio::spawn(client())).collect();
        drop(idle);
        assert_eq!(limited(all_at_work.recv()).await, None);
        // Sleeps: the time under fire before the stop.
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.stop();
        for client in clients {
            let (answered, lost) = limited(client).await.unwrap();
            assert!(answered > 0, "the client was at work");
            assert_eq!(lost, Vec::<String>::new());
        }
        assert_eq!(server.report().await.exit_code(), 0);
    }
}
