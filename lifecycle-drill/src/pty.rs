//! A pseudo-terminal for the process under test: both output streams and stdin on it.
//!
//! It is never anyone's controlling terminal, so no signal comes from it; the process only
//! sees that its streams are terminals.

use std::{io, process::Stdio};

use rustix::{
    fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use tokio::net::unix::pipe::Receiver;

/// Our end and the three streams for the process.
#[derive(Debug)]
pub(crate) struct Pty {
    pub(crate) ours: Receiver,
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
}

/// Opens a new pseudo-terminal. Must be called inside a tokio runtime with IO.
pub(crate) fn open() -> io::Result<Pty> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
    fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
    Ok(Pty {
        // Not a pipe, but read like one: tokio's own safe way to poll a descriptor of ours.
        ours: Receiver::from_owned_fd_unchecked(ours)?,
        stdin: Stdio::from(theirs.try_clone()?),
        stdout: Stdio::from(theirs.try_clone()?),
        stderr: Stdio::from(theirs),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::output::{Output, Stream, read_lines};

    #[tokio::test]
    async fn a_process_on_it_sees_terminals_and_its_output_comes_back() {
        let pty = open().unwrap();
        let mut command = tokio::process::Command::new("/bin/sh");
        command.args(["-c", "test -t 0 && test -t 1 && echo terminal >&2"]);
        command.stdin(pty.stdin).stdout(pty.stdout).stderr(pty.stderr);
        let mut child = command.spawn().unwrap();
        drop(command);
        let output = Output::new();
        let reading = read_lines(pty.ours, Stream::Terminal, output.clone());
        tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap();
        assert!(child.wait().await.unwrap().success());
        assert_eq!(output.lines()[0].text, "terminal");
    }
}
