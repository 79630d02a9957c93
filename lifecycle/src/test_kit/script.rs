//! Components that behave as they are told, in place of real ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::component::{Component, Role};
use crate::error::BoxError;
use crate::handle::Handle;
use crate::phase::Phase;
use crate::sync::{Mutex, locked};

/// A component that does as it is told: by default a task that ends when the drain begins.
///
/// # Examples
/// ```
/// use lifecycle::test_kit::{Script, TestKit};
/// use lifecycle::{Lifecycle, Phase, Signal};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let mut kit = TestKit::new(Lifecycle::builder());
/// kit.life().spawn("stuck", Script::task().deaf());
/// kit.start().await;
/// kit.signal(Signal::Terminate);
/// kit.report().await.exit_code(3).cut(Phase::Draining, "stuck");
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a script does nothing until it is spawned"]
pub struct Script {
    role: Role,
    drains_for: Duration,
    heeds_cancel: bool,
    by_itself: Option<(Duration, Ending)>,
    log: PhaseLog,
}

/// When a [`Script`] has seen which phase; a clone is the same log.
#[derive(Clone, Debug, Default)]
pub struct PhaseLog {
    seen: Arc<Mutex<Vec<(Phase, Duration)>>>,
}

#[derive(Clone, Debug)]
enum Ending {
    Returns,
    Fails(String),
    Panics(String),
}

impl Script {
    /// In place of a component that is one task.
    pub fn task() -> Self {
        Self {
            role: Role::Task,
            drains_for: Duration::ZERO,
            heeds_cancel: true,
            by_itself: None,
            log: PhaseLog::default(),
        }
    }

    /// In place of a server: the process has a lame duck.
    pub fn server() -> Self {
        Self { role: Role::Server, ..Self::task() }
    }

    /// In place of a worker.
    pub fn worker() -> Self {
        Self { role: Role::Worker, ..Self::task() }
    }

    /// How long it takes from the drain's begin to its end, unless it is cancelled before.
    /// Default: no time.
    pub fn drains_for(self, time: Duration) -> Self {
        Self { drains_for: time, ..self }
    }

    /// Heeds neither drain nor cancel: goes on until it is dropped.
    pub fn deaf(self) -> Self {
        Self { drains_for: Duration::MAX, heeds_cancel: false, ..self }
    }

    /// Returns by itself so long after its start.
    pub fn returns_after(self, time: Duration) -> Self {
        Self { by_itself: Some((time, Ending::Returns)), ..self }
    }

    /// Fails so long after its start.
    pub fn fails_after(self, time: Duration, error: impl Into<String>) -> Self {
        Self { by_itself: Some((time, Ending::Fails(error.into()))), ..self }
    }

    /// Panics so long after its start.
    pub fn panics_after(self, time: Duration, message: impl Into<String>) -> Self {
        Self { by_itself: Some((time, Ending::Panics(message.into()))), ..self }
    }

    /// What it will have seen; take it before the script is spawned.
    #[must_use]
    pub fn log(&self) -> PhaseLog {
        self.log.clone()
    }

    async fn ends_by_itself(ending: Option<(Duration, Ending)>) -> Result<(), BoxError> {
        let Some((time, ending)) = ending else { return std::future::pending().await };
        sleep(time).await;
        match ending {
            Ending::Returns => Ok(()),
            Ending::Fails(error) => Err(error.into()),
            Ending::Panics(message) => panic!("{message}"),
        }
    }

    async fn told(&self, handle: &Handle) {
        for phase in [Phase::LameDuck, Phase::Draining] {
            handle.reached(phase).await;
            self.log.saw(phase, handle);
        }
        if !self.drains_for.is_zero() {
            tokio::select! {
                biased;
                () = sleep(self.drains_for) => {}
                () = handle.cancelled() => {
                    self.log.saw(Phase::Cancelling, handle);
                    if !self.heeds_cancel {
                        handle.reached(Phase::Closing).await;
                        self.log.saw(Phase::Closing, handle);
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }
}

impl Component for Script {
    async fn run(mut self, handle: Handle) -> Result<(), BoxError> {
        let ending = self.by_itself.take();
        tokio::select! {
            biased;
            ended = Self::ends_by_itself(ending) => ended,
            () = self.told(&handle) => Ok(()),
        }
    }

    fn role(&self) -> Role {
        self.role
    }
}

impl PhaseLog {
    /// When it saw the phase begin, as time since the cause; `None` if it did not.
    #[must_use]
    pub fn at(&self, phase: Phase) -> Option<Duration> {
        locked(&self.seen).iter().find(|seen| seen.0 == phase).map(|seen| seen.1)
    }

    fn saw(&self, phase: Phase, handle: &Handle) {
        locked(&self.seen).push((phase, handle.shared().since_cause()));
    }
}
