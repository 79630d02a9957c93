//! `lifecycle-drill compare`, with our own server alone: the others take minutes to build.

use std::fs;
use std::process::{Command, Output};

fn compare(arguments: &[&str]) -> Output {
    let mut command = Command::new(tests::example("lifecycle-drill"));
    command.arg("compare").args(arguments).output().unwrap()
}

#[test]
fn the_table_goes_between_the_marks_and_its_details_into_a_file_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let (readme, whole) = (folder.path().join("README.md"), folder.path().join("compare.md"));
    let (begin, end) =
        ("<!-- lifecycle-drill compare: begin -->", "<!-- lifecycle-drill compare: end -->");
    fs::write(&readme, format!("above\n{begin}\nold\n{end}\nbelow\n")).unwrap();
    let (target, files) = (tests::example("target"), [&readme, &whole].map(|file| file.to_str()));
    let arguments = [
        "--server=lifecycle",
        "--theme=websocket,streams",
        "--ours",
        target.to_str().unwrap(),
        "--markdown",
        files[0].unwrap(),
        "--markdown",
        files[1].unwrap(),
    ];
    let mut output = compare(&arguments);
    if !output.status.success() {
        // A busy machine is late now and then: the marks are there still.
        eprintln!("once more: {output:?}");
        output = compare(&arguments);
    }
    assert!(output.status.success(), "{output:?}");
    let readme = fs::read_to_string(&readme).unwrap();
    assert!(readme.starts_with(&format!("above\n{begin}\n")), "{readme}");
    assert!(readme.ends_with(&format!("{end}\nbelow\n")) && !readme.contains("old"), "{readme}");
    assert!(readme.contains("| `websocket-closed-1001` | pass |"), "{readme}");
    assert!(readme.contains("| pass, fail, n/a | 3, 0, 0 |"), "{readme}");
    let whole = fs::read_to_string(&whole).unwrap();
    assert!(whole.contains("| `streams-sse` | pass |") && whole.contains("# What was seen"));
}

#[test]
fn a_server_that_is_not_known_is_a_usage_error() {
    let output = compare(&["--server=nginx"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("`nginx`"), "{output:?}");
}

#[test]
fn peers_that_cannot_be_built_are_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let output = compare(&["--server=axum", "--peers", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot build"), "{output:?}");
}

/// The workspace of the others is not built by these tests, but it must be there and be locked.
#[test]
fn the_peers_are_a_locked_workspace_of_their_own() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../drill-peers");
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--no-deps", "--format-version=1", "--offline"]).current_dir(folder);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let targets = told["packages"][0]["targets"].as_array().unwrap().iter();
    let bins: Vec<_> = targets.filter(|one| one["kind"][0] == "bin").collect();
    let mut names: Vec<_> = bins.iter().filter_map(|one| one["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["actix-web", "axum", "axum-server", "rocket", "tonic"]);
    let lock = fs::read_to_string(format!("{folder}/Cargo.lock")).unwrap();
    for name in names {
        assert!(lock.contains(&format!("name = \"{name}\"\n")), "{name} is not locked");
    }
    for bin in bins {
        let path = bin["src_path"].as_str().unwrap();
        let length = fs::read_to_string(path).unwrap().lines().count();
        assert!(length < 80, "{path} has {length} lines: small servers");
    }
}
