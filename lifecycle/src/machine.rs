//! The state machine of a shutdown: events and the time since the cause in, actions out.
//!
//! Pure: no task, no clock, no signal handler. The shell (`coordinator`) feeds it and
//! does what it says.
//!
//! # Invariants
//! 1. The phase only moves forward.
//! 2. In every phase after the cause there is a deadline, until `Stopped`.
//! 3. Work is cut at most once, at the end of `Draining` (or of what a force left of it).
//! 4. Repeats of one signal within a second are one signal, until the second has forced the
//!    stop; the third ends the process.

use std::time::Duration;

use crate::budget::Budget;
use crate::phase::Phase;
use crate::signal::Signal;

/// Whether anything is listening, so that a lame duck makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LameDuck {
    /// Keep serving for the lame duck's time.
    Serve,
    /// Drain at once: nothing listens, or a person pressed Ctrl-C.
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Start-up is over.
    Started,
    /// Shutdown was asked for, or a component died.
    Requested(LameDuck),
    /// A signal came.
    Signalled(Signal, LameDuck),
    /// A deadline may have passed.
    Tick,
    /// Every component has ended and nothing is in flight.
    Idle,
    /// The last listener is gone, or nobody comes to it any more.
    Unserved,
    /// Every hook has ended or was given up.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The cause has come now; deadlines count from here.
    Begin,
    /// Tell everybody of this phase.
    Enter(Phase),
    /// The time of this phase is over with work left: note who.
    Cut(Phase),
    /// End the process at once.
    ExitNow(Signal),
}

#[derive(Debug)]
pub(crate) struct Machine {
    phase: Phase,
    budget: Budget,
    last_signal: Option<(Signal, Duration)>,
    forced_by: Option<Signal>,
}

impl Machine {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { phase: Phase::Starting, budget, last_signal: None, forced_by: None }
    }

    /// Takes one event, `at` after the cause (zero before it), and says what to do, in order.
    pub(crate) fn on(&mut self, event: Event, at: Duration) -> Vec<Action> {
        let before = self.phase;
        let mut actions = Vec::new();
        match event {
            Event::Started => {
                if self.phase == Phase::Starting {
                    self.enter(Phase::Running, &mut actions);
                }
            }
            Event::Requested(lame_duck) => {
                if !self.phase.is_shutting_down() {
                    self.begin(lame_duck, &mut actions);
                }
            }
            Event::Signalled(signal, lame_duck) => self.signal(signal, lame_duck, at, &mut actions),
            Event::Tick => self.tick(at, &mut actions),
            Event::Idle => {
                if self.phase.is_shutting_down() && self.phase < Phase::Closing {
                    self.enter(Phase::Closing, &mut actions);
                }
            }
            Event::Unserved => {
                if self.phase == Phase::LameDuck {
                    self.enter(Phase::Draining, &mut actions);
                }
            }
            Event::Closed => {
                if self.phase == Phase::Closing {
                    self.enter(Phase::Stopped, &mut actions);
                }
            }
        }
        debug_assert!(self.phase >= before, "invariant 1: {before} to {}", self.phase);
        debug_assert!(
            self.phase_ends().is_some()
                == (self.phase.is_shutting_down() && self.phase != Phase::Stopped),
            "invariant 2"
        );
        actions
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn budget(&self) -> Budget {
        self.budget
    }

    /// The further signal that moved the hard stop forward, if any.
    pub(crate) fn forced_by(&self) -> Option<Signal> {
        self.forced_by
    }

    /// When the phase ends at the latest, as time since the cause.
    pub(crate) fn phase_ends(&self) -> Option<Duration> {
        match self.phase {
            Phase::LameDuck => Some(self.budget.lame_duck_ends),
            Phase::Draining => Some(self.budget.drain_ends),
            Phase::Cancelling => Some(self.budget.cancel_ends),
            Phase::Closing => Some(self.budget.exit_by),
            Phase::Starting | Phase::Running | Phase::Stopped => None,
        }
    }

    fn begin(&mut self, lame_duck: LameDuck, actions: &mut Vec<Action>) {
        debug_assert!(!self.phase.is_shutting_down(), "a shutdown begins once");
        actions.push(Action::Begin);
        if lame_duck == LameDuck::Skip {
            self.budget = self.budget.without_lame_duck();
        }
        if self.budget.lame_duck_ends.is_zero() {
            self.enter(Phase::Draining, actions);
        } else {
            self.enter(Phase::LameDuck, actions);
        }
    }

    fn signal(
        &mut self,
        signal: Signal,
        lame_duck: LameDuck,
        at: Duration,
        actions: &mut Vec<Action>,
    ) {
        if !self.phase.is_shutting_down() {
            self.last_signal = Some((signal, Duration::ZERO));
            if signal == Signal::Quit {
                self.begin(LameDuck::Skip, actions);
                self.force(signal, Duration::ZERO, actions);
            } else {
                self.begin(lame_duck, actions);
            }
            return;
        }
        let one = if self.forced_by.is_some() { ONE_SIGNAL_FORCED } else { ONE_SIGNAL };
        let repeat = self
            .last_signal
            .is_some_and(|(last, when)| last == signal && at.saturating_sub(when) < one);
        if repeat {
            return;
        }
        if self.phase == Phase::Stopped {
            // The report is out, yet the process still lives.
            actions.push(Action::ExitNow(signal));
            return;
        }
        let first = self.last_signal.is_none();
        self.last_signal = Some((signal, at));
        if self.forced_by.is_some() {
            actions.push(Action::ExitNow(signal));
        } else if !first || signal == Signal::Quit {
            self.force(signal, at, actions);
        }
        // The first signal after a shutdown that no signal began only confirms it.
    }

    /// Moves to `Cancelling` now, with the short windows of a forced stop.
    fn force(&mut self, signal: Signal, at: Duration, actions: &mut Vec<Action>) {
        debug_assert!(self.forced_by.is_none(), "forced once");
        self.forced_by = Some(signal);
        self.budget = self.budget.forced_at(at);
        if self.phase < Phase::Cancelling {
            self.cut_to_cancelling(actions);
        }
    }

    fn tick(&mut self, at: Duration, actions: &mut Vec<Action>) {
        // Bounded: each round moves the phase forward, and there are four.
        while self.phase_ends().is_some_and(|ends| at >= ends) {
            match self.phase {
                Phase::LameDuck => self.enter(Phase::Draining, actions),
                Phase::Draining => self.cut_to_cancelling(actions),
                Phase::Cancelling => {
                    actions.push(Action::Cut(Phase::Cancelling));
                    self.enter(Phase::Closing, actions);
                }
                Phase::Closing => {
                    actions.push(Action::Cut(Phase::Closing));
                    self.enter(Phase::Stopped, actions);
                }
                Phase::Starting | Phase::Running | Phase::Stopped => {
                    unreachable!("invariant 2: these phases have no deadline")
                }
            }
        }
    }

    fn cut_to_cancelling(&mut self, actions: &mut Vec<Action>) {
        actions.push(Action::Cut(Phase::Draining));
        self.enter(Phase::Cancelling, actions);
    }

    fn enter(&mut self, phase: Phase, actions: &mut Vec<Action>) {
        debug_assert!(phase > self.phase, "invariant 1: {} to {phase}", self.phase);
        self.phase = phase;
        actions.push(Action::Enter(phase));
    }
}

/// The same signal again within this time is one signal: Heroku sends several, and a
/// parent that forwards Ctrl-C doubles it.
const ONE_SIGNAL: Duration = Duration::from_secs(1);
/// The same once the stop was forced: it is over within a second, so only doubles are one,
/// and whoever presses a third time is heard.
const ONE_SIGNAL_FORCED: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Grace;

    use Action::{Begin, Cut, Enter, ExitNow};
    use LameDuck::{Serve, Skip};
    use Phase::{Cancelling, Closing, Draining, Running, Stopped};
    use Signal::{Hangup, Interrupt, Quit, Terminate};

    fn machine() -> Machine {
        let period = Duration::from_secs(30);
        Machine::new(Budget::split(Grace { period, ..Grace::default() }).expect("30 s"))
    }

    fn running() -> Machine {
        let mut machine = machine();
        assert_eq!(machine.on(Event::Started, Duration::ZERO), [Enter(Running)]);
        machine
    }

    fn told(signal: Signal, lame_duck: LameDuck) -> Machine {
        let mut machine = running();
        machine.on(Event::Signalled(signal, lame_duck), Duration::ZERO);
        machine
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn walks_through_all_phases_at_their_deadlines() {
        let mut machine = running();
        assert_eq!(
            machine.on(Event::Signalled(Terminate, Serve), ms(0)),
            [Begin, Enter(Phase::LameDuck)]
        );
        assert_eq!(machine.on(Event::Tick, ms(4_999)), []);
        assert_eq!(machine.on(Event::Tick, ms(5_000)), [Enter(Draining)]);
        assert_eq!(machine.on(Event::Tick, ms(24_499)), []);
        assert_eq!(machine.on(Event::Tick, ms(24_500)), [Cut(Draining), Enter(Cancelling)]);
        assert_eq!(machine.on(Event::Tick, ms(26_000)), [Cut(Cancelling), Enter(Closing)]);
        assert_eq!(machine.on(Event::Tick, ms(28_999)), []);
        assert_eq!(machine.on(Event::Tick, ms(29_000)), [Cut(Closing), Enter(Stopped)]);
        assert_eq!(machine.on(Event::Tick, ms(99_000)), []);
        assert_eq!(machine.phase_ends(), None);
    }

    #[test]
    fn a_late_tick_passes_every_deadline_that_is_over() {
        let mut machine = told(Terminate, Serve);
        assert_eq!(
            machine.on(Event::Tick, ms(27_000)),
            [Enter(Draining), Cut(Draining), Enter(Cancelling), Cut(Cancelling), Enter(Closing)]
        );
    }

    #[test]
    fn an_idle_process_passes_over_what_is_left() {
        for lame_duck in [Serve, Skip] {
            let mut machine = told(Terminate, lame_duck);
            assert_eq!(machine.on(Event::Idle, ms(1)), [Enter(Closing)]);
            assert_eq!(machine.on(Event::Idle, ms(2)), [], "once");
            assert_eq!(machine.on(Event::Closed, ms(3)), [Enter(Stopped)]);
        }
        let mut running = running();
        assert_eq!(running.on(Event::Idle, ms(0)), [], "not before the cause");
        assert_eq!(running.on(Event::Closed, ms(0)), []);
    }

    #[test]
    fn without_a_listener_there_is_no_lame_duck() {
        let mut machine = running();
        assert_eq!(machine.on(Event::Requested(Skip), ms(0)), [Begin, Enter(Draining)]);
        assert_eq!(machine.phase_ends(), Some(ms(24_500)), "its time goes to the drain");
    }

    #[test]
    fn the_lame_duck_ends_with_the_last_listener() {
        let mut machine = told(Terminate, Serve);
        assert_eq!(machine.on(Event::Unserved, ms(300)), [Enter(Draining)]);
        assert_eq!(machine.on(Event::Unserved, ms(400)), []);
        assert_eq!(running().on(Event::Unserved, ms(0)), [], "not before the cause");
    }

    #[test]
    fn a_shutdown_may_begin_before_the_start_is_over() {
        let mut machine = machine();
        assert_eq!(machine.on(Event::Signalled(Terminate, Skip), ms(0)), [Begin, Enter(Draining)]);
        assert_eq!(machine.on(Event::Started, ms(10)), [], "never back to running");
    }

    #[test]
    fn the_same_signal_within_a_second_is_one_signal() {
        let mut machine = told(Terminate, Serve);
        assert_eq!(machine.on(Event::Signalled(Terminate, Serve), ms(100)), []);
        assert_eq!(machine.on(Event::Signalled(Terminate, Serve), ms(999)), []);
        assert_eq!(machine.forced_by(), None);
        assert_eq!(
            machine.on(Event::Signalled(Terminate, Serve), ms(1_000)),
            [Cut(Draining), Enter(Cancelling)]
        );
        assert_eq!(machine.forced_by(), Some(Terminate));
        assert_eq!(machine.phase_ends(), Some(ms(1_250)));
        assert_eq!(machine.on(Event::Signalled(Terminate, Serve), ms(1_099)), [], "a double");
        assert_eq!(machine.on(Event::Tick, ms(1_250)), [Cut(Cancelling), Enter(Closing)]);
        assert_eq!(machine.phase_ends(), Some(ms(1_750)));
        let third = machine.on(Event::Signalled(Terminate, Serve), ms(1_400));
        assert_eq!(third, [ExitNow(Terminate)]);
    }

    #[test]
    fn a_different_signal_counts_at_any_time_and_the_third_ends_it() {
        let mut machine = told(Terminate, Serve);
        assert_eq!(
            machine.on(Event::Signalled(Interrupt, Serve), ms(50)),
            [Cut(Draining), Enter(Cancelling)]
        );
        assert_eq!(machine.on(Event::Signalled(Hangup, Serve), ms(60)), [ExitNow(Hangup)]);
    }

    #[test]
    fn a_force_during_closing_only_shortens_it() {
        let mut machine = told(Terminate, Serve);
        machine.on(Event::Idle, ms(2_000));
        assert_eq!(machine.phase_ends(), Some(ms(29_000)));
        assert_eq!(machine.on(Event::Signalled(Terminate, Serve), ms(3_000)), []);
        assert_eq!(machine.phase_ends(), Some(ms(3_750)));
        assert_eq!(machine.forced_by(), Some(Terminate));
    }

    #[test]
    fn quit_is_a_hard_stop_at_once() {
        let mut machine = running();
        assert_eq!(
            machine.on(Event::Signalled(Quit, Serve), ms(0)),
            [Begin, Enter(Draining), Cut(Draining), Enter(Cancelling)]
        );
        assert_eq!(machine.phase_ends(), Some(ms(250)));
        assert_eq!(machine.forced_by(), Some(Quit));
    }

    #[test]
    fn the_first_signal_after_a_requested_shutdown_only_confirms_it() {
        let mut machine = running();
        machine.on(Event::Requested(Serve), ms(0));
        assert_eq!(machine.on(Event::Requested(Serve), ms(1)), [], "once");
        assert_eq!(machine.on(Event::Signalled(Terminate, Serve), ms(2_000)), []);
        assert_eq!(machine.forced_by(), None);
        assert_eq!(
            machine.on(Event::Signalled(Terminate, Serve), ms(4_000)),
            [Cut(Draining), Enter(Cancelling)]
        );
    }

    #[test]
    fn a_signal_after_the_end_ends_the_process() {
        let mut machine = told(Terminate, Serve);
        machine.on(Event::Idle, ms(10));
        machine.on(Event::Closed, ms(20));
        assert_eq!(machine.on(Event::Signalled(Terminate, Serve), ms(30)), [], "a repeat");
        assert_eq!(machine.on(Event::Signalled(Hangup, Serve), ms(31)), [ExitNow(Hangup)]);
        assert_eq!(machine.on(Event::Signalled(Terminate, Serve), ms(1_030)), [ExitNow(Terminate)]);
    }

    /// Every event in every order of four, at growing times: never backwards, never
    /// without a deadline (the asserts in `on`), and always at the end by its deadline.
    #[test]
    fn every_short_history_ends_by_the_deadline() {
        let events = [
            Event::Started,
            Event::Requested(Serve),
            Event::Signalled(Terminate, Serve),
            Event::Signalled(Interrupt, Skip),
            Event::Signalled(Quit, Serve),
            Event::Tick,
            Event::Idle,
            Event::Unserved,
            Event::Closed,
        ];
        for step in [0, 700, 1_100, 9_000] {
            for code in 0..events.len().pow(4) {
                let mut machine = machine();
                let mut at = 0;
                let mut rest = code;
                for _ in 0..4 {
                    machine.on(events[rest % events.len()], ms(at));
                    rest /= events.len();
                    if machine.phase().is_shutting_down() {
                        at += step;
                    }
                }
                if machine.phase().is_shutting_down() {
                    machine.on(Event::Tick, ms(29_000));
                    assert_eq!(machine.phase(), Stopped, "history {code} at {step}");
                } else {
                    assert!(machine.phase() <= Running);
                }
            }
        }
    }
}

/// For any order of events, at times that never go back.
#[cfg(test)]
mod properties {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::budget::Grace;

    fn event() -> impl Strategy<Value = Event> {
        let duck = || select(vec![LameDuck::Serve, LameDuck::Skip]);
        let signal =
            select(vec![Signal::Hangup, Signal::Interrupt, Signal::Quit, Signal::Terminate]);
        prop_oneof![
            1 => Just(Event::Started),
            1 => duck().prop_map(Event::Requested),
            3 => (signal, duck()).prop_map(|(signal, duck)| Event::Signalled(signal, duck)),
            3 => Just(Event::Tick),
            1 => Just(Event::Idle),
            1 => Just(Event::Unserved),
            1 => Just(Event::Closed),
        ]
    }

    fn budget() -> impl Strategy<Value = Budget> {
        let lame_duck = proptest::option::of((0..3_000_u64).prop_map(Duration::from_millis));
        ((900..100_000_u64).prop_map(Duration::from_millis), lame_duck).prop_filter_map(
            "a lame duck that does not fit",
            |(period, lame_duck)| {
                Budget::split(Grace { period, lame_duck, ..Grace::default() }).ok()
            },
        )
    }

    /// What was done so far, and what of it may never be done again.
    #[derive(Default)]
    struct Seen {
        began: bool,
        entered: Option<Phase>,
        cut: Vec<Phase>,
        forced: bool,
    }

    impl Seen {
        fn take(&mut self, action: Action, before: Phase) {
            match action {
                Action::Begin => {
                    assert!(!self.began && !before.is_shutting_down(), "begins once");
                    self.began = true;
                }
                Action::Enter(phase) => {
                    assert!(self.entered.is_none_or(|last| phase > last), "invariant 1");
                    assert_eq!(phase.is_shutting_down(), self.began, "{phase}");
                    self.entered = Some(phase);
                }
                Action::Cut(phase) => {
                    assert!(self.cut.iter().all(|last| phase > *last), "invariant 3");
                    // A force cuts the drain out of the lame duck.
                    assert!(self.entered.is_some_and(|now| now <= phase), "{phase}");
                    self.cut.push(phase);
                }
                Action::ExitNow(_) => {
                    assert!(self.forced || before == Phase::Stopped, "invariant 4");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 1_000, failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn any_order_of_events_keeps_the_invariants_and_ends_by_the_deadline(
            budget in budget(),
            events in proptest::collection::vec((event(), 0..4_000_u64), 0..40),
        ) {
            let (mut machine, mut seen) = (Machine::new(budget), Seen::default());
            let mut at = Duration::ZERO;
            let mut exit_by = machine.budget().exit_by;
            for (event, ms) in events {
                let before = machine.phase();
                if seen.began {
                    at += Duration::from_millis(ms);
                }
                seen.forced = machine.forced_by().is_some();
                for action in machine.on(event, at) {
                    seen.take(action, before);
                }
                prop_assert!(machine.phase() >= before, "invariant 1");
                let ends = machine.phase_ends();
                let waits = machine.phase().is_shutting_down() && machine.phase() != Phase::Stopped;
                prop_assert_eq!(ends.is_some(), waits, "invariant 2");
                prop_assert!(machine.budget().exit_by <= exit_by, "no time is added");
                exit_by = machine.budget().exit_by;
            }
            if seen.began {
                drop(machine.on(Event::Tick, at.max(exit_by)));
                prop_assert_eq!(machine.phase(), Phase::Stopped, "gone by its deadline");
                prop_assert_eq!(machine.on(Event::Tick, at + exit_by), []);
            } else {
                prop_assert!(machine.phase() < Phase::LameDuck);
            }
        }
    }
}
