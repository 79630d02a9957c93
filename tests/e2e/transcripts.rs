//! The transcripts in `docs/probes.md` are what a process really answers.
//!
//! Each line that begins with `$ ` in a block of the kind `console` is run by a shell, with the
//! ports of a process of ours; what stands below it must come out. Dates, ages and lengths are
//! masked. `UPDATE_DOCS=1` writes what came out into the file instead.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lifecycle_drill::{Ended, Process};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::probed::{LIMIT, start_ready};

/// What one command prints.
async fn run(command: &str, process: &Process) -> String {
    // Of the progress that curl shows on stderr nothing belongs into a transcript; nor is a
    // command in the background waited for because it holds a pipe.
    let command = format!("exec 2>/dev/null; {command}")
        .replace("localhost:9090", &process.probe_address().to_string())
        .replace("localhost:8080", &process.address().to_string());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &command]).env("PID", process.pid().to_string()).env_remove("http_proxy");
    shell.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, shell.output()).await.expect("it ends").unwrap();
    let mut shown = String::from_utf8(output.stdout).unwrap().replace('\r', "");
    if !shown.is_empty() && !shown.ends_with('\n') {
        shown.push('\n');
    }
    shown
}

/// What it prints once it is what the docs show, in time for what a command before it has set
/// off: a check's round, a request's way. Otherwise what it prints in the end.
async fn run_until(command: &str, process: &Process, shown: &str) -> String {
    let until = Instant::now() + LIMIT;
    loop {
        let printed = run(command, process).await;
        // What prints nothing does something, once. A blank line may stand between two commands.
        let same = masked(shown.trim_end()) == masked(printed.trim_end());
        if same || printed.is_empty() || Instant::now() > until {
            return printed;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// What differs from run to run, in the same words each time.
fn masked(text: &str) -> String {
    let volatile = |line: &str| {
        let line = line.to_ascii_lowercase();
        ["date: ", "content-length: "].iter().any(|head| line.starts_with(head))
            || line.contains("_ms\": ")
            || line.contains("in flight: ")
    };
    let mask = |line: &str| {
        if !volatile(line) {
            return line.to_owned();
        }
        let mut masked = String::new();
        for c in line.chars() {
            match c {
                '0'..='9' | '.' if masked.ends_with('#') => {}
                '0'..='9' => masked.push('#'),
                c => masked.push(c),
            }
        }
        // A day's and a month's name, and an age in another unit.
        match masked.split_once(": ") {
            Some(("date", _)) => "date: #".to_owned(),
            _ => masked.replace("#ms", "#s"),
        }
    };
    text.lines().map(mask).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_transcripts_in_the_docs_are_what_a_process_answers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/probes.md");
    let docs = std::fs::read_to_string(&path).unwrap();
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let mut process = start_ready(&[("LIFECYCLE_LAME_DUCK", "3s")]).await;
    let (mut written, mut wrong, mut commands) = (String::new(), String::new(), 0);
    let mut lines = docs.lines().peekable();
    let mut in_block = false;
    while let Some(line) = lines.next() {
        written.push_str(line);
        written.push('\n');
        if line.starts_with("```") {
            in_block = line == "```console";
        }
        let Some(command) = line.strip_prefix("$ ").filter(|_| in_block) else { continue };
        commands += 1;
        let mut shown = String::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ") && *line != "```") {
            shown.push_str(line);
            shown.push('\n');
        }
        let printed = if update {
            let printed = run(command, &process).await;
            if printed.is_empty() {
                // Nobody knows what comes of it, only that it takes a moment.
                sleep(Duration::from_millis(200)).await;
            }
            printed
        } else {
            run_until(command, &process, &shown).await
        };
        if masked(shown.trim_end()) != masked(printed.trim_end()) {
            wrong.push_str(&format!("$ {command}\n--- docs:\n{shown}--- now:\n{printed}"));
        }
        written.push_str(&printed);
    }
    let exit = process.wait(LIMIT).await.expect("the last command stops it");
    assert_eq!(exit.ended, Ended::Code(0), "{}", process.tail());
    assert!(commands > 15, "{commands} commands in {}", path.display());
    if update {
        std::fs::write(&path, written).unwrap();
        return;
    }
    assert!(wrong.is_empty(), "UPDATE_DOCS=1 writes what came out:\n{wrong}");
}

#[test]
fn what_is_masked_is_no_more_than_what_differs() {
    assert_eq!(masked("HTTP/1.1 200 OK"), "HTTP/1.1 200 OK");
    assert_eq!(masked("date: Sat, 21 Nov 2026 12:00:00 GMT"), "date: #");
    assert_eq!(masked("  \"age_ms\": 123,"), "  \"age_ms\": #,");
    assert_eq!(masked("  \"in_flight\": 1,"), "  \"in_flight\": 1,");
    assert_eq!(
        masked("in flight: GET /x (1.5s, working)"),
        masked("in flight: GET /x (20ms, working)")
    );
}
