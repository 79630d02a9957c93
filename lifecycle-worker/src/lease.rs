//! When a lease is extended, when its job is told to stop, and when it is given up.
//!
//! Pure: how much is left of a lease in, what is due out.
//!
//! # Invariants
//! 1. A job is told before its lease ends by our own clock, and given up before it too: nobody
//!    else can have been given it by then.
//! 2. Looks are at least a twelfth of the period apart, so that many jobs are one batch.

use std::time::Duration;

/// What is due for one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// Nothing yet.
    Nothing,
    /// To be extended, and it can wait for others.
    Extend,
    /// To be extended, and the job is to be told that its lease may end.
    Tell,
    /// To be given up.
    GiveUp,
}

/// What is due with so much left of a lease of that period.
pub(crate) fn due(left: Duration, period: Duration) -> Due {
    if left <= period / 12 {
        Due::GiveUp
    } else if left <= period / 4 {
        Due::Tell
    } else if left <= period * 3 / 4 {
        Due::Extend
    } else {
        Due::Nothing
    }
}

/// How long until the next look at a lease with so much left.
pub(crate) fn next_look(left: Duration, period: Duration) -> Duration {
    // Extended at two thirds at the latest, though it may be from three quarters on: leases
    // that begin near each other are extended together.
    let steps = [period * 2 / 3, period / 4, period / 12];
    let next = steps.into_iter().find(|step| *step < left).unwrap_or_default();
    (left - next).max(period / 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(12);

    #[test]
    fn what_is_due_follows_what_is_left() {
        let table = [
            (12.0, Due::Nothing),
            (9.1, Due::Nothing),
            (9.0, Due::Extend),
            (3.1, Due::Extend),
            (3.0, Due::Tell),
            (1.1, Due::Tell),
            (1.0, Due::GiveUp),
            (0.0, Due::GiveUp),
        ];
        for (left, expected) in table {
            assert_eq!(due(Duration::from_secs_f64(left), PERIOD), expected, "{left}");
        }
    }

    #[test]
    fn looks_come_at_the_steps_and_not_too_often() {
        let look = |left| next_look(Duration::from_secs_f64(left), PERIOD).as_secs_f64();
        assert!((look(12.0) - 4.0).abs() < 1e-9, "at two thirds");
        assert!((look(8.0) - 5.0).abs() < 1e-9, "at a quarter");
        assert!((look(3.0) - 2.0).abs() < 1e-9, "at the end");
        assert!((look(8.1) - 1.0).abs() < 1e-9, "not at once");
        assert!((look(0.0) - 1.0).abs() < 1e-9);
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

            /// A lease that is never extended is told, then given up, always before its end.
            #[test]
            fn a_lease_is_told_and_given_up_before_it_ends(
                period_ms in 100_u64..3_600_000,
                first_ms in 1_u64..3_600_000,
            ) {
                let period = Duration::from_millis(period_ms);
                let mut left = period.min(Duration::from_millis(first_ms));
                let (mut told, began) = (left <= period / 4, left);
                while due(left, period) != Due::GiveUp {
                    told |= due(left, period) == Due::Tell;
                    let wait = next_look(left, period);
                    prop_assert!(wait >= period / 12);
                    prop_assert!(wait <= left, "no look after the end: {left:?}, {wait:?}");
                    left -= wait;
                }
                prop_assert!(told || began <= period / 4 + period / 12 || left > Duration::ZERO);
            }
        }
    }
}
