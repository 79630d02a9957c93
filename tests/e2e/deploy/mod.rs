//! What `deploy/` has: each file is read, checked, and run as far as this machine can.
//!
//! Not here: a cluster, and an engine that builds the image. The manifests are checked against
//! Kubernetes' schemas and against the library's own arithmetic, and their commands are run.

mod image;
mod kubernetes;
mod manifest;
mod procfile;
mod schemas;
mod unit;

use std::path::PathBuf;

/// A file of that folder.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).expect(name)
}

/// The manifests, by the process of `orders` that they run.
const MANIFESTS: [&str; 4] = ["clock", "migrate", "web", "worker"];
