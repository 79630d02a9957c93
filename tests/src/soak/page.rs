//! The page that a run writes: what was run, when and on what, and its table.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::{Options, Verdict};

/// Writes it into that file.
///
/// # Errors
/// When it cannot be written.
pub fn write(file: &Path, options: &Options, verdict: &Verdict) -> io::Result<()> {
    fs::write(file, format!("{}{}.\n\n{verdict}", head(options), about()))
}

fn head(options: &Options) -> String {
    format!(
        "# A soak: servers that come and go under load\n\n\
         Written by `soak {options}`. Servers start and drain in one process, the next before the \
         last stops, while clients ask without a pause: is anything left behind, and is any request \
         or job lost? Every tenth server holds something at its stop: HTTP/2 streams, a stream of \
         events, half a body, a request, a hook or a job that does not end.\n\n\
         \"Then\" and \"later\" are before and after the whole run, both at rest and warmed up, or \
         the middle values of the third and the last quarter of its cycles. The first count, to the \
         byte and the thread; the second find what is given back only at the end.\n\n"
    )
}

/// The day, the machine, the compiler and the crates.
fn about() -> String {
    let said = |program: &str, argument: &str| {
        let asked = Command::new(program).arg(argument).output();
        let said = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        said.unwrap_or_default().trim().to_owned()
    };
    let rust = said("rustc", "--version");
    let rust: Vec<_> = rust.split(' ').take(2).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!(
        "{}, {cores} cores, Linux {}, {}, {build} build; {}",
        said("date", "--iso-8601"),
        kernel.trim(),
        rust.join(" "),
        CRATES.map(locked).join(", ")
    )
}

/// A crate with the version that the lock file has.
fn locked(name: &str) -> String {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let version = LOCK.split_once(&entry).and_then(|(_, rest)| rest.split('"').next());
    format!("{name} {}", version.expect("it is in the lock file"))
}

const CRATES: [&str; 6] =
    ["lifecycle", "lifecycle-tower", "lifecycle-worker", "tokio", "hyper", "axum"];
const LOCK: &str = include_str!("../../../Cargo.lock");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_of_what_it_is() {
        let about = about();
        let ours = format!("lifecycle {}, ", env!("CARGO_PKG_VERSION"));
        assert!(about.contains(&ours) && about.contains(" cores, Linux "), "{about}");
        assert!(about.contains("rustc 1."), "{about}");
    }
}
