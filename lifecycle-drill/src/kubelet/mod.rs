//! A small kubelet: probes a process, keeps its endpoint, and deletes it as Kubernetes deletes
//! a pod.
//!
//! Facts, from `pkg/kubelet/prober` and the page on the pod's lifecycle: a probe passes on 200
//! to 399 within its timeout; liveness and readiness begin when startup has passed; liveness
//! counts as passing and readiness as failing before their first result; at the deletion the
//! endpoint is terminating at once, liveness and startup are not asked any more and readiness
//! is; a preStop hook runs first and counts into the grace period; then SIGTERM; at the
//! period's end SIGKILL. A process that fails its liveness is not restarted here: the record
//! says when it would have been.
//!
//! # Invariants
//! 1. Every wait has a limit: the grace period, and two seconds more for a preStop hook that
//!    has used it up, as the kubelet gives.
//! 2. Dropped, it kills the process and stops probing.

mod endpoints;
mod record;
mod spec;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    process::Command,
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, interval, sleep, timeout},
};

use crate::{process::Process, signal::Signal};

pub use self::endpoints::{Endpoint, Endpoints};
pub use self::record::{Event, Record, Which};
pub use self::spec::{PreStop, Probe, Spec};

/// One pod of one container, probed and deleted.
#[derive(Debug)]
pub struct Kubelet {
    process: Process,
    spec: Spec,
    state: Arc<State>,
    /// Startup, then liveness.
    until_deletion: AbortHandle,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    address: SocketAddr,
    probe_address: SocketAddr,
    endpoints: Endpoints,
    lag: Duration,
    record: Arc<watch::Sender<Vec<(Instant, Event)>>>,
}

impl Kubelet {
    /// Takes over a process that has been started, probes it, and lists its main port in
    /// `endpoints`. Inside a tokio runtime.
    #[must_use]
    pub fn adopt(process: Process, spec: Spec, endpoints: &Endpoints) -> Self {
        let state = Arc::new(State {
            address: process.address(),
            probe_address: process.probe_address(),
            endpoints: endpoints.clone(),
            lag: spec.removal_lag,
            record: Arc::new(watch::Sender::new(Vec::new())),
        });
        endpoints.add(state.address);
        if spec.readiness.is_none() && spec.startup.is_none() {
            state.serves(true);
        }
        let mut tasks = JoinSet::new();
        let (started, mut wait) = watch::channel(spec.startup.is_none());
        let until_deletion = tasks.spawn({
            let (state, startup) = (Arc::clone(&state), spec.startup.clone());
            let (liveness, always_ready) = (spec.liveness.clone(), spec.readiness.is_none());
            async move {
                if let Some(startup) = startup {
                    state.watch(Which::Startup, &startup).await;
                    started.send_replace(true);
                    if always_ready {
                        state.serves(true);
                    }
                }
                if let Some(liveness) = liveness {
                    state.watch(Which::Liveness, &liveness).await;
                }
            }
        });
        if let Some(readiness) = spec.readiness.clone() {
            let state = Arc::clone(&state);
            tasks.spawn(async move {
                // A pod deleted before its start was over is not asked.
                if wait.wait_for(|started| *started).await.is_ok() {
                    state.watch(Which::Readiness, &readiness).await;
                }
            });
        }
        Self { process, spec, state, until_deletion, tasks }
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What has happened so far.
    pub fn record(&self) -> Record {
        Record(self.state.record.borrow().clone())
    }

    /// Waits until that has happened, for `limit` at most; whether it has.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is lost, call again.
    pub async fn sees(&self, event: &Event, limit: Duration) -> bool {
        let mut record = self.state.record.subscribe();
        let has_it = |events: &Vec<(Instant, Event)>| events.iter().any(|(_, one)| one == event);
        timeout(limit, record.wait_for(has_it)).await.is_ok_and(|seen| seen.is_ok())
    }

    /// Deletes the pod, and returns when its process is gone.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped before the end, it kills the process at once.
    /// # Panics
    /// When the process outlives SIGKILL.
    pub async fn delete(mut self) -> (Record, Process) {
        let ends = Instant::now() + self.spec.grace;
        self.until_deletion.abort();
        self.state.note(Event::Deleted);
        self.state.change(|endpoint| endpoint.terminating = true);
        let stopped = self.pre_stop().await;
        let left = ends.saturating_duration_since(Instant::now());
        // What a hook has left of it, and two seconds at least.
        let left = if stopped.is_some() { left.max(PRE_STOP_EXTRA) } else { left };
        stopped.into_iter().for_each(|ok| self.state.note(Event::PreStopped(ok)));
        self.state.note(Event::Terminated);
        // Gone already is as good.
        drop(self.process.signal(Signal::Term));
        let mut exit = self.process.wait(left).await;
        if exit.is_none() {
            self.state.note(Event::Killed);
            drop(self.process.signal(Signal::Kill));
            exit = self.process.wait(KILL_LIMIT).await;
        }
        self.tasks.shutdown().await;
        self.state.change(|endpoint| endpoint.serving = false);
        self.state.note(Event::Ended(exit.expect("SIGKILL cannot be ignored")));
        (self.record(), self.process)
    }

    async fn pre_stop(&self) -> Option<bool> {
        match &self.spec.pre_stop {
            PreStop::None => None,
            PreStop::Sleep(time) => {
                sleep((*time).min(self.spec.grace)).await;
                Some(*time <= self.spec.grace)
            }
            PreStop::Exec(words) => {
                let (program, arguments) = words.split_first()?;
                let mut command = Command::new(program);
                command.args(arguments).kill_on_drop(true);
                let ran = timeout(self.spec.grace, command.status()).await;
                Some(matches!(ran, Ok(Ok(status)) if status.success()))
            }
        }
    }
}

impl State {
    /// Asks at its period; startup until it has passed, the others for ever.
    async fn watch(&self, which: Which, probe: &Probe) {
        sleep(probe.initial_delay).await;
        let mut every = interval(probe.period);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The kubelet's own first values.
        let mut passes = which == Which::Liveness;
        // Equal results in a row.
        let (mut last, mut count) = (passes, 0);
        loop {
            every.tick().await;
            let found = probe.ask(self.probe_address).await;
            count = if found == last { count + 1 } else { 1 };
            last = found;
            let enough = if found { probe.success_threshold } else { probe.failure_threshold };
            let changes = found != passes && count >= enough;
            if changes {
                passes = found;
                self.note(Event::Probed(which, passes));
            }
            match which {
                Which::Startup if passes => return,
                Which::Startup if !found && count == enough => {
                    self.note(Event::WouldRestart(which));
                }
                Which::Liveness if changes && !passes => self.note(Event::WouldRestart(which)),
                Which::Readiness if changes => self.serves(passes),
                _ => {}
            }
        }
    }

    fn serves(&self, serving: bool) {
        self.change(|endpoint| endpoint.serving = serving);
    }

    /// Changes the endpoint now, and what balancers see of it after the lag.
    fn change(&self, change: impl FnOnce(&mut Endpoint)) {
        let endpoint = self.endpoints.change(self.address, change);
        let (endpoints, record, lag) = (self.endpoints.clone(), Arc::clone(&self.record), self.lag);
        tokio::spawn(async move {
            sleep(lag).await;
            if endpoints.tell(endpoint) {
                record.send_modify(|events| events.push((Instant::now(), Event::Removed)));
            }
        });
    }

    fn note(&self, event: Event) {
        self.record.send_modify(|events| events.push((Instant::now(), event)));
    }
}

/// What the kubelet gives at least to a process whose preStop hook has used up the grace period,
/// or nearly so.
const PRE_STOP_EXTRA: Duration = Duration::from_secs(2);
const KILL_LIMIT: Duration = Duration::from_secs(5);
