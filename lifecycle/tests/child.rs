//! Child processes are told to stop, waited for and killed, on real processes.
#![cfg(all(unix, feature = "signal", feature = "process", not(lifecycle_loom)))]
#![allow(clippy::print_stdout, reason = "the child tells its parent")]

mod parts;

use std::process::Command;
use std::time::Duration;

use lifecycle::{ChildProcess, Lifecycle, Signal};
use parts::{Ended, Part, best_of_three, part_by, pause, plays};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_secs(10);

/// A process with a shell as its child; variables say which, and what else is to go wrong.
#[test]
fn part_wraps_a_shell() {
    if !plays("part_wraps_a_shell") {
        return;
    }
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let grace = Duration::from_secs(3);
    let mut life = Lifecycle::builder().grace_period(grace).build().expect("builds");
    let mut shell = Command::new(std::env::var("SHELL_NAME").unwrap_or("sh".into()));
    shell.args(["-c", &var("SCRIPT")]).stderr(std::process::Stdio::null());
    let mut child = ChildProcess::new(shell);
    if var("STOP") == "INT" {
        child = child.stop_signal(Signal::Interrupt);
    }
    let spawned = life.spawn("sidecar", child);
    if var("OPTIONAL") == "yes" {
        spawned.optional();
    }
    if var("BLOCK") == "yes" {
        life.spawn("blocks", async {
            tokio::task::yield_now().await;
            std::thread::park_timeout(Duration::from_secs(60));
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.expect("a runtime").block_on(life.run()).expect("runs");
    eprintln!("{report}");
    #[expect(clippy::exit, clippy::disallowed_methods, reason = "the part ends with its code")]
    std::process::exit(report.exit_code().into())
}

fn wrapping(script: &str, settings: &[(&str, &str)]) -> Part {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.env("SCRIPT", script).envs(settings.iter().copied());
    part_by("part_wraps_a_shell", command)
}

/// The process of that number is gone, or a zombie that only awaits being looked at.
fn is_gone(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with('Z')))
}

fn goes(pid: &str) {
    let until = Instant::now() + LIMIT;
    while !is_gone(pid) {
        assert!(Instant::now() < until, "{pid} is still there");
        pause();
    }
}

#[test]
fn a_child_is_asked_to_stop_and_waited_for() {
    let script = "trap 'echo asked; sleep 0.3; echo done; exit 0' TERM; echo ready; \
                  while :; do sleep 0.05; done";
    let mut part = wrapping(script, &[]);
    part.signal("TERM");
    part.says("asked");
    part.says("done");
    let Ended { status, stderr, took } = part.ends(LIMIT);
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(took < Duration::from_millis(1_700), "the drain would take 2.1 s: {took:?}");
}

#[test]
fn dying_of_our_signal_is_a_clean_end() {
    let Ended { status, stderr, .. } = wrapping("echo ready; sleep 60", &[]).terminate(LIMIT);
    assert_eq!(status.code(), Some(0), "{stderr}");
}

#[test]
fn another_stop_signal_can_be_chosen() {
    let script = "trap 'exit 1' TERM; trap 'echo interrupted; exit 130' INT; echo ready; \
                  while :; do sleep 0.05; done";
    let mut part = wrapping(script, &[("STOP", "INT")]);
    part.signal("TERM");
    part.says("interrupted");
    let Ended { status, stderr, .. } = part.ends(LIMIT);
    assert_eq!(status.code(), Some(0), "{stderr}");
}

/// Tells the numbers of the shell and of a child of its own, and heeds nothing.
const DEAF: &str = "trap '' TERM; echo ready; echo pid $$; sleep 60 & echo pid $!; \
                    while :; do sleep 1; done";

fn pid(part: &mut Part) -> String {
    part.says("pid ").trim().rsplit(' ').next().expect("a number").to_owned()
}

#[test]
fn a_child_that_does_not_heed_is_killed_at_the_deadline_with_its_whole_group() {
    // By then SIGKILL would have come.
    best_of_three(Duration::from_secs(3), || {
        let mut part = wrapping(DEAF, &[]);
        let (shell, sleeper) = (pid(&mut part), pid(&mut part));
        let Ended { status, stderr, took } = part.terminate(LIMIT);
        assert_eq!(status.code(), Some(3), "{stderr}");
        assert!(stderr.contains("work child sh") && stderr.contains("killed"), "{stderr}");
        goes(&shell);
        goes(&sleeper);
        took
    });
}

#[test]
fn what_a_child_leaves_behind_goes_with_it() {
    let script = "(trap '' TERM; exec sleep 60) & trap 'exit 0' TERM; echo ready; echo pid $!; \
                  while :; do sleep 0.05; done";
    let mut part = wrapping(script, &[]);
    let sleeper = pid(&mut part);
    let Ended { status, stderr, .. } = part.terminate(LIMIT);
    assert_eq!(status.code(), Some(0), "{stderr}");
    goes(&sleeper);
}

#[test]
fn a_forced_stop_does_not_wait_for_it() {
    let script = "trap 'echo asked' TERM; echo ready; echo pid $$; while :; do sleep 0.05; done";
    let mut part = wrapping(script, &[]);
    let shell = pid(&mut part);
    part.signal("TERM");
    part.says("asked");
    part.signal("INT");
    let Ended { status, stderr, took } = part.ends(LIMIT);
    assert_eq!(status.code(), Some(130), "{stderr}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    goes(&shell);
}

#[test]
fn a_child_does_not_outlive_a_process_that_is_ended_with_a_blocked_runtime() {
    best_of_three(Duration::from_secs(3), || {
        let mut part = wrapping(DEAF, &[("BLOCK", "yes")]);
        let (shell, sleeper) = (pid(&mut part), pid(&mut part));
        part.lives_on(Duration::from_millis(400));
        let Ended { status, stderr, took } = part.terminate(LIMIT);
        assert_eq!(status.code(), Some(3), "{stderr}");
        goes(&shell);
        goes(&sleeper);
        took
    });
}

#[test]
fn a_child_that_ends_by_itself_is_the_cause() {
    let Ended { status, stderr, .. } = wrapping("echo ready; exit 7", &[]).ends(LIMIT);
    assert_eq!(status.code(), Some(1), "{stderr}");
    let said = "component sidecar failed: sh ended: exit status: 7";
    assert!(stderr.contains(said), "{stderr}");
    let Ended { status, stderr, .. } = wrapping("echo ready", &[]).ends(LIMIT);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("component sidecar ended"), "{stderr}");
    let mut optional = wrapping("echo ready", &[("OPTIONAL", "yes")]);
    optional.lives_on(Duration::from_millis(200));
    let Ended { status, stderr, .. } = optional.terminate(LIMIT);
    assert_eq!(status.code(), Some(0), "{stderr}");
}

#[test]
fn a_child_that_fails_when_asked_to_stop_is_a_failure() {
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let Ended { status, stderr, .. } = wrapping(script, &[]).terminate(LIMIT);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("exit status: 9"), "{stderr}");
}

#[tokio::test]
async fn a_program_that_is_not_there_fails_the_start() {
    let mut life = Lifecycle::builder().build_local().expect("defaults");
    life.spawn("sidecar", ChildProcess::new(Command::new("/no/such/program")));
    let report = life.run().await.expect("runs");
    assert_eq!(report.exit_code(), 1);
    assert!(report.cause().to_string().contains("cannot start /no/such/program"), "{report}");
}
