//! The whole course: fleets, load, rolls in turn, report.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{
    account::Account,
    fleet::Fleet,
    haproxy::BalancerError,
    load::{Load, Plan, locked},
    oha::{Oha, Opinion},
    report::{RolloutReport, Side},
    settings::Rollout,
};
use crate::error::StartError;

/// Why a rollout could not be brought to its end; what became of requests is no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// There is no balancer, or it does not do what it is told.
    #[error(transparent)]
    Balancer(#[from] BalancerError),
    /// It broke off in the middle; what was counted until then is in the report.
    #[error("it broke off after {} rolls", report.first().rolls())]
    BrokenOff {
        /// The account so far.
        report: Box<RolloutReport>,
        /// Why.
        source: Box<RolloutError>,
    },
    /// A worker of the load was lost with its request: the account is not whole.
    #[error("a client was lost, the account is not whole")]
    ClientLost,
    /// A replica ran but its readiness probe did not pass in time.
    #[error("a replica was not ready in time; output: {output}")]
    NotReady {
        /// The last lines of its output.
        output: String,
    },
    /// oha could not be run.
    #[error("cannot run oha")]
    Oha(#[source] io::Error),
    /// oha printed what is no account of its.
    #[error("oha's account cannot be read")]
    OhaSaid(#[source] serde_json::Error),
    /// The balancer was not told of all replicas in time.
    #[error("the balancer was not told of all replicas in time")]
    NotTold,
    /// A replica outlived SIGKILL.
    #[error("a replica outlived SIGKILL")]
    Outlived,
    /// A replica could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// One side while it runs.
#[derive(Debug)]
struct Running {
    fleet: Fleet,
    plan: Arc<Plan>,
    account: Arc<Mutex<Account>>,
    rolls: u32,
    loaded: Duration,
}

impl Rollout {
    /// Runs it, and returns the account. `Err` only if it could not be brought to its end.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped, everything that was started is killed; the account is lost.
    /// # Errors
    /// [`RolloutError`]: no balancer, or replicas that do not start.
    pub async fn run(&self) -> Result<RolloutReport, RolloutError> {
        self.run_telling(|_, _| {}).await
    }

    /// Runs it, and tells after each roll how many are done and the account so far in words.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_telling(
        &self,
        tell: impl FnMut(u32, &str),
    ) -> Result<RolloutReport, RolloutError> {
        // Boxed: it holds all sides at once.
        Box::pin(self.course(tell)).await
    }

    async fn course(&self, mut tell: impl FnMut(u32, &str)) -> Result<RolloutReport, RolloutError> {
        let epoch = Instant::now();
        let mut sides = Vec::with_capacity(self.sides.len());
        for (name, subject) in &self.sides {
            let fleet = Box::pin(Fleet::start(self, name, subject)).await?;
            let plan = Arc::new(Plan::new(self, fleet.haproxy.http1, fleet.haproxy.http2));
            let account = Arc::default();
            sides.push(Running { fleet, plan, account, rolls: 0, loaded: Duration::ZERO });
        }
        // Alone, one load through all rolls; otherwise roll by roll in turn.
        let turns = if sides.len() == 1 { 1 } else { self.rolls };
        let played = Box::pin(self.turns(turns, &mut sides, epoch, &mut tell)).await;
        let mut done = Vec::with_capacity(sides.len());
        for side in sides {
            let stats = side.fleet.haproxy.stats().await?;
            let seen = side.fleet.haproxy.seen();
            let replicas = side.fleet.replicas(epoch);
            let account = locked(&side.account).clone();
            let name = side.fleet.name.clone();
            done.push(Side::new(name, side.rolls, side.loaded, account, (stats, seen), replicas));
            Box::pin(side.fleet.stop()).await;
        }
        let (oha, source) = match played {
            Ok(oha) => (oha, None),
            Err(source) => (None, Some(Box::new(source))),
        };
        let report = RolloutReport::new(self.clone(), done, oha, epoch.elapsed());
        match source {
            Some(source) => Err(RolloutError::BrokenOff { report: Box::new(report), source }),
            None => Ok(report),
        }
    }

    /// All turns of all sides; oha beside the first, in its turns alone.
    async fn turns(
        &self,
        turns: u32,
        sides: &mut [Running],
        epoch: Instant,
        tell: &mut impl FnMut(u32, &str),
    ) -> Result<Option<Opinion>, RolloutError> {
        let mut opinion = self.oha.as_ref().map(|_| Opinion::default());
        for _ in 0..turns {
            for (index, side) in sides.iter_mut().enumerate() {
                let oha = match &self.oha {
                    Some(program) if index == 0 => {
                        Some(Oha::start(program, self, side.plan.http1)?)
                    }
                    _ => None,
                };
                Box::pin(self.turn(side, epoch, self.rolls / turns, tell)).await?;
                if let (Some(oha), Some(opinion)) = (oha, &mut opinion) {
                    opinion.add(&oha.finish().await?)?;
                }
            }
        }
        Ok(opinion)
    }

    /// Some rolls of one side under load, spread over the time that its requests take.
    async fn turn(
        &self,
        side: &mut Running,
        epoch: Instant,
        rolls: u32,
        tell: &mut impl FnMut(u32, &str),
    ) -> Result<(), RolloutError> {
        let due_after = |rolls: u32| self.requests * u64::from(rolls) / u64::from(self.rolls);
        let least = due_after(side.rolls + rolls) - due_after(side.rolls);
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52 requests")]
        let length = Duration::from_secs_f64(least as f64 / f64::from(self.rate));
        let began = Instant::now();
        let load = Load::start(self, &side.plan, &side.account, epoch, least);
        for roll in 0..rolls {
            // In the middle of its share of the time, if there is some left.
            let due = length.mul_f64(f64::from(roll) / f64::from(rolls));
            sleep_until(began + due + LEAD).await;
            locked(&side.account).roll_begins(epoch.elapsed());
            side.fleet.roll().await?;
            locked(&side.account).roll_ends(epoch.elapsed());
            side.rolls += 1;
            let text = summary(&side.fleet.name, &locked(&side.account));
            tell(side.rolls, &text);
        }
        if !load.finish().await {
            return Err(RolloutError::ClientLost);
        }
        side.loaded += began.elapsed();
        Ok(())
    }
}

fn summary(name: &str, account: &Account) -> String {
    let failed = account.count(super::kind::Kind::is_failure);
    format!("{name}: {} requests, {failed} failed", account.total())
}

/// The load runs by itself for so long before replicas are replaced.
const LEAD: Duration = Duration::from_millis(500);
