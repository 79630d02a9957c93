//! The settings of a `Lifecycle`, and how it is made of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::command::Command;
use crate::control::{self, ForcedExit};
use crate::coordinator::Coordinator;
use crate::env::Settings;
use crate::error::{BudgetError, StartError};
use crate::exit::ExitPolicy;
use crate::lifecycle::Lifecycle;
use crate::machine::Machine;
use crate::quiet::Quiet;
use crate::readiness::ReadinessPolicy;
use crate::shared::Shared;
use crate::signal::Source;

/// Settings for a [`Lifecycle`]; made by [`Lifecycle::builder`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until built"]
pub struct Builder {
    settings: Settings,
    exit_policy: ExitPolicy,
    forced_exit: ForcedExit,
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

    /// Lets the lame duck end early: once no new connection has come for `quiet`, and not
    /// before `least`. Default: it is exact. The server is our `serve`, or one that calls
    /// [`Handle::saw_connection`](crate::Handle::saw_connection).
    pub fn adaptive_lame_duck(mut self, least: Duration, quiet: Duration) -> Self {
        self.settings.quiet = Some(Quiet { least, window: quiet });
        self
    }

    /// The timeout that your server puts on a request, to be compared with what the drain
    /// leaves: a request that begins at the end of the lame duck and takes longer than the
    /// drain would be cut. Then [`run`](Lifecycle::run) logs a warning
    /// (`request_timeout.exceeds_drain`); nothing else hangs on it. Default: not known.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = Some(timeout);
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
    /// (paused time included), without signals, and never ending the process. The feature
    /// `test-kit` has signals for it, and more.
    ///
    /// # Errors
    /// [`StartError::Budget`] when the grace period contradicts itself.
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    pub fn build_local(self) -> Result<Lifecycle, StartError> {
        self.build_hearing(Source::Never)
    }

    /// As [`build_local`](Self::build_local), with signals from there.
    pub(crate) fn build_hearing(self, mut signals: Source) -> Result<Lifecycle, StartError> {
        let (shared, machine, life, mut commands) = self.parts(Clock::tokio())?;
        let policy = self.exit_policy;
        drop(tokio::spawn(async move {
            let mut coordinator = Coordinator::new(shared, machine, policy, Arc::new(|_| ()));
            drop(Box::pin(coordinator.drive(&mut commands, &mut signals)).await);
        }));
        Ok(life)
    }

    #[cfg(feature = "test-kit")]
    pub(crate) fn grace(&self) -> Duration {
        self.settings.grace.period
    }

    fn parts(&self, clock: Clock) -> Result<Parts, StartError> {
        let settings = &self.settings;
        let budget = Budget::split(settings.grace).map_err(StartError::Budget)?;
        if let Some(Quiet { least, .. }) = settings.quiet {
            let lame_duck = budget.lame_duck_ends;
            if least > lame_duck {
                let error = BudgetError::LameDuckLeastTooLong { least, lame_duck };
                return Err(StartError::Budget(error));
            }
        }
        let shared = Arc::new(Shared::new(clock, settings.readiness, settings.quiet));
        let (commands, told) = mpsc::channel(COMMANDS);
        let life = Lifecycle::new(Arc::clone(&shared), commands, settings.clone(), budget);
        Ok((shared, Machine::new(budget), life, told))
    }
}

type Parts = (Arc<Shared>, Machine, Lifecycle, mpsc::Receiver<Command>);

/// `run` and a few probe listeners.
const COMMANDS: usize = 8;
