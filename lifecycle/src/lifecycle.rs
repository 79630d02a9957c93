//! `Lifecycle`, the value that `main` holds, and its builder.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{mpsc, oneshot};

use crate::budget::Budget;
use crate::clock::Clock;
use crate::command::{Command, Run};
use crate::component::{Component, Outcome, Registered, Role};
use crate::control::{self, ForcedExit};
use crate::coordinator::Coordinator;
use crate::env::Settings;
use crate::error::{RunError, StartError};
use crate::exit::ExitPolicy;
use crate::handle::Handle;
use crate::hook::Hook;
use crate::machine::Machine;
use crate::phase::Phase;
use crate::readiness::ReadinessPolicy;
use crate::report::Report;
use crate::shared::Shared;
use crate::signal::Source;
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
    settings: Settings,
    budget: Budget,
}

/// Settings for a [`Lifecycle`]; made by [`Lifecycle::builder`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until built"]
pub struct Builder {
    settings: Settings,
    exit_policy: ExitPolicy,
    forced_exit: ForcedExit,
}

impl Lifecycle {
    /// Reads the environment, catches signals and starts the control thread.
    ///
    /// The variables are `LIFECYCLE_GRACE_PERIOD` (else `TERMINATION_GRACE_PERIOD_SECONDS`,
    /// else what the platform gives by default), `LIFECYCLE_PRE_STOP`,
    /// `LIFECYCLE_LAME_DUCK`, `LIFECYCLE_READINESS` and `LIFECYCLE_PROBE_ADDR`; the README
    /// has the table. Blocks for the fraction of a millisecond that the thread takes to
    /// start.
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
    /// Components are told of the phases all at once and are waited for; one that ends
    /// before it was told to starts the shutdown.
    pub fn spawn(&mut self, name: impl Into<String>, component: impl Component) -> &mut Self {
        let component = Registered::new(name.into(), component);
        if component.role == Role::Server {
            self.shared.set_server();
        }
        self.components.push(component);
        self
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
    /// is left.
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

    /// Serves `/livez`, `/readyz` and `/startupz` from the control thread, until just
    /// before the report.
    ///
    /// Call it before slow start-up work, so that the platform sees a live process that is
    /// not ready yet. Returns the address that was bound, or `None` when probes are `off`.
    ///
    /// # Errors
    /// [`ProbeError::Bind`](crate::ProbeError::Bind) when the address cannot be bound.
    ///
    /// # Cancel safety
    /// Dropped before it returns, the server may or may not have been started.
    #[cfg(feature = "probes")]
    pub async fn serve_probes(&mut self) -> Result<Option<SocketAddr>, crate::ProbeError> {
        let Some(addr) = self.settings.probe_addr else {
            return Ok(None);
        };
        let bind = |source| crate::ProbeError::Bind { addr, source };
        let listener = std::net::TcpListener::bind(addr).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let bound = listener.local_addr().map_err(bind)?;
        let sent = self.commands.send(Command::Probes(listener)).await;
        sent.map_err(|_| crate::ProbeError::Ended)?;
        Ok(Some(bound))
    }

    /// Starts the components and runs until the report: the process is ready from here on.
    ///
    /// Return the report from `main`: it prints itself and gives the exit code. By default
    /// the process is ended at its deadline even if this future is not polled any more, or
    /// if it has returned and the runtime does not end ([`ForcedExit`]).
    ///
    /// # Errors
    /// [`RunError`] when two components have the same name, or when the shutdown was over
    /// before this was called: then components and hooks are not run. Running out of time is not an
    /// error: it is in the report.
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future leaves components and shutdown running; the report is lost to
    /// the caller, and still printed if the process has to be ended.
    pub async fn run(self) -> Result<Report, RunError> {
        let mut names = HashSet::new();
        if let Some(twice) = self.components.iter().find(|one| !names.insert(&one.name)) {
            return Err(RunError::Misuse { name: twice.name.clone() });
        }
        // Not earlier: the program may set its subscriber after the first line of `main`.
        telemetry::configured(&self.budget, &self.settings);
        let (report, wait) = oneshot::channel();
        let (components, hooks) = (self.components, self.hooks);
        let run = Run { components, hooks, on: runtime::Handle::current(), report };
        let lost = || match self.shared.phase() {
            Phase::Stopped => RunError::Ended,
            _ => RunError::ControlThreadLost,
        };
        let sent = self.commands.send(Command::Run(run)).await;
        sent.map_err(|_| lost())?;
        wait.await.map_err(|_| lost())
    }
}

impl Builder {
    /// As the environment says; [`Lifecycle::from_env`] has the variables.
    ///
    /// # Errors
    /// [`StartError::Variable`] when a value is not understood.
    pub fn from_env() -> Result<Self, StartError> {
        let settings = Settings::read(|name| {
            // What is not UTF-8 is not any of the forms; the error shows it as it reads.
            std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
        })?;
        Ok(Self { settings, ..Self::default() })
    }

    /// What the platform gives between its signal and its SIGKILL. Default 10 s: Docker's
    /// own, <https://docs.docker.com/reference/cli/docker/container/stop/>.
    pub fn grace_period(mut self, period: Duration) -> Self {
        self.settings.grace.period = period;
        self.settings.grace_source = "builder";
        self
    }

    /// How long a preStop hook takes, which Kubernetes counts into the grace. Default 0.
    pub fn pre_stop_delay(mut self, delay: Duration) -> Self {
        self.settings.grace.pre_stop = delay;
        self
    }

    /// How long to keep serving after the cause. Default: a sixth of the grace, 5 s at
    /// most. Only a process that listens has a lame duck.
    pub fn lame_duck_period(mut self, period: Duration) -> Self {
        self.settings.grace.lame_duck = Some(period);
        self
    }

    /// When readiness fails in a shutdown. Default: immediately.
    pub fn readiness(mut self, policy: ReadinessPolicy) -> Self {
        self.settings.readiness = policy;
        self
    }

    /// Where the probe server listens; `None` for no probe server. Default 0.0.0.0:9090.
    pub fn probe_addr(mut self, addr: impl Into<Option<SocketAddr>>) -> Self {
        self.settings.probe_addr = addr.into();
        self
    }

    /// Which exit code stands for which end.
    pub fn exit_policy(mut self, policy: ExitPolicy) -> Self {
        self.exit_policy = policy;
        self
    }

    /// Whether the process may be ended at its deadline. Default: yes.
    pub fn forced_exit(mut self, forced: ForcedExit) -> Self {
        self.forced_exit = forced;
        self
    }

    /// Catches signals and starts the control thread, which may end the process at the
    /// shutdown's deadline ([`ForcedExit`]): in tests use [`build_local`](Self::build_local).
    ///
    /// # Errors
    /// [`StartError`] when the grace period contradicts itself or the operating system
    /// refuses the thread or the signal handlers.
    pub fn build(self) -> Result<Lifecycle, StartError> {
        let (shared, machine, life, commands) = self.parts(Clock::coarse())?;
        control::start(shared, machine, self.exit_policy, self.forced_exit, commands)
            .map_err(StartError::ControlThread)?;
        Ok(life)
    }

    /// For tests: the same coordinator as a task of the caller's runtime, under its clock
    /// (paused time included), without signals, and never ending the process.
    ///
    /// # Errors
    /// [`StartError::Budget`] when the grace period contradicts itself.
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    pub fn build_local(self) -> Result<Lifecycle, StartError> {
        let (shared, machine, life, mut commands) = self.parts(Clock::tokio())?;
        let policy = self.exit_policy;
        drop(tokio::spawn(async move {
            let mut coordinator = Coordinator::new(shared, machine, policy, Arc::new(|_| ()));
            drop(Box::pin(coordinator.drive(&mut commands, &mut Source::Never)).await);
        }));
        Ok(life)
    }

    fn parts(&self, clock: Clock) -> Result<Parts, StartError> {
        let settings = &self.settings;
        let budget = Budget::split(settings.grace).map_err(StartError::Budget)?;
        let shared = Arc::new(Shared::new(clock, settings.readiness));
        let (commands, told) = mpsc::channel(COMMANDS);
        let life = Lifecycle {
            shared: Arc::clone(&shared),
            commands,
            components: Vec::new(),
            hooks: Vec::new(),
            settings: settings.clone(),
            budget,
        };
        Ok((shared, Machine::new(budget), life, told))
    }
}

type Parts = (Arc<Shared>, Machine, Lifecycle, mpsc::Receiver<Command>);

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("phase", &self.shared.phase())
            .field("components", &self.components)
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}

/// `run` and a few probe listeners.
const COMMANDS: usize = 8;
