//! The drill's scenarios against the example `06_tls`: HTTP/1 and HTTP/2 by ALPN over TLS,
//! grace 6 s, lame duck half a second. Load scenarios with few stops.

use std::time::Duration;

use lifecycle_drill::{Subject, Verdict, by_name, scenarios};

use crate::target::{configured, cuts};

fn over_tls() -> Subject {
    configured(Subject::new(tests::example("06_tls")))
        .tls()
        .env("LIFECYCLE_LAME_DUCK", "500ms")
        .lame_duck(Duration::from_millis(500))
        .stop_count(3)
}

async fn play(name: &str) -> Verdict {
    let scenario = by_name(name).expect("the name of a scenario");
    let verdict = tests::played(scenario, &over_tls()).await;
    assert!(verdict.passed(), "{verdict}");
    verdict
}

/// What is not played here, and why.
const NOT_OVER_TLS: [(&str, &str); 17] = [
    ("signals-sigterm-at-start", SIGNALS),
    ("signals-sigint-terminal", SIGNALS),
    ("signals-sigint-no-terminal", SIGNALS),
    ("signals-sigquit", SIGNALS),
    ("signals-sighup", SIGNALS),
    ("signals-repeat-at-once", SIGNALS),
    ("signals-repeat-forces", SIGNALS),
    ("signals-third-at-once", SIGNALS),
    ("signals-other-second-forces", SIGNALS),
    ("probes-readiness-falls-first", PROBES),
    ("probes-liveness-holds", PROBES),
    ("probes-answer-to-the-end", PROBES),
    ("probes-startup-holds", PROBES),
    ("deadline-names-what-was-cut", LOG),
    ("deadline-blocked-event-loop", THREADS),
    ("deadline-blocked-single-thread", THREADS),
    ("deadline-blocked-pool", THREADS),
];

const SIGNALS: &str = "how signals are counted; no connection has a part in it";
const PROBES: &str = "the probes have a port of their own, without TLS";
const THREADS: &str = "a blocked thread blocks above every transport alike";
const LOG: &str = "what the report says of a cut request, as without TLS";

#[test]
fn no_scenario_is_left_out_without_a_reason() {
    let this = include_str!("tls.rs");
    for scenario in scenarios() {
        let name = scenario.name();
        let played = this.contains(&format!("play(\"{name}\")"))
            || this.contains(&format!("cuts(over_tls(), \"{name}\""));
        let excused = NOT_OVER_TLS.iter().any(|(excused, _)| *excused == name);
        assert!(played != excused, "{name}: played {played}, excused {excused}");
    }
    for (name, why) in NOT_OVER_TLS {
        assert!(by_name(name).is_some(), "{name} ({why}) is no scenario");
    }
}

#[tokio::test]
async fn signals_sigterm_idle() {
    drop(play("signals-sigterm-idle").await);
}

#[tokio::test]
async fn http1_connected_silent() {
    drop(play("http1-connected-silent").await);
}

#[tokio::test]
async fn http1_idle_keep_alive() {
    drop(play("http1-idle-keep-alive").await);
}

#[tokio::test]
async fn http1_half_head() {
    drop(play("http1-half-head").await);
}

#[tokio::test]
async fn http1_in_flight() {
    drop(play("http1-in-flight").await);
}

#[tokio::test]
async fn http1_in_flight_across_close() {
    drop(play("http1-in-flight-across-close").await);
}

#[tokio::test]
async fn http1_client_stays() {
    drop(play("http1-client-stays").await);
}

#[tokio::test]
async fn http1_finite_stream() {
    drop(play("http1-finite-stream").await);
}

#[tokio::test]
async fn http1_client_does_not_read() {
    cuts(over_tls(), "http1-client-does-not-read", &[]).await;
}

#[tokio::test]
async fn http1_stalled_upload() {
    cuts(over_tls(), "http1-stalled-upload", &[]).await;
}

#[tokio::test]
async fn http1_half_head_fresh_lame_duck() {
    drop(play("http1-half-head-fresh-lame-duck").await);
}

#[tokio::test]
async fn http1_half_head_fresh_after_close() {
    drop(play("http1-half-head-fresh-after-close").await);
}

#[tokio::test]
async fn http1_half_head_reused_lame_duck() {
    drop(play("http1-half-head-reused-lame-duck").await);
}

#[tokio::test]
async fn http1_half_head_reused_after_close() {
    drop(play("http1-half-head-reused-after-close").await);
}

#[tokio::test]
async fn http1_slow_upload() {
    drop(play("http1-slow-upload").await);
}

#[tokio::test]
async fn http1_pipelined_before() {
    drop(play("http1-pipelined-before").await);
}

#[tokio::test]
async fn http1_pipelined_lame_duck() {
    drop(play("http1-pipelined-lame-duck").await);
}

#[tokio::test]
async fn http1_idle_reuse_lame_duck() {
    drop(play("http1-idle-reuse-lame-duck").await);
}

#[tokio::test]
async fn http1_idle_reuse_after_close() {
    drop(play("http1-idle-reuse-after-close").await);
}

#[tokio::test]
async fn http1_new_connections_lame_duck() {
    drop(play("http1-new-connections-lame-duck").await);
}

#[tokio::test]
async fn http1_connect_refused_after_close() {
    drop(play("http1-connect-refused-after-close").await);
}

#[tokio::test]
async fn http1_early_answer() {
    drop(play("http1-early-answer").await);
}

#[tokio::test]
async fn http2_partial_preface() {
    drop(play("http2-partial-preface").await);
}

#[tokio::test]
async fn http2_preface_then_silence() {
    drop(play("http2-preface-then-silence").await);
}

#[tokio::test]
async fn http2_settings_then_silence() {
    drop(play("http2-settings-then-silence").await);
}

#[tokio::test]
async fn http2_never_answers_ping() {
    drop(play("http2-never-answers-ping").await);
}

#[tokio::test]
async fn http2_idle_goaway() {
    drop(play("http2-idle-goaway").await);
}

#[tokio::test]
async fn http2_streams_in_flight() {
    drop(play("http2-streams-in-flight").await);
}

#[tokio::test]
async fn http2_new_stream_lame_duck() {
    drop(play("http2-new-stream-lame-duck").await);
}

#[tokio::test]
async fn streams_sse() {
    drop(play("streams-sse").await);
}

#[tokio::test]
async fn streams_sse_http2() {
    drop(play("streams-sse-http2").await);
}

#[tokio::test]
async fn websocket_closed_1001() {
    drop(play("websocket-closed-1001").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_keep_alive() {
    let verdict = play("load-keep-alive").await;
    println!("load-keep-alive over TLS: {}", verdict.ledger().expect("a load scenario keeps one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_keep_alive_think() {
    let verdict = play("load-keep-alive-think").await;
    println!(
        "load-keep-alive-think over TLS: {}",
        verdict.ledger().expect("a load scenario keeps one")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_http2() {
    let verdict = play("load-http2").await;
    println!("load-http2 over TLS: {}", verdict.ledger().expect("a load scenario keeps one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_connect_race() {
    let verdict = play("load-connect-race").await;
    println!(
        "load-connect-race over TLS: {}",
        verdict.ledger().expect("a load scenario keeps one")
    );
}

#[tokio::test]
async fn deadline_cuts_long_request() {
    cuts(over_tls(), "deadline-cuts-long-request", &[]).await;
}

#[tokio::test]
async fn deadline_panic_contained() {
    drop(play("deadline-panic-contained").await);
}
