//! Services that stop badly, each in its own way, fail where they should: the tool can say no.

mod common;

use std::time::Duration;

use common::service;
use lifecycle_drill::{ExitCodes, Outcome, ReadyWhen, Routes, Subject, Verdict, by_name};

/// Plays one scenario, which must fail, and say what it saw by one of these words.
async fn failed(subject: &Subject, name: &str, seen_any: &[&str]) -> Verdict {
    let verdict = by_name(name).unwrap_or_else(|| panic!("no {name}")).run(subject).await;
    let Outcome::Fail { seen } = verdict.outcome() else { panic!("not failed: {verdict}") };
    assert!(seen_any.iter().any(|part| seen.contains(part)), "{verdict}");
    verdict
}

async fn fails(subject: &Subject, name: &str, seen_any: &[&str]) {
    let verdict = failed(subject, name, seen_any).await;
    assert!(!verdict.passed());
}

async fn passes(subject: &Subject, name: &str) {
    let verdict = by_name(name).unwrap_or_else(|| panic!("no {name}")).run(subject).await;
    assert!(verdict.passed(), "{verdict}");
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_still_running_and_killed_afterwards() {
    let subject = service("ignores-sigterm").grace(Duration::from_secs(1));
    let verdict = failed(&subject, "signals-sigterm-idle", &["still running"]).await;
    assert!(verdict.exit().is_none());
    let text = verdict.to_string();
    assert!(text.contains("usually mended by") && text.contains("| ready"), "{text}");
}

#[tokio::test]
async fn one_that_exits_at_once_loses_requests_and_refuses_connections() {
    let subject = service("exits-at-once");
    fails(&subject, "signals-sigterm-idle", &["not before"]).await;
    fails(&subject, "http1-in-flight", &["closed before any response", "reset after sent"]).await;
    let seen = ["refused", "reset", "closed before any response"];
    fails(&subject, "http1-new-connections-lame-duck", &seen).await;
    let verdict = failed(&subject, "load-keep-alive", &["lost"]).await;
    assert!(verdict.ledger().is_some_and(|ledger| ledger.lost() > 0), "{verdict}");
}

#[tokio::test]
async fn one_without_the_close_header_is_told_so() {
    let subject = service("no-close-header");
    fails(&subject, "http1-idle-reuse-lame-duck", &["without `Connection: close`"]).await;
    fails(&subject, "http1-in-flight", &["without `Connection: close`"]).await;
    passes(&subject, "websocket-closed-1001").await;
}

#[tokio::test]
async fn one_that_closes_its_listener_first_refuses_in_the_lame_duck() {
    let subject = service("closes-listener-first");
    fails(&subject, "probes-readiness-falls-first", &["refused"]).await;
    fails(&subject, "http1-new-connections-lame-duck", &["refused"]).await;
    passes(&subject, "http1-in-flight").await;
}

#[tokio::test]
async fn one_that_turns_away_whoever_comes_after_the_signal_is_seen() {
    let (subject, seen) = (service("429-when-leaving"), ["answered 429"]);
    for name in [
        "http1-half-head-fresh-after-close",
        "http1-idle-reuse-lame-duck",
        "http1-new-connections-lame-duck",
        "probes-readiness-falls-first",
    ] {
        fails(&subject, name, &seen).await;
    }
    passes(&subject, "http1-in-flight").await;
}

#[tokio::test]
async fn probes_that_fall_or_hold_wrongly_are_seen() {
    fails(&service("liveness-fails"), "probes-liveness-holds", &["answered 503"]).await;
    fails(&service("liveness-fails"), "probes-startup-holds", &["503"]).await;
    let holds = service("readiness-holds");
    fails(&holds, "probes-readiness-falls-first", &["still answered 200"]).await;
}

async fn skips(subject: &Subject, name: &str, why_part: &str) {
    let verdict = by_name(name).unwrap_or_else(|| panic!("no {name}")).run(subject).await;
    let Outcome::Skipped { why } = verdict.outcome() else { panic!("not skipped: {verdict}") };
    assert!(why.contains(why_part), "{verdict}");
}

/// Not a bad habit: it keeps no connection, so that none is closed under a client.
#[tokio::test]
async fn what_needs_a_kept_connection_is_skipped_where_none_is_kept() {
    let subject = service("never-keeps");
    let (skips, passes) =
        (|name| skips(&subject, name, "no connection is kept"), |name| passes(&subject, name));
    tokio::join!(
        skips("http1-idle-keep-alive"),
        skips("http1-half-head-reused-lame-duck"),
        skips("http1-half-head-reused-after-close"),
        skips("http1-idle-reuse-lame-duck"),
        skips("http1-idle-reuse-after-close"),
        skips("http1-pipelined-lame-duck"),
        passes("http1-half-head-fresh-after-close"),
    );
}

/// Not a bad habit: there is no path that it refuses without reading.
#[tokio::test]
async fn one_that_takes_any_post_has_no_early_answer_to_judge() {
    skips(&service("takes-any-post"), "http1-early-answer", "answered 200").await;
}

/// Not a bad habit: it answers 504, and ends clients that are too slow, all by itself.
#[tokio::test]
async fn what_a_service_ends_by_limits_of_its_own_was_not_cut() {
    let (subject, quits) = (service("limits"), service("limits,quit-drains"));
    let nothing = "nothing was left to cut: answered 504";
    tokio::join!(
        skips(&subject, "deadline-cuts-long-request", nothing),
        skips(&subject, "deadline-names-what-was-cut", nothing),
        skips(&quits, "signals-sigquit", nothing),
        passes(&subject, "http1-stalled-upload"),
        passes(&subject, "http1-client-does-not-read"),
    );
}

/// Neither without a signal nor in a drain are these limits of its own.
#[tokio::test]
async fn one_that_does_not_tell_what_it_cut_is_seen() {
    let subject = service("cut-untold");
    let seen = ["exit code 0 after"];
    tokio::join!(
        fails(&subject, "deadline-cuts-long-request", &seen),
        fails(&subject, "http1-stalled-upload", &seen),
        fails(&subject, "http1-client-does-not-read", &seen),
    );
}

/// Not a bad habit: the second signal ends it at once, so that a third finds nobody.
#[tokio::test]
async fn one_that_the_second_signal_ends_at_once_passes_the_third() {
    passes(&service("forced-at-once"), "signals-third-at-once").await;
}

/// Not a bad habit: `ready` may be printed a moment before the probes say so.
#[tokio::test]
async fn probes_that_rise_a_moment_after_ready_are_waited_for() {
    let rises_late = service("rises-late");
    passes(&rises_late, "probes-readiness-falls-first").await;
    passes(&rises_late, "probes-startup-holds").await;
    passes(&rises_late, "probes-liveness-holds").await;
}

/// Whatever is not 2xx or 3xx is a failure to a kubelet, and these are none.
#[tokio::test]
async fn probes_may_fall_and_rise_by_any_status_of_their_class() {
    let (by_500, by_204) = (service("fails-by-500"), service("rises-by-204"));
    tokio::join!(
        passes(&by_500, "probes-readiness-falls-first"),
        passes(&by_500, "probes-answer-to-the-end"),
        passes(&by_204, "probes-readiness-falls-first"),
        passes(&by_204, "probes-liveness-holds"),
    );
}

#[tokio::test]
async fn one_whose_readiness_never_rises_is_seen() {
    let never = service("never-rises").start_timeout(Duration::from_secs(8));
    fails(&never, "probes-readiness-falls-first", &["answered 503"]).await;
}

#[tokio::test]
async fn one_that_drops_half_heads_is_seen() {
    let subject = service("drops-half-heads");
    let seen = ["closed before any response", "reset after sent"];
    fails(&subject, "http1-half-head-fresh-after-close", &seen).await;
    fails(&subject, "http1-half-head-reused-after-close", &seen).await;
    passes(&subject, "http1-half-head-reused-lame-duck").await;
}

#[tokio::test]
async fn streams_that_are_cut_or_never_end_are_seen() {
    fails(&service("cuts-streams"), "streams-sse", &["truncated"]).await;
    fails(&service("streams-never-end"), "streams-sse", &["truncated", "timed out"]).await;
    fails(&service("forgets-websockets"), "websocket-closed-1001", &["without a close"]).await;
}

#[tokio::test]
async fn one_without_a_deadline_outlives_its_grace() {
    let subject = service("no-deadline").grace(Duration::from_secs(2));
    fails(&subject, "deadline-cuts-long-request", &["still running"]).await;
    fails(&subject, "http1-stalled-upload", &["still running"]).await;
}

#[tokio::test]
async fn other_exit_codes_can_be_expected_and_wrong_ones_are_seen() {
    let subject = service("").exit_codes(ExitCodes::new().clean(7));
    fails(&subject, "signals-sigterm-idle", &["exit code 0 after", "expected code 7"]).await;
}

/// Python's own server, as many use it: no handler for SIGTERM at all.
#[tokio::test]
async fn a_naive_server_dies_of_the_signal() {
    let subject = Subject::new("python3")
        .args(["-m", "http.server", "--bind", "127.0.0.1", "{port}"])
        .ready_when(ReadyWhen::Connects)
        .ready_path("/")
        .grace(Duration::from_secs(3))
        .lame_duck(Duration::from_millis(400))
        .routes(Routes::new().quick("/"));
    fails(&subject, "signals-sigterm-idle", &["killed by signal 15"]).await;
    let seen = ["refused", "reset", "closed before"];
    fails(&subject, "probes-readiness-falls-first", &seen).await;
    passes(&subject, "signals-sigterm-at-start").await;
}
