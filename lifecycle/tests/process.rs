//! What only a whole process shows: a child is this test binary again, told by a variable
//! which part to play.
#![cfg(all(unix, feature = "signal", not(lifecycle_loom)))]
#![allow(clippy::print_stdout, reason = "the child tells its parent")]

mod parts;

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use lifecycle::{BoxError, Component, Handle, Lifecycle, Role};
use parts::{Ended, best_of_three, part, part_by, pause, plays, signal, stay, wait};
use tokio::time::Instant;

#[test]
fn part_drops_its_lifecycle() {
    if plays("part_drops_its_lifecycle") {
        drop(Lifecycle::builder().grace_period(Duration::from_secs(30)).build().expect("builds"));
        stay();
    }
}

#[test]
fn a_lifecycle_dropped_without_run_leaves_signals_their_effect() {
    let Ended { status, took, .. } =
        part("part_drops_its_lifecycle").terminate(Duration::from_secs(10));
    assert_eq!(status.code(), Some(143), "{status:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Of what is left when a later step of the start fails.
struct Listens;

impl Component for Listens {
    async fn run(self, handle: Handle) -> Result<(), BoxError> {
        handle.draining().await;
        Ok(())
    }

    fn role(&self) -> Role {
        Role::Server
    }
}

#[test]
fn part_drops_its_lifecycle_and_a_server() {
    if plays("part_drops_its_lifecycle_and_a_server") {
        let grace = Duration::from_secs(30);
        let mut life = Lifecycle::builder().grace_period(grace).build().expect("builds");
        life.spawn("http", Listens);
        drop(life);
        stay();
    }
}

#[test]
fn a_server_that_was_never_run_has_no_lame_duck() {
    let Ended { status, took, .. } =
        part("part_drops_its_lifecycle_and_a_server").terminate(Duration::from_secs(10));
    assert_eq!(status.code(), Some(143), "{status:?}");
    assert!(took < Duration::from_secs(4), "a lame duck would take 5 s: {took:?}");
}

/// As `nohup` starts it.
#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    shell.arg(std::env::current_exe().expect("a path"));
    let mut child = part_by("part_drops_its_lifecycle", shell);
    child.signal("HUP");
    child.lives_on(Duration::from_millis(300));
    let Ended { status, .. } = child.terminate(Duration::from_secs(5));
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
    child.lives_on(Duration::from_millis(1_500)); // the last resort would be at 0.85 s
    let Ended { status, .. } = child.terminate(Duration::from_secs(5));
    assert_eq!(status.code(), Some(143), "{status:?}");
}

#[test]
fn part_drops_its_reload_hooks() {
    if plays("part_drops_its_reload_hooks") {
        let mut life = Lifecycle::builder().build().expect("builds");
        life.on_reload("config", || async {});
        drop(life);
        stay();
    }
}

#[test]
fn a_hangup_ends_a_process_that_has_dropped_its_reload_hooks() {
    let part = part("part_drops_its_reload_hooks");
    part.signal("HUP");
    let Ended { status, .. } = part.ends(Duration::from_secs(5));
    assert_eq!(status.code(), Some(129), "{status:?}");
}

/// A log that panics when it is told of a shutdown.
struct Panics;

impl tracing::Subscriber for Panics {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.name() == "shutdown.initiated"
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}

    fn event(&self, _event: &tracing::Event<'_>) {
        panic!("on purpose");
    }

    fn enter(&self, _span: &tracing::span::Id) {}

    fn exit(&self, _span: &tracing::span::Id) {}
}

#[test]
fn part_has_a_log_that_panics() {
    if plays("part_has_a_log_that_panics") {
        let life = Lifecycle::builder().build().expect("builds");
        tracing::subscriber::set_global_default(Panics).expect("the first");
        stay();
        drop(life);
    }
}

#[test]
fn a_panic_on_the_control_thread_ends_the_process() {
    let ended = part("part_has_a_log_that_panics").terminate(Duration::from_secs(5));
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("on purpose"), "{}", ended.stderr);
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

/// How long after SIGTERM it was gone.
fn killed_with_a_blocked_exit() -> Duration {
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
        pause();
    }
    let told = Instant::now();
    signal(&child, "TERM");
    let (status, took) = wait(&mut child, told, Duration::from_secs(10));
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(status.signal(), Some(9), "{status:?}");
    took
}

#[test]
fn an_exit_that_blocks_is_followed_by_a_kill_before_the_grace_is_over() {
    best_of_three(Duration::from_secs(2), killed_with_a_blocked_exit);
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
    best_of_three(Duration::from_secs(2), || {
        let Ended { status, took, .. } =
            part("part_never_reaches_run").terminate(Duration::from_secs(10));
        assert_eq!(status.code(), Some(3), "{status:?}");
        assert!(took > Duration::from_secs(1), "{took:?}");
        took
    });
}
