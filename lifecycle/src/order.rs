//! Who drains after whom: the graph of `after`, checked at the start, and what each
//! component sees of the phases because of it.
//!
//! Pure: names and durations in, phases out.
//!
//! # Invariants
//! 1. Nobody sees a phase before the process is in it, nor `Closing` later than the process.
//! 2. What one sees only moves forward while time does and while others end.
//! 3. Going quiet is never delayed: `LameDuck` or a later phase is seen from the cause on.

use std::collections::HashMap;
use std::time::Duration;

use crate::error::Misuse;
use crate::phase::Phase;

/// The graph, by the components' positions.
#[derive(Debug, Default)]
pub(crate) struct Order {
    after: Vec<Vec<usize>>,
    /// The longest way to one that waits for nobody.
    depth: Vec<u32>,
    depth_most: u32,
}

/// Where the process is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) phase: Phase,
    /// Since the cause.
    pub(crate) at: Duration,
    /// When `Cancelling` was entered, and when it ends at the latest.
    pub(crate) cancel: Option<(Duration, Duration)>,
}

/// What one component sees, and when that changes by time alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) phase: Phase,
    pub(crate) changes_at: Option<Duration>,
}

impl Order {
    /// Checks the names: each component with the names it drains after.
    pub(crate) fn new(components: &[(&str, &[String])]) -> Result<Self, Misuse> {
        let mut positions = HashMap::with_capacity(components.len());
        for (at, (name, _)) in components.iter().enumerate() {
            if positions.insert(*name, at).is_some() {
                return Err(Misuse::NameTaken { name: (*name).to_owned() });
            }
        }
        let mut all = Vec::with_capacity(components.len());
        for (name, after) in components {
            let found = after.iter().map(|after| {
                let unknown =
                    || Misuse::AfterUnknown { name: (*name).to_owned(), after: after.clone() };
                positions.get(after.as_str()).copied().ok_or_else(unknown)
            });
            all.push(found.collect::<Result<Vec<_>, _>>()?);
        }
        let depth = depths(&all).map_err(|circle| Misuse::AfterCircle {
            names: circle.into_iter().map(|at| components[at].0.to_owned()).collect(),
        })?;
        let depth_most = depth.iter().copied().max().unwrap_or(0);
        Ok(Self { after: all, depth, depth_most })
    }

    /// Whether it waits for anybody.
    pub(crate) fn waits(&self, at: usize) -> bool {
        !self.after[at].is_empty()
    }

    /// What the component at that position sees.
    pub(crate) fn seen(&self, at: usize, ended: &[bool], progress: Progress) -> Seen {
        let phase = progress.phase;
        let free = self.after[at].iter().all(|other| ended[*other]);
        let same = Seen { phase, changes_at: None };
        if free || !matches!(phase, Phase::Draining | Phase::Cancelling) {
            return same;
        }
        if phase == Phase::Draining {
            return Seen { phase: Phase::LameDuck, changes_at: None };
        }
        let Some((began, ends)) = progress.cancel else { return same };
        let latest = began + self.share(at, ends.saturating_sub(began));
        if progress.at >= latest {
            return same;
        }
        Seen { phase: Phase::Draining, changes_at: Some(latest) }
    }

    /// How far into the cancel window it is cancelled at the latest, so that everybody in a
    /// chain has some of it.
    fn share(&self, at: usize, window: Duration) -> Duration {
        window * self.depth[at] / (self.depth_most + 1)
    }
}

/// The depth of each, or a circle.
fn depths(after: &[Vec<usize>]) -> Result<Vec<u32>, Vec<usize>> {
    let mut depth = vec![None; after.len()];
    // Bounded: each round gives a depth to one at least, or there is a circle.
    loop {
        let mut moved = false;
        for at in 0..after.len() {
            if depth[at].is_some() {
                continue;
            }
            let deepest = after[at].iter().try_fold(0, |deepest, other| {
                depth[*other].map(|depth: u32| deepest.max(depth + 1))
            });
            if deepest.is_some() {
                depth[at] = deepest;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    match depth.iter().position(Option::is_none) {
        None => Ok(depth.into_iter().flatten().collect()),
        Some(stuck) => Err(circle(after, &depth, stuck)),
    }
}

/// One circle among those without a depth: each of them waits for another such one.
fn circle(after: &[Vec<usize>], depth: &[Option<u32>], start: usize) -> Vec<usize> {
    let mut way = vec![start];
    loop {
        let last = way[way.len() - 1];
        let next = after[last].iter().copied().find(|other| depth[*other].is_none());
        let next = next.unwrap_or(start);
        if let Some(at) = way.iter().position(|seen| *seen == next) {
            return way.split_off(at);
        }
        way.push(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Phase::{Cancelling, Closing, Draining, LameDuck, Running};

    fn order(components: &[(&str, &[&str])]) -> Result<Order, Misuse> {
        let owned: Vec<(&str, Vec<String>)> = components
            .iter()
            .map(|(name, after)| (*name, after.iter().map(|name| (*name).to_owned()).collect()))
            .collect();
        let borrowed: Vec<(&str, &[String])> =
            owned.iter().map(|(name, after)| (*name, &after[..])).collect();
        Order::new(&borrowed)
    }

    fn progress(phase: Phase, at_ms: u64) -> Progress {
        let ms = Duration::from_millis;
        let cancel = (phase >= Cancelling).then(|| (ms(1_000), ms(1_900)));
        Progress { phase, at: ms(at_ms), cancel }
    }

    #[test]
    fn one_sees_the_drain_when_those_before_it_have_ended() {
        let order = order(&[("http", &[]), ("db", &["http"])]).expect("a line");
        let seen = |ended: [bool; 2], phase| order.seen(1, &ended, progress(phase, 500)).phase;
        assert_eq!(seen([false, false], Running), Running);
        assert_eq!(seen([false, false], LameDuck), LameDuck);
        assert_eq!(seen([false, false], Draining), LameDuck, "quiet, but not at its end");
        assert_eq!(seen([true, false], Draining), Draining);
        assert_eq!(order.seen(0, &[false, false], progress(Draining, 500)).phase, Draining);
    }

    #[test]
    fn the_cancel_window_is_shared_along_a_chain() {
        let order = order(&[("a", &[]), ("b", &["a"]), ("c", &["b", "a"])]).expect("a chain");
        let ms = Duration::from_millis;
        let seen =
            |at, ended: [bool; 3], at_ms| order.seen(at, &ended, progress(Cancelling, at_ms));
        let none = [false; 3];
        assert_eq!(seen(0, none, 1_000), Seen { phase: Cancelling, changes_at: None });
        assert_eq!(seen(1, none, 1_000), Seen { phase: Draining, changes_at: Some(ms(1_300)) });
        assert_eq!(seen(2, none, 1_000), Seen { phase: Draining, changes_at: Some(ms(1_600)) });
        assert_eq!(seen(1, none, 1_300).phase, Cancelling);
        assert_eq!(seen(2, none, 1_599).phase, Draining);
        assert_eq!(seen(2, none, 1_600).phase, Cancelling);
        assert_eq!(seen(1, [true, false, false], 1_000).phase, Cancelling, "its turn has come");
        assert_eq!(order.seen(2, &none, progress(Closing, 1_900)).phase, Closing);
    }

    #[test]
    fn what_is_seen_only_moves_forward() {
        let order = order(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]).expect("a chain");
        let steps: Vec<_> = [Running, LameDuck, Draining, Cancelling, Closing]
            .into_iter()
            .flat_map(|phase| (0..20).map(move |step| progress(phase, 1_000 + 50 * step)))
            .collect();
        for ends_at in 0..steps.len() {
            let mut last = [Running; 3];
            for (step, progress) in steps.iter().enumerate() {
                let ended = [step >= ends_at, step >= ends_at + 10, false];
                for (at, last) in last.iter_mut().enumerate() {
                    let phase = order.seen(at, &ended, *progress).phase;
                    // Time goes back between the phases of this table, never within one.
                    let same = steps[step.saturating_sub(1)].phase == progress.phase;
                    assert!(phase >= *last || !same, "{at} at {step}: {last} to {phase}");
                    assert!(phase <= progress.phase);
                    *last = phase;
                }
            }
        }
    }

    #[test]
    fn a_name_that_nobody_has_is_the_callers_mistake() {
        let error = order(&[("db", &["htpt"]), ("http", &[])]).expect_err("unknown");
        assert_eq!(error.to_string(), "\"db\" is to drain after \"htpt\", which is not registered");
    }

    #[test]
    fn a_circle_is_named() {
        let error = order(&[("x", &["a"]), ("a", &["b"]), ("b", &["c"]), ("c", &["a"])]);
        let error = error.expect_err("a circle");
        assert_eq!(
            error.to_string(),
            "these are to drain after one another: \"a\" after \"b\" after \"c\" after \"a\""
        );
        let own = order(&[("a", &["a"])]).expect_err("itself");
        assert_eq!(own.to_string(), "these are to drain after one another: \"a\" after \"a\"");
    }

    #[test]
    fn a_name_twice_is_told() {
        let error = order(&[("a", &[]), ("a", &[])]).expect_err("twice");
        assert_eq!(error.to_string(), "two components are named \"a\"");
    }

    #[test]
    fn a_diamond_is_no_circle() {
        let order = order(&[("d", &["b", "c"]), ("b", &["a"]), ("c", &["a"]), ("a", &[])]);
        assert_eq!(order.expect("fine").depth, [2, 1, 1, 0]);
    }
}
