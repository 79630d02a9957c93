//! Rolling updates behind a real haproxy: what `lifecycle-drill rollout` counts.
//!
//! `UPDATE_DOCS=1` writes the picture in the docs as well.

use std::path::Path;
use std::time::Duration;

use lifecycle_drill::rollout::{Checks, Kind, Post, Rollout, RolloutReport};
use lifecycle_drill::{Fate, ReadyWhen, Subject};

use crate::status_page::browse;
use crate::target::target;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Three replicas, replaced twice, under GET and POST by both protocols.
fn rollout(lame_duck: &str) -> Rollout {
    let subject = target().env("LIFECYCLE_LAME_DUCK", lame_duck);
    let post = Post { path: "/echo".into(), body: "an order".into(), content_type: "x/y".into() };
    Rollout::new("target", subject)
        .rolls(2)
        .rate(200)
        .h2_share(0.3)
        .get("/work?ms=5")
        .post(post, 0.3)
        .probe_period(ms(200))
}

/// What holds of every account: the balancer saw each request once, and hid nothing.
fn is_whole(report: &RolloutReport) {
    for side in report.sides() {
        let (balanced, sum) = (side.balanced(), side.kinds().map(|(_, count)| count).sum::<u64>());
        assert_eq!(sum, side.requests(), "{report}");
        assert_eq!((balanced.requests, balanced.retries), (side.requests(), 0), "{report}");
        assert!(balanced.reuses > 0, "connections to replicas are used again: {report}");
        let ended = side.replicas().iter().filter(|one| one.ended.is_some()).count();
        assert_eq!((side.rolls(), ended, side.replicas().len()), (2, 6, 9), "{report}");
    }
}

/// The page as a browser has it, its picture included.
async fn is_seen(report: &RolloutReport) {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("rollout.html");
    std::fs::write(&page, report.html()).unwrap();
    let url = format!("file://{}", page.display());
    let seen = browse(&["--dump-dom"], &url).await;
    assert_eq!(seen.matches("<svg").count(), 2, "{seen}");
    for class in ["answered", "refused", "ready", "stopping", "sends"] {
        assert!(seen.contains(&format!("<rect class=\"{class}\"")), "{class} in {seen}");
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rollout.png");
        let screenshot = format!("--screenshot={}", picture.display());
        browse(&[&screenshot, "--window-size=1050,1000", "--hide-scrollbars"], &url).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_all_replicas_are_replaced_and_plain_axum_fails_some() {
    let plain = Subject::new(tests::example("plain"))
        .host_env("HOST")
        .ready_when(ReadyWhen::Line("ready".into()));
    // The lame duck is longer than the balancer's lag, and a fresh replica is known to the
    // balancer before an old one says that it is not ready any more: all that it takes.
    let rollout = rollout("2s").endpoint_lag(ms(500)).min_ready(ms(700));
    let rollout = rollout.checks(Checks::Every(ms(300)));
    let report = rollout.compare_with("plain", plain).run().await.unwrap();
    println!("{report}");
    is_whole(&report);
    let ours = report.first();
    assert_eq!((ours.failed(), ours.lost(), ours.balanced().refused), (0, 0, 0), "{report}");
    let plain = report.sides().nth(1).expect("compared");
    assert!(plain.failed() > 0, "this tool sees nothing: {report}");
    is_seen(&report).await;
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(json["sides"][0]["failed"], 0, "{json:#}");
    assert_eq!(json["sides"][0]["outcomes"]["answered_2xx"], ours.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_that_sends_for_longer_than_the_lame_duck_is_refused_and_loses_nothing() {
    let rollout = rollout("300ms").endpoint_lag(ms(1_500)).checks(Checks::Off);
    let report = rollout.run().await.unwrap();
    println!("{report}");
    is_whole(&report);
    let (side, balanced) = (report.first(), report.first().balanced());
    assert!(side.failed() > 0, "the lag was not felt: {report}");
    assert_eq!((side.lost(), balanced.lost), (0, 0), "{report}");
    // Every failure is a connection that was refused: the balancer says 503, or to a client of
    // HTTP/2 that it has not processed the request.
    assert_eq!(balanced.refused, side.failed(), "{report}");
    let safe = [Kind::Answered, Kind::Balancer(503), Kind::Failed(Fate::NotProcessed)];
    assert!(side.kinds().all(|(kind, _)| safe.contains(&kind)), "{report}");
    let states: Vec<_> = balanced.states.keys().collect();
    assert_eq!(states, ["503 SC"], "{report}");
}
