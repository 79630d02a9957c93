//! What the coordinator is told from outside.

use tokio::runtime;
use tokio::sync::oneshot;

use crate::component::Registered;
use crate::hook::Hook;
use crate::order::Order;
use crate::report::Report;

/// One thing that it is told.
pub(crate) enum Command {
    /// `main` has reached `run`.
    Run(Box<Run>),
    /// Serve the probes on this listener.
    #[cfg(feature = "probes")]
    Probes(std::net::TcpListener),
    /// Tell systemd from now on.
    #[cfg(all(target_os = "linux", feature = "systemd"))]
    Notify(Box<crate::systemd::Notifier>),
}

pub(crate) struct Run {
    pub(crate) components: Vec<Registered>,
    pub(crate) order: Order,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) on: runtime::Handle,
    pub(crate) report: oneshot::Sender<Report>,
}
