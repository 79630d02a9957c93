//! Every gate of one lifecycle: what its drain waits for.
//!
//! Not here: one gate (`in_flight`).

use std::sync::Arc;

use crate::blockers::{Blocker, Kind};
use crate::clock::Clock;
use crate::in_flight::Gate;
use crate::sync::{Mutex, locked};
use crate::view::View;

#[derive(Debug)]
pub(crate) struct Gates {
    inner: Mutex<Inner>,
    clock: Clock,
}

/// The gates, and whether new ones come too late.
#[derive(Debug)]
struct Inner {
    all: Vec<Gate>,
    closed: bool,
}

impl Gates {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { inner: Mutex::new(Inner { all: Vec::new(), closed: false }), clock }
    }

    pub(crate) fn add(&self, kind: Kind, view: &Arc<View>) -> Gate {
        let gate = Gate::new(kind, self.clock, Arc::clone(view));
        let mut gates = locked(&self.inner);
        if gates.closed {
            gate.close();
        }
        gates.all.push(gate.clone());
        gate
    }

    pub(crate) fn close(&self) {
        let mut gates = locked(&self.inner);
        gates.closed = true;
        gates.all.iter().for_each(Gate::close);
    }

    /// Closes all gates, those made later too, and waits until they are empty.
    ///
    /// # Cancel safety
    /// Cancel safe: call again to keep waiting.
    pub(crate) async fn drained(&self) {
        self.close();
        let mut seen = 0;
        loop {
            let Some(gate) = locked(&self.inner).all.get(seen).cloned() else { return };
            gate.drained().await;
            seen += 1;
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.of_work().iter().map(Gate::in_flight).sum()
    }

    /// How many are in flight, by each kind that has a gate; connections too.
    #[cfg(feature = "metrics")]
    pub(crate) fn by_kind(&self) -> Vec<(Kind, usize)> {
        let mut kinds: Vec<(Kind, usize)> = Vec::new();
        for gate in &locked(&self.inner).all {
            match kinds.iter_mut().find(|(kind, _)| *kind == gate.kind()) {
                Some((_, count)) => *count += gate.in_flight(),
                None => kinds.push((gate.kind(), gate.in_flight())),
            }
        }
        kinds
    }

    pub(crate) fn blockers(&self) -> Vec<Blocker> {
        let mut all: Vec<_> = self.of_work().iter().flat_map(Gate::blockers).collect();
        all.sort_by_key(|blocker| std::cmp::Reverse(blocker.age));
        all
    }

    /// The gates of work: a connection is none, neither beside its request nor without one.
    fn of_work(&self) -> Vec<Gate> {
        let gates = locked(&self.inner);
        gates.all.iter().filter(|gate| gate.kind() != Kind::Connection).cloned().collect()
    }
}
