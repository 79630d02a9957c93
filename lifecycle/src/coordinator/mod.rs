//! The async shell: runs the machine, arms its timers, starts and joins components and
//! hooks. One task, on the control thread or, in tests, in the caller's runtime.
//!
//! # Invariants
//! 1. Every wait ends at a deadline of the machine, once the cause has come.
//! 2. Hooks begin only when every component was joined or given up.

mod act;
mod manager;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use self::manager::Manager;
use self::relay::Relays;
use crate::closing::{Closing, Overdue};
use crate::command::{Command, Run};
use crate::component::Role;
use crate::exit::ExitPolicy;
use crate::machine::{Event, LameDuck, Machine};
use crate::phase::Phase;
use crate::record::Record;
use crate::report::{Cause, Report};
use crate::running::{Joined, Running};
use crate::shared::{Shared, Timeline};
use crate::signal::{By, Heard, Signal, Source};

pub(crate) struct Coordinator {
    shared: Arc<Shared>,
    machine: Machine,
    policy: ExitPolicy,
    record: Record,
    running: Running,
    closing: Closing,
    /// Whether commands may still come: the `Lifecycle` lives.
    open: bool,
    on: Option<runtime::Handle>,
    report: Option<oneshot::Sender<Report>>,
    ready: bool,
    next_words: Option<Instant>,
    /// When to look at the hearts again; in a shutdown nobody does.
    next_look: Option<Instant>,
    manager: Manager,
    relays: Relays,
    begun: Arc<dyn Fn(Timeline) + Send + Sync>,
}

/// How the coordinator ended.
pub(crate) enum Finish {
    /// With its report.
    Reported(Report),
    /// By one signal too many: nobody should wait any longer.
    Now(Report),
}

impl Coordinator {
    /// `begun` is told the deadlines when the cause has come, and again when a force has
    /// moved them.
    pub(crate) fn new(
        shared: Arc<Shared>,
        machine: Machine,
        policy: ExitPolicy,
        begun: Arc<dyn Fn(Timeline) + Send + Sync>,
    ) -> Self {
        let record = Record::new(machine.budget());
        Self {
            shared,
            machine,
            policy,
            record,
            running: Running::default(),
            closing: Closing::default(),
            open: true,
            on: None,
            report: None,
            ready: false,
            next_words: None,
            next_look: None,
            manager: Manager::default(),
            relays: Relays::default(),
            begun,
        }
    }

    /// Runs from the start to the report.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped half-way, nobody tells the components any more.
    pub(crate) async fn drive(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        signals: &mut Source,
    ) -> Finish {
        #[cfg(feature = "probes")]
        let mut probes = crate::probe::Server::new(Arc::clone(&self.shared));
        while self.machine.phase() < Phase::Stopped {
            let phase = self.machine.phase();
            let shutting_down = phase.is_shutting_down();
            let all_joined = self.running.is_empty();
            let closing_hook = self.closing.is_running_a_hook();
            // Nothing more can come from `main`: it has reached `run`, or has dropped its
            // `Lifecycle` and never will.
            let complete = self.on.is_some() || !self.open;
            // What listens keeps its lame duck, idle or not.
            let serves = phase == Phase::LameDuck && self.lame_duck() == LameDuck::Serve;
            let over = phase >= Phase::Closing;
            let idle = shutting_down && complete && all_joined && !serves && !over;
            let wake_at = self.wake_at();
            let finish = tokio::select! {
                biased;
                heard = signals.next() => self.look_and_hear(heard, commands),
                cause = self.shared.requested(), if !shutting_down => {
                    self.begin(cause);
                    None
                }
                () = self.shared.health().changed() => {
                    self.note_readiness();
                    None
                }
                command = commands.recv(), if self.open => {
                    match command {
                        Some(Command::Run(run)) => self.start(*run),
                        #[cfg(feature = "probes")]
                        Some(Command::Probes(listener)) => probes.serve(listener),
                        #[cfg(all(target_os = "linux", feature = "systemd"))]
                        Some(Command::Notify(notifier)) => self.manager.set(notifier),
                        None => {
                            self.open = false;
                            if matches!(signals, Source::Never) && self.on.is_none() {
                                // Nobody is left who could run it.
                                self.begin(Cause::Requested { reason: "dropped".to_owned() });
                            }
                        }
                    }
                    None
                }
                joined = self.running.next(), if !all_joined => {
                    self.on_all_joined(joined);
                    None
                }
                () = self.shared.gates().drained(), if idle => {
                    self.take(Event::Idle)
                }
                end = self.closing.hook_end(), if closing_hook => {
                    self.on_hook(end);
                    None
                }
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {
                    self.on_time()
                }
            };
            if let Some(signal) = finish {
                self.record.forced_by(signal);
                crate::telemetry::ending();
                return Finish::Now(self.finish());
            }
            self.close_further();
            self.show();
        }
        crate::telemetry::ending();
        #[cfg(feature = "probes")]
        probes.end(self.left()).await;
        Finish::Reported(self.finish())
    }

    /// After the end: waits for a signal that is not just a repeat of the last.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn one_more_signal(&mut self, signals: &mut Source) -> Signal {
        loop {
            let heard = signals.next().await;
            if let Some(signal) = self.on_signal(heard) {
                return signal;
            }
        }
    }

    pub(crate) fn exit_by(&self) -> Instant {
        let cause_at = self.shared.timeline().map_or_else(Instant::now, |line| line.cause_at);
        cause_at + self.machine.budget().exit_by
    }

    /// Whether the `Lifecycle` was dropped before `main` has reached `run`.
    pub(crate) fn was_dropped(&self) -> bool {
        self.on.is_none() && !self.open
    }

    pub(crate) fn policy(&self) -> &ExitPolicy {
        &self.policy
    }

    fn start(&mut self, run: Run) {
        let Run { components, order, hooks, on, report } = run;
        self.running.start(components, order, &self.shared, &on);
        // A shutdown may have begun already.
        self.follow();
        self.closing.register(hooks);
        self.on = Some(on);
        self.report = Some(report);
        self.take(Event::Started);
        self.look_at_hearts();
    }

    /// A signal may be heard before the end of a `Lifecycle` that was dropped.
    fn look_and_hear(
        &mut self,
        heard: Heard,
        commands: &mpsc::Receiver<Command>,
    ) -> Option<Signal> {
        self.open &= !commands.is_closed() || !commands.is_empty();
        self.on_signal(heard)
    }

    fn on_signal(&mut self, heard: Heard) -> Option<Signal> {
        let signal = heard.signal;
        if signal == Signal::Hangup && self.shared.has_reloads() && !self.was_dropped() {
            // In a shutdown there is nothing left to reload for.
            if !self.machine.phase().is_shutting_down() {
                self.shared.ask_to_reload();
            }
            return None;
        }
        let lame_duck = if heard.by == By::Person { LameDuck::Skip } else { self.lame_duck() };
        self.record.cause(Cause::Signal(signal));
        self.take(Event::Signalled(signal, lame_duck))
    }

    fn begin(&mut self, cause: Cause) {
        self.record.cause(cause);
        let lame_duck = self.lame_duck();
        self.take(Event::Requested(lame_duck));
    }

    fn lame_duck(&self) -> LameDuck {
        // A server counts from its registration on: its listener is open before it is started.
        let waits = self.on.is_none() && self.shared.has_server();
        let serves = waits || self.running.serves() || self.shared.is_listening();
        // What was registered went with a `Lifecycle` that was dropped.
        let serves = serves && !self.was_dropped();
        if serves { LameDuck::Serve } else { LameDuck::Skip }
    }

    /// That one, and all that have ended by now: what comes of it for others, and is shown, is
    /// looked at once for all of them.
    fn on_all_joined(&mut self, first: Option<Joined>) {
        let mut joined = first;
        // Bounded by the number of components.
        while let Some(one) = joined {
            self.on_joined(one);
            joined = self.running.try_next();
        }
        self.follow();
    }

    fn on_joined(&mut self, joined: Joined) {
        let died = !self.machine.phase().is_shutting_down();
        let cause = if died { joined.cause() } else { None };
        let served = joined.role == Role::Server;
        self.note_end(joined);
        if let Some(cause) = cause {
            self.begin(cause);
        } else if served && self.lame_duck() == LameDuck::Skip {
            self.take(Event::Unserved);
        }
    }

    fn note_end(&mut self, joined: Joined) {
        self.record.component(joined, self.shared.since_cause(), self.shared.clock().now_ms());
    }

    /// What is due at this moment: a phase's end, the components' last moment, words.
    fn on_time(&mut self) -> Option<Signal> {
        self.relays.on_time();
        let now_ms = self.shared.clock().now_ms();
        match self.closing.on_time(&mut self.running, now_ms) {
            Overdue::Nothing => {}
            Overdue::Aborted(late) => {
                self.record.cut(Phase::Closing, self.shared.since_cause(), late);
            }
            Overdue::GivenUp(left) => left.into_iter().for_each(|joined| self.note_end(joined)),
        }
        let finish = self.take(Event::Tick);
        if self.quiet_at().is_some_and(|at| Instant::now() >= at) {
            self.take(Event::Unserved);
        }
        self.follow();
        if self.next_look.is_some_and(|at| Instant::now() >= at) {
            self.look_at_hearts();
        }
        if self.next_words.is_some_and(|at| Instant::now() >= at) {
            self.next_words = Some(Instant::now() + WORDS_EVERY);
            let left = self.machine.budget().drain_ends.saturating_sub(self.shared.since_cause());
            crate::telemetry::waiting(&self.blockers(), left);
            self.shared.record_metrics();
        }
        finish
    }

    fn wake_at(&self) -> Option<Instant> {
        let (look, tell) = (self.next_look, self.manager.next());
        let Some(timeline) = self.shared.timeline() else {
            return look.into_iter().chain(tell).min();
        };
        let cause_at = timeline.cause_at;
        let phase_ends = self.machine.phase_ends().map(|ends| cause_at + ends);
        let readiness = self.shared.readiness().changes_at();
        let readiness = readiness.and_then(|at| cause_at.checked_add(at));
        let readiness = readiness.filter(|_| self.ready && self.machine.phase() == Phase::LameDuck);
        let joining = self.closing.wake_at(&self.running);
        let order = self.running.changes_at().map(|at| cause_at + at);
        let relay = self.relays.due_at();
        [phase_ends, readiness, joining, order, self.quiet_at(), self.next_words, tell, relay]
            .into_iter()
            .flatten()
            .min()
    }

    /// In `Closing`, with the components joined: the next hook, or the end.
    fn close_further(&mut self) {
        let joined = self.running.is_empty() && !self.closing.is_running_a_hook();
        if self.machine.phase() != Phase::Closing || !joined {
            return;
        }
        let left = self.left();
        if !self.closing.start_next(left, self.on.as_ref()) {
            self.take(Event::Closed);
        }
    }

    /// When the lame duck may end because nobody comes any more.
    fn quiet_at(&self) -> Option<Instant> {
        let lame_duck = self.machine.phase() == Phase::LameDuck;
        let cause_at = self.shared.timeline().filter(|_| lame_duck)?.cause_at;
        // A window without end never does.
        self.shared.quiet_at().and_then(|at| cause_at.checked_add(at))
    }

    fn look_at_hearts(&mut self) {
        let health = self.shared.health();
        health.look(self.shared.clock().now_ms());
        let shutting_down = self.machine.phase().is_shutting_down();
        let every = health.look_every().filter(|_| !shutting_down);
        self.next_look = every.map(|every| Instant::now() + every);
    }

    /// Time until the exit.
    fn left(&self) -> Duration {
        self.machine.budget().exit_by.saturating_sub(self.shared.since_cause())
    }
}

/// How often a drain says what it waits for.
const WORDS_EVERY: Duration = Duration::from_secs(5);
