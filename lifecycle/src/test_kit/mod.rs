//! Tests of your own drain in milliseconds: virtual signals, scripted components, and
//! assertions on phases and report, under tokio's paused clock and without processes.
//!
//! What runs is the coordinator of production, in the test's own runtime; only the signals
//! and the clock are the test's. Use `#[tokio::test(start_paused = true)]`: then thirty
//! seconds of grace pass as soon as everybody waits. (tokio's feature `test-util` has it.)
//! Real sockets and blocking threads do not know of paused time: test those with real time
//! and a short grace, or from outside with `lifecycle-drill`.
//!
//! # Examples
//! A buffer that must be flushed after the server has drained, and in time:
//! ```
//! use std::time::Duration;
//!
//! use lifecycle::test_kit::{Script, TestKit};
//! use lifecycle::{Lifecycle, Phase, Signal, component_fn};
//!
//! /// What `main` registers, as a function, so that a test can call it too.
//! fn register(life: &mut Lifecycle) {
//!     let buffer = component_fn(|handle| async move {
//!         handle.draining().await; // the server has ended: nobody adds to the buffer
//!         tokio::time::sleep(Duration::from_millis(200)).await; // writes it
//!     });
//!     life.spawn("buffer", buffer).after("http");
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! // #[tokio::test(start_paused = true)]
//! let mut kit = TestKit::new(Lifecycle::builder().grace_period(Duration::from_secs(30)));
//! register(kit.life());
//! // In place of the server, one that takes three seconds to finish its requests.
//! let http = Script::server().drains_for(Duration::from_secs(3));
//! let seen = http.log();
//! kit.life().spawn("http", http);
//!
//! kit.start().await;
//! assert!(kit.is_ready());
//! kit.signal(Signal::Terminate);
//! kit.reaches(Phase::LameDuck).await;
//! assert!(!kit.is_ready());
//!
//! let report = kit.report().await;
//! report.is_clean().ended_in_order(&["http", "buffer"]);
//! report.took(Phase::Draining, Duration::from_millis(3_200));
//! assert_eq!(seen.at(Phase::Draining), Some(Duration::from_secs(5)), "after the lame duck");
//! # }
//! ```

mod check;
mod script;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub use self::check::CheckedReport;
pub use self::script::{PhaseLog, Script};
use crate::builder::Builder;
use crate::component::Component;
use crate::error::RunError;
use crate::handle::Handle;
use crate::lifecycle::Lifecycle;
use crate::phase::Phase;
use crate::report::Report;
use crate::signal::{By, Heard, Signal, Source};

/// One lifecycle under test: register on [`life`](Self::life), [`start`](Self::start), send
/// signals, wait for phases, and look at the [`report`](Self::report).
///
/// Every wait ends: after the grace and a minute more of the clock that the test has, it
/// panics and says in which phase the shutdown is and what holds it.
#[derive(Debug)]
#[must_use = "a test that does not look at the report tests nothing"]
pub struct TestKit {
    handle: Handle,
    life: Option<Lifecycle>,
    signals: mpsc::Sender<Heard>,
    run: Option<JoinHandle<Result<Report, RunError>>>,
    patience: Duration,
}

impl TestKit {
    /// A lifecycle of that builder, in the test's runtime.
    ///
    /// # Panics
    /// When the builder's budget contradicts itself, or outside a tokio runtime.
    #[track_caller]
    pub fn new(builder: Builder) -> Self {
        let patience = builder.grace().saturating_add(Duration::from_secs(60));
        let (signals, heard) = mpsc::channel(SIGNALS);
        let life = builder.build_hearing(Source::Virtual(heard));
        let life = life.unwrap_or_else(|error| panic!("the builder is refused: {error:?}"));
        Self { handle: life.handle(), life: Some(life), signals, run: None, patience }
    }

    /// What is under test, to register components and hooks on.
    ///
    /// # Panics
    /// After [`start`](Self::start).
    #[track_caller]
    pub fn life(&mut self) -> &mut Lifecycle {
        self.life.as_mut().unwrap_or_else(|| panic!("components are registered before `start`"))
    }

    /// A handle of it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs it, and waits until it is `Running`.
    ///
    /// # Panics
    /// When it was started before, or when [`run`](Lifecycle::run) refuses, as it does names
    /// that are unknown.
    ///
    /// # Cancel safety
    /// Dropped, it runs all the same.
    pub async fn start(&mut self) {
        self.started(Lifecycle::run).await;
    }

    /// Runs it as an admin process ([`run_once`](Lifecycle::run_once)), and waits until it is
    /// `Running`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    /// Dropped, it runs all the same.
    pub async fn start_once(&mut self, name: impl Into<String>, job: impl Component) {
        let name = name.into();
        self.started(|life| life.run_once(name, job)).await;
    }

    async fn started<R>(&mut self, run: impl FnOnce(Lifecycle) -> R)
    where
        R: Future<Output = Result<Report, RunError>> + Send + 'static,
    {
        let Some(life) = self.life.take() else { panic!("started before") };
        let run = self.run.insert(tokio::spawn(run(life)));
        // What refuses to run does so at once, without a phase.
        tokio::select! {
            biased;
            () = self.handle.reached(Phase::Running) => {}
            ended = run => panic!("it did not run: {:?}", ended.map(|result| result.err())),
        }
    }

    /// Sends a signal, as the platform would.
    ///
    /// Repeats within a second are one signal, as in production; [`passes`](Self::passes)
    /// lets the second pass.
    ///
    /// # Panics
    /// When 64 signals have not been heard: nothing runs between them.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.send(Heard { signal, by: By::Platform });
    }

    /// Presses Ctrl-C at a terminal: SIGINT without a lame duck.
    ///
    /// # Panics
    /// As [`signal`](Self::signal).
    #[track_caller]
    pub fn ctrl_c(&self) {
        self.send(Heard { signal: Signal::Interrupt, by: By::Person });
    }

    /// Lets time pass.
    ///
    /// # Cancel safety
    /// Cancel safe: the time that has passed has passed.
    pub async fn passes(&self, time: Duration) {
        sleep(time).await;
    }

    /// Waits until the phase has been reached or passed.
    ///
    /// # Panics
    /// When it does not come within the grace and a minute.
    ///
    /// # Cancel safety
    /// Cancel safe: call it again.
    pub async fn reaches(&self, phase: Phase) {
        if timeout(self.patience, self.handle.reached(phase)).await.is_err() {
            panic!("{phase} was not reached: {}", self.stands());
        }
    }

    /// What the readiness probe would say.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.handle.shared().is_ready()
    }

    /// Waits for the end; the report, to be checked.
    ///
    /// # Panics
    /// When it was not started, `run` failed, or the end does not come within the grace and
    /// a minute (nobody has asked for it, most likely).
    ///
    /// # Cancel safety
    /// Not cancel safe: the report is lost.
    pub async fn report(mut self) -> CheckedReport {
        let Some(run) = self.run.take() else { panic!("not started") };
        match timeout(self.patience, run).await {
            Ok(Ok(Ok(report))) => CheckedReport::new(report),
            Ok(Ok(Err(error))) => panic!("it did not run: {error:?}"),
            Ok(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
            Err(_) => panic!("it did not end: {}", self.stands()),
        }
    }

    #[track_caller]
    fn send(&self, heard: Heard) {
        if let Err(error) = self.signals.try_send(heard) {
            panic!("{} was not heard: {error}", heard.signal);
        }
    }

    /// Where it is, and what holds it.
    fn stands(&self) -> String {
        let blockers = self.handle.blockers();
        let names: Vec<_> = blockers.iter().map(ToString::to_string).collect();
        format!("it is in {}, in flight: [{}]", self.handle.phase(), names.join(", "))
    }
}

/// As many as a test may send at a time.
const SIGNALS: usize = 64;
