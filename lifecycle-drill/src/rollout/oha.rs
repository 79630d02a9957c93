//! A second opinion: the load generator oha beside our own load, if it is given.
//!
//! It asks over HTTP/1 alone, which it counts exactly; over HTTP/2 it was seen to count more
//! lost requests than there were. Its account is its own: nothing of it enters ours, but the
//! balancer's counters have its requests too.

use std::{collections::BTreeMap, fmt, path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{run::RolloutError, settings::Rollout};

/// What oha has counted by itself: whole answers by status, and errors by its words.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Opinion {
    /// How many answers had each status.
    #[serde(rename = "statusCodeDistribution")]
    pub statuses: BTreeMap<String, u64>,
    /// How many requests met each error.
    #[serde(rename = "errorDistribution")]
    pub errors: BTreeMap<String, u64>,
}

impl Opinion {
    /// How many had another outcome than a 2xx answer.
    #[must_use]
    pub fn failed(&self) -> u64 {
        let other = self.statuses.iter().filter(|(status, _)| !status.starts_with('2'));
        other.map(|(_, count)| count).sum::<u64>() + self.errors.values().sum::<u64>()
    }

    /// How many there were.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.statuses.values().chain(self.errors.values()).sum()
    }

    /// Adds what one run has printed.
    pub(super) fn add(&mut self, printed: &str) -> Result<(), RolloutError> {
        let one: Self = serde_json::from_str(printed).map_err(RolloutError::OhaSaid)?;
        for (all, new) in [(&mut self.statuses, one.statuses), (&mut self.errors, one.errors)] {
            new.into_iter().for_each(|(key, count)| *all.entry(key).or_default() += count);
        }
        // Requests under way when it is told to stop.
        self.errors.remove(CUT);
        Ok(())
    }
}

impl fmt::Display for Opinion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {} failed of {} requests", self.failed(), self.requests())?;
        let statuses =
            self.statuses.iter().map(|(status, count)| (count, format!("answered {status}")));
        let errors = self.errors.iter().map(|(error, count)| (count, error.clone()));
        statuses.chain(errors).try_for_each(|(count, what)| writeln!(f, "  {count:>9} {what}"))
    }
}

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
        command.args(["--no-tui", "--output-format", "json"]);
        command.args(["-z", "24h", "-c", "32", "-q", &rate, &url]);
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

const CUT: &str = "aborted due to deadline";
const FINISH_LIMIT: Duration = Duration::from_secs(10);
