//! What only a whole process shows: a child is this test binary again, told by a variable
//! which part to play.
#![cfg(all(unix, feature = "signal", not(lifecycle_loom)))]
#![allow(clippy::print_stdout, reason = "the child tells its parent")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use lifecycle::Lifecycle;
use tokio::time::Instant;

/// Starts the part of that name and waits until it says `ready`.
fn part(name: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "--nocapture", name])
        .env("LIFECYCLE_TEST_PART", name)
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert!(lines.read_line(&mut line).expect("text") > 0, "{name} ended before it was ready");
    }
    child
}

/// Whether this process is the child that plays this part.
fn plays(name: &str) -> bool {
    std::env::var("LIFECYCLE_TEST_PART").is_ok_and(|part| part == name)
}

/// Says ready, then blocks this thread until the parent goes away.
fn stay() {
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).expect("a pipe");
}

fn terminate(mut child: Child, limit: Duration) -> (ExitStatus, Duration) {
    let told = Instant::now();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    // The parent's end of stdin stays open meanwhile, so the child cannot leave by it.
    let _stdin = child.stdin.take();
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return (status, told.elapsed());
        }
        if told.elapsed() > limit {
            child.kill().expect("our child");
            panic!("still there after {limit:?}");
        }
        std::thread::yield_now();
    }
}

#[test]
fn part_drops_its_lifecycle() {
    if plays("part_drops_its_lifecycle") {
        drop(Lifecycle::builder().grace_period(Duration::from_secs(30)).build().expect("builds"));
        stay();
    }
}

#[test]
fn a_lifecycle_dropped_without_run_leaves_signals_their_effect() {
    let (status, took) = terminate(part("part_drops_its_lifecycle"), Duration::from_secs(5));
    assert_eq!(status.code(), Some(143), "{status:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn part_never_reaches_run() {
    if plays("part_never_reaches_run") {
        let life = Lifecycle::builder().grace_period(Duration::from_secs(2)).build();
        stay();
        drop(life);
    }
}

#[test]
fn a_start_that_never_ends_is_ended_at_the_deadline_and_counts_as_cut() {
    let (status, took) = terminate(part("part_never_reaches_run"), Duration::from_secs(5));
    assert_eq!(status.code(), Some(3), "{status:?}");
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(2), "{took:?}");
}
