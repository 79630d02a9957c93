//! Tells haproxy of the endpoints as they come and go, as an ingress controller does.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{task::JoinHandle, time::Instant};

use super::{
    Admin, BalancerError,
    config::{BACKENDS, CHECKED},
    locked,
};
use crate::{kubelet::Endpoints, rollout::settings::Checks};

/// Keeps haproxy's servers as the endpoints say; ends when dropped.
#[derive(Debug)]
pub(in crate::rollout) struct Follower {
    /// The port of each replica's probes.
    probes: Arc<Mutex<BTreeMap<SocketAddr, u16>>>,
    notes: Arc<Mutex<Vec<Note>>>,
    task: JoinHandle<BalancerError>,
}

/// The balancer has been told of one replica.
#[derive(Clone, Copy, Debug)]
pub(in crate::rollout) struct Note {
    pub(in crate::rollout) at: Instant,
    pub(in crate::rollout) address: SocketAddr,
    /// Whether it sends there from now on.
    pub(in crate::rollout) sends: bool,
}

impl Follower {
    pub(in crate::rollout) fn start(
        admin: Admin,
        endpoints: Endpoints,
        slots: usize,
        checks: Checks,
    ) -> Self {
        let (probes, notes) = (Arc::default(), Arc::default());
        let task = {
            let (probes, notes) = (Arc::clone(&probes), Arc::clone(&notes));
            let table = Table { admin, slots: vec![None; slots], checks, probes, notes };
            tokio::spawn(table.follow(endpoints))
        };
        Self { probes, notes, task }
    }

    /// Says where the probes of a replica are, before it is an endpoint.
    pub(in crate::rollout) fn know(&self, address: SocketAddr, probes: SocketAddr) {
        locked(&self.probes).insert(address, probes.port());
    }

    pub(in crate::rollout) fn notes(&self) -> Vec<Note> {
        locked(&self.notes).clone()
    }

    /// Why it has ended, if it has.
    pub(in crate::rollout) async fn failed(&mut self) -> Option<BalancerError> {
        if !self.task.is_finished() {
            return None;
        }
        (&mut self.task).await.ok()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Which replica has which of haproxy's servers.
#[derive(Debug)]
struct Table {
    admin: Admin,
    slots: Vec<Option<SocketAddr>>,
    checks: Checks,
    probes: Arc<Mutex<BTreeMap<SocketAddr, u16>>>,
    notes: Arc<Mutex<Vec<Note>>>,
}

impl Table {
    async fn follow(mut self, endpoints: Endpoints) -> BalancerError {
        let mut known = Vec::new();
        loop {
            known = endpoints.targets_beside(&known).await;
            if let Err(error) = self.set(&known).await {
                return error;
            }
        }
    }

    /// First those that come, so that there is always somebody to send to.
    async fn set(&mut self, targets: &[SocketAddr]) -> Result<(), BalancerError> {
        for address in targets {
            if self.slots.contains(&Some(*address)) {
                continue;
            }
            if let Some(slot) = self.slots.iter().position(Option::is_none) {
                self.add(slot, *address).await?;
            }
        }
        for slot in 0..self.slots.len() {
            let gone = self.slots.get(slot).copied().flatten();
            if let Some(address) = gone.filter(|address| !targets.contains(address)) {
                self.remove(slot, address).await?;
            }
        }
        Ok(())
    }

    async fn add(&mut self, slot: usize, address: SocketAddr) -> Result<(), BalancerError> {
        let probes = locked(&self.probes).get(&address).copied().unwrap_or(address.port());
        let (ip, port, number) = (address.ip(), address.port(), slot + 1);
        // All that is to be known first: as soon as it is ready it is asked and sent to.
        for backend in BACKENDS {
            self.say(format!("set server {backend}/s{number} addr {ip} port {port}")).await?;
        }
        if self.checks != Checks::Off {
            self.say(format!("set server {CHECKED}/s{number} check-port {probes}")).await?;
        }
        for backend in BACKENDS {
            self.say(format!("set server {backend}/s{number} state ready")).await?;
        }
        self.note(slot, address, Some(address));
        Ok(())
    }

    async fn remove(&mut self, slot: usize, address: SocketAddr) -> Result<(), BalancerError> {
        for backend in BACKENDS {
            self.say(format!("set server {backend}/s{} state maint", slot + 1)).await?;
        }
        self.note(slot, address, None);
        Ok(())
    }

    fn note(&mut self, slot: usize, address: SocketAddr, now: Option<SocketAddr>) {
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = now;
        }
        locked(&self.notes).push(Note { at: Instant::now(), address, sends: now.is_some() });
    }

    async fn say(&self, command: String) -> Result<(), BalancerError> {
        let answer = self.admin.tell(&command).await?;
        let answer = answer.trim();
        // A change of address is confirmed in words, the rest by nothing.
        if answer.is_empty() || answer.contains("change") {
            return Ok(());
        }
        Err(BalancerError::Refused { command, answer: answer.to_owned() })
    }
}
