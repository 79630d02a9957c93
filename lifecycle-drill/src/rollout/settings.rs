//! What a rollout is to be like.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;

use crate::{kubelet::PreStop, subject::Subject};

/// A rolling update under load, to be [run](Rollout::run).
///
/// # Examples
/// ```no_run
/// use std::{path::PathBuf, time::Duration};
/// use lifecycle_drill::{Subject, rollout::Rollout};
///
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// let subject = Subject::new("./my-service").env("LIFECYCLE_LAME_DUCK", "2s");
/// let report = Rollout::new("mine", subject).rolls(10).rate(500).run().await?;
/// assert_eq!(report.first().failed(), 0, "{report}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Rollout {
    pub(super) sides: Vec<(String, Subject)>,
    pub(super) replicas: u32,
    pub(super) rolls: u32,
    pub(super) rate: u32,
    pub(super) requests: u64,
    pub(super) endpoint_lag: Duration,
    pub(super) min_ready: Duration,
    pub(super) checks: Checks,
    pub(super) pre_stop: PreStop,
    pub(super) probe_period: Duration,
    pub(super) h2_share: f64,
    pub(super) post_share: f64,
    pub(super) get: String,
    pub(super) post: Option<Post>,
    pub(super) connections: u32,
    pub(super) request_timeout: Duration,
    pub(super) oha: Option<PathBuf>,
}

/// Whether the balancer asks the replicas for their readiness by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Checks {
    /// At this period; two failures take a replica out, one success brings it back.
    Every(Duration),
    /// It believes what it is told.
    Off,
}

/// What is posted.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "what a POST has")]
pub struct Post {
    /// The path.
    pub path: String,
    /// The body, sent in one piece with its head.
    pub body: Bytes,
    /// Its `Content-Type`.
    pub content_type: String,
}

impl Rollout {
    /// A roll of 3 replicas, 1 000 requests a second by GET of `/` over HTTP/1.1; the balancer
    /// asks for readiness every second and hears of changes 1 s late.
    pub fn new(name: impl Into<String>, subject: Subject) -> Self {
        Self {
            sides: vec![(name.into(), subject)],
            replicas: 3,
            rolls: 1,
            rate: 1_000,
            requests: 0,
            endpoint_lag: Duration::from_secs(1),
            min_ready: Duration::ZERO,
            checks: Checks::Every(Duration::from_secs(1)),
            pre_stop: PreStop::None,
            probe_period: Duration::from_secs(1),
            h2_share: 0.0,
            post_share: 0.0,
            get: "/".to_owned(),
            post: None,
            connections: 128,
            request_timeout: Duration::from_secs(10),
            oha: None,
        }
    }

    /// Puts another command through the same, roll by roll in turn with the first.
    pub fn compare_with(mut self, name: impl Into<String>, subject: Subject) -> Self {
        self.sides.push((name.into(), subject));
        self
    }

    /// How many replicas there are, 1 to 32 (default 3).
    pub fn replicas(self, replicas: u32) -> Self {
        Self { replicas: replicas.clamp(1, 32), ..self }
    }

    /// How many times all of them are replaced (default 1).
    pub fn rolls(self, rolls: u32) -> Self {
        Self { rolls: rolls.max(1), ..self }
    }

    /// How many requests are due a second, 1 at least (default 1 000).
    pub fn rate(self, rate: u32) -> Self {
        Self { rate: rate.max(1), ..self }
    }

    /// How many requests there are at least; spread evenly over the rolls, and more if these
    /// take longer (default 0).
    pub fn requests(self, requests: u64) -> Self {
        Self { requests, ..self }
    }

    /// How long the balancer takes to hear that a replica is ready or is being deleted
    /// (default 1 s).
    pub fn endpoint_lag(self, endpoint_lag: Duration) -> Self {
        Self { endpoint_lag, ..self }
    }

    /// `minReadySeconds`: how long a fresh replica is ready before an old one is deleted
    /// (default 0, as in Kubernetes).
    pub fn min_ready(self, min_ready: Duration) -> Self {
        Self { min_ready, ..self }
    }

    /// Whether the balancer asks for readiness by itself (default every second).
    pub fn checks(self, checks: Checks) -> Self {
        Self { checks, ..self }
    }

    /// What runs before SIGTERM (default nothing). Counts into the grace period.
    pub fn pre_stop(self, pre_stop: PreStop) -> Self {
        Self { pre_stop, ..self }
    }

    /// `periodSeconds` of the kubelet's readiness probe (default 1 s).
    pub fn probe_period(self, probe_period: Duration) -> Self {
        Self { probe_period, ..self }
    }

    /// The share of requests that go by h2c, to the balancer and from it to the replicas
    /// (default 0).
    pub fn h2_share(self, share: f64) -> Self {
        Self { h2_share: share_of(share), ..self }
    }

    /// What is asked for by GET (default `/`).
    pub fn get(self, path: impl Into<String>) -> Self {
        Self { get: path.into(), ..self }
    }

    /// What is posted by which share of the requests (default none).
    pub fn post(self, post: Post, share: f64) -> Self {
        Self { post: Some(post), post_share: share_of(share), ..self }
    }

    /// How many requests may wait for their answers at a time, for each protocol
    /// (default 128, 1 at least). What is due beyond that is sent later and its time runs.
    pub fn connections(self, connections: u32) -> Self {
        Self { connections: connections.max(1), ..self }
    }

    /// After what time a request has failed (default 10 s).
    pub fn request_timeout(self, request_timeout: Duration) -> Self {
        Self { request_timeout, ..self }
    }

    /// Runs the load generator oha beside our load of the first command, for a second opinion:
    /// GET over HTTP/1 at a quarter of the rate. The balancer counts its requests too.
    pub fn oha(self, program: impl Into<PathBuf>) -> Self {
        Self { oha: Some(program.into()), ..self }
    }
}

/// From 0 to 1; what is no number is nothing.
fn share_of(share: f64) -> f64 {
    if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
}
