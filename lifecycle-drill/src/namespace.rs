//! The process under test as PID 1 of a PID namespace of its own, as in a container.
//!
//! By util-linux' `unshare`, which stays outside and ends as the process inside does. Signals
//! must not go to it: they go to its only child.

use std::{
    ffi::OsStr,
    fs, io,
    process::{Command, Stdio},
};

use rustix::process::Pid;

/// The arguments that make the command behind them PID 1 of a new namespace.
///
/// Who is not root needs a user namespace for that; the user stays the same in it.
pub(crate) fn unshare(program: &OsStr) -> Vec<&OsStr> {
    let mut args = Vec::with_capacity(8);
    if !rustix::process::geteuid().is_root() {
        args.extend(["--user", "--map-current-user"].map(OsStr::new));
    }
    args.extend(["--pid", "--fork", "--mount-proc", "--kill-child", "--"].map(OsStr::new));
    args.push(program);
    args
}

/// What the system says when it refuses such a namespace; `None` if it does not.
pub(crate) fn refused() -> Option<String> {
    let mut command = Command::new(UNSHARE);
    command.args(unshare(OsStr::new("true"))).stdin(Stdio::null());
    match command.output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("{UNSHARE}: {error}")),
    }
}

/// The process inside, by its id outside.
pub(crate) fn inner(unshare: Pid) -> io::Result<Pid> {
    let outer = unshare.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
    let number = match children {
        Ok(text) => text.split_whitespace().next().and_then(|pid| pid.parse().ok()),
        // The kernel was built without that file.
        Err(_) => child_by_stat(outer.get())?,
    };
    number.and_then(Pid::from_raw).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "no process in the namespace (yet, or any more)")
    })
}

fn child_by_stat(parent: i32) -> io::Result<Option<i32>> {
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // It may have ended since.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if parent_of(&stat) == Some(parent) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// The parent in a line of `/proc/PID/stat`, whose second field may hold blanks and brackets.
fn parent_of(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// The program of util-linux that makes namespaces.
pub(crate) const UNSHARE: &str = "unshare";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_whatever_the_name() {
        assert_eq!(parent_of("77 (a) b (c)) S 42 77 77 0"), Some(42));
        assert_eq!(parent_of(""), None);
        let me = i32::try_from(std::process::id()).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let expected = i32::try_from(child.id()).ok();
        let found = child_by_stat(me).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, expected);
    }
}
