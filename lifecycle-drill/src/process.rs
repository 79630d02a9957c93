//! A started instance of the command under test.
//!
//! # Invariants
//! 1. A dropped [`Process`] is killed, with its whole process group. What has left the group is
//!    not, nor is anything when we are killed by SIGKILL: the kernel would have to be asked for
//!    that between fork and exec (`PR_SET_PDEATHSIG`), which cannot be done without `unsafe`.
//! 2. No signal goes to a process id that is known to be reaped. It is known a moment later than
//!    it is so; the kernel gives a number away again only after all others.
//! 3. Every wait has a limit.

use std::{fmt, io, net::SocketAddr, process::ExitStatus, process::Stdio, time::Duration};

use rustix::process::Pid;
use tokio::{
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    client::{Peer, Wire, ask},
    error::{SignalError, StartError},
    namespace,
    output::{self, Line, Output, Stream},
    port, pty,
    signal::Signal,
    subject::{PidOne, ReadyWhen, Subject},
};

/// A running (or ended) instance of a [`Subject`]. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    address: SocketAddr,
    probe_address: SocketAddr,
    /// Of what we have started: the process, or the `unshare` around it.
    pid: Pid,
    pid_1: PidOne,
    output: Output,
    exit: watch::Receiver<Option<Exit>>,
    tasks: Vec<JoinHandle<()>>,
}

/// How and when the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// By a code or by a signal.
    pub ended: Ended,
    /// When we were told.
    pub at: Instant,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// By itself, with this exit code.
    Code(i32),
    /// Killed by the signal of this number.
    Signal(i32),
}

/// What a start differs in from the plain one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting {
    /// Pipes for the output, nothing on stdin.
    #[default]
    Plain,
    /// With the variable of [`Subject::single_thread_env`], if there is one.
    SingleThread,
    /// All three standard streams on a pseudo-terminal.
    Terminal,
}

impl Process {
    /// Starts the command on a free port and waits until it is ready.
    ///
    /// A process that ends before it is ready (the port may have been taken in between) is
    /// started again on another port, three times in all.
    ///
    /// # Cancel safety
    /// Cancel safe: dropping the future kills what was started.
    /// # Errors
    /// [`StartError`]: it cannot run, ends early, or is not ready within
    /// [`Subject::start_timeout`].
    pub async fn start(subject: &Subject, setting: Setting) -> Result<Self, StartError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut process = Self::spawn(subject, setting)?;
            match process.ready(subject).await? {
                None => return Ok(process),
                Some(_) if attempts < START_ATTEMPTS => {}
                Some(exit) => {
                    if let (PidOne::Yes, Some(said)) = (subject.pid_1, namespace::refused()) {
                        return Err(StartError::NoNamespace { said });
                    }
                    process.rest_of_output().await;
                    let tail = process.output.tail(TAIL_LINES);
                    return Err(StartError::EndedEarly { ended: exit.ended, attempts, tail });
                }
            }
        }
    }

    /// Starts the command on a free port and does not wait for anything.
    ///
    /// Must be called inside a tokio runtime with IO and time enabled.
    ///
    /// # Errors
    /// [`StartError`]: no port, no pseudo-terminal, or the command cannot run.
    pub fn spawn(subject: &Subject, setting: Setting) -> Result<Self, StartError> {
        let (address, other) = port::two_free().ok_or(StartError::NoPort)?;
        let probe_address = if subject.separate_probes() { other } else { address };
        let mut command = command(subject, setting, address, probe_address);
        let master = match setting {
            Setting::Terminal => {
                let pty = pty::open().map_err(StartError::Pty)?;
                command.stdin(pty.stdin).stdout(pty.stdout).stderr(pty.stderr);
                Some(pty.ours)
            }
            Setting::Plain | Setting::SingleThread => None,
        };
        let failed = |source| match subject.pid_1 {
            PidOne::Yes => StartError::NoNamespace { said: format!("unshare: {source}") },
            PidOne::No => StartError::Spawn { program: subject.program.clone(), source },
        };
        let mut child = command.spawn().map_err(failed)?;
        // The command holds our copies of the pseudo-terminal's other end: let go of them.
        drop(command);
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.ok_or_else(|| failed(io::Error::other("no process id")))?;
        let output = Output::new();
        let mut tasks = Vec::with_capacity(3);
        if let Some(stdout) = child.stdout.take() {
            tasks.push(tokio::spawn(output::read_lines(stdout, Stream::Stdout, output.clone())));
        }
        if let Some(stderr) = child.stderr.take() {
            tasks.push(tokio::spawn(output::read_lines(stderr, Stream::Stderr, output.clone())));
        }
        if let Some(master) = master {
            tasks.push(tokio::spawn(output::read_lines(master, Stream::Terminal, output.clone())));
        }
        let (tell, exit) = watch::channel(None);
        tasks.push(tokio::spawn(reap(child, pid, tell)));
        let pid_1 = subject.pid_1;
        Ok(Self { address, probe_address, pid, pid_1, output, exit, tasks })
    }

    /// Sends a signal to the process itself (not to its children), as a platform does.
    ///
    /// # Errors
    /// [`SignalError::Gone`] if it is known to have ended, so that no stranger is signalled.
    pub fn signal(&self, signal: Signal) -> Result<(), SignalError> {
        match *self.exit.borrow() {
            Some(exit) => Err(SignalError::Gone(exit.ended)),
            None => {
                let pid = self.target().map_err(SignalError::Os)?;
                rustix::process::kill_process(pid, signal.to_os())
                    .map_err(|errno| SignalError::Os(errno.into()))
            }
        }
    }

    /// Waits for the end of the process, and then shortly for the rest of its output.
    /// `None`: it still runs after `limit`.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is lost, call again.
    pub async fn wait(&mut self, limit: Duration) -> Option<Exit> {
        let exit = timeout(limit, self.exit.wait_for(Option::is_some)).await.ok()?;
        let exit = exit.ok().and_then(|exit| *exit)?;
        self.rest_of_output().await;
        Some(exit)
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// The address of the main port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the probes: the main one unless the subject has another for them.
    #[must_use]
    pub fn probe_address(&self) -> SocketAddr {
        self.probe_address
    }

    /// The process id, as it is seen from here where the process itself is
    /// [PID 1](Subject::as_pid_1).
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.target().unwrap_or(self.pid).as_raw_nonzero().get()
    }

    /// What it printed so far, both streams in the order of reading (the newest 20 000 lines,
    /// and of these the newest 2 MiB).
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.output.lines()
    }

    /// The last lines of its output in one text, for messages.
    #[must_use]
    pub fn tail(&self) -> String {
        self.output.tail(TAIL_LINES)
    }

    /// What an ended process has printed last may still be on its way.
    async fn rest_of_output(&self) {
        // A grandchild may hold the pipes open for longer: what it prints is not waited for.
        let _timed_out = timeout(OUTPUT_REST_LIMIT, self.output.all_closed()).await;
    }

    /// Whom signals are for.
    fn target(&self) -> io::Result<Pid> {
        match self.pid_1 {
            PidOne::No => Ok(self.pid),
            PidOne::Yes => namespace::inner(self.pid),
        }
    }

    /// Waits until it is ready (`None`) or has ended.
    async fn ready(&mut self, subject: &Subject) -> Result<Option<Exit>, StartError> {
        let limit = subject.start_timeout;
        let deadline = Instant::now() + limit;
        let output = self.output.clone();
        let (main, probes) = (self.address, subject.probes_at(self.probe_address));
        let ready = async {
            match &subject.ready_when {
                ReadyWhen::Connects => until(|| async move { connects(main).await }).await,
                ReadyWhen::Http(path) => until(|| answers_200(&probes, path)).await,
                ReadyWhen::Line(line) => output.line(|text| text.trim() == line).await,
                ReadyWhen::LineContains(part) => output.line(|text| text.contains(part)).await,
            }
        };
        let waited = tokio::select! {
            // First, since another process may answer on the port that ours could not bind.
            biased;
            ended = timeout_at(deadline, self.exit.wait_for(Option::is_some)) => {
                ended.ok().and_then(Result::ok).map(|exit| *exit)
            }
            () = ready => Some(None),
        };
        waited.ok_or_else(|| StartError::NotReady { limit, tail: self.output.tail(TAIL_LINES) })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.borrow().is_none() {
            // Already gone is as good as killed.
            let _gone = rustix::process::kill_process_group(self.pid, Signal::Kill.to_os());
        }
        for task in &self.tasks {
            // The reaper's child is killed on drop and reaped by tokio.
            task.abort();
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "killed by signal {number}"),
        }
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

fn command(subject: &Subject, setting: Setting, main: SocketAddr, probes: SocketAddr) -> Command {
    let mut command = match subject.pid_1 {
        PidOne::No => Command::new(&subject.program),
        PidOne::Yes => {
            let mut command = Command::new(namespace::UNSHARE);
            command.args(namespace::unshare(subject.program.as_os_str()));
            command
        }
    };
    command.args(subject.args.iter().map(|arg| subject.fill(arg, main, probes)));
    if let Some(directory) = &subject.current_dir {
        command.current_dir(directory);
    }
    for (key, value) in &subject.envs {
        command.env(key, subject.fill(value, main, probes));
    }
    if let Some(key) = &subject.port_env {
        command.env(key, main.port().to_string());
    }
    if let Some(key) = &subject.host_env {
        command.env(key, main.ip().to_string());
    }
    if let Some(key) = &subject.probe_addr_env {
        command.env(key, probes.to_string());
    }
    if let (Setting::SingleThread, Some((key, value))) = (setting, &subject.single_thread_env) {
        command.env(key, value);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: a terminal's Ctrl-C for us is not for it, and it can be killed whole.
    command.process_group(0).kill_on_drop(true);
    command
}

/// Waits for the child and tells; then ends what it left behind in its group.
async fn reap(mut child: Child, pid: Pid, tell: watch::Sender<Option<Exit>>) {
    let status = child.wait().await;
    let at = Instant::now();
    let ended = status.map_or(Ended::Signal(0), Ended::from);
    // At once after the reaping. While a member lives the number cannot be given away, and if
    // none does, not before all others were.
    let _none_left = rustix::process::kill_process_group(pid, Signal::Kill.to_os());
    // Nobody is left to be told if the process was dropped.
    let _dropped = tell.send(Some(Exit { ended, at }));
}

/// Asks again and again; the caller sets the limit.
async fn until<F: Future<Output = bool>>(ask: impl Fn() -> F) {
    while !ask().await {
        sleep(READY_POLL).await;
    }
}

async fn connects(address: SocketAddr) -> bool {
    Wire::connect(address, READY_REQUEST_LIMIT).await.is_ok()
}

async fn answers_200(peer: &Peer, path: &str) -> bool {
    ask(peer, path, READY_REQUEST_LIMIT).await.status() == Some(200)
}

const START_ATTEMPTS: u32 = 3;
const TAIL_LINES: usize = 25;
const OUTPUT_REST_LIMIT: Duration = Duration::from_millis(500);
const READY_POLL: Duration = Duration::from_millis(10);
const READY_REQUEST_LIMIT: Duration = Duration::from_secs(1);
