//! The manifests against Kubernetes' schemas, by PyPI's `kubernetes-validate`, which
//! `tests/run.sh` installs into the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{MANIFESTS, file, read};

/// In `--strict` mode: a field that is in no schema is an error.
fn validate(manifest: &Path) -> Output {
    let this = std::env::current_exe().expect("a running test has a path");
    // target/PROFILE/deps/e2e-HASH
    let target = this.ancestors().nth(3).expect("a test lies three folders deep in its target");
    let tool = target.join("tools/kubernetes/bin/kubernetes-validate");
    assert!(tool.exists(), "{} is missing: tests/run.sh install", tool.display());
    let mut command = Command::new(tool);
    command.args(["--strict", "--kubernetes-version", KUBERNETES]).arg(manifest).output().unwrap()
}

#[test]
fn every_manifest_fits_the_schemas() {
    for process in MANIFESTS {
        let output = validate(&file(&format!("kubernetes/{process}.yaml")));
        assert!(output.status.success(), "{process}: {output:?}");
    }
}

#[test]
fn a_misspelt_field_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (process, field, misspelt) in [
        ("web", "terminationGracePeriodSeconds", "terminationGracePeriod"),
        ("worker", "livenessProbe", "livenesProbe"),
        ("migrate", "backoffLimit", "backOffLimit"),
    ] {
        let path: PathBuf = folder.path().join("misspelt.yaml");
        let text = read(&format!("kubernetes/{process}.yaml"));
        let field = format!("{field}:");
        assert!(text.contains(&field));
        fs::write(&path, text.replace(&field, &format!("{misspelt}:"))).unwrap();
        let output = validate(&path);
        assert!(!output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(said.contains(misspelt), "{said}");
    }
}

const KUBERNETES: &str = "1.33";
