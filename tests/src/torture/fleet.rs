//! Worker processes, seen from outside: started, signalled, waited for, killed on drop.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::Orders;
use super::ledger::{self, Event, now_ns};
use super::said::Said;

/// A worker process that has said that it is ready.
#[derive(Debug)]
pub struct WorkerProcess {
    child: Child,
    ledger: PathBuf,
    stderr: PathBuf,
}

/// How a worker process ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exit {
    /// Its exit code; `None` by a signal.
    pub code: Option<i32>,
    /// When it was seen to be gone.
    pub at: u64,
    /// What it has said to stderr.
    pub stderr: String,
    /// What it says of its jobs.
    pub said: Option<Said>,
    /// What it has written down.
    pub events: Vec<Event>,
}

impl WorkerProcess {
    /// Starts one, its files under that name in that folder, and waits until it is ready.
    ///
    /// # Errors
    /// How it ended instead.
    ///
    /// # Panics
    /// When it cannot be started, or is neither ready nor gone within 30 s.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn start(
        program: &Path,
        orders: &Orders,
        folder: &Path,
        name: &str,
    ) -> Result<Self, Box<Exit>> {
        let file = |kind: &str| folder.join(format!("{name}.{kind}"));
        let (ledger, stderr) = (file("ledger"), file("stderr"));
        let mut child = Command::new(program)
            .arg("worker")
            .envs(orders.variables())
            .env("TORTURE_LEDGER", &ledger)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&stderr).expect("a file for its stderr"))
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let this = Self { child, ledger, stderr };
        let line = timeout(START_LIMIT, lines.next_line()).await;
        match line.expect("it is ready or gone in time").expect("a pipe can be read") {
            Some(_) => Ok(this),
            None => Err(Box::new(this.exit(START_LIMIT).await)),
        }
    }

    /// Sends it a signal, and says when.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) -> u64 {
        let at = now_ns();
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process(id.expect("it was not waited for"), signal).expect("it can be signalled");
        at
    }

    /// What it has written down so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        ledger::read(&self.ledger)
    }

    /// Waits until what it has written down is as asked for.
    ///
    /// # Panics
    /// When that takes longer than 30 s; the message has what there is.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn until(&self, what: &str, is_so: impl Fn(&[Event]) -> bool) {
        let limit = Instant::now() + WAIT_LIMIT;
        loop {
            let events = self.events();
            if is_so(&events) {
                return;
            }
            let stderr = std::fs::read_to_string(&self.stderr).unwrap_or_default();
            assert!(Instant::now() < limit, "never {what}: {events:?}\n{stderr}");
            // A file tells nobody when it grows.
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not ended by then; it is killed.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn exit(mut self, limit: Duration) -> Exit {
        let ended = timeout(limit, self.child.wait()).await;
        let at = now_ns();
        let stderr = std::fs::read_to_string(&self.stderr).unwrap_or_default();
        let Ok(ended) = ended else { panic!("it has not ended within {limit:?}: {stderr}") };
        let code = ended.expect("a child can be waited for").code();
        let said = Said::read(&stderr);
        Exit { code, at, stderr, said, events: self.events() }
    }
}

const START_LIMIT: Duration = Duration::from_secs(30);
const WAIT_LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
