//! The endpoints of a service: what is so, and what balancers have heard of it.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::watch;

/// An address as an EndpointSlice has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the three conditions of an EndpointSlice")]
pub struct Endpoint {
    /// Where it serves.
    pub address: SocketAddr,
    /// Readiness passes and the pod is not being deleted.
    pub ready: bool,
    /// Readiness passes.
    pub serving: bool,
    /// The pod is being deleted.
    pub terminating: bool,
}

/// The endpoints of a service; a clone is the same list.
#[derive(Clone, Debug, Default)]
pub struct Endpoints(Arc<watch::Sender<Listed>>);

/// What is so, and what balancers have been told so far.
#[derive(Debug, Default)]
struct Listed {
    now: Vec<Endpoint>,
    told: Vec<Endpoint>,
}

impl Endpoints {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As they are.
    #[must_use]
    pub fn now(&self) -> Vec<Endpoint> {
        self.0.borrow().now.clone()
    }

    /// Where a balancer may send, as far as it has heard: those that are ready; without any,
    /// those that serve while they terminate, as kube-proxy does.
    #[must_use]
    pub fn targets(&self) -> Vec<SocketAddr> {
        self.0.borrow().targets()
    }

    /// Waits until the targets are others than these, in whatever order; what they are then.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is lost, call again.
    pub async fn targets_beside(&self, known: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut listed = self.0.subscribe();
        let differ = |listed: &Listed| {
            let targets = listed.targets();
            targets.len() != known.len() || !targets.iter().all(|one| known.contains(one))
        };
        // The sender is ours, so the channel cannot close under us.
        listed
            .wait_for(|listed| differ(listed))
            .await
            .map_or_else(|_| self.targets(), |listed| listed.targets())
    }

    /// One more, which does not serve yet.
    pub(super) fn add(&self, address: SocketAddr) {
        let endpoint = Endpoint { address, ready: false, serving: false, terminating: false };
        self.0.send_modify(|listed| {
            // A port may come again when its process is gone.
            listed.now.retain(|one| one.address != address);
            listed.now.push(endpoint);
        });
    }

    /// Changes one, and what follows from it; as it is then.
    pub(super) fn change(
        &self,
        address: SocketAddr,
        change: impl FnOnce(&mut Endpoint),
    ) -> Endpoint {
        let mut changed = None;
        self.0.send_modify(|listed| {
            let found = listed.now.iter_mut().find(|one| one.address == address);
            let endpoint = found.expect("invariant: listed from the adoption on");
            change(endpoint);
            endpoint.ready = endpoint.serving && !endpoint.terminating;
            changed = Some(*endpoint);
        });
        changed.expect("invariant: set just above")
    }

    /// Lets balancers hear of one; whether that takes it out of those that are ready.
    pub(super) fn tell(&self, endpoint: Endpoint) -> bool {
        let of_it = |one: &Endpoint| one.address == endpoint.address;
        let mut was_ready = false;
        self.0.send_modify(|listed| {
            was_ready = listed.told.iter().any(|one| of_it(one) && one.ready);
            listed.told.retain(|one| !of_it(one));
            listed.told.push(endpoint);
        });
        was_ready && !endpoint.ready
    }
}

impl Listed {
    fn targets(&self) -> Vec<SocketAddr> {
        let ready = self.told.iter().filter(|one| one.ready);
        let ready: Vec<_> = ready.map(|one| one.address).collect();
        if !ready.is_empty() {
            return ready;
        }
        let last = self.told.iter().filter(|one| one.serving && one.terminating);
        last.map(|one| one.address).collect()
    }
}
