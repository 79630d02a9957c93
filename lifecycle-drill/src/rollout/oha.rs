//! A second opinion: the load generator oha beside our own load, if it is given.
//!
//! It asks over HTTP/1 alone, which it counts exactly; over HTTP/2 it was seen to count more
//! lost requests than there were. Its account is its own: nothing of it enters ours, but the
//! balancer's counters have its requests too.

use std::{path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{run::RolloutError, settings::Rollout};

/// A running oha. Killed when dropped.
#[derive(Debug)]
pub(super) struct Oha(Child);

impl Oha {
    /// Starts it against that balancer, at a quarter of our rate.
    pub(super) fn start(
        program: &Path,
        settings: &Rollout,
        balancer: std::net::SocketAddr,
    ) -> Result<Self, RolloutError> {
        let rate = (settings.rate / 4).max(1).to_string();
        let url = format!("http://{balancer}{}", settings.get);
        let mut command = Command::new(program);
        command.args(["--no-tui", "-z", "24h", "-c", "32", "-q", &rate, &url]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A group of its own: Ctrl-C is for us first.
        command.kill_on_drop(true).process_group(0);
        command.spawn().map(Self).map_err(RolloutError::Oha)
    }

    /// Ends it as Ctrl-C does, and returns what it prints then.
    pub(super) async fn finish(self) -> Result<String, RolloutError> {
        let failed = |kind: std::io::ErrorKind| RolloutError::Oha(kind.into());
        let id = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let id = id.ok_or_else(|| failed(std::io::ErrorKind::NotFound))?;
        kill_process(id, Signal::INT).map_err(|errno| RolloutError::Oha(errno.into()))?;
        let output = timeout(FINISH_LIMIT, self.0.wait_with_output()).await;
        let output = output.map_err(|_| failed(std::io::ErrorKind::TimedOut))?;
        let output = output.map_err(RolloutError::Oha)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

const FINISH_LIMIT: Duration = Duration::from_secs(10);
