//! `Lifecycle`, the value that `main` holds: what is registered on it, and the run.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{mpsc, oneshot};

use crate::budget::Budget;
use crate::builder::Builder;
use crate::command::{Command, Run};
use crate::component::{Component, Outcome, Registered, Role, Tenure};
use crate::env::Settings;
use crate::error::{RunError, StartError};
use crate::handle::Handle;
use crate::health::{Check, Checks, Heart, Heartbeat};
use crate::hook::Hook;
use crate::order::Order;
use crate::phase::Phase;
use crate::reload::{Reload, Reloads};
use crate::report::Report;
use crate::shared::Shared;
use crate::spawned::Spawned;
use crate::telemetry;

/// One process' way from its start to its end.
///
/// Make it in the first line of `main`, since signals are caught from then on; before
/// that the operating system's default applies (death; or, as PID 1 of a container,
/// nothing at all). Register components and hooks, then [`run`](Self::run).
///
/// Dropped without `run`, a signal ends the process at once, as it would have without us.
/// A value, not a global: a test can make ten (see [`Builder::build_local`]).
///
/// # Examples
/// ```no_run
/// use lifecycle::{Lifecycle, Report};
///
/// #[tokio::main]
/// async fn main() -> Result<Report, Box<dyn std::error::Error>> {
///     let mut life = Lifecycle::from_env()?;
///     life.serve_probes().await?;
///     let handle = life.handle();
///     life.spawn("ticker", async move { handle.draining().await });
///     life.on_close("cache", async { println!("flushed") });
///     Ok(life.run().await?)
/// }
/// ```
#[must_use = "dropping it at once means that no shutdown is coordinated"]
pub struct Lifecycle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    components: Vec<Registered>,
    hooks: Vec<Hook>,
    reloads: Vec<Reload>,
    checks: Vec<Check>,
    settings: Settings,
    budget: Budget,
}

impl Lifecycle {
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: mpsc::Sender<Command>,
        settings: Settings,
        budget: Budget,
    ) -> Self {
        let (components, hooks) = (Vec::new(), Vec::new());
        let (reloads, checks) = (Vec::new(), Vec::new());
        Self { shared, commands, components, hooks, reloads, checks, settings, budget }
    }

    /// Reads the environment, catches signals and starts the control thread.
    ///
    /// The variables are `LIFECYCLE_GRACE_PERIOD` (else `TERMINATION_GRACE_PERIOD_SECONDS`,
    /// else what the platform gives by default), `LIFECYCLE_PRE_STOP`,
    /// `LIFECYCLE_LAME_DUCK`, `LIFECYCLE_LAME_DUCK_QUIET`, `LIFECYCLE_LAME_DUCK_MIN`,
    /// `LIFECYCLE_READINESS` and `LIFECYCLE_PROBE_ADDR`; the README has the table. Blocks for the
    /// fraction of a millisecond that the thread takes to start.
    ///
    /// # Errors
    /// [`StartError`] when a variable is not understood, when the grace period contradicts
    /// itself, or when the operating system refuses the thread or the signal handlers.
    pub fn from_env() -> Result<Self, StartError> {
        Builder::from_env()?.build()
    }

    /// A builder with the defaults: grace 10 s, probes on 0.0.0.0:9090; the environment is
    /// not read.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A handle, to be cloned into whatever has to know.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Registers a component; it is started by [`run`](Self::run).
    ///
    /// Components are told of the phases all at once, but for those that drain
    /// [`after`](Spawned::after) others, and are waited for; one that ends before it was
    /// told to starts the shutdown.
    pub fn spawn(&mut self, name: impl Into<String>, component: impl Component) -> Spawned<'_> {
        self.register(Registered::new(name.into(), Tenure::Essential, component));
        Spawned::new(self)
    }

    /// Registers a close hook, run after every component has ended, the last registered
    /// first. It may take what is left of the time, or half of it while others wait.
    ///
    /// A hook that fails, panics or hangs is reported and does not skip the rest.
    pub fn on_close<F>(&mut self, name: impl Into<String>, hook: F) -> &mut Self
    where
        F: Future + Send + 'static,
        F::Output: Outcome,
    {
        self.hooks.push(Hook::new(name.into(), None, hook));
        self
    }

    /// Registers a close hook that is given up after `timeout`, or earlier when less time
    /// is left. One that is given up is cut work: exit code 3.
    pub fn on_close_within<F>(
        &mut self,
        name: impl Into<String>,
        timeout: Duration,
        hook: F,
    ) -> &mut Self
    where
        F: Future + Send + 'static,
        F::Output: Outcome,
    {
        self.hooks.push(Hook::new(name.into(), Some(timeout), hook));
        self
    }

    /// Registers a hook that SIGHUP runs, so that SIGHUP does not stop the process any
    /// more: to read a configuration again, or to reopen a log.
    ///
    /// Several run in the order of registration. A SIGHUP that comes while they run has them
    /// run once more afterwards; in a shutdown it does nothing. One that fails or panics is
    /// logged (`reload.finished`, WARN) and the process goes on as it was. A process that was
    /// started with SIGHUP ignored (`nohup`) keeps ignoring it.
    ///
    /// A hook has no time limit while the process runs: give it its own, since one that hangs
    /// holds up the reloads after it. The drain waits for one that is under way, and names
    /// and cuts it as other work. Until the first hook is registered, SIGHUP is as SIGTERM.
    ///
    /// # Examples
    /// ```no_run
    /// # fn main() -> Result<(), lifecycle::StartError> {
    /// let mut life = lifecycle::Lifecycle::from_env()?;
    /// life.on_reload("limits", || async {
    ///     let _limits = std::fs::read_to_string("/etc/orders/limits")?;
    ///     Ok::<_, std::io::Error>(())
    /// });
    /// # Ok(()) }
    /// ```
    pub fn on_reload<F, Fut>(&mut self, name: impl Into<String>, hook: F) -> &mut Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Outcome,
    {
        self.shared.set_reloads();
        self.reloads.push(Reload::new(name.into(), hook));
        self
    }

    /// Registers a health check, which runs in the background from [`run`](Self::run) on.
    pub fn check(&mut self, check: Check) -> &mut Self {
        self.shared.health().add(check.entry(self.shared.clock().now_ms()));
        self.checks.push(check);
        self
    }

    /// Puts the end of the start off until [`Handle::startup_done`] is called, for what is
    /// loaded in the background: until then `/startupz` and `/readyz` fail. Default: the start
    /// is over when [`run`](Self::run) is reached.
    pub fn warm_up(&mut self) -> &mut Self {
        self.shared.health().warm_up();
        self
    }

    /// Watches the application's runtime: when a task of ours gets no turn on it for longer
    /// than `limit`, `/livez` fails and the log says so (`watchdog.stalled`), until it
    /// recovers. Not in a shutdown, whose deadline sees to what is stuck.
    ///
    /// Wakes an idle process four times in a limit on its runtime, and twice on the control
    /// thread. A limit below a second is at the mercy of a busy machine; below 10 ms it is taken
    /// as 10 ms.
    pub fn watchdog(&mut self, limit: Duration) -> &mut Self {
        self.watch_runtime(WATCHDOG, "runtime", limit);
        self
    }

    /// Starts the components and runs until the report: the process is ready from here on.
    ///
    /// Return the report from `main`: it prints itself and gives the exit code. By default
    /// the process is ended at its deadline even if this future is not polled any more, or
    /// if it has returned and the runtime does not end ([`ForcedExit`](crate::ForcedExit)).
    ///
    /// # Errors
    /// [`RunError`] when components were registered in a way that cannot be
    /// ([`Misuse`](crate::Misuse)), or when the shutdown was over before this was called: then
    /// components and hooks are not run. Running out of time is not an error: it is in the
    /// report.
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future leaves components and shutdown running; the report is lost to
    /// the caller, and still printed if the process has to be ended.
    pub async fn run(mut self) -> Result<Report, RunError> {
        if !self.reloads.is_empty() {
            let reloads = Reloads::new(std::mem::take(&mut self.reloads), &self.shared);
            self.register(Registered::new(RELOADS.to_owned(), Tenure::Optional, reloads));
        }
        if !self.checks.is_empty() {
            let checks = Checks::new(std::mem::take(&mut self.checks), &self.shared);
            let mut checks = Registered::new(CHECKS.to_owned(), Tenure::Optional, checks);
            // They show the process as it is until everything else has drained.
            checks.after = self.components.iter().map(|other| other.name.clone()).collect();
            self.register(checks);
        }
        let names: Vec<_> =
            self.components.iter().map(|one| (one.name.as_str(), &one.after[..])).collect();
        let order = Order::new(&names).map_err(RunError::Misuse)?;
        // Not earlier: the program may set its subscriber after the first line of `main`.
        telemetry::configured(&self.budget, &self.settings);
        let (report, wait) = oneshot::channel();
        let (components, hooks) = (self.components, self.hooks);
        let run = Run { components, order, hooks, on: runtime::Handle::current(), report };
        let lost = || match self.shared.phase() {
            Phase::Stopped => RunError::Ended,
            _ => RunError::ControlThreadLost,
        };
        let sent = self.commands.send(Command::Run(Box::new(run))).await;
        sent.map_err(|_| lost())?;
        wait.await.map_err(|_| lost())
    }

    /// Runs an admin process: as [`run`](Self::run), but the shutdown begins when `job` is
    /// done, and that is no failure.
    ///
    /// The rest is the same, so that a migration stops as the service does (factor XII): a
    /// signal tells the job to end ([`Handle::draining`]), cancels it at the hard stop and
    /// drops it after the cancel window; other components drain and hooks run when it is
    /// done; the report names what was cut. Exit codes: 0 when the job returned `Ok`, also
    /// after a signal (return an error from a job that was left half done); 1 when it failed
    /// or panicked; 3 when the deadline cut it; 128 + n when a further signal forced the stop.
    ///
    /// # Examples
    /// ```no_run
    /// use lifecycle::{Lifecycle, Report, component_fn};
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<Report, Box<dyn std::error::Error>> {
    ///     let life = Lifecycle::from_env()?;
    ///     let job = component_fn(|handle| async move {
    ///         for batch in 0..100 {
    ///             if handle.phase() >= lifecycle::Phase::LameDuck {
    ///                 return Err(format!("stopped before batch {batch}"));
    ///             }
    ///             // copy one batch in a transaction of its own
    ///         }
    ///         Ok(())
    ///     });
    ///     Ok(life.run_once("backfill", job).await?)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run): dropping the future leaves the job running.
    pub async fn run_once(
        mut self,
        name: impl Into<String>,
        job: impl Component,
    ) -> Result<Report, RunError> {
        self.register(Registered::new(name.into(), Tenure::Once, job));
        self.run().await
    }

    /// Registers a heartbeat of that component's name, which probes and log call `heart`.
    pub(crate) fn watch_runtime(&mut self, name: &str, heart: &str, limit: Duration) {
        let heart = self.shared.health().add_heart(Heart::new(heart.to_owned(), limit));
        let heartbeat = Heartbeat::new(heart, &self.shared);
        self.register(Registered::new(name.to_owned(), Tenure::Optional, heartbeat));
    }

    #[cfg(all(target_os = "linux", feature = "systemd"))]
    pub(crate) fn is_registered(&self, name: &str) -> bool {
        self.components.iter().any(|component| component.name == name)
    }

    #[cfg(feature = "probes")]
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    #[cfg(any(feature = "probes", all(target_os = "linux", feature = "systemd")))]
    pub(crate) fn commands(&self) -> &mpsc::Sender<Command> {
        &self.commands
    }

    pub(crate) fn last(&mut self) -> Option<&mut Registered> {
        self.components.last_mut()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn register(&mut self, component: Registered) {
        if component.role == Role::Server {
            self.shared.set_server();
        }
        self.components.push(component);
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("phase", &self.shared.phase())
            .field("components", &self.components)
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}

/// The component that runs the reload hooks.
const RELOADS: &str = "reload hooks";
/// The one that runs the checks.
const CHECKS: &str = "health checks";
/// The one that the watchdog watches.
const WATCHDOG: &str = "watchdog";
