//! What a rollout came to.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use tokio::time::Instant;

use super::{
    account::Account,
    haproxy::{Note, Seen, Stats},
    histogram::Histogram,
    kind::Kind,
    oha::Opinion,
    settings::Rollout,
};
use crate::{
    client::Fate,
    kubelet::{Event, Record, Which},
    process::Ended,
};

/// What a rollout came to, for each command that was put through it.
///
/// `Display` is a table for a person; [`json`](Self::json) and [`html`](Self::html) say more.
#[derive(Clone, Debug)]
#[must_use]
pub struct RolloutReport {
    pub(super) settings: Rollout,
    pub(super) sides: Vec<Side>,
    pub(super) oha: Option<Opinion>,
    pub(super) elapsed: Duration,
}

/// What it came to for one command.
#[derive(Clone, Debug)]
#[must_use]
pub struct Side {
    pub(super) name: String,
    pub(super) rolls: u32,
    /// How long there was load.
    pub(super) loaded: Duration,
    pub(super) account: Account,
    pub(super) stats: Stats,
    pub(super) seen: Seen,
    pub(super) replicas: Vec<Replica>,
}

/// What the balancer itself has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Balanced {
    /// Requests that came in.
    pub requests: u64,
    /// Connections to replicas that could not be made: nothing was sent.
    pub refused: u64,
    /// Requests that a replica was sent and that it gave no whole answer to.
    pub lost: u64,
    /// Requests that were tried again; none by the configuration.
    pub retries: u64,
    /// Requests that went over a connection to a replica that had been used before.
    pub reuses: u64,
    /// Failed requests by status and termination state, as haproxy logs it: `503 SC` could not
    /// be connected, `502 SH` was sent and lost. It drops a line when two threads log at once:
    /// the counts above are exact, these are not.
    pub states: BTreeMap<String, u64>,
}

/// How long answered requests took, from when they were due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latency {
    /// How many they were.
    pub count: u64,
    /// Half of them were not slower.
    pub p50: Duration,
    /// 99 of 100 were not slower.
    pub p99: Duration,
    /// 999 of 1 000 were not slower.
    pub p999: Duration,
    /// The slowest.
    pub max: Duration,
}

/// One replica and its times, since the beginning.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Replica {
    /// Where it listened.
    pub address: SocketAddr,
    /// Its readiness probe passed.
    pub ready: Option<Duration>,
    /// The balancer began to send to it.
    pub told: Option<Duration>,
    /// It was deleted.
    pub deleted: Option<Duration>,
    /// Its readiness probe failed, as the kubelet saw it.
    pub unready: Option<Duration>,
    /// SIGTERM.
    pub terminated: Option<Duration>,
    /// The balancer was told that it is gone.
    pub removed: Option<Duration>,
    /// SIGKILL at the end of the grace period.
    pub killed: Option<Duration>,
    /// It ended.
    pub ended: Option<(Duration, Ended)>,
}

impl RolloutReport {
    pub(super) fn new(
        settings: Rollout,
        sides: Vec<Side>,
        oha: Option<Opinion>,
        elapsed: Duration,
    ) -> Self {
        Self { settings, sides, oha, elapsed }
    }

    /// What oha counted beside the load of the first command, if it was asked.
    #[must_use]
    pub fn oha(&self) -> Option<&Opinion> {
        self.oha.as_ref()
    }

    /// The command that was to be shown.
    ///
    /// # Panics
    /// Never: there is always one.
    pub fn first(&self) -> &Side {
        self.sides.first().expect("invariant: a rollout has at least one side")
    }

    /// All of them, in the order given.
    pub fn sides(&self) -> impl Iterator<Item = &Side> {
        self.sides.iter()
    }
}

impl Side {
    pub(super) fn new(
        name: String,
        rolls: u32,
        loaded: Duration,
        account: Account,
        (stats, seen): (Stats, Seen),
        replicas: Vec<Replica>,
    ) -> Self {
        Self { name, rolls, loaded, account, stats, seen, replicas }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many times all replicas were replaced.
    #[must_use]
    pub fn rolls(&self) -> u32 {
        self.rolls
    }

    /// How many requests were begun; each has one outcome.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.account.total()
    }

    /// How many had another outcome than a 2xx answer.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.account.count(Kind::is_failure)
    }

    /// How many were sent and lost, as the client or the balancer saw it, whichever saw more.
    ///
    /// To a client of HTTP/2 haproxy says `REFUSED_STREAM` for a connection that it could not
    /// make, but also for a request that a replica has dropped, which it does not count. So what
    /// is not explained by its failed connections (those that it did not answer with 503) is lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let refused = self.account.count(|kind| kind == Kind::Failed(Fate::NotProcessed));
        let unanswered =
            self.stats.connect_errors_http2.saturating_sub(self.account.turned_away_http2);
        let counted = self.account.count(Kind::is_lost).max(self.stats.response_errors);
        counted + refused.saturating_sub(unanswered)
    }

    /// How many got no connection to a replica, as the balancer said: a 503 of its own, or over
    /// HTTP/2 that the request was not processed. Not lost, but for those that
    /// [`lost`](Self::lost) counts.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        let kinds = [Kind::Balancer(503), Kind::Failed(Fate::NotProcessed)];
        self.account.count(|kind| kinds.contains(&kind))
    }

    /// How many replicas were killed at the end of the grace period, or ended with another exit
    /// code than this.
    #[must_use]
    pub fn ended_badly(&self, clean: i32) -> usize {
        let is_bad = |replica: &&Replica| {
            let ended = replica.ended.map(|(_, ended)| ended);
            replica.killed.is_some() || ended.is_some_and(|ended| ended != Ended::Code(clean))
        };
        self.replicas.iter().filter(is_bad).count()
    }

    /// How many requests met each outcome.
    pub fn kinds(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        self.account.by_kind.iter().map(|(kind, count)| (*kind, *count))
    }

    /// What the balancer has counted.
    #[must_use]
    pub fn balanced(&self) -> Balanced {
        Balanced {
            requests: self.stats.requests,
            refused: self.stats.connect_errors,
            lost: self.stats.response_errors,
            retries: self.stats.retries,
            reuses: self.stats.reuses,
            states: self.seen.failed.clone(),
        }
    }

    /// How long answered requests took.
    #[must_use]
    pub fn latency(&self) -> Latency {
        Latency::of(&self.account.always)
    }

    /// The same of those that were due while replicas were being replaced.
    #[must_use]
    pub fn latency_in_rolls(&self) -> Latency {
        Latency::of(&self.account.rolling)
    }

    /// The longest time that the client sent a request late.
    #[must_use]
    pub fn client_late_max(&self) -> Duration {
        self.account.late_max
    }

    /// Every replica that there was, in the order in which they were ready.
    #[must_use]
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// How many requests there were a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
        let requests = self.requests() as f64;
        requests / self.loaded.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// How replicas ended, with how many of them.
    pub(super) fn ends(&self) -> BTreeMap<String, u64> {
        let mut ends = BTreeMap::new();
        for (_, ended) in self.replicas.iter().filter_map(|replica| replica.ended) {
            *ends.entry(ended.to_string()).or_default() += 1;
        }
        ends
    }
}

impl Latency {
    fn of(times: &Histogram) -> Self {
        Self {
            count: times.total(),
            p50: times.quantile(0.5),
            p99: times.quantile(0.99),
            p999: times.quantile(0.999),
            max: times.max(),
        }
    }
}

impl Replica {
    pub(super) fn new(
        epoch: Instant,
        address: SocketAddr,
        record: &Record,
        notes: &[Note],
    ) -> Self {
        let since = |at: Instant| at.saturating_duration_since(epoch);
        let at = |event: &Event| record.at(event).map(since);
        let ready = record.at(&Event::Probed(Which::Readiness, true));
        // A port may have been another's before.
        let told = notes
            .iter()
            .find(|note| note.address == address && note.sends && Some(note.at) >= ready);
        let removed = told.and_then(|told| {
            let of_it = |note: &&Note| note.address == address && !note.sends;
            notes.iter().filter(of_it).find(|note| note.at >= told.at)
        });
        Self {
            address,
            ready: ready.map(since),
            told: told.map(|note| since(note.at)),
            deleted: at(&Event::Deleted),
            unready: at(&Event::Probed(Which::Readiness, false)),
            terminated: at(&Event::Terminated),
            removed: removed.map(|note| since(note.at)),
            killed: at(&Event::Killed),
            ended: record.exit().map(|exit| (since(exit.at), exit.ended)),
        }
    }
}

impl fmt::Display for RolloutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, side) in self.sides.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{side}")?;
        }
        match &self.oha {
            Some(opinion) => write!(f, "\noha beside the first, by its own account:\n{opinion}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} failed of {} requests ({} sent and lost), {:.0} a second, {} rolls",
            self.name,
            self.failed(),
            self.requests(),
            self.lost(),
            self.rate(),
            self.rolls
        )?;
        for ((protocol, method), count) in &self.account.sent {
            writeln!(f, "  sent      {count:>9} {protocol} {method}")?;
        }
        for (kind, count) in self.kinds() {
            writeln!(f, "  outcome   {count:>9} {kind}")?;
        }
        let balanced = self.balanced();
        writeln!(
            f,
            "  haproxy   {:>9} requests, {} connections refused (econ), {} sent and lost (eresp), \
             {} retried, {} on used connections",
            balanced.requests, balanced.refused, balanced.lost, balanced.retries, balanced.reuses
        )?;
        for (state, count) in &balanced.states {
            writeln!(f, "  haproxy   {count:>9} logged as {state}")?;
        }
        for (name, times) in [("always", self.latency()), ("in rolls", self.latency_in_rolls())] {
            writeln!(
                f,
                "  latency   {name}: p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?} of {}",
                times.p50, times.p99, times.p999, times.max, times.count
            )?;
        }
        writeln!(f, "  client    at most {:?} behind", self.client_late_max())?;
        for (end, count) in self.ends() {
            writeln!(f, "  replicas  {count:>9} ended with {end}")?;
        }
        for failure in self.account.failures.iter().take(FAILURES_SHOWN) {
            let done = &failure.done;
            writeln!(
                f,
                "  failure   at {:.3} s, after {:?}: {} {}: {}",
                done.due.as_secs_f64(),
                done.took,
                done.protocol,
                done.method,
                failure.why
            )?;
        }
        for line in self.seen.first.iter().take(FAILURES_SHOWN) {
            writeln!(f, "  haproxy said {line}")?;
        }
        Ok(())
    }
}

const FAILURES_SHOWN: usize = 10;
