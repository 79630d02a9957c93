//! The replicas of one command behind their balancer, and their replacement.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    haproxy::{Config, Follower, Haproxy},
    report::Replica,
    run::RolloutError,
    settings::Rollout,
};
use crate::{
    kubelet::{Endpoints, Event, Kubelet, Probe, Record, Spec, Which},
    process::{Process, Setting},
    subject::Subject,
};

/// One command's replicas and their balancer.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) name: String,
    pub(super) haproxy: Haproxy,
    follower: Follower,
    subject: Subject,
    spec: Spec,
    min_ready: Duration,
    lag: Duration,
    endpoints: Endpoints,
    /// The oldest first.
    pods: Vec<Kubelet>,
    past: Vec<(SocketAddr, Record)>,
}

impl Fleet {
    /// Starts the balancer and all replicas, and waits until it sends to all of them.
    pub(super) async fn start(
        settings: &Rollout,
        name: &str,
        subject: &Subject,
    ) -> Result<Self, RolloutError> {
        // The fresh ones, the old ones that it has not heard of yet, and one to spare.
        let slots = 2 * settings.replicas as usize + 1;
        let ready_path = subject.ready_path.clone().unwrap_or_else(|| "/".to_owned());
        let checks = settings.checks;
        let config = Config { slots, checks, ready_path: ready_path.clone() };
        let haproxy = Haproxy::start(&config).await?;
        let endpoints = Endpoints::new();
        let follower = Follower::start(haproxy.admin(), endpoints.clone(), slots, checks);
        let probe = Probe::get(ready_path).period(settings.probe_period);
        let spec = Spec::new().readiness(probe).grace(subject.grace);
        let spec = spec.pre_stop(settings.pre_stop.clone()).removal_lag(settings.endpoint_lag);
        let mut fleet = Self {
            name: name.to_owned(),
            haproxy,
            follower,
            subject: subject.clone(),
            spec,
            min_ready: settings.min_ready,
            lag: settings.endpoint_lag,
            endpoints,
            pods: Vec::new(),
            past: Vec::new(),
        };
        for _ in 0..settings.replicas {
            let pod = fleet.fresh().await?;
            fleet.pods.push(pod);
        }
        fleet.told().await?;
        Ok(fleet)
    }

    /// Replaces all replicas, each when a fresh one is ready, and waits until the old ones are
    /// gone and the balancer knows it.
    pub(super) async fn roll(&mut self) -> Result<(), RolloutError> {
        let mut going = JoinSet::new();
        for _ in 0..self.pods.len() {
            let pod = self.fresh().await?;
            self.pods.push(pod);
            sleep(self.min_ready).await;
            let old = self.pods.remove(0);
            let address = old.process().address();
            going.spawn(async move { (address, old.delete().await.0) });
        }
        while let Some(gone) = going.join_next().await {
            self.past.push(gone.map_err(|_| RolloutError::Outlived)?);
        }
        self.told().await
    }

    /// A replica that is ready.
    async fn fresh(&self) -> Result<Kubelet, RolloutError> {
        let process = Process::start(&self.subject, Setting::Plain).await?;
        let address = process.address();
        self.follower.know(address, process.probe_address());
        let pod = Kubelet::adopt(process, self.spec.clone(), &self.endpoints);
        let is_ready = Event::Probed(Which::Readiness, true);
        if pod.sees(&is_ready, self.subject.start_timeout).await {
            return Ok(pod);
        }
        Err(RolloutError::NotReady { output: pod.process().tail() })
    }

    /// Waits until the balancer sends to those that are there, and to no other.
    async fn told(&mut self) -> Result<(), RolloutError> {
        let wanted: Vec<_> = self.pods.iter().map(|pod| pod.process().address()).collect();
        let all = |known: &[SocketAddr]| {
            known.len() == wanted.len() && known.iter().all(|one| wanted.contains(one))
        };
        let heard = async {
            let mut known = self.endpoints.targets();
            while !all(&known) {
                known = self.endpoints.targets_beside(&known).await;
            }
        };
        let heard = timeout(self.lag + TOLD_LIMIT, heard).await;
        match self.follower.failed().await {
            Some(error) => Err(error.into()),
            None => heard.map_err(|_| RolloutError::NotTold),
        }
    }

    /// All replicas that there were, and those that are.
    pub(super) fn replicas(&self, epoch: Instant) -> Vec<Replica> {
        let here = self.pods.iter().map(|pod| (pod.process().address(), pod.record()));
        let notes = self.follower.notes();
        let all = self.past.iter().cloned().chain(here);
        let mut all: Vec<_> =
            all.map(|(address, record)| Replica::new(epoch, address, &record, &notes)).collect();
        all.sort_by_key(|replica| replica.ready);
        all
    }

    /// Stops all replicas in order, after the load: what they do then is not judged.
    pub(super) async fn stop(mut self) {
        let mut going = JoinSet::new();
        for pod in self.pods.drain(..) {
            going.spawn(pod.delete());
        }
        while going.join_next().await.is_some() {}
    }
}

/// How long the balancer may take to be told, beside the lag.
const TOLD_LIMIT: Duration = Duration::from_secs(5);
