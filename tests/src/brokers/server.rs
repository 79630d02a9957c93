//! One private server process: started, paused, stopped, started again on the same port.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// A server process on a port of 127.0.0.1, killed on drop.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Server {
    /// Starts the command, its output in `server.log` in that folder, and waits until
    /// somebody listens on the port.
    ///
    /// # Panics
    /// When it ends or does not listen within 120 s; the message has the end of its log.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn start(mut command: Command, folder: &Path, port: u16) -> Self {
        let log = folder.join("server.log");
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        let errors = file.try_clone().expect("a log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut server = Self { child, port, log };
        let limit = Instant::now() + START_LIMIT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            let ended = server.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "ended with {ended:?}: {}", server.tail());
            assert!(Instant::now() < limit, "does not listen: {}", server.tail());
            sleep(LOOK_AGAIN).await;
        }
        server
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The end of what it has said.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Stops its clock: it keeps its sockets and answers nobody. Returns when all of its
    /// threads stand still, which takes a moment after the signal.
    ///
    /// # Panics
    /// When they do not within some seconds.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        stand_still(|| id.is_none_or(stands_still));
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends it a signal, unless it has ended.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            kill_process(id, signal).expect("a child can be signalled");
        }
    }

    /// Ends it by that signal and waits for its end.
    ///
    /// # Panics
    /// When it has not ended within 120 s.
    ///
    /// # Cancel safety
    /// Cancel safe: the signal has been sent, and the process is killed on drop.
    pub async fn end(mut self, signal: Signal) {
        self.signal(Signal::CONT);
        self.signal(signal);
        let ended = timeout(START_LIMIT, self.child.wait()).await;
        ended.expect("it ends within the limit").expect("a child can be waited for");
    }
}

/// Waits until those that were told to stop do.
pub(super) fn stand_still(do_so: impl Fn() -> bool) {
    let limit = Instant::now() + PAUSE_LIMIT;
    while !do_so() {
        assert!(Instant::now() < limit, "it goes on after SIGSTOP");
        std::thread::yield_now();
    }
}

/// Also a process that is not there.
pub(super) fn stands_still(pid: i32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status
            .lines()
            .find(|line| line.starts_with("State:"))
            .is_none_or(|line| line.contains(['T', 'Z']))
    })
}

/// A port that nobody listens on at this moment, and that the system gives to no client: below
/// its range for those, so that a server which is stopped finds it free when it starts again.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let ports = std::iter::repeat_with(|| fastrand::u16(PORTS)).take(PORTS_TRIED);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.into_iter().find(is_free).expect("a free port")
}

/// The path of a program, or a panic that says which Debian package has it.
///
/// # Panics
/// When none of the paths is there.
#[must_use]
pub fn needs(paths: &[&str], package: &str) -> PathBuf {
    let found = paths.iter().map(PathBuf::from).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("none of {paths:?} is there: `apt-get install {package}` (tests/run.sh does)")
    })
}

const START_LIMIT: Duration = Duration::from_secs(120);
const PORTS: std::ops::Range<u16> = 11_000..32_000;
const PORTS_TRIED: usize = 1000;
const PAUSE_LIMIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
