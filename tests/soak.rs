//! The short form of the soak: a process of its own, since what leaks is counted by process.
#![allow(clippy::print_stdout, reason = "the table belongs into the log")]

use std::process::{Command, Output, Stdio};

fn soak(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soak"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    said
}

/// Each burden once.
#[test]
fn load_through_sixty_stops_leaks_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("soak.md");
    let page_told = page.to_str().expect("its name is text");
    let arguments = ["--seconds", "6", "--cycles", "60", "--markdown", page_told];
    let output = soak(&arguments).output().expect("it runs");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said.contains("60 stops, 6 of them with something held, which 3 had to cut"), "{said}");
    let page = std::fs::read_to_string(page).expect("it is written");
    let table = said.split_once("\n\n").expect("a table").1.trim_end();
    assert!(page.starts_with("# A soak") && page.contains(table), "{page}");
}

/// The controls: each leak is found, and nothing else is taken for one.
#[test]
fn load_through_stops_that_leak_is_found_out() {
    let leaks = ["descriptors", "memory", "tasks"].map(|leak| {
        let arguments = ["--seconds", "4", "--cycles", "40", "--leak", leak];
        (leak, soak(&arguments).spawn().expect("it runs"))
    });
    for (leak, child) in leaks {
        let output = child.wait_with_output().expect("it ends");
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{leak}: {output:?}");
        let found: Vec<_> = said.lines().filter(|line| line.contains("**")).collect();
        let of = format!("{leak}, before and after |");
        let of = if leak == "memory" { "memory allocated, bytes, before and after |" } else { &of };
        assert!(found.iter().any(|line| line.contains(of)), "{leak}: {said}");
        // A task that is leaked is memory too.
        let may = |line: &&str| line.contains(leak) || line.contains("memory");
        assert!(found.iter().all(may), "{leak}: {said}");
    }
}
