//! What a container's specification says: probes, preStop, the grace period.

use std::net::SocketAddr;
use std::time::Duration;

use crate::client::Wire;
use tokio::time::timeout;

/// One probe of a container. The defaults are those of Kubernetes.
#[derive(Clone, Debug)]
pub struct Probe {
    pub(super) path: String,
    pub(super) period: Duration,
    pub(super) timeout: Duration,
    pub(super) initial_delay: Duration,
    pub(super) failure_threshold: u32,
    pub(super) success_threshold: u32,
}

/// What a container's specification says.
#[derive(Clone, Debug)]
pub struct Spec {
    pub(super) startup: Option<Probe>,
    pub(super) readiness: Option<Probe>,
    pub(super) liveness: Option<Probe>,
    pub(super) grace: Duration,
    pub(super) pre_stop: PreStop,
    pub(super) removal_lag: Duration,
}

/// What runs before SIGTERM.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum PreStop {
    /// A program and its arguments.
    Exec(Vec<String>),
    /// Nothing.
    #[default]
    None,
    /// The built-in sleep.
    Sleep(Duration),
}

impl Probe {
    /// `httpGet` on the probe port: every 10 s, timeout 1 s, no initial delay, failing after
    /// 3 in a row, passing after 1.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            initial_delay: Duration::ZERO,
            failure_threshold: 3,
            success_threshold: 1,
        }
    }

    /// `periodSeconds`.
    #[must_use]
    pub fn period(self, period: Duration) -> Self {
        Self { period, ..self }
    }

    /// `timeoutSeconds`.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// `initialDelaySeconds`.
    #[must_use]
    pub fn initial_delay(self, initial_delay: Duration) -> Self {
        Self { initial_delay, ..self }
    }

    /// `failureThreshold`.
    #[must_use]
    pub fn failure_threshold(self, failure_threshold: u32) -> Self {
        Self { failure_threshold, ..self }
    }

    /// `successThreshold`.
    #[must_use]
    pub fn success_threshold(self, success_threshold: u32) -> Self {
        Self { success_threshold, ..self }
    }

    pub(super) async fn ask(&self, address: SocketAddr) -> bool {
        let asked = timeout(self.timeout, async {
            let mut wire = Wire::connect(address, self.timeout).await.ok()?;
            Some(wire.get(&self.path).await.ok()?.status())
        });
        matches!(asked.await, Ok(Some(200..400)))
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            startup: None,
            readiness: None,
            liveness: None,
            grace: Duration::from_secs(30),
            pre_stop: PreStop::None,
            removal_lag: Duration::from_secs(1),
        }
    }
}

impl Spec {
    /// No probes, a grace period of 30 s, no preStop; balancers lag by 1 s.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `/startupz`, `/readyz` and `/livez`, each with that period and the other defaults.
    #[must_use]
    pub fn probes(self, period: Duration) -> Self {
        self.startup(Probe::get("/startupz").period(period).failure_threshold(30))
            .readiness(Probe::get("/readyz").period(period))
            .liveness(Probe::get("/livez").period(period))
    }

    /// `startupProbe`.
    #[must_use]
    pub fn startup(self, probe: Probe) -> Self {
        Self { startup: Some(probe), ..self }
    }

    /// `readinessProbe`.
    #[must_use]
    pub fn readiness(self, probe: Probe) -> Self {
        Self { readiness: Some(probe), ..self }
    }

    /// `livenessProbe`.
    #[must_use]
    pub fn liveness(self, probe: Probe) -> Self {
        Self { liveness: Some(probe), ..self }
    }

    /// `terminationGracePeriodSeconds`.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// `lifecycle.preStop`.
    #[must_use]
    pub fn pre_stop(self, pre_stop: PreStop) -> Self {
        Self { pre_stop, ..self }
    }

    /// How long balancers take to hear of a change.
    #[must_use]
    pub fn removal_lag(self, removal_lag: Duration) -> Self {
        Self { removal_lag, ..self }
    }
}
