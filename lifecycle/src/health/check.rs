//! One health check, and the loop that runs it in the background.
//!
//! No probe waits for a check: it shows the last result. A check that panics or hangs is a
//! failing check.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::board::{CheckKind, Entry, Found, Thresholds};
use crate::budget::PERIOD_MOST;
use crate::component::{BoxFuture, Component, Outcome, Role, maker};
use crate::error::BoxError;
use crate::handle::Handle;
use crate::report::End;
use crate::running::{end_of, ended};
use crate::shared::Shared;

/// Something to look at now and then, as whether the database answers.
///
/// It runs in the background from [`run`](crate::Lifecycle::run) on, never twice at a time (but
/// for what it has handed to `spawn_blocking`, which a timeout cannot stop),
/// at once and then at its interval; many are spread over it. It goes on in the drain and
/// ends before the close hooks.
///
/// Not every dependency is a readiness check: one that all replicas share takes all of them
/// out at once when it fails, and turns its outage into yours. Make it
/// [`informational`](Self::informational) unless this replica alone is better left alone.
/// A liveness check should look at nothing outside of the process.
///
/// # Examples
/// That something accepts connections:
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use lifecycle::{Check, Lifecycle};
/// use tokio::net::TcpStream;
///
/// let mut life = Lifecycle::builder().build_local()?;
/// life.check(
///     Check::readiness("orders-db", || async { TcpStream::connect("db:5432").await.map(drop) })
///         .interval(Duration::from_secs(5))
///         .failure_threshold(2),
/// );
/// # Ok(()) }
/// ```
/// What your clients can say of themselves is said in a line, so there are no ready-made
/// checks: each would tie this crate to one version of one client. Clone the pool into the
/// closure, and again into each run:
/// ```ignore
/// let pool = pool.clone(); // sqlx
/// Check::readiness("postgres", move || {
///     let pool = pool.clone();
///     async move { sqlx::query("select 1").execute(&pool).await.map(drop) }
/// });
/// let redis = connection_manager.clone(); // redis
/// Check::readiness("redis", move || {
///     let mut redis = redis.clone();
///     async move { redis::cmd("PING").query_async::<()>(&mut redis).await }
/// });
/// Check::readiness("prices", || async { // reqwest
///     reqwest::get("http://prices/readyz").await?.error_for_status().map(drop)
/// })
/// .informational();
/// ```
#[must_use = "a check does nothing until it is registered"]
pub struct Check {
    name: String,
    kind: CheckKind,
    informational: bool,
    interval: Duration,
    timeout: Duration,
    thresholds: Thresholds,
    run: Box<dyn FnMut() -> BoxFuture + Send>,
}

impl Check {
    /// A check that lets traffic in: `/readyz` fails while it does.
    pub fn readiness<F, Fut>(name: impl Into<String>, check: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Outcome,
    {
        Self::new(name.into(), CheckKind::Readiness, check)
    }

    /// A check that must have passed once before the start is over: until then `/startupz`
    /// and `/readyz` fail.
    pub fn startup<F, Fut>(name: impl Into<String>, check: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Outcome,
    {
        Self::new(name.into(), CheckKind::Startup, check)
    }

    /// A check that lets the process live: `/livez` fails while it does, and the platform
    /// restarts the process. It decides nothing once a shutdown has begun.
    pub fn liveness<F, Fut>(name: impl Into<String>, check: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Outcome,
    {
        Self::new(name.into(), CheckKind::Liveness, check)
    }

    fn new<F, Fut>(name: String, kind: CheckKind, check: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Outcome,
    {
        let run = maker(check);
        Self {
            name,
            kind,
            informational: false,
            interval: INTERVAL,
            timeout: TIMEOUT,
            thresholds: Thresholds { failure: 1, success: 1 },
            run,
        }
    }

    /// From the start of one run to the next, 10 ms at least and a year at most. Default 10 s:
    /// Kubernetes' `periodSeconds`.
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval: interval.clamp(INTERVAL_LEAST, PERIOD_MOST), ..self }
    }

    /// How long a run may take; longer is a failure. Default 1 s: Kubernetes'
    /// `timeoutSeconds`.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: timeout.min(PERIOD_MOST), ..self }
    }

    /// How many failures in a row make it fail (at least one; the first run decides alone).
    /// Default 1: the platform that probes has a threshold of its own.
    pub fn failure_threshold(mut self, results: u32) -> Self {
        self.thresholds.failure = results.max(1);
        self
    }

    /// How many successes in a row make it pass again (at least one). Default 1.
    pub fn success_threshold(mut self, results: u32) -> Self {
        self.thresholds.success = results.max(1);
        self
    }

    /// Shows it in `?verbose` and `/statusz`, and lets it decide nothing.
    pub fn informational(self) -> Self {
        Self { informational: true, ..self }
    }

    pub(crate) fn entry(&self, now_ms: u64) -> Entry {
        Entry::new(self.name.clone(), self.kind, self.informational, self.thresholds, now_ms)
    }

    /// Runs it once, bounded by its timeout.
    async fn once(&mut self, running: &mut JoinSet<End>) -> Found {
        let began = Instant::now();
        running.spawn(ended((self.run)()));
        let ended = timeout(self.timeout, running.join_next()).await;
        match ended {
            // One that blocks its thread may hold up the clock as well.
            Ok(Some(Ok(_))) if began.elapsed() > self.timeout + LATE_MOST => self.timed_out(),
            Ok(None | Some(Ok(End::Finished))) => Found::Passed,
            Ok(Some(Ok(End::Failed(error)))) => Found::Failed(error),
            Ok(Some(Ok(end))) => Found::Failed(end.to_string()),
            Ok(Some(Err(error))) => Found::Failed(end_of(error).to_string()),
            Err(_) => {
                running.abort_all();
                self.timed_out()
            }
        }
    }

    fn timed_out(&self) -> Found {
        Found::Failed(format!("timed out after {}", crate::env::show(&self.timeout)))
    }

    /// Runs it again and again until the drain is over. `share` of the interval sets it apart
    /// from the others.
    async fn repeat(mut self, position: usize, share: f64, shared: Arc<Shared>, handle: Handle) {
        let mut running = JoinSet::new();
        let mut draining = std::pin::pin!(handle.draining());
        let mut next = Instant::now() + self.interval.mul_f64(share);
        loop {
            tokio::select! {
                biased;
                () = &mut draining => break,
                () = self.round(position, &shared, &mut running) => {}
            }
            // Late rounds are left out, not made up for.
            while next <= Instant::now() {
                next += self.interval;
            }
            tokio::select! {
                biased;
                () = &mut draining => break,
                () = sleep_until(next) => {}
            }
            next += self.interval;
        }
        // One that blocks its thread is left to the end of the process.
        drop(timeout(STOP_MOST, running.shutdown()).await);
    }

    async fn round(&mut self, position: usize, shared: &Shared, running: &mut JoinSet<End>) {
        let began = Instant::now();
        let found = self.once(running).await;
        shared.health().note(position, found, began.elapsed(), shared.clock().now_ms());
        // One that was given up and blocks its thread is not started beside itself.
        while running.join_next().await.is_some() {}
    }
}

/// All checks of a lifecycle, as the component that runs them.
pub(crate) struct Checks {
    checks: Vec<Check>,
    shared: Arc<Shared>,
}

impl Checks {
    pub(crate) fn new(checks: Vec<Check>, shared: &Arc<Shared>) -> Self {
        Self { checks, shared: Arc::clone(shared) }
    }
}

impl Component for Checks {
    /// Runs until everything else has drained: it is registered after all the others.
    async fn run(self, handle: Handle) -> Result<(), BoxError> {
        let count = self.checks.len();
        let mut loops = JoinSet::new();
        for (position, check) in self.checks.into_iter().enumerate() {
            let share = (position + 1) as f64 / count as f64;
            let (shared, handle) = (Arc::clone(&self.shared), handle.clone());
            loops.spawn(check.repeat(position, share, shared, handle));
        }
        while let Some(ended) = loops.join_next().await {
            // A loop that has died would show its check's last state for ever.
            ended?;
        }
        Ok(())
    }

    fn role(&self) -> Role {
        Role::Worker
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

const INTERVAL: Duration = Duration::from_secs(10);
/// More often is a load of its own.
const INTERVAL_LEAST: Duration = Duration::from_millis(10);
const TIMEOUT: Duration = Duration::from_secs(1);
/// How late a timer may be without anybody's fault.
const LATE_MOST: Duration = Duration::from_millis(100);
const STOP_MOST: Duration = Duration::from_millis(100);
