//! What becomes of requests in a shutdown, as a metrics recorder sees it.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::wire::Server;

/// How often each outcome was counted.
fn outcomes(snapshotter: &Snapshotter) -> Vec<(String, u64)> {
    let all = snapshotter.snapshot().into_vec().into_iter();
    let mut counts: Vec<_> = all
        .filter(|(key, ..)| key.key().name() == "lifecycle_requests_during_drain_total")
        .filter_map(|(key, _, _, value)| match value {
            DebugValue::Counter(count) => {
                Some((key.key().labels().next()?.value().to_owned(), count))
            }
            _ => None,
        })
        .collect();
    counts.sort();
    counts
}

#[tokio::test]
async fn requests_of_a_shutdown_are_counted_by_their_outcome_and_others_are_not() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let server = Server::start(|handle| {
        let app = Router::new().route("/", get(|| async { "before" }));
        let app = app.route("/never", get(std::future::pending::<()>));
        app.route(
            "/drains",
            get(|| async move {
                handle.draining().await;
                // Sleeps: the work that a handler does.
                tokio::time::sleep(Duration::from_millis(50)).await;
                "answered"
            }),
        )
    })
    .await;
    let mut before = server.connect().await;
    before.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    before.expect("before").await;
    assert_eq!(outcomes(&snapshotter), [], "there is no shutdown");
    let mut drains = server.connect().await;
    drains.send("GET /drains HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut never = server.connect().await;
    never.send("GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
    server.busy_with(2).await;
    server.stop();
    assert!(drains.rest().await.ends_with("answered"));
    assert_eq!(server.report().await.exit_code(), 3);
    assert_eq!(outcomes(&snapshotter), [("answered".to_owned(), 1), ("cut".to_owned(), 1)]);
}
