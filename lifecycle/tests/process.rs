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
    part_by(name, Command::new(std::env::current_exe().expect("a path")))
}

fn part_by(name: &str, mut command: Command) -> Child {
    let mut child = command
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

/// As `nohup` starts it.
#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    shell.arg(std::env::current_exe().expect("a path"));
    let mut child = part_by("part_drops_its_lifecycle", shell);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("kill").success());
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        assert_eq!(child.try_wait().expect("our child"), None);
        std::thread::yield_now();
    }
    let (status, _) = terminate(child, Duration::from_secs(5));
    assert_eq!(status.code(), Some(143), "{status:?}");
}

#[test]
fn part_drops_it_and_asks_for_a_stop() {
    if plays("part_drops_it_and_asks_for_a_stop") {
        let grace = Duration::from_secs(1);
        let life = Lifecycle::builder().grace_period(grace).build().expect("builds");
        let handle = life.handle();
        drop(life);
        handle.shutdown("nobody is there");
        stay();
    }
}

#[test]
fn a_dropped_lifecycle_does_not_end_the_process_by_itself() {
    let mut child = part("part_drops_it_and_asks_for_a_stop");
    let until = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < until {
        assert_eq!(child.try_wait().expect("our child"), None, "ended by the last resort");
        std::thread::yield_now();
    }
    let (status, _) = terminate(child, Duration::from_secs(5));
    assert_eq!(status.code(), Some(143), "{status:?}");
}

/// stdout and stderr on one pipe that nobody reads, a partial line in stdout's buffer: then
/// even `exit` blocks.
#[test]
fn part_blocks_its_exit() {
    if plays("part_blocks_its_exit") {
        let life = Lifecycle::builder().grace_period(Duration::from_secs(2)).build();
        println!("ready");
        print!("half a line");
        std::thread::spawn(|| {
            use std::io::Write;
            let much = [b'x'; 4096];
            while std::io::stderr().write_all(&much).is_ok() {}
        });
        std::io::stdin().read_to_end(&mut Vec::new()).expect("a pipe");
        drop(life);
    }
}

#[test]
fn an_exit_that_blocks_is_followed_by_a_kill_before_the_grace_is_over() {
    let (mut pipe, both) = std::io::pipe().expect("a pipe");
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "--nocapture", "part_blocks_its_exit"])
        .env("LIFECYCLE_TEST_PART", "part_blocks_its_exit")
        .stdin(Stdio::piped())
        .stdout(both.try_clone().expect("a pipe"))
        .stderr(both)
        .spawn()
        .expect("starts");
    // Up to the word and no further; then the pipe fills.
    let mut seen = Vec::new();
    while !seen.ends_with(b"ready") {
        let mut byte = [0];
        pipe.read_exact(&mut byte).expect("text");
        seen.push(byte[0]);
    }
    let full = Instant::now() + Duration::from_millis(300);
    while Instant::now() < full {
        assert_eq!(child.try_wait().expect("our child"), None);
        std::thread::yield_now();
    }
    let (status, took) = terminate(child, Duration::from_secs(5));
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(status.signal(), Some(9), "{status:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
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
