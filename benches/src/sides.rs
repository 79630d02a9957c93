//! Sides side by side, round by round; one that panics is given up, and the others go on.
//!
//! # Invariants
//! 1. A side of which a round is missing has no figures: rounds are compared by their place.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A side that was given up, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Broken {
    /// Which.
    pub who: String,
    /// What it panicked with, fit for a cell of a table.
    pub why: String,
}

/// Why a row has no figures.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Spoilt {
    /// Ours broke: what was promised is not reached.
    Ours(Broken),
    /// The figures would say nothing here, and why.
    Setting(String),
    /// The opponent broke: there is nothing to compare with.
    Theirs(Broken),
}

impl Broken {
    /// What `run` returns.
    ///
    /// # Errors
    /// [`Broken`] when it panics.
    pub fn attempt<T>(who: &str, run: impl FnOnce() -> T) -> Result<T, Self> {
        // Whatever it was at is never used again by whoever reads this.
        catch_unwind(AssertUnwindSafe(run))
            .map_err(|payload| Self { who: who.to_owned(), why: words_of(&*payload) })
    }
}

impl Spoilt {
    /// Whether somebody broke, so that the bench has failed.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        !matches!(self, Self::Setting(_))
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.who, self.why)
    }
}

impl fmt::Display for Spoilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(broken) => write!(f, "**not reached**: {broken}"),
            Self::Setting(why) => write!(f, "not measured: {why}"),
            Self::Theirs(broken) => write!(f, "not measured: {broken}"),
        }
    }
}

/// Runs all sides in each of so many rounds, whoever comes first differing from round to round;
/// what came of it, by side. One that panics is not run again.
///
/// # Errors
/// [`Broken`] in the place of each side that panicked.
pub fn interleaved<S, T>(
    rounds: usize,
    sides: &mut [S],
    name: impl Fn(&S) -> &str,
    mut run: impl FnMut(&mut S) -> T,
) -> Vec<Result<Vec<T>, Broken>> {
    let mut results: Vec<_> = sides.iter().map(|_| Ok(Vec::new())).collect();
    for round in 0..rounds {
        for nth in 0..sides.len() {
            let at = (nth + round) % sides.len();
            let (side, result) = (&mut sides[at], &mut results[at]);
            let Ok(figures) = result else { continue };
            let who = name(side).to_owned();
            match Broken::attempt(&who, || run(side)) {
                Ok(figure) => figures.push(figure),
                Err(broken) => *result = Err(broken),
            }
        }
    }
    results
}

/// The first line, without what ends a cell.
fn words_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    let line = text.and_then(|text| text.lines().next()).unwrap_or("it panicked");
    line.replace('|', "/").chars().take(LONGEST).collect()
}

const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_comes_first_in_turn() {
        let mut order = Vec::new();
        let results = interleaved(
            3,
            &mut ["a", "b"],
            |side| side,
            |side| {
                order.push(*side);
                order.len()
            },
        );
        assert_eq!(order, ["a", "b", "b", "a", "a", "b"]);
        assert_eq!(results, [Ok(vec![1, 4, 5]), Ok(vec![2, 3, 6])]);
    }

    #[test]
    fn a_side_that_panics_is_given_up_and_the_other_goes_on() {
        let mut runs = 0;
        let results = interleaved(
            3,
            &mut ["a", "b"],
            |side| side,
            |side| {
                assert_eq!(*side, "a", "reset | by\npeer");
                runs += 1;
                runs
            },
        );
        assert_eq!(results[0], Ok(vec![1, 2, 3]));
        let broken = results[1].clone().expect_err("it panicked");
        assert!(broken.why.starts_with("assertion `left == right` failed: reset / by"), "{broken}");
        assert_eq!((broken.who.as_str(), broken.why.contains('\n')), ("b", false));
    }

    #[test]
    fn ours_has_not_reached_it_and_theirs_was_not_measured() {
        let broken = Broken::attempt("axum", || panic!("it was reset")).expect_err("a panic");
        let broken: Broken = broken;
        assert_eq!(Spoilt::Ours(broken.clone()).to_string(), "**not reached**: axum: it was reset");
        assert_eq!(Spoilt::Theirs(broken).to_string(), "not measured: axum: it was reset");
        assert!(!Spoilt::Setting("one core".to_owned()).is_broken());
    }
}
