//! The grace period split into one deadline per phase.
//!
//! Pure: durations in, durations since the cause out.
//!
//! # Invariants
//! 1. `lame_duck_ends < drain_ends < cancel_ends < exit_by < grace`.
//! 2. A setting that cannot be kept is refused with the arithmetic, never bent.

use std::time::Duration;

use crate::error::BudgetError;

/// What the platform gives, and what the operator set of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grace {
    /// From the platform's signal to its SIGKILL.
    pub(crate) period: Duration,
    /// What a preStop hook takes of it before our signal comes.
    pub(crate) pre_stop: Duration,
    /// How long to keep serving after the cause; `None` scales with the grace.
    pub(crate) lame_duck: Option<Duration>,
}

/// One deadline per phase, as time since the cause.
///
/// From the grace period `G` (less the preStop time): margin = 5 % of `G` within
/// 250 ms..1 s; reserve for returns and hooks = 10 % within 500 ms..3 s; cancel window =
/// 5 % within 100 ms..2 s; lame duck = `G`/6, 5 s at most, unless set. The drain has the
/// rest, and a phase that ends early gives what is left to the next.
///
/// | `G` | lame duck ends | drain ends | cancel ends | exit by |
/// |---|---|---|---|---|
/// | 5 s | 0.83 | 4.00 | 4.25 | 4.75 |
/// | 10 s | 1.67 | 8.00 | 8.50 | 9.50 |
/// | 30 s | 5.00 | 24.50 | 26.00 | 29.00 |
/// | 90 s | 5.00 | 84.00 | 86.00 | 89.00 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Budget {
    /// The grace period less the preStop time: the platform kills at its end.
    pub grace: Duration,
    /// Listeners close and the drain begins.
    pub lame_duck_ends: Duration,
    /// What is still in flight is cancelled.
    pub drain_ends: Duration,
    /// What did not heed the cancel is dropped, and close hooks begin.
    pub cancel_ends: Duration,
    /// The process is gone, by force if need be.
    pub exit_by: Duration,
}

impl Budget {
    pub(crate) fn split(grace: Grace) -> Result<Self, BudgetError> {
        let Grace { period, pre_stop, lame_duck } = grace;
        if period > PERIOD_MOST {
            return Err(BudgetError::TooLong { grace: period });
        }
        let left = period
            .checked_sub(pre_stop)
            .filter(|left| !left.is_zero() || pre_stop.is_zero())
            .ok_or(BudgetError::PreStopTakesAll { grace: period, pre_stop })?;
        let margin = share(left, 20, MARGIN);
        let reserve = share(left, 10, RESERVE);
        let window = share(left, 20, WINDOW);
        let drain_ends = left
            .checked_sub(margin + reserve + window)
            .filter(|drain| !drain.is_zero())
            .ok_or(BudgetError::TooShort { grace: left, margin, reserve, window })?;
        let lame_duck_ends = match lame_duck {
            None => (left / 6).min(LAME_DUCK_MOST).min(drain_ends / 2),
            Some(set) if set < drain_ends => set,
            Some(set) => {
                return Err(BudgetError::LameDuckTooLong {
                    lame_duck: set,
                    grace: left,
                    margin,
                    reserve,
                    window,
                    drain_ends,
                });
            }
        };
        let cancel_ends = drain_ends + window;
        let exit_by = cancel_ends + reserve;
        debug_assert!(lame_duck_ends < drain_ends && drain_ends < cancel_ends, "invariant 1");
        debug_assert!(cancel_ends < exit_by && exit_by < left, "invariant 1");
        Ok(Self { grace: left, lame_duck_ends, drain_ends, cancel_ends, exit_by })
    }

    /// The same budget without a lame duck: the drain begins at the cause.
    pub(crate) fn without_lame_duck(self) -> Self {
        Self { lame_duck_ends: Duration::ZERO, ..self }
    }

    /// What is left when a further signal forces the end at `now`: 250 ms for the
    /// cancel window, 500 ms to close, never more than there was.
    pub(crate) fn forced_at(self, now: Duration) -> Self {
        let exit_by = self.exit_by.min(now + FORCED_WINDOW + FORCED_CLOSING);
        let cancel_ends = self.cancel_ends.min(now + FORCED_WINDOW);
        let drain_ends = self.drain_ends.min(now);
        Self { drain_ends, cancel_ends, exit_by, ..self }
    }
}

impl Default for Grace {
    fn default() -> Self {
        Self { period: GRACE_DEFAULT, pre_stop: Duration::ZERO, lame_duck: None }
    }
}

fn share(of: Duration, parts: u32, (least, most): (Duration, Duration)) -> Duration {
    (of / parts).clamp(least, most)
}

/// Docker's own default, and the least that an unknown platform is likely to give:
/// <https://docs.docker.com/reference/cli/docker/container/stop/>.
pub(crate) const GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// What the environment takes too; beyond it clocks overflow.
pub(crate) const PERIOD_MOST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
const MARGIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
const RESERVE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
const WINDOW: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
const LAME_DUCK_MOST: Duration = Duration::from_secs(5);
const FORCED_WINDOW: Duration = Duration::from_millis(250);
const FORCED_CLOSING: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn grace(ms: u64) -> Grace {
        Grace { period: Duration::from_millis(ms), ..Grace::default() }
    }

    fn hundredths(at: Duration) -> u128 {
        (at.as_millis() + 5) / 10
    }

    #[test]
    fn splits_as_the_table_of_the_design_says() {
        for (seconds, lame_duck, drain, cancel, exit) in [
            (5, 83, 400, 425, 475),
            (10, 167, 800, 850, 950),
            (30, 500, 2450, 2600, 2900),
            (90, 500, 8400, 8600, 8900),
        ] {
            let budget = Budget::split(grace(seconds * 1000)).expect("within bounds");
            assert_eq!(hundredths(budget.lame_duck_ends), lame_duck, "{seconds} s");
            assert_eq!(hundredths(budget.drain_ends), drain, "{seconds} s");
            assert_eq!(hundredths(budget.cancel_ends), cancel, "{seconds} s");
            assert_eq!(hundredths(budget.exit_by), exit, "{seconds} s");
        }
    }

    #[test]
    fn every_grace_from_just_long_enough_to_a_day_keeps_the_order() {
        for ms in (851..5_000).chain((5_000..86_400_000).step_by(77_777)) {
            let budget = Budget::split(grace(ms)).expect("within bounds");
            assert!(budget.lame_duck_ends < budget.drain_ends, "{ms} ms");
            assert!(budget.exit_by < budget.grace, "{ms} ms");
            assert!(budget.grace - budget.exit_by >= Duration::from_millis(250), "{ms} ms");
        }
    }

    #[test]
    fn pre_stop_comes_off_the_grace_first() {
        let with = Grace { pre_stop: Duration::from_secs(20), ..grace(30_000) };
        assert_eq!(Budget::split(with), Budget::split(grace(10_000)));
    }

    #[test]
    fn a_set_lame_duck_is_exact() {
        let set = Grace { lame_duck: Some(Duration::from_secs(20)), ..grace(30_000) };
        let budget = Budget::split(set).expect("20 s fit before 24.5 s");
        assert_eq!(budget.lame_duck_ends, Duration::from_secs(20));
        let zero = Grace { lame_duck: Some(Duration::ZERO), ..grace(30_000) };
        assert_eq!(Budget::split(zero).expect("none").lame_duck_ends, Duration::ZERO);
    }

    #[test]
    fn contradictions_are_refused_with_their_arithmetic() {
        let long = Grace { lame_duck: Some(Duration::from_secs(8)), ..grace(10_000) };
        let said = Budget::split(long).expect_err("8 s do not fit").to_string();
        assert!(said.contains("8s") && said.contains("10s") && said.contains("500ms"), "{said}");

        let short = Budget::split(grace(850)).expect_err("nothing left to drain").to_string();
        assert!(short.contains("850ms") && short.contains("250ms"), "{short}");

        let eaten = Grace { pre_stop: Duration::from_secs(30), ..grace(30_000) };
        let said = Budget::split(eaten).expect_err("preStop takes all").to_string();
        assert!(said.contains("30s"), "{said}");

        let endless = Grace { period: Duration::MAX, ..grace(0) };
        assert!(matches!(Budget::split(endless), Err(BudgetError::TooLong { .. })));
    }

    #[test]
    fn force_leaves_three_quarters_of_a_second_and_never_adds_time() {
        let budget = Budget::split(grace(30_000)).expect("within bounds");
        let forced = budget.forced_at(Duration::from_secs(2));
        assert_eq!(forced.drain_ends, Duration::from_secs(2));
        assert_eq!(forced.cancel_ends, Duration::from_millis(2250));
        assert_eq!(forced.exit_by, Duration::from_millis(2750));
        let late = budget.forced_at(Duration::from_millis(28_900));
        assert_eq!(late.exit_by, budget.exit_by);
        assert_eq!(late.cancel_ends, budget.cancel_ends);
    }
}

/// For any grace and whatever is set of it.
#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;

    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            4 => (0..100_000_u64).prop_map(Duration::from_millis),
            2 => (0..40_000_000_u64).prop_map(Duration::from_secs),
            1 => (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(s, ns)| Duration::new(s, ns)),
            1 => Just(Duration::MAX),
        ]
    }

    fn any_grace() -> impl Strategy<Value = Grace> {
        let pre_stop = prop_oneof![Just(Duration::ZERO), any_duration()];
        let set = (any_duration(), pre_stop, proptest::option::of(any_duration()));
        set.prop_map(|(period, pre_stop, lame_duck)| Grace { period, pre_stop, lame_duck })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 5_000, failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn a_split_keeps_the_order_within_the_grace_or_says_why_not(grace in any_grace()) {
            match Budget::split(grace) {
                Ok(budget) => {
                    prop_assert_eq!(budget.grace + grace.pre_stop, grace.period);
                    prop_assert!(budget.lame_duck_ends < budget.drain_ends);
                    prop_assert!(budget.drain_ends < budget.cancel_ends);
                    prop_assert!(budget.cancel_ends < budget.exit_by);
                    prop_assert!(budget.exit_by + MARGIN.0 <= budget.grace);
                    prop_assert!(budget.exit_by + MARGIN.1 >= budget.grace, "no more is kept back");
                    let set = grace.lame_duck.unwrap_or(budget.lame_duck_ends);
                    prop_assert_eq!(budget.lame_duck_ends, set, "what is set is exact");
                    prop_assert!(grace.period <= PERIOD_MOST);
                }
                Err(error) => {
                    let said = error.to_string();
                    let names = [show(&grace.period), show(&grace.pre_stop)];
                    let left = grace.period.saturating_sub(grace.pre_stop);
                    let named = names.iter().any(|name| said.contains(name));
                    prop_assert!(named || said.contains(&show(&left)), "{said}");
                }
            }
        }

        #[test]
        fn a_force_at_any_moment_keeps_the_order_and_adds_no_time(
            grace in any_grace(), now in 0..40_000_000_000_u64,
        ) {
            if let Ok(budget) = Budget::split(grace) {
                let now = Duration::from_millis(now).min(budget.exit_by);
                let forced = budget.forced_at(now);
                prop_assert!(forced.drain_ends <= forced.cancel_ends);
                prop_assert!(forced.cancel_ends <= forced.exit_by);
                prop_assert!(forced.exit_by <= budget.exit_by && forced.exit_by >= now);
                prop_assert!(forced.exit_by <= now + FORCED_WINDOW + FORCED_CLOSING);
                // It can be forced once more and stays as it is, or is earlier.
                prop_assert!(forced.forced_at(now).exit_by <= forced.exit_by);
            }
        }
    }

    use crate::env::show;
}
