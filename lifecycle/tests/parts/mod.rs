//! A child is this test binary again, told by a variable which part to play.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// A child that plays its part; killed when dropped.
pub(crate) struct Part {
    pub(crate) child: Child,
    lines: BufReader<ChildStdout>,
}

/// How a part ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Since it was told to stop, or waited for.
    pub(crate) took: Duration,
    pub(crate) stderr: String,
}

/// Starts the part of that name and waits until it says `ready`.
pub(crate) fn part(name: &str) -> Part {
    part_by(name, Command::new(std::env::current_exe().expect("a path")))
}

pub(crate) fn part_by(name: &str, mut command: Command) -> Part {
    let mut child = command
        .args(["--exact", "--nocapture", name])
        .env("LIFECYCLE_TEST_PART", name)
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut part = Part { child, lines };
    part.says("ready");
    part
}

impl Part {
    /// Reads its output up to a line with that text, and returns the line. The limit of this
    /// wait is the test's own.
    pub(crate) fn says(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let len = self.lines.read_line(&mut line).expect("text");
            assert!(len > 0, "it ended before it said {text:?}");
        }
        line
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// It must still be there so long from now.
    pub(crate) fn lives_on(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            assert_eq!(self.child.try_wait().expect("our child"), None);
            pause();
        }
    }

    /// Waits for its end.
    pub(crate) fn ends(mut self, limit: Duration) -> Ended {
        let (status, took) = wait(&mut self.child, Instant::now(), limit);
        Ended { status, took, stderr: self.stderr() }
    }

    pub(crate) fn terminate(mut self, limit: Duration) -> Ended {
        let told = Instant::now();
        self.signal("TERM");
        let (status, took) = wait(&mut self.child, told, limit);
        Ended { status, took, stderr: self.stderr() }
    }

    /// What it has printed, without waiting for others that hold the same pipe.
    fn stderr(&mut self) -> String {
        let mut stderr = self.child.stderr.take().expect("piped");
        let mut text = vec![0; 64 * 1024];
        // Its report is there already, in one write; without one the end of the pipe is.
        let len = stderr.read(&mut text).expect("readable");
        text.truncate(len);
        String::from_utf8(text).expect("text")
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already, or a test has failed.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    let signal = match name {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "TERM" => Signal::TERM,
        other => panic!("{other} is not among them"),
    };
    kill_process(Pid::from_child(child), signal).expect("it is our child");
}

/// Waits for its end; how long that took since it began.
pub(crate) fn wait(child: &mut Child, began: Instant, limit: Duration) -> (ExitStatus, Duration) {
    // The parent's end of stdin stays open meanwhile, so the child cannot leave by it.
    let _stdin = child.stdin.take();
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return (status, began.elapsed());
        }
        assert!(began.elapsed() <= limit, "still there after {limit:?}");
        pause();
    }
}

/// Between two looks at what nobody tells of: other tests need the core.
pub(crate) fn pause() {
    std::thread::park_timeout(Duration::from_millis(5));
}

/// That it happens within that time. Of three, as a stall of the machine is nobody's fault; most
/// often one is enough.
pub(crate) fn best_of_three(within: Duration, happens: impl Fn() -> Duration) {
    let mut times = Vec::new();
    for _ in 0..3 {
        let took = happens();
        if took < within {
            return;
        }
        times.push(took);
    }
    panic!("{times:?}, and {within:?} at most is the promise");
}

/// Whether this process is the child that plays this part.
pub(crate) fn plays(name: &str) -> bool {
    std::env::var("LIFECYCLE_TEST_PART").is_ok_and(|part| part == name)
}

/// Says ready, then blocks this thread until the parent goes away.
pub(crate) fn stay() {
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).expect("a pipe");
}
