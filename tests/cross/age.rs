//! Connections that may only become so old.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http_body_util::BodyExt;
use lifecycle::Phase;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::wire::{Server, get as request, limited, settings};

const AGE: Duration = Duration::from_millis(1_500);
/// The jitter is a tenth at most.
const OLD: Duration = Duration::from_millis(1_700);

/// `/` answers at once, `/held` when it is told to.
async fn server() -> (Server, Arc<Notify>) {
    let release = Arc::new(Notify::new());
    let held = {
        let release = release.clone();
        move || async move {
            release.notified().await;
            "held"
        }
    };
    let app = Router::new().route("/", get(|| async { "hello" })).route("/held", get(held));
    let server =
        Server::start_with(settings(), |_| app, |serve| serve.max_connection_age(AGE)).await;
    (server, release)
}

#[tokio::test]
async fn an_old_http1_connection_is_told_by_its_next_response_and_not_before() {
    let (server, _) = server().await;
    let mut wire = server.connect().await;
    wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    wire.expect("hello").await;
    // Sleeps: the connection grows old.
    sleep(OLD).await;
    wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let both = wire.rest().await;
    assert_eq!(both.matches("hello").count(), 2, "idle and old, it was served: {both}");
    assert_eq!(both.matches("connection: close").count(), 1, "{both}");
    assert!(both.find("connection: close") > both.find("hello"), "the second: {both}");
    assert_eq!(server.handle.phase(), Phase::Running);
    server.stop();
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn an_old_http2_connection_gets_goaway_and_its_streams_finish() {
    let (server, release) = server().await;
    let (mut sender, conn) = server.http2().await;
    let held = limited(sender.ready()).await.map(|()| sender.send_request(request("/held")));
    let held = tokio::spawn(held.unwrap());
    server.busy().await;
    let (mut idle, idle_conn) = server.http2().await;
    let hello = limited(idle.send_request(request("/"))).await.expect("young");
    assert_eq!(limited(hello.into_body().collect()).await.unwrap().to_bytes(), "hello");
    limited(idle_conn).await.unwrap().expect("ended by GOAWAY, without an error");
    assert!(limited(idle.ready()).await.is_err(), "it is gone");
    // Sleeps: the connection is old for longer than its age.
    sleep(OLD).await;
    assert!(!held.is_finished() && !conn.is_finished(), "its stream has no limit");
    release.notify_waiters();
    let response = limited(held).await.unwrap().expect("answered");
    assert_eq!(limited(response.into_body().collect()).await.unwrap().to_bytes(), "held");
    limited(conn).await.unwrap().expect("ended after its last stream");
    assert_eq!(server.handle.phase(), Phase::Running);
    server.stop();
    assert_eq!(server.report().await.exit_code(), 0);
}

#[tokio::test]
async fn a_connection_lasts_without_an_age() {
    let server = Server::start(|_| Router::new().route("/", get(|| async { "hello" }))).await;
    let (mut sender, conn) = server.http2().await;
    limited(sender.ready()).await.unwrap();
    // Sleeps: as long as made the others old.
    sleep(OLD).await;
    assert!(!conn.is_finished());
    let hello = limited(sender.send_request(request("/"))).await.expect("served");
    assert_eq!(hello.status(), 200);
    drop((hello, sender));
    server.stop();
    assert_eq!(server.report().await.exit_code(), 0);
}
