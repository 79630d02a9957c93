//! Which ticks are to be enqueued when. Pure: the time comes in as whole seconds since 1970.
//!
//! Not here: when an expression ticks (`ticks`), the queue and the clock (`clock`).
//!
//! # Invariants
//! 1. All ticks up to `decided` are pushed, pending or passed over; later ones are none of it.
//! 2. Pending ticks are in order, each there once, none later than `decided`.
//! 3. A look costs a bounded search, however long nobody looked.

use super::Missed;
use super::ticks::Ticks;

/// One schedule, and how far it has come.
#[derive(Debug)]
pub(super) struct Plan {
    ticks: Ticks,
    missed: Missed,
    look_back: i64,
    decided: i64,
    /// No tick lies between `decided` and this.
    upcoming: i64,
    pending: Vec<i64>,
}

impl Plan {
    /// Begins at that time, with what its policy wants of the time before.
    ///
    /// What was passed over of that time is not counted: it is not known whether another clock
    /// has enqueued it.
    pub(super) fn new(ticks: Ticks, missed: Missed, look_back: i64, now: i64) -> Self {
        let decided = match missed {
            Missed::Skip => now,
            Missed::All | Missed::Once => now.saturating_sub(look_back),
        };
        let mut plan =
            Self { ticks, missed, look_back, decided, upcoming: decided, pending: Vec::new() };
        plan.look(now);
        plan
    }

    /// Takes what is due by now, and says how many ticks the policy passed over: those that it
    /// has looked at, which are not all when nobody looked for long.
    pub(super) fn look(&mut self, now: i64) -> usize {
        if now < self.decided {
            // The wall clock was set back: what it tells again has its dedupe key.
            self.pending.retain(|tick| *tick <= now);
            self.decide(now);
            return 0;
        }
        if now < self.upcoming {
            self.decided = now;
            return 0;
        }
        let due = self.due(now);
        self.decide(now);
        let Some(first) = due.first() else { return 0 };
        // Ticks that could not be pushed and were overtaken are missed, as are those that
        // nobody looked for in time.
        debug_assert!(self.pending.last().is_none_or(|tick| tick < first), "invariant 2");
        let in_time = due.partition_point(|tick| *tick < now - IN_TIME);
        let (late, fresh) = due.split_at(in_time);
        self.pending.extend_from_slice(late);
        let keep = match self.missed {
            Missed::All => MISSED_MOST,
            Missed::Once => 1,
            Missed::Skip => 0,
        };
        let passed_over = self.pending.len().saturating_sub(keep);
        self.pending.drain(..passed_over);
        self.pending.extend_from_slice(fresh);
        passed_over
    }

    /// What is to be pushed, the oldest first.
    pub(super) fn pending(&self) -> &[i64] {
        &self.pending
    }

    /// It is pushed.
    pub(super) fn pushed(&mut self) {
        self.pending.clear();
    }

    /// When to look next: at the next tick, or where the search for it begins anew.
    pub(super) fn upcoming(&self) -> i64 {
        self.upcoming
    }

    fn decide(&mut self, now: i64) {
        self.decided = now;
        self.upcoming = self.ticks.next(now).unwrap_or(now.saturating_add(SEARCH_AGAIN));
    }

    /// The ticks since the last look, the oldest first: the newest of them, when nobody looked
    /// for longer than the look-back or there are many.
    fn due(&self, now: i64) -> Vec<i64> {
        let from = self.decided.max(now - self.look_back.max(IN_TIME));
        let Some(first) = self.ticks.next(from).filter(|first| *first <= now) else {
            return Vec::new();
        };
        // Backwards, so that the newest are found first; it ends at one that is known.
        let mut found = Vec::new();
        let mut until = now;
        while found.len() < LOOKED_AT_MOST {
            let Some(tick) = self.ticks.last(until).filter(|tick| *tick >= first) else { break };
            found.push(tick);
            if tick == first {
                break;
            }
            until = tick - 1;
        }
        found.reverse();
        found
    }
}

/// A tick that is seen so many seconds late is in time: a clock looks at least once a minute.
const IN_TIME: i64 = 60;
/// How many missed ticks [`Missed::All`] enqueues at once.
pub(super) const MISSED_MOST: usize = 1000;
/// What a look takes at most: the missed ones, one more to know that there were more, and one
/// each second that is in time.
const LOOKED_AT_MOST: usize = MISSED_MOST + 1 + 61;
/// Where no tick is found, the search is not repeated for an hour.
const SEARCH_AGAIN: i64 = 3600;

#[cfg(test)]
mod tests {
    use super::*;

    /// Midnight of a day without events.
    const DAY: i64 = 20_000 * 86_400;
    const HOUR: i64 = 3600;

    fn plan(expression: &str, missed: Missed, look_back: i64, now: i64) -> Plan {
        let ticks = Ticks::new("test", expression, "UTC").expect("a good expression");
        Plan::new(ticks, missed, look_back, now)
    }

    /// What is pushed at a look, relative to the day, and how many are passed over.
    fn look(plan: &mut Plan, now: i64) -> (Vec<i64>, usize) {
        let passed_over = plan.look(now);
        let pending = plan.pending().iter().map(|tick| tick - DAY).collect();
        plan.pushed();
        (pending, passed_over)
    }

    #[test]
    fn a_tick_is_due_at_its_second_and_once() {
        for missed in [Missed::Skip, Missed::Once, Missed::All] {
            let mut plan = plan("0 3 * * *", missed, HOUR, DAY + HOUR);
            assert!(plan.pending().is_empty());
            assert_eq!(plan.upcoming(), DAY + 3 * HOUR);
            assert_eq!(look(&mut plan, DAY + 3 * HOUR - 1), (vec![], 0));
            assert_eq!(look(&mut plan, DAY + 3 * HOUR), (vec![3 * HOUR], 0));
            assert_eq!(look(&mut plan, DAY + 3 * HOUR), (vec![], 0));
            assert_eq!(look(&mut plan, DAY + 3 * HOUR + 1), (vec![], 0));
            assert_eq!(plan.upcoming(), DAY + 27 * HOUR);
        }
    }

    #[test]
    fn at_the_start_each_policy_looks_back_as_it_says() {
        let now = DAY + HOUR;
        for (missed, look_back, expected) in [
            (Missed::Skip, HOUR, vec![]),
            (Missed::Once, HOUR, vec![3000, 3600]),
            (Missed::Once, 30, vec![3600]),
            (Missed::All, HOUR, vec![600, 1200, 1800, 2400, 3000, 3600]),
            (Missed::All, 1200, vec![3000, 3600]),
            (Missed::All, 0, vec![]),
        ] {
            let mut plan = plan("*/10 * * * *", missed, look_back, now);
            // A start is a look, of which what is passed over is not known to be missed.
            assert_eq!(look(&mut plan, now), (expected, 0), "{missed:?} {look_back}");
        }
    }

    #[test]
    fn after_a_suspend_each_policy_does_as_it_says() {
        let (from, now) = (DAY + 30, DAY + HOUR + 30);
        for (missed, look_back, expected, passed_over) in [
            (Missed::Skip, HOUR, vec![3600], 5),
            (Missed::Once, HOUR, vec![3000, 3600], 4),
            (Missed::All, HOUR, vec![600, 1200, 1800, 2400, 3000, 3600], 0),
            (Missed::All, 1800, vec![2400, 3000, 3600], 0),
            (Missed::Once, 1800, vec![3000, 3600], 1),
        ] {
            let mut plan = plan("*/10 * * * *", missed, look_back, from);
            plan.pushed();
            let said = look(&mut plan, now);
            assert_eq!(said, (expected, passed_over), "{missed:?} {look_back}");
        }
        let mut plan = plan("0 0 * * *", Missed::Skip, HOUR, DAY - HOUR);
        assert_eq!(look(&mut plan, DAY + 61), (vec![], 1), "later than a minute is missed");
    }

    #[test]
    fn what_cannot_be_pushed_stays_until_the_next_tick_and_then_is_missed() {
        for (missed, expected, passed_over) in
            [(Missed::Skip, vec![600], 1), (Missed::Once, vec![0, 600], 0)]
        {
            let mut plan = plan("*/10 * * * *", missed, HOUR, DAY - 1);
            plan.pushed();
            for second in [0, 5, 300, 599] {
                assert_eq!(plan.look(DAY + second), 0);
                assert_eq!(plan.pending(), [DAY], "after {second} s");
            }
            assert_eq!(look(&mut plan, DAY + 600), (expected, passed_over), "{missed:?}");
        }
    }

    #[test]
    fn all_has_a_bound() {
        let mut plan = plan("* * * * * *", Missed::All, 365 * 86_400, DAY);
        let (pushed, _) = look(&mut plan, DAY);
        assert_eq!(pushed.len(), MISSED_MOST + 61);
        assert_eq!(pushed.last(), Some(&0));
        let (pushed, passed_over) = look(&mut plan, DAY + 86_400);
        assert_eq!((pushed.len(), passed_over), (MISSED_MOST + 61, 1));
        assert_eq!(pushed.last(), Some(&86_400));
    }

    #[test]
    fn a_clock_set_back_says_ticks_again_and_loses_none() {
        let mut plan = plan("0 * * * *", Missed::Skip, HOUR, DAY + 10);
        assert_eq!(look(&mut plan, DAY + HOUR), (vec![HOUR], 0));
        // Ten minutes back, with a tick that is not pushed yet.
        assert_eq!(plan.look(DAY + 2 * HOUR), 0);
        assert_eq!(look(&mut plan, DAY + 2 * HOUR - 600), (vec![], 0));
        assert_eq!(plan.upcoming(), DAY + 2 * HOUR);
        assert_eq!(look(&mut plan, DAY + 2 * HOUR), (vec![2 * HOUR], 0));
    }

    #[test]
    fn an_expression_that_is_over_is_seldom_searched() {
        let plan = plan("0 0 0 1 1 * 2020", Missed::Once, HOUR, DAY);
        assert!(plan.pending().is_empty());
        assert_eq!(plan.upcoming(), DAY + SEARCH_AGAIN);
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

            /// However a clock looks, if often enough: every tick, in order, once.
            #[test]
            fn looks_within_the_minute_see_every_tick_once(
                expression in prop::sample::select(
                    &["*/7 * * * * *", "* * * * *", "*/5 1,2 * * *", "30 0 * * * *"][..]
                ),
                missed in prop::sample::select(&[Missed::Skip, Missed::Once, Missed::All][..]),
                steps in prop::collection::vec(0_i64..=IN_TIME, 1..60),
            ) {
                let mut now = DAY + HOUR - 600;
                let mut plan = plan(expression, missed, 0, now);
                let mut seen = Vec::new();
                for step in steps {
                    now += step;
                    prop_assert_eq!(plan.look(now), 0);
                    seen.extend_from_slice(plan.pending());
                    plan.pushed();
                    prop_assert!(plan.upcoming() > now);
                }
                let mut expected = Vec::new();
                let mut at = DAY + HOUR - 600;
                while let Some(tick) = plan.ticks.next(at).filter(|tick| *tick <= now) {
                    expected.push(tick);
                    at = tick;
                }
                prop_assert_eq!(seen, expected);
            }

            /// Whatever the clock does and the queue refuses: in order, bounded, never early.
            #[test]
            fn pending_ticks_are_in_order_and_not_of_the_future(
                missed in prop::sample::select(&[Missed::Skip, Missed::Once, Missed::All][..]),
                looks in prop::collection::vec((-5_000_i64..5_000, any::<bool>()), 1..20),
            ) {
                let mut now = DAY;
                let mut plan = plan("*/30 * * * * *", missed, HOUR, now);
                for (step, is_pushed) in looks {
                    now += step;
                    plan.look(now);
                    prop_assert!(plan.pending().is_sorted_by(|a, b| a < b));
                    prop_assert!(plan.pending().last().is_none_or(|tick| *tick <= now));
                    prop_assert!(plan.pending().len() <= LOOKED_AT_MOST);
                    if is_pushed {
                        plan.pushed();
                    }
                }
            }
        }
    }
}
