//! Every scenario of the drill against the example `target`: grace 6 s, lame duck 1 s.

use std::time::Duration;

use lifecycle_drill::{Protocol, Routes, Stream, Subject, Verdict, What, by_name, scenarios};

/// The example `target`, as the drill sees it: a command with an address and routes.
pub(crate) fn target() -> Subject {
    configured(Subject::new(tests::example("target")))
}

/// A command that becomes the example `target`, told what the target has to be told.
pub(crate) fn configured(subject: Subject) -> Subject {
    tests::told(subject)
        .single_thread_env("TARGET_RUNTIME", "current_thread")
        .protocol(Protocol::Http1AndH2c)
        .grace(GRACE)
        .lame_duck(Duration::from_secs(1))
        .stop_count(30)
        .routes(Routes::conventional())
}

/// Plays one scenario; skipped counts as failed.
async fn play(name: &str) -> Verdict {
    let scenario = by_name(name).expect("the name of a scenario");
    let verdict = tests::played(scenario, &target()).await;
    assert!(verdict.passed(), "{verdict}");
    verdict
}

/// Plays one at whose end the process has cut what was left, and told all this. The grace of one
/// of three is kept: the deadline is 300 ms before its end, and a process that the machine has
/// stalled until then may have no report. One that is not late has to be right, and most often
/// the first is.
pub(crate) async fn cuts(subject: Subject, name: &str, tells: &[&str]) {
    let scenario = by_name(name).expect("the name of a scenario");
    // The platform waits longer than it has said.
    let subject = subject.grace(GRACE + Duration::from_secs(2));
    let mut late = Vec::new();
    for _ in 0..3 {
        let verdict = scenario.run(&subject).await;
        let report = stderr_of(&verdict);
        let is_right = verdict.passed() && tells.iter().all(|part| report.contains(part));
        let took = stop_took(&verdict);
        if is_right && took.is_some_and(|took| took < GRACE) {
            return;
        }
        late.push(format!("{took:?}: {verdict}\n{report}"));
        assert!(took.is_some_and(|took| took >= EXIT_BY), "{tells:?} wanted: {late:#?}");
    }
    panic!("{tells:?} wanted within {GRACE:?}: {late:#?}");
}

/// The scenarios at whose end something is cut: [`cuts`] plays them.
pub(crate) fn is_cut(name: &str) -> bool {
    let deadline = name.starts_with("deadline-") && name != "deadline-panic-contained";
    deadline || ["http1-client-does-not-read", "http1-stalled-upload"].contains(&name)
}

/// From the signal to the end of the process.
fn stop_took(verdict: &Verdict) -> Option<Duration> {
    let at = |is_it: fn(&What) -> bool| verdict.events().iter().find(|event| is_it(&event.what));
    let told = at(|what| matches!(what, What::Signal(_)))?;
    Some(at(|what| matches!(what, What::Exited(_)))?.at - told.at)
}

/// What the process is told, and when it is gone at the latest.
const GRACE: Duration = Duration::from_secs(6);
const EXIT_BY: Duration = Duration::from_millis(5_700);

#[test]
fn no_scenario_is_left_out() {
    let this = include_str!("target.rs");
    for scenario in scenarios() {
        let play = format!("play(\"{}\")", scenario.name());
        let cuts = format!("cuts(target(), \"{}\"", scenario.name());
        let is_played = this.contains(&play) || this.contains(&cuts);
        assert!(is_played, "{} is not played", scenario.name());
    }
}

#[tokio::test]
async fn signals_sigterm_idle() {
    drop(play("signals-sigterm-idle").await);
}

#[tokio::test]
async fn signals_sigterm_at_start() {
    drop(play("signals-sigterm-at-start").await);
}

#[tokio::test]
async fn signals_sigint_terminal() {
    drop(play("signals-sigint-terminal").await);
}

#[tokio::test]
async fn signals_sigint_no_terminal() {
    drop(play("signals-sigint-no-terminal").await);
}

#[tokio::test]
async fn signals_sigquit() {
    drop(play("signals-sigquit").await);
}

#[tokio::test]
async fn signals_sighup() {
    drop(play("signals-sighup").await);
}

#[tokio::test]
async fn signals_repeat_at_once() {
    drop(play("signals-repeat-at-once").await);
}

#[tokio::test]
async fn signals_repeat_forces() {
    drop(play("signals-repeat-forces").await);
}

#[tokio::test]
async fn signals_third_at_once() {
    drop(play("signals-third-at-once").await);
}

#[tokio::test]
async fn signals_other_second_forces() {
    drop(play("signals-other-second-forces").await);
}

#[tokio::test]
async fn probes_readiness_falls_first() {
    drop(play("probes-readiness-falls-first").await);
}

#[tokio::test]
async fn probes_liveness_holds() {
    drop(play("probes-liveness-holds").await);
}

#[tokio::test]
async fn probes_answer_to_the_end() {
    drop(play("probes-answer-to-the-end").await);
}

#[tokio::test]
async fn probes_startup_holds() {
    drop(play("probes-startup-holds").await);
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
    cuts(target(), "http1-client-does-not-read", &[]).await;
}

#[tokio::test]
async fn http1_stalled_upload() {
    cuts(target(), "http1-stalled-upload", &[]).await;
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
    let ledger = verdict.ledger().expect("a load scenario keeps one");
    println!("load-keep-alive: {ledger}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_keep_alive_think() {
    let verdict = play("load-keep-alive-think").await;
    let ledger = verdict.ledger().expect("a load scenario keeps one");
    println!("load-keep-alive-think: {ledger}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_http2() {
    let verdict = play("load-http2").await;
    let ledger = verdict.ledger().expect("a load scenario keeps one");
    println!("load-http2: {ledger}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_connect_race() {
    let verdict = play("load-connect-race").await;
    let ledger = verdict.ledger().expect("a load scenario keeps one");
    println!("load-connect-race: {ledger}");
}

#[tokio::test]
async fn deadline_cuts_long_request() {
    // The report itself, not only the log: the timeline on stderr.
    let tells = [
        "shutdown: SIGTERM",
        "exit code 3",
        "cut at the end of draining: 1 left",
        "request GET /work (",
    ];
    cuts(target(), "deadline-cuts-long-request", &tells).await;
}

#[tokio::test]
async fn deadline_names_what_was_cut() {
    cuts(target(), "deadline-names-what-was-cut", &[]).await;
}

#[tokio::test]
async fn deadline_blocked_event_loop() {
    let tells = ["exit code 3", "request GET /block ("];
    cuts(target(), "deadline-blocked-event-loop", &tells).await;
}

#[tokio::test]
async fn deadline_blocked_single_thread() {
    let tells = ["exit code 3", "request GET /block ("];
    cuts(target(), "deadline-blocked-single-thread", &tells).await;
}

#[tokio::test]
async fn deadline_blocked_pool() {
    let tells = ["exit code 3", "request GET /pool ("];
    cuts(target(), "deadline-blocked-pool", &tells).await;
}

#[tokio::test]
async fn deadline_panic_contained() {
    drop(play("deadline-panic-contained").await);
}

/// What the process wrote to stderr.
fn stderr_of(verdict: &Verdict) -> String {
    let lines = verdict.output().iter().filter(|line| line.stream == Stream::Stderr);
    lines.map(|line| format!("{}\n", line.text)).collect()
}
