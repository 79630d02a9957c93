//! Services that stop badly, each in its own way, fail where they should: the tool can say no.

mod common;

use std::time::Duration;

use common::service;
use lifecycle_drill::{
    ExitCodes, Outcome, ReadyWhen, Routes, Signal, Subject, Theme, Verdict, by_name,
};
use tokio::sync::Semaphore;

/// Plays one scenario whose verdict must be such; once more alone if it is not, as a busy machine
/// is late now and then. Under load a loss is a loss.
async fn played(subject: &Subject, name: &str, fits: impl Fn(&Verdict) -> bool) -> Verdict {
    let scenario = by_name(name).unwrap_or_else(|| panic!("no {name}"));
    let verdict = scenario.run(subject).await;
    if fits(&verdict) || scenario.theme() == Theme::Load {
        return verdict;
    }
    eprintln!("once more: {verdict}");
    // One at a time.
    let _alone = ALONE.acquire().await.expect("it is never closed");
    scenario.run(subject).await
}

static ALONE: Semaphore = Semaphore::const_new(1);

/// It must fail, and say what it saw by one of these words.
async fn failed(subject: &Subject, name: &str, seen_any: &[&str]) -> Verdict {
    let fits = |verdict: &Verdict| match verdict.outcome() {
        Outcome::Fail { seen } => seen_any.iter().any(|part| seen.contains(part)),
        _ => false,
    };
    let verdict = played(subject, name, fits).await;
    assert!(fits(&verdict), "not failed by {seen_any:?}: {verdict}");
    verdict
}

async fn fails(subject: &Subject, name: &str, seen_any: &[&str]) {
    let verdict = failed(subject, name, seen_any).await;
    assert!(!verdict.passed());
}

async fn passes(subject: &Subject, name: &str) {
    let verdict = played(subject, name, Verdict::passed).await;
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
    fails(&subject, "http1-new-connections-lame-duck", &["without `Connection: close`"]).await;
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
    let fits = |verdict: &Verdict| match verdict.outcome() {
        Outcome::Skipped { why } => why.contains(why_part),
        _ => false,
    };
    let verdict = played(subject, name, fits).await;
    assert!(fits(&verdict), "not skipped by {why_part:?}: {verdict}");
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
    tokio::join!(
        fails(&never, "probes-readiness-falls-first", &["answered 503"]),
        fails(&never, "probes-answer-to-the-end", &["before the signal: answered 503"]),
    );
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

/// Not a bad habit: the signal is raised again after the drain, or told by the code of a shell.
#[tokio::test]
async fn one_that_ends_by_the_signal_that_it_was_sent_passes_where_that_is_expected() {
    let by_signal = |bad| service(bad).exit_codes(ExitCodes::new().clean_by_signal());
    let (raises, codes) = (by_signal("raises-signal"), by_signal("exits-128"));
    tokio::join!(
        passes(&raises, "signals-sigterm-idle"),
        passes(&raises, "signals-sighup"),
        passes(&raises, "signals-repeat-at-once"),
        passes(&codes, "signals-sigint-no-terminal"),
        passes(&codes, "signals-sigint-terminal"),
    );
    // Neither of them unless it was said, nor 0 if it was.
    fails(&service("raises-signal"), "signals-sigterm-idle", &["killed by signal 15 after"]).await;
    let seen = ["exit code 0 after"];
    let failed = failed(&by_signal(""), "signals-sigterm-idle", &seen).await;
    assert!(failed.to_string().contains("expected code 143 or signal 15"), "{failed}");
}

/// Not a bad habit: after the first signal each other does what it does by default.
#[tokio::test]
async fn one_that_a_further_signal_kills_by_default_is_forced_by_it() {
    let subject = service("default-after-first");
    tokio::join!(
        passes(&subject, "signals-repeat-forces"),
        passes(&subject, "signals-third-at-once"),
        passes(&subject, "signals-other-second-forces"),
    );
    let seen = ["killed by signal 15"];
    fails(&subject, "signals-repeat-at-once", &["reset", "closed before any response"]).await;
    let other_base = subject.exit_codes(ExitCodes::new().forced_base(64));
    fails(&other_base, "signals-repeat-forces", &seen).await;
}

/// Not a bad habit: its own limit has ended the long request before anybody signals again.
#[tokio::test]
async fn a_stop_that_is_over_before_the_next_signal_is_not_judged_by_it() {
    let work = || Routes::new().work("/work?ms={ms}");
    // Cut after 1.1 s: the next signal would come after 1.5 s.
    let cuts = service("").env("GRACE", "2").grace(Duration::from_secs(2));
    let limits = service("limits").routes(work());
    tokio::join!(
        skips(&limits, "signals-repeat-forces", "nothing was left to"),
        skips(&limits, "signals-third-at-once", "nothing was left to"),
        skips(&cuts, "signals-repeat-forces", "nothing was left to"),
    );
}

/// Not a bad habit: SIGTERM is the fast stop of one that is stopped in order by SIGQUIT.
#[tokio::test]
async fn what_comes_again_is_the_signal_that_the_platform_stops_it_with() {
    let subject = service("quit-drains,term-is-fast").stop_signal(Signal::Quit);
    tokio::join!(
        passes(&subject, "signals-repeat-at-once"),
        passes(&subject, "signals-repeat-forces"),
        passes(&subject, "signals-third-at-once"),
        passes(&subject, "signals-other-second-forces"),
    );
    passes(&service("").stop_signal(Signal::Int), "signals-other-second-forces").await;
}

/// Within the lame duck and the slack, but the platform would have killed it.
#[tokio::test]
async fn no_slack_goes_past_the_grace() {
    let half = Duration::from_millis(500);
    let subject = service("").lame_duck(half).grace(half + half / 2);
    fails(&subject, "signals-sigterm-idle", &["expected by 750 ms"]).await;
}

/// Not a bad habit: half a head is a silent connection, too.
#[tokio::test]
async fn half_a_head_is_not_asked_to_last_longer_than_silence_may() {
    let subject = service("").idle_drain_timeout(Duration::from_millis(400));
    for name in ["http1-half-head-fresh-after-close", "http1-half-head-reused-after-close"] {
        skips(&subject, name, "silent for longer").await;
    }
}

/// Not a bad habit: connections may learn of the signal a moment later.
#[tokio::test]
async fn one_that_says_close_a_moment_later_is_given_that_moment() {
    passes(&service("closes-late"), "http1-new-connections-lame-duck").await;
}

/// Not a bad habit: 1012 is a restart of the service.
#[tokio::test]
async fn a_websocket_may_be_closed_by_1012() {
    passes(&service("closes-1012"), "websocket-closed-1001").await;
}

/// The first process has shown it, and a second cannot be started.
#[tokio::test]
async fn what_was_seen_is_told_although_no_other_could_be_started() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let once = |bad: &str, name: &str| service(bad).env("ONCE", folder.path().join(name));
    let (upload, download) = (once("cut-untold", "1"), once("cut-untold", "2"));
    let load = once("429-when-leaving", "3").stop_count(2);
    fails(&load, "load-keep-alive", &["answered otherwise"]).await;
    let seen = ["exit code 0 after"];
    tokio::join!(
        fails(&upload, "http1-stalled-upload", &seen),
        fails(&download, "http1-client-does-not-read", &seen),
    );
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
