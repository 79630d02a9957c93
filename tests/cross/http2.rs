//! HTTP/2 under `serve`.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::BodyExt;
use lifecycle::Phase;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::wire::{Server, get as request, limited, settings};

/// The first bytes of a connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn app() -> Router {
    Router::new().route("/", get(|| async { "hello" })).route(
        "/slow",
        get(|| async {
            // Sleeps: the work that a handler does.
            sleep(Duration::from_millis(300)).await;
            "slow"
        }),
    )
}

#[tokio::test]
async fn streams_in_flight_finish_and_the_peer_is_told_to_go() {
    let server = Server::start(|_| app()).await;
    let (mut sender, conn) = server.http2().await;
    sender.ready().await.unwrap();
    let slow = tokio::spawn(sender.send_request(request("/slow")));
    server.busy().await;
    server.stop();
    let response = limited(slow).await.unwrap().expect("answered");
    let body = limited(response.into_body().collect()).await.expect("whole").to_bytes();
    assert_eq!(body, "slow");
    limited(conn).await.unwrap().expect("ended by GOAWAY, without an error");
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn an_idle_peer_that_answers_goes_at_once() {
    let server = Server::start(|_| app()).await;
    let (mut sender, conn) = server.http2().await;
    let response = sender.send_request(request("/")).await.expect("answered");
    drop(response.into_body().collect().await.expect("whole"));
    let asked = Instant::now();
    server.stop();
    limited(conn).await.unwrap().expect("told to go");
    assert_eq!(server.report().await.exit_code(), 0);
    // One that does not answer is waited for for a second.
    assert!(asked.elapsed() < Duration::from_millis(900), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn mute_peers_hold_the_drain_for_their_time_only() {
    // Neither the default nor anywhere near the hard stop.
    let (idle, grace) = (Duration::from_secs(2), Duration::from_secs(20));
    let server = Server::start_with(
        settings().grace_period(grace),
        |_| app(),
        |serve| serve.idle_drain_timeout(idle),
    )
    .await;
    // The preface and silence; the preface with SETTINGS and never an answer to a PING.
    let mut silent = server.connect().await.stream;
    silent.write_all(PREFACE).await.unwrap();
    let mut deaf = server.connect().await.stream;
    deaf.write_all(PREFACE).await.unwrap();
    deaf.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut settings = [0; 9];
    limited(deaf.read_exact(&mut settings)).await.expect("the server's settings");
    let asked = Instant::now();
    server.stop();
    let report = server.report().await;
    assert_eq!(report.exit_code(), 0, "closing a mute peer cuts no work");
    let took = asked.elapsed();
    assert!(took >= idle && took < Duration::from_secs(6), "{took:?}");
    drop((silent, deaf));
}

#[tokio::test]
async fn a_stuck_stream_is_named_cut_and_its_task_is_gone_at_the_report() {
    struct Gone(std::sync::Arc<std::sync::atomic::AtomicBool>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let gone = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let server = Server::start({
        let gone = gone.clone();
        move |_| {
            let stuck = move || {
                let gone = Gone(gone.clone());
                async move {
                    std::future::pending::<()>().await;
                    drop(gone);
                }
            };
            Router::new().route("/stuck", get(stuck))
        }
    })
    .await;
    let (mut sender, _conn) = server.http2().await;
    let stuck = tokio::spawn(sender.send_request(request("/stuck")));
    server.busy().await;
    server.stop();
    let report = server.report().await;
    assert_eq!(report.exit_code(), 3);
    assert_eq!(report.cuts()[0].phase, Phase::Draining);
    assert_eq!(report.cuts()[0].blockers[0].name, "GET /stuck");
    assert!(gone.load(std::sync::atomic::Ordering::SeqCst), "joined before the report");
    assert!(limited(stuck).await.unwrap().is_err());
}

#[tokio::test]
async fn a_response_waiting_for_its_window_is_in_flight_though_its_body_has_ended() {
    let app = Router::new().route("/big", get(|| async { Bytes::from(vec![b'x'; 1 << 20]) }));
    let settings = settings().grace_period(Duration::from_secs(12));
    let server = Server::start_with(settings, |_| app, |serve| serve).await;
    let (mut sender, _conn) = server.http2().await;
    let response = limited(sender.send_request(request("/big"))).await.expect("a head");
    server.stop();
    // Not read for longer than the idle time; then read to its end.
    // Sleeps: a client that does not read for longer than the idle time.
    sleep(Duration::from_millis(1_300)).await;
    let body = limited(response.into_body().collect()).await.expect("whole").to_bytes();
    assert_eq!(body.len(), 1 << 20);
    drop(sender);
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn a_peer_without_a_stream_does_not_hold_the_drain_by_pings_of_its_own() {
    let settings = lifecycle::Lifecycle::builder().grace_period(Duration::from_secs(12));
    let settings = settings.lame_duck_period(Duration::ZERO);
    let server = Server::start_with(settings, |_| app(), |serve| serve).await;
    let mut peer = server.connect().await.stream;
    peer.write_all(PREFACE).await.unwrap();
    peer.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut settings = [0; 9];
    limited(peer.read_exact(&mut settings)).await.expect("the server's settings");
    let asked = Instant::now();
    server.stop();
    let pings = tokio::spawn(async move {
        while peer.write_all(b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678").await.is_ok() {
            // Sleeps: the peer's interval.
            sleep(Duration::from_millis(200)).await;
        }
    });
    assert_eq!(server.report().await.exit_code(), 0);
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    pings.abort();
}
