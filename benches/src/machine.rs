//! On what and with what was measured: figures mean nothing without it.

use std::fs;

/// The processor, its cores and the kernel.
#[must_use]
pub fn machine() -> String {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown processor");
    let cores = processors.lines().filter(|line| line.starts_with("processor")).count();
    format!("{model}, {cores} cores, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

/// These crates with the versions that the lock file has, in its order of versions.
///
/// # Panics
/// When one is not in it.
#[must_use]
pub fn locked(crates: &[&str]) -> String {
    let version = |name: &&str| {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let at = LOCK.find(&entry).unwrap_or_else(|| panic!("no {name} in Cargo.lock"));
        let version = LOCK[at + entry.len()..].split('"').next().unwrap_or_default();
        format!("{name} {version}")
    };
    crates.iter().map(version).collect::<Vec<_>>().join(", ")
}

const LOCK: &str = include_str!("../../Cargo.lock");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let said = locked(&["apalis", "benches"]);
        assert_eq!(said, format!("apalis 1.0.0, benches {}", env!("CARGO_PKG_VERSION")));
    }
}
