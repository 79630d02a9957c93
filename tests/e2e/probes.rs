//! The probes of a real process, asked from outside.

use std::time::Duration;

use lifecycle_drill::{Ended, Process, Wire};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::probed::{
    LIMIT, ask, becomes, ends_clean, event, hold, logs, post, raw, start, start_ready, stops_clean,
    terminate, try_ask,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Asks again and again until nobody answers: the answers, and when the last one came.
async fn ask_to_the_end(process: &Process, path: &str) -> (Vec<(u16, Instant)>, Instant) {
    let mut answers = Vec::new();
    let asked = timeout(LIMIT, async {
        while let Some((status, _)) = try_ask(process.probe_address(), path).await {
            answers.push((status, Instant::now()));
            sleep(ms(2)).await;
        }
    });
    asked.await.expect("the process ends");
    let last = answers.last().expect("it answered").1;
    (answers, last)
}

/// Stops it; how long until it is not ready, and the answer that says so.
async fn readiness_falls(process: &Process) -> (Duration, String) {
    let began = terminate(process);
    let (_, body) = becomes(process, "/readyz", 503).await;
    (began.elapsed(), body)
}

#[tokio::test]
async fn readiness_falls_within_50_ms_of_the_signal_and_liveness_holds_to_the_end() {
    let mut process = start_ready(&[("PROBED_HOOK_MS", "1300")]).await;
    let held = hold(&process, "/work?ms=1500").await;
    let (mut took, body) = readiness_falls(&process).await;
    assert!(body.contains("[-]shutdown failed: reason withheld\n"), "{body}");
    assert!(body.contains("[+]db ok\n"), "{body}");
    let (answers, last) = ask_to_the_end(&process, "/livez").await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let exit = process.wait(LIMIT).await.unwrap();
    assert_eq!(exit.ended, Ended::Code(0), "{}", process.tail());
    let closed = event(&process, "listener.closed").expect("a line");
    let hook = event(&process, "hook.finished").expect("a line");
    assert!(closed.at + ms(500) < last, "probes answer after the listener has closed");
    // If they ended with the drain, the last one came 1.3 s before the hook's end.
    assert!(hook.at > closed.at + ms(1_000), "the hook took its time");
    assert!(hook.at < last + ms(1_000), "and until the report");
    assert!(exit.at < last + ms(1_000), "the last answer came {:?} before", exit.at - last);
    drop(held);
    // A stall of the machine is not the process's: two more may show how fast it is.
    for _ in 0..2 {
        if took >= ms(50) {
            let process = start_ready(&[]).await;
            took = took.min(readiness_falls(&process).await.0);
            ends_clean(process).await;
        }
    }
    assert!(took < ms(50), "readiness took {took:?} at best");
}

/// Time from the signal to the first failing answer, if there is one; the drain begins at 1.5 s.
async fn readiness_fails_after(policy: &str) -> Option<Duration> {
    let variables = [("LIFECYCLE_READINESS", policy), ("LIFECYCLE_LAME_DUCK", "1500ms")];
    let process = start_ready(&variables).await;
    let sent = Instant::now();
    let _held = hold(&process, "/work?ms=2500").await;
    let began = terminate(&process);
    let (answers, _) = ask_to_the_end(&process, "/readyz").await;
    let first = answers.iter().position(|(status, _)| *status == 503);
    let rest = &answers[first.unwrap_or(answers.len())..];
    assert!(rest.iter().all(|(status, _)| *status == 503), "{policy}: it rises again");
    assert!(answers.last().is_some_and(|(_, at)| *at > sent + ms(2_000)), "{policy}: to the end");
    let shown = logs(&process, "lifecycle.configured", "readiness").await;
    assert!(shown.contains(&format!("\"readiness\":\"{policy}\"")), "{shown}");
    first.map(|first| answers[first].1 - began)
}

#[tokio::test]
async fn readiness_fails_when_its_policy_says() {
    let (immediately, after, at_drain, never) = tokio::join!(
        readiness_fails_after("immediately"),
        readiness_fails_after("after:400ms"),
        readiness_fails_after("at-drain"),
        readiness_fails_after("never"),
    );
    let (immediately, after) = (immediately.expect("it fails"), after.expect("it fails"));
    assert!(immediately < ms(1_000), "{immediately:?}");
    assert!(after >= ms(400) && after < ms(1_400), "{after:?}");
    assert!(at_drain.is_some_and(|found| found >= ms(1_500)), "{at_drain:?}");
    assert_eq!(never, None);
}

#[tokio::test]
async fn drainz_answers_all_who_wait_whole_at_the_end_of_the_drain() {
    let mut process = start_ready(&[]).await;
    let address = process.probe_address();
    let request = b"GET /drainz?wait=20s HTTP/1.1\r\nhost: x\r\n\r\n";
    let waiters: Vec<_> = (0..40)
        .map(|_| {
            tokio::spawn(async move {
                let answer = raw(address, request).await;
                (answer, Instant::now())
            })
        })
        .collect();
    let sent = Instant::now();
    let held = hold(&process, "/work?ms=1700").await;
    let began = terminate(&process);
    for waiter in waiters {
        let (answer, at) = waiter.await.unwrap();
        let answer = answer.expect("not torn");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\ndrained\n"), "{answer}");
        assert!(at - sent >= ms(1_700), "after {:?}", at - sent);
    }
    let exit = process.wait(LIMIT).await.unwrap();
    assert_eq!(exit.ended, Ended::Code(0));
    // They would wait for 20 s; at its deadline, at 5.7 s, the process would be ended.
    assert!(exit.at - began < ms(4_700), "those who waited did not hold the exit");
    drop(held);
}

#[tokio::test]
async fn drainz_gives_up_after_its_wait_and_says_what_is_in_flight() {
    let process = start_ready(&[]).await;
    let _held = hold(&process, "/work?ms=3000").await;
    let began = Instant::now();
    let (status, body) = ask(&process, "/drainz?wait=200ms").await;
    // Before the request is over, which takes 3 s.
    assert!(began.elapsed() >= ms(200) && began.elapsed() < ms(2_500), "{:?}", began.elapsed());
    assert_eq!(status, 503);
    assert!(body.starts_with("not drained: running, in flight: "), "{body}");
    assert!(body.contains("GET /work"), "{body}");
}

#[tokio::test]
async fn a_post_to_drainz_begins_the_shutdown_only_where_it_is_allowed() {
    let (refusing, mut allowing) =
        tokio::join!(start_ready(&[]), start_ready(&[("PROBED_DRAIN_BY_POST", "1")]));
    let (status, body) = post(refusing.probe_address(), "/drainz").await;
    assert_eq!((status, body.as_str()), (403, "POST /drainz is not enabled here\n"));
    assert_eq!(ask(&refusing, "/readyz").await.0, 200);
    let (status, body) = post(allowing.probe_address(), "/drainz").await;
    assert_eq!((status, body.as_str()), (202, "the shutdown has begun\n"));
    assert_eq!(ask(&allowing, "/drainz?wait=5s").await, (200, "drained\n".to_owned()));
    let exit = allowing.wait(LIMIT).await.unwrap();
    assert_eq!(exit.ended, Ended::Code(0));
    assert!(allowing.tail().contains("POST /drainz"), "{}", allowing.tail());
    stops_clean(refusing).await;
}

/// Blocks the whole runtime for 3 s and asks until it goes on.
async fn blocked_on(runtime: &str) {
    let process = start_ready(&[("PROBED_RUNTIME", runtime), ("PROBED_WATCHDOG_MS", "500")]).await;
    let mut wire = Wire::connect(process.address(), LIMIT).await.unwrap();
    let request = "POST /block-runtime?ms=3000 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    let began = Instant::now();
    wire.send(request).await.unwrap();
    let (mut times, mut failing) = (Vec::new(), None);
    let recovered = loop {
        let asked = Instant::now();
        let (status, body) = ask(&process, "/livez").await;
        times.push(asked.elapsed());
        if status == 503 {
            assert!(body.contains("[-]runtime failed: reason withheld"), "{body}");
            failing.get_or_insert(began.elapsed());
        } else if failing.is_some() {
            break began.elapsed();
        }
        assert!(began.elapsed() < LIMIT, "{runtime}: failing since {failing:?}");
        sleep(ms(5)).await;
    };
    // Answered by what is blocked they would take 3 s. A stall of the machine is one answer's.
    let slow: Vec<_> = times.iter().filter(|time| **time >= ms(100)).collect();
    assert!(slow.len() * 20 <= times.len(), "{runtime}: {slow:?} of {} answers", times.len());
    assert!(times.iter().all(|time| *time < ms(2_000)), "{runtime}: {slow:?}");
    let first = failing.expect("it was seen");
    assert!(first > ms(200) && first < ms(2_000), "{runtime}: fails after {first:?}");
    assert!(recovered >= ms(3_000) && recovered < ms(6_000), "{runtime}: until {recovered:?}");
    let stalled = logs(&process, "watchdog.stalled", "runtime").await;
    assert!(stalled.contains("\"limit_ms\":500"), "{stalled}");
    logs(&process, "watchdog.recovered", "runtime").await;
    stops_clean(process).await;
}

#[tokio::test]
async fn a_blocked_runtime_fails_liveness_and_probes_answer_within_100_ms() {
    tokio::join!(blocked_on("multi_thread"), blocked_on("current_thread"));
}

#[tokio::test]
async fn an_adaptive_lame_duck_ends_when_nobody_comes_any_more() {
    let variables = |quiet| {
        [
            ("LIFECYCLE_GRACE_PERIOD", "20s"),
            ("LIFECYCLE_LAME_DUCK", "12s"),
            ("LIFECYCLE_LAME_DUCK_MIN", "700ms"),
            ("LIFECYCLE_LAME_DUCK_QUIET", quiet),
        ]
    };
    let (short, long) = (variables("500ms"), variables("1500ms"));
    let (left_alone, visited) = tokio::join!(start_ready(&short), start_ready(&long));
    let began = terminate(&left_alone);
    terminate(&visited);
    let mut last = began;
    // For longer than the window.
    while began.elapsed() < ms(1_800) {
        last = Instant::now();
        let connected = TcpStream::connect(visited.address()).await;
        assert!(connected.is_ok(), "it serves as long as somebody comes");
        sleep(ms(150)).await;
    }
    logs(&visited, "listener.closed", "").await;
    let closed = |process: &Process| event(process, "listener.closed").expect("a line").at;
    let alone = closed(&left_alone) - began;
    assert!(alone >= ms(690) && alone < ms(4_000), "the least time: {alone:?}");
    let after = closed(&visited) - last;
    assert!(after >= ms(1_490) && after < ms(5_000), "a window after the last: {after:?}");
    ends_clean(left_alone).await;
    ends_clean(visited).await;
}

#[tokio::test]
async fn one_line_at_the_start_has_every_setting_and_its_source() {
    // An empty variable counts as not set.
    let process = start(&[
        ("LIFECYCLE_GRACE_PERIOD", ""),
        ("LIFECYCLE_LAME_DUCK", ""),
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ("LIFECYCLE_PRE_STOP", "2s"),
        ("LIFECYCLE_READINESS", "after:3s"),
        ("LIFECYCLE_LAME_DUCK_QUIET", "1.5"),
    ])
    .await;
    let line = logs(&process, "lifecycle.configured", "").await;
    for part in [
        // What is left of 30 s after the preStop hook.
        "\"grace_ms\":28000",
        "\"grace_source\":\"Kubernetes default\"",
        "\"pre_stop_ms\":2000",
        "\"lame_duck_quiet_ms\":1500",
        "\"lame_duck_least_ms\":0",
        "\"readiness\":\"after:3s\"",
        &format!("\"probe_addr\":\"{}\"", process.probe_address()),
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    for name in ["lame_duck_ms", "drain_until_ms", "cancel_until_ms", "exit_by_ms"] {
        assert!(line.contains(&format!("\"{name}\":")), "no {name} in {line}");
    }
    let lines = process.lines();
    let count = lines.iter().filter(|line| line.text.contains("lifecycle.configured")).count();
    assert_eq!(count, 1);
}

#[tokio::test]
async fn a_failing_check_says_why_in_the_log_and_nowhere_in_public() {
    let process = start_ready(&[]).await;
    for (how, why) in [
        ("fail", "password \\\"swordfish\\\" was refused"),
        ("hang", "timed out after 200ms"),
        ("panic", "panicked: db was told to"),
        ("block", "timed out after 200ms"),
    ] {
        let known = process.lines().len();
        post(process.address(), &format!("/break?check=db&how={how}")).await;
        becomes(&process, "/readyz", 503).await;
        for path in ["/readyz", "/readyz?verbose", "/readyz/db"] {
            let (status, body) = ask(&process, path).await;
            assert_eq!(status, 503, "{how} {path}");
            assert!(body.contains("[-]db failed: reason withheld"), "{body}");
            assert!(!body.contains("swordfish") && !body.contains("timed"), "{body}");
        }
        let status = ask(&process, "/statusz").await.1;
        assert!(status.contains(why), "operators are told: {status}");
        assert_eq!(ask(&process, "/livez").await.0, 200);
        // Lines come through a pipe, later than the answer.
        let told = timeout(LIMIT, async {
            loop {
                let lines = process.lines().split_off(known);
                let mut texts = lines.into_iter().map(|line| line.text);
                let failing = |text: &String| {
                    text.contains("check.changed") && text.contains("\"to\":\"failing\"")
                };
                match texts.find(failing) {
                    Some(told) => return told,
                    None => sleep(ms(5)).await,
                }
            }
        });
        let told = told.await.expect("a line");
        assert!(told.contains(why) && told.contains("\"level\":\"WARN\""), "{how}: {told}");
        post(process.address(), "/mend?check=db").await;
        becomes(&process, "/readyz", 200).await;
    }
    // Shown, and it decides nothing.
    post(process.address(), "/break?check=cache").await;
    logs(
        &process,
        "check.changed",
        "\"check\":\"cache\",\"kind\":\"readiness\",\"from\":\"passing\"",
    )
    .await;
    let (status, body) = ask(&process, "/readyz?verbose").await;
    assert_eq!(status, 200);
    assert!(body.contains("[!]cache failed: informational, reason withheld"), "{body}");
    // A failing liveness check has the platform restart it.
    post(process.address(), "/break?check=loop").await;
    becomes(&process, "/livez", 503).await;
    terminate(&process);
    becomes(&process, "/livez", 200).await;
    ends_clean(process).await;
}

/// SIGTERM while a check blocks a thread of the runtime.
async fn blocked_check_on(runtime: &str) {
    let mut process = start_ready(&[("PROBED_RUNTIME", runtime)]).await;
    let mut wire = Wire::connect(process.address(), LIMIT).await.unwrap();
    wire.send("POST /break?check=db&how=block HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(ms(150)).await;
    let began = terminate(&process);
    assert_eq!(ask(&process, "/livez").await.0, 200);
    let exit = process.wait(LIMIT).await.unwrap();
    assert!(exit.at - began < ms(6_000), "{runtime}: {:?}", exit.at - began);
    assert_eq!(exit.ended, Ended::Code(0), "{runtime}: {}", process.tail());
}

#[tokio::test]
async fn a_check_that_blocks_its_thread_does_not_hold_the_exit_past_the_grace() {
    tokio::join!(blocked_check_on("multi_thread"), blocked_check_on("current_thread"));
}

#[tokio::test]
async fn the_start_is_over_when_its_check_has_passed_and_the_warm_up_is_done() {
    let process = start(&[("PROBED_BROKEN", "schema"), ("PROBED_WARM_UP", "1")]).await;
    let (status, body) = ask(&process, "/startupz").await;
    assert_eq!(status, 503);
    assert!(body.contains("[-]schema failed") && body.contains("[-]warm-up failed"), "{body}");
    assert_eq!(ask(&process, "/livez").await.0, 200);
    assert_eq!(ask(&process, "/readyz").await.0, 503);
    post(process.address(), "/mend?check=schema").await;
    becomes(&process, "/startupz/schema", 200).await;
    assert_eq!(ask(&process, "/startupz").await.0, 503, "the warm-up goes on");
    post(process.address(), "/startup-done").await;
    assert_eq!(ask(&process, "/startupz").await, (200, "ok".to_owned()));
    becomes(&process, "/readyz", 200).await;
    // Once over, the start stays over.
    post(process.address(), "/break?check=schema").await;
    logs(&process, "check.changed", "\"to\":\"failing\",\"latency_ms\"").await;
    assert_eq!(ask(&process, "/startupz").await.0, 200);
    stops_clean(process).await;
}

#[tokio::test]
async fn probes_are_served_on_the_main_port_as_well() {
    let process = start_ready(&[]).await;
    for path in ["/livez", "/readyz", "/readyz/db", "/startupz"] {
        let answer = try_ask(process.address(), path).await;
        assert_eq!(answer, Some((200, "ok".to_owned())), "{path}");
    }
    let (_, status) = try_ask(process.address(), "/statusz").await.expect("an answer");
    assert!(status.contains("\"phase\": \"running\""), "{status}");
    terminate(&process);
    becomes(&process, "/readyz", 503).await;
    assert_eq!(try_ask(process.address(), "/readyz").await.map(|(status, _)| status), Some(503));
    ends_clean(process).await;
}
