//! Starting, waiting for and killing commands, with the smallest of commands.

use std::time::Duration;

use lifecycle_drill::{
    Ended, Outcome, Process, ReadyWhen, Setting, Signal, SignalError, StartError, Stream, Subject,
    by_name,
};
use tokio::time::timeout;

fn shell(script: &str) -> Subject {
    Subject::new("/bin/sh").args(["-c", script]).start_timeout(Duration::from_secs(5))
}

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_printed_line_makes_it_ready_and_both_streams_are_kept() {
    let subject = shell("echo $PORT; echo oops >&2; echo ready; exec sleep 60")
        .ready_when(ReadyWhen::Line("ready".into()));
    let mut process = Process::start(&subject, Setting::Plain).await.unwrap();
    let port = process.address().port().to_string();
    process.signal(Signal::Term).unwrap();
    let exit = process.wait(LIMIT).await.unwrap();
    assert_eq!(exit.ended, Ended::Signal(15));
    let lines = process.lines();
    let has = |stream, text: &str| lines.iter().any(|l| l.stream == stream && l.text == text);
    assert!(has(Stream::Stdout, &port) && has(Stream::Stderr, "oops"), "{lines:?}");
    let gone = process.signal(Signal::Term).unwrap_err();
    assert!(matches!(gone, SignalError::Gone(Ended::Signal(15))), "{gone}");
}

#[tokio::test]
async fn one_that_ends_early_is_tried_three_times_on_other_ports() {
    let directory = std::env::temp_dir().join(format!("drill-{}", std::process::id()));
    let file = directory.to_string_lossy().into_owned();
    let subject = shell("echo $PORT >> \"$FILE\"; echo in use >&2; exit 9").env("FILE", &file);
    let error = Process::start(&subject, Setting::Plain).await.unwrap_err();
    let text = error.to_string();
    let StartError::EndedEarly { ended: Ended::Code(9), attempts: 3, tail } = error else {
        panic!("{text}")
    };
    assert!(tail.contains("in use"), "{tail}");
    let ports = std::fs::read_to_string(&directory).unwrap();
    std::fs::remove_file(&directory).unwrap();
    assert_eq!(ports.lines().count(), 3, "{ports}");
}

#[tokio::test]
async fn one_that_is_never_ready_is_given_up() {
    let subject = shell("echo starting; exec sleep 60")
        .start_timeout(Duration::from_secs(3))
        .ready_when(ReadyWhen::LineContains("listening".into()));
    let error = Process::start(&subject, Setting::Plain).await.unwrap_err();
    assert!(matches!(error, StartError::NotReady { .. }), "{error}");
    assert!(error.to_string().contains("| starting"), "{error}");
}

#[tokio::test]
async fn a_dropped_process_is_killed_with_its_children() {
    let subject =
        shell("sleep 61 & echo $!; echo ready; wait").ready_when(ReadyWhen::Line("ready".into()));
    let process = Process::start(&subject, Setting::Plain).await.unwrap();
    let child = process.lines()[0].text.clone();
    let pids = [process.pid().to_string(), child];
    assert!(pids.iter().all(|pid| lives(pid)), "{pids:?}");
    drop(process);
    dead(&pids).await;
}

#[tokio::test]
async fn a_dropped_scenario_kills_its_process() {
    let directory = std::env::temp_dir();
    let file = format!("drill-scenario-{}", std::process::id());
    // Written when the scenario waits for its end.
    let script = format!("trap 'echo $$ > {file}' TERM; echo ready; while :; do sleep 0.1; done");
    let subject = shell(&script)
        .current_dir(&directory)
        .ready_when(ReadyWhen::Line("ready".into()))
        .grace(Duration::from_secs(30));
    let scenario = by_name("signals-sigterm-idle").unwrap();
    let pid_file = directory.join(&file);
    let written = async {
        loop {
            let pid = std::fs::read_to_string(&pid_file).unwrap_or_default();
            if pid.ends_with('\n') {
                return pid.trim().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let pid = tokio::select! {
        verdict = scenario.run(&subject) => panic!("it ignores the signal: {verdict}"),
        pid = timeout(LIMIT, written) => pid.unwrap(),
    };
    std::fs::remove_file(&pid_file).unwrap();
    dead(&[pid]).await;
}

/// Killed at once; reaped by whoever has to, soon.
async fn dead(pids: &[String]) {
    for _ in 0..300 {
        if !pids.iter().any(|pid| lives(pid)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("still alive: {pids:?}");
}

/// Whether it runs: a zombie does not.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.starts_with(" Z"))
}

/// What it prints there may be something else: a bar of progress, say. Elsewhere it is ready.
#[tokio::test]
async fn one_that_is_not_ready_on_a_terminal_is_not_judged_there() {
    let subject = shell("test -t 1 || echo ready; exec sleep 60")
        .start_timeout(Duration::from_millis(300))
        .lame_duck(Duration::from_secs(1))
        .ready_when(ReadyWhen::Line("ready".into()));
    let verdict = by_name("signals-sigint-terminal").unwrap().run(&subject).await;
    let Outcome::Skipped { why } = verdict.outcome() else { panic!("{verdict}") };
    assert!(why.contains("on a terminal"), "{why}");
}

#[tokio::test]
async fn the_terminal_is_one_for_all_three_streams() {
    let subject = shell("test -t 0 && test -t 1 && test -t 2 && echo ready; exec sleep 60")
        .ready_when(ReadyWhen::Line("ready".into()));
    let mut process = Process::start(&subject, Setting::Terminal).await.unwrap();
    assert!(process.lines().iter().all(|line| line.stream == Stream::Terminal));
    process.signal(Signal::Int).unwrap();
    assert_eq!(process.wait(LIMIT).await.unwrap().ended, Ended::Signal(2));
}
