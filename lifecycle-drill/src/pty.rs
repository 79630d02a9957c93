//! A pseudo-terminal for the process under test: both output streams and stdin on it.
//!
//! It is never anyone's controlling terminal, so no signal comes from it; the process only
//! sees that its streams are terminals.

use std::{
    io,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll, ready},
};

use rustix::{
    fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::unix::pipe::Receiver,
};

use crate::escapes::Escapes;

/// Our end and the three streams for the process.
#[derive(Debug)]
pub(crate) struct Pty {
    pub(crate) ours: Ours,
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
}

/// What is printed there, without colours and the like: a program that sees a terminal prints
/// them, and a line must be known by its text all the same.
#[derive(Debug)]
pub(crate) struct Ours {
    printed: Receiver,
    escapes: Escapes,
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
        ours: Ours {
            printed: Receiver::from_owned_fd_unchecked(ours)?,
            escapes: Escapes::default(),
        },
        stdin: Stdio::from(theirs.try_clone()?),
        stdout: Stdio::from(theirs.try_clone()?),
        stderr: Stdio::from(theirs),
    })
}

impl AsyncRead for Ours {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; 4096];
        loop {
            let room = into.remaining().min(chunk.len());
            let mut read = ReadBuf::new(&mut chunk[..room]);
            ready!(Pin::new(&mut self.printed).poll_read(cx, &mut read))?;
            let text: Vec<_> = self.escapes.strip(read.filled()).collect();
            // Nothing at all is the end; nothing but escapes is not.
            if !text.is_empty() || read.filled().is_empty() {
                into.put_slice(&text);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::process::Command;

    use super::*;
    use crate::output::{Output, Stream, read_lines};

    /// What it has printed on a terminal of its own, to its end, which is a good one.
    async fn printed(mut command: Command) -> Output {
        let pty = open().unwrap();
        command.stdin(pty.stdin).stdout(pty.stdout).stderr(pty.stderr);
        let mut child = command.spawn().unwrap();
        // It has copies of the terminal's side, which must end with the child.
        drop(command);
        let output = Output::new();
        let reading = read_lines(pty.ours, Stream::Terminal, output.clone());
        tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap();
        assert!(child.wait().await.unwrap().success());
        output
    }

    #[tokio::test]
    async fn colours_are_taken_out_of_what_is_printed_there() {
        let mut command = Command::new("printf");
        command.arg("\\033[1;32mrea\\033]0;a title\\007d\\033(By\\033[0m\\n\\033[0m");
        let lines = printed(command).await.lines();
        assert_eq!((lines.len(), lines[0].text.as_str()), (1, "ready"), "{lines:?}");
    }

    #[tokio::test]
    async fn a_process_on_it_sees_terminals_and_its_output_comes_back() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "test -t 0 && test -t 1 && echo terminal >&2"]);
        let output = printed(command).await;
        assert_eq!(output.lines()[0].text, "terminal");
    }
}
