//! A haproxy of our own: started with a configuration in a temporary folder, told of replicas
//! through its admin socket, asked for its counters.
//!
//! # Invariants
//! 1. Dropped, it is killed, and its folder is gone.
//! 2. What it logs is counted and never held back: a full pipe would make it drop lines.

mod config;
mod follow;
mod log;
mod stats;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::{Child, Command},
    task::JoinSet,
    time::{sleep, timeout},
};

pub(super) use self::config::{Config, SIGNED};
pub(super) use self::follow::{Follower, Note};
pub(super) use self::log::Seen;
pub(super) use self::stats::Stats;
use crate::{output::Splitter, port};

/// Why there is no balancer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BalancerError {
    /// haproxy is not on this machine, or cannot be run.
    #[error("cannot run haproxy: install the Debian package `haproxy`")]
    Missing(#[source] io::Error),
    /// No free port, or no folder to write to.
    #[error("no place for haproxy's configuration and sockets")]
    NoPlace(#[source] io::Error),
    /// It ended or did not answer in time.
    #[error("haproxy did not come up; it said: {said}")]
    NotUp {
        /// The last of its output.
        said: String,
    },
    /// It did not do what it was told through its admin socket.
    #[error("haproxy refused `{command}`: {answer}")]
    Refused {
        /// What it was told.
        command: String,
        /// What it answered.
        answer: String,
    },
    /// Its admin socket did not answer.
    #[error("haproxy's admin socket does not answer")]
    Silent(#[source] io::Error),
}

/// A running haproxy.
#[derive(Debug)]
pub(super) struct Haproxy {
    pub(super) http1: SocketAddr,
    pub(super) http2: SocketAddr,
    admin: Admin,
    seen: Arc<Mutex<Seen>>,
    child: Child,
    _readers: JoinSet<()>,
    _folder: TempDir,
}

/// Its admin socket.
#[derive(Clone, Debug)]
pub(super) struct Admin(PathBuf);

impl Haproxy {
    /// Starts it; on other ports if another process takes them first.
    pub(super) async fn start(config: &Config) -> Result<Self, BalancerError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Self::once(config).await {
                Err(BalancerError::NotUp { .. }) if attempts < START_ATTEMPTS => {}
                started => return started,
            }
        }
    }

    async fn once(config: &Config) -> Result<Self, BalancerError> {
        let no_port = || BalancerError::NoPlace(io::Error::from(io::ErrorKind::AddrInUse));
        let (http1, http2) = port::two_free().ok_or_else(no_port)?;
        let folder = tempfile::tempdir().map_err(BalancerError::NoPlace)?;
        let (file, socket) = (folder.path().join("haproxy.cfg"), folder.path().join("admin"));
        let text = config.text(http1, http2, &socket);
        std::fs::write(&file, text).map_err(BalancerError::NoPlace)?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).kill_on_drop(true).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(BalancerError::Missing)?;
        let seen = Arc::<Mutex<Seen>>::default();
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(read(stdout, Arc::clone(&seen)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(read(stderr, Arc::clone(&seen)));
        }
        let admin = Admin(socket);
        let mut haproxy =
            Self { http1, http2, admin, seen, child, _readers: readers, _folder: folder };
        let up = async {
            while haproxy.admin.tell("show info").await.is_err() {
                // Its log says nothing when all is well: there is no event to wait for.
                sleep(LOOK_EVERY).await;
            }
        };
        let is_up = tokio::select! {
            up = timeout(START_LIMIT, up) => up.is_ok(),
            _ended = haproxy.child.wait() => false,
        };
        if is_up { Ok(haproxy) } else { Err(BalancerError::NotUp { said: haproxy.seen().tail() }) }
    }

    pub(super) fn admin(&self) -> Admin {
        self.admin.clone()
    }

    pub(super) fn seen(&self) -> Seen {
        locked(&self.seen).clone()
    }

    pub(super) async fn stats(&self) -> Result<Stats, BalancerError> {
        Ok(Stats::parse(&self.admin.tell("show stat").await?))
    }
}

impl Admin {
    /// Says one line, and returns the answer.
    pub(super) async fn tell(&self, line: &str) -> Result<String, BalancerError> {
        let talk = async {
            let mut stream = UnixStream::connect(&self.0).await?;
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        let answer = timeout(TALK_LIMIT, talk).await;
        answer
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
            .map_err(BalancerError::Silent)
    }
}

async fn read(mut from: impl AsyncRead + Unpin, seen: Arc<Mutex<Seen>>) {
    let mut splitter = Splitter::default();
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let mut seen = locked(&seen);
        splitter.feed(chunk.get(..count).unwrap_or_default(), |line| seen.push(line));
    }
}

/// A poisoned lock only means that a reader panicked; the counts are still counts.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const START_ATTEMPTS: u32 = 3;
const START_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const TALK_LIMIT: Duration = Duration::from_secs(5);
