//! The short form of the soak: a process of its own, since what leaks is counted by process.
#![allow(clippy::print_stdout, reason = "the table belongs into the log")]

use std::process::{Command, Output};

fn soak(arguments: &[&str]) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soak"));
    let output = command.args(arguments).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, said)
}

#[test]
fn load_through_forty_stops_leaks_nothing() {
    let (output, said) = soak(&["--seconds", "6", "--cycles", "40"]);
    println!("{said}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said.contains("40 stops; "), "{said}");
    assert!(!said.contains("; 0 jobs"), "the worker was at work: {said}");
}

/// The controls: each leak is found, and nothing else is taken for one.
#[test]
fn load_through_stops_that_leak_is_found_out() {
    for (leak, lines) in [("tasks", 2), ("descriptors", 1), ("memory", 1)] {
        let (output, said) = soak(&["--seconds", "5", "--cycles", "40", "--leak", leak]);
        assert_eq!(output.status.code(), Some(1), "{leak}: {output:?}");
        let found: Vec<_> = said.lines().filter(|line| line.contains("LEAKS")).collect();
        assert!(found.iter().all(|line| line.contains(leak)), "{leak}: {said}");
        assert!(found.len() >= lines, "{leak}: {said}");
    }
}
