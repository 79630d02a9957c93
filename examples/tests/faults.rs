//! Faults with real processes: exit codes, how soon, and what the operator reads.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

const LIMIT: Duration = Duration::from_secs(10);
/// Of the processes: drain until 1.15 s, hooks until 1.75 s.
const GRACE: &str = "2s";
const EXIT_BY: Duration = Duration::from_millis(1_750);
/// Of those that end at once: one that did not would take three times as long as `AT_ONCE`.
const LONG_GRACE: &str = "20s";
const AT_ONCE: Duration = Duration::from_secs(5);

/// How a process ended.
struct End {
    code: Option<i32>,
    stderr: String,
    took: Duration,
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("HOST", "127.0.0.1")
        .env("PORT", "0")
        .env("LIFECYCLE_PROBE_ADDR", "off")
        .env("LIFECYCLE_GRACE_PERIOD", GRACE)
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its own end.
async fn run(mut command: Command) -> End {
    let began = Instant::now();
    let output = timeout(LIMIT, command.output()).await.expect("it hangs").unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    End { code: output.status.code(), stderr, took: began.elapsed() }
}

/// Stops it with SIGTERM once it is ready.
async fn stop(mut child: Child) -> End {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().expect("lives") != "ready" {}
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    let began = Instant::now();
    kill_process(pid, Signal::TERM).unwrap();
    let mut stderr = String::new();
    let mut err = child.stderr.take().unwrap();
    let status = timeout(LIMIT, async {
        err.read_to_string(&mut stderr).await.unwrap();
        child.wait().await.unwrap()
    });
    let status = status.await.expect("it hangs");
    End { code: status.code(), stderr, took: began.elapsed() }
}

/// That it ends with that code, within that time, and tells all this. One of three: at its
/// deadline a process that the machine has stalled may be ended without its report. One that is
/// not late has to be right, and most often the first is.
async fn stops(name: &str, code: i32, within: Duration, tells: &str) {
    let mut late = Vec::new();
    for _ in 0..3 {
        let End { code: got, stderr, took } = stop(fault(name).spawn().unwrap()).await;
        let said = [tells, "the hook first ran", "the hook last ran"];
        let is_right = got == Some(code) && said.iter().all(|part| stderr.contains(part));
        if is_right && took < within {
            return;
        }
        late.push(format!("code {got:?} after {took:?}: {stderr}"));
        assert!(took >= EXIT_BY, "{name}: {late:#?}");
    }
    panic!("{name}: code {code} within {within:?} and {tells:?} wanted: {late:#?}");
}

fn fault(name: &str) -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_faults"));
    command.arg(name);
    command
}

#[tokio::test]
async fn a_component_that_dies_ends_the_process_at_once_with_exit_code_1() {
    for (name, cause) in [
        ("component-panics", "component a panicked: on purpose"),
        ("component-fails", "component a failed: no luck"),
        ("component-ends", "component a ended"),
    ] {
        let mut fault = fault(name);
        fault.env("LIFECYCLE_GRACE_PERIOD", LONG_GRACE);
        let End { code, stderr, took } = run(fault).await;
        assert_eq!(code, Some(1), "{name}: {stderr}");
        assert!(stderr.contains(cause), "{name}: {stderr}");
        for hook in ["first", "last"] {
            assert!(stderr.contains(&format!("the hook {hook} ran")), "{name}: {stderr}");
        }
        assert!(took < AT_ONCE, "{name}: {took:?}");
    }
}

#[tokio::test]
async fn a_start_that_fails_says_why_in_its_first_line_and_ends_at_once() {
    for (name, code, why) in [
        ("main-fails", 1, "Error: \"no database\""),
        ("main-panics", 101, "on purpose"),
        ("two-alike", 1, "two components are named \"a\""),
        ("after-nobody", 1, "\"nobody\""),
        ("after-itself", 1, "\"b\""),
        ("nonsense", 1, "none of the faults"),
    ] {
        let mut fault = fault(name);
        fault.env("LIFECYCLE_GRACE_PERIOD", LONG_GRACE);
        let End { code: got, stderr, took } = run(fault).await;
        assert_eq!(got, Some(code), "{name}: {stderr}");
        assert!(stderr.contains(why), "{name}: {stderr}");
        assert!(!stderr.contains("the hook"), "{name}: nothing had begun: {stderr}");
        assert!(took < AT_ONCE, "{name}: {took:?}");
    }
}

#[tokio::test]
async fn a_component_that_never_ends_is_cut_in_time_and_named() {
    stops("component-never-ends", 3, EXIT_BY, "component a").await;
    stops("component-blocks", 3, Duration::from_secs(2), "component a").await;
}

#[tokio::test]
async fn a_bad_hook_is_named_and_skips_no_other() {
    for (name, code, end) in [
        ("hook-panics", 0, "hook bad panicked: on purpose"),
        ("hook-fails", 0, "hook bad failed: no luck"),
        ("hook-hangs", 3, "hook bad aborted"),
        ("hook-blocks", 3, "hook bad aborted"),
    ] {
        stops(name, code, Duration::from_secs(2), end).await;
    }
}

#[tokio::test]
async fn a_bad_variable_is_told_with_its_value_and_its_forms() {
    for (name, value, says) in [
        ("LIFECYCLE_GRACE_PERIOD", "-5s", "25s"),
        ("LIFECYCLE_GRACE_PERIOD", "soon", "25s"),
        ("LIFECYCLE_GRACE_PERIOD", "99999999999999999999999999s", "a year at most"),
        ("LIFECYCLE_GRACE_PERIOD", "1000 years", "a year at most"),
        ("LIFECYCLE_GRACE_PERIOD", "2h30", "25s"),
        ("LIFECYCLE_GRACE_PERIOD", "500ms", "too short"),
        ("LIFECYCLE_GRACE_PERIOD", "0", "the grace of 0s is too short"),
        ("LIFECYCLE_PRE_STOP", "-1", "25s"),
        ("LIFECYCLE_PRE_STOP", "2s", "leaves nothing"),
        ("LIFECYCLE_PRE_STOP", "366d", "leaves nothing"),
        ("LIFECYCLE_LAME_DUCK", "1,5s", "1.5"),
        ("LIFECYCLE_LAME_DUCK", "3s", "does not fit"),
        ("LIFECYCLE_LAME_DUCK_QUIET", "-1s", "25s"),
        ("LIFECYCLE_LAME_DUCK_MIN", "1s", "LIFECYCLE_LAME_DUCK_QUIET"),
        ("LIFECYCLE_READINESS", "sometimes", "at-drain"),
        ("LIFECYCLE_READINESS", "after:", "after:3s"),
        ("LIFECYCLE_READINESS", "after:-1s", "after:3s"),
        ("LIFECYCLE_PROBE_ADDR", "9090", "0.0.0.0:9090"),
        ("LIFECYCLE_PROBE_ADDR", "localhost:70000", "0.0.0.0:9090"),
    ] {
        let mut command = command(env!("CARGO_BIN_EXE_target"));
        command.env(name, value);
        let End { code, stderr, took } = run(command).await;
        assert_eq!(code, Some(1), "{name}={value}: {stderr}");
        let lines: Vec<_> = stderr.lines().collect();
        assert!(lines.len() == 1 && lines[0].starts_with("Error: "), "one line: {stderr}");
        assert!(stderr.contains(says), "{name}={value}: {stderr}");
        // A budget that contradicts itself shows its arithmetic instead.
        let budget = stderr.contains("contradicts itself");
        assert!(budget || (stderr.contains(name) && stderr.contains(value)), "{stderr}");
        assert!(took < AT_ONCE, "{took:?}");
    }
}

#[tokio::test]
async fn a_variable_that_is_no_text_is_told_too() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let mut command = command(env!("CARGO_BIN_EXE_target"));
    command.env("LIFECYCLE_LAME_DUCK", OsStr::from_bytes(b"1\xff"));
    let End { code, stderr, .. } = run(command).await;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("LIFECYCLE_LAME_DUCK="), "{stderr}");
}

#[tokio::test]
async fn an_address_in_use_is_named_and_the_process_ends_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr: SocketAddr = taken.local_addr().unwrap();
    let mut service = command(env!("CARGO_BIN_EXE_target"));
    service.env("PORT", addr.port().to_string());
    let mut probes = command(env!("CARGO_BIN_EXE_target"));
    probes.env("LIFECYCLE_PROBE_ADDR", addr.to_string());
    for (mut command, says) in
        [(service, "cannot listen on"), (probes, "LIFECYCLE_PROBE_ADDR sets")]
    {
        command.env("LIFECYCLE_GRACE_PERIOD", LONG_GRACE);
        let End { code, stderr, took } = run(command).await;
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(&addr.to_string()) && stderr.contains(says), "{stderr}");
        assert!(stderr.contains("in use"), "{stderr}");
        assert!(took < AT_ONCE, "{took:?}");
    }
}
