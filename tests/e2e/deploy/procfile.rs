//! The Procfile's lines, started by a shell that becomes the command, and stopped by SIGTERM. A
//! runner that keeps its shell must signal all processes, as Heroku does.

use std::path::Path;
use std::time::Duration;

use lifecycle_drill::{Ended, Process, ReadyWhen, Setting, Signal, Subject};
use tempfile::TempDir;

use super::{MANIFESTS, read};

/// The names of its processes, and their commands.
fn lines(text: &str) -> Vec<(&str, &str)> {
    text.lines().map(|line| line.split_once(": ").expect("NAME: COMMAND")).collect()
}

async fn started(command: &str, folder: &Path) -> Process {
    let orders = tests::example("orders");
    let programs = orders.parent().expect("a folder").display();
    let subject = Subject::new("/bin/sh")
        .args(["-c", "exec \"$@\"", "sh"])
        .args(command.split_whitespace())
        .env("PATH", format!("{programs}:/usr/bin:/bin"))
        .env("QUEUE_URL", format!("sqlite:{}/orders.db?queue=orders", folder.display()))
        .env("LIFECYCLE_GRACE_PERIOD", "6s")
        .env("LIFECYCLE_LAME_DUCK", "200ms")
        .port_env("PORT")
        .host_env("HOST")
        .probe_addr_env("LIFECYCLE_PROBE_ADDR")
        .ready_when(ReadyWhen::Line("ready".into()));
    Box::pin(Process::start(&subject, Setting::Plain)).await.expect(command)
}

#[tokio::test]
async fn every_line_starts_and_ends_by_sigterm() {
    let (text, folder) = (read("Procfile"), TempDir::new().unwrap());
    let lines = lines(&text);
    let (release, command) = lines[0];
    assert_eq!(release, "release", "what must run first stands first");
    let mut migrated = started(command, folder.path()).await;
    assert_eq!(migrated.wait(LIMIT).await.expect("ends").ended, Ended::Code(0));
    let mut running = Vec::new();
    for (name, command) in &lines[1..] {
        assert!(MANIFESTS.contains(name), "{name}");
        running.push(started(command, folder.path()).await);
    }
    assert_eq!(running.len(), 3);
    for process in &mut running {
        process.signal(Signal::Term).unwrap();
    }
    for mut process in running {
        let exit = process.wait(LIMIT).await.expect("ends in time");
        assert_eq!(exit.ended, Ended::Code(0), "{}", process.tail());
    }
}

const LIMIT: Duration = Duration::from_secs(10);
