//! The command itself: its arguments, its file, its reports, its exit codes.

use std::process::Command;

#[test]
fn the_list_names_every_scenario() {
    let listed = Command::new(env!("CARGO_BIN_EXE_lifecycle-drill")).arg("list").output().unwrap();
    assert!(listed.status.success());
    let text = String::from_utf8(listed.stdout).unwrap();
    for scenario in lifecycle_drill::scenarios() {
        assert!(text.contains(scenario.name()), "{text}");
    }
}
