//! Races: entrants that do the same thing to its end, timed, one after the other in each round.
//!
//! Not here: what an entrant does (`benches/broadcast`).
//!
//! # Invariants
//! 1. Both sides of a ratio come from the same round of the same race.

use std::time::Duration;

use crate::machine::machine;
use crate::measure::Spread;
use crate::promise::Promise;
use crate::record::{Record, record, record_with};
use crate::sides::{Broken, Spoilt, interleaved};
use crate::table::Reach;

/// Who takes part.
pub struct Entrant {
    name: &'static str,
    run: Box<dyn Fn() -> Duration>,
}

/// Entrants that do the same thing.
pub struct Race {
    name: String,
    /// Ours first.
    entrants: Vec<Entrant>,
    /// How many of them are.
    ours: usize,
    reach: Reach,
    promise: Option<Promise>,
}

impl Entrant {
    /// `run` makes what it needs, does it, and says what that took, the making apart.
    pub fn new(name: &'static str, run: impl Fn() -> Duration + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }
}

impl std::fmt::Debug for Entrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entrant").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Race {
    /// Each of `ours` has to reach that against the fastest of `theirs`, round by round.
    #[must_use]
    pub fn new(name: String, ours: Vec<Entrant>, theirs: Vec<Entrant>, reach: Reach) -> Self {
        let (first, entrants) = (ours.len(), ours.into_iter().chain(theirs).collect());
        Self { name, entrants, ours: first, reach, promise: None }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says which row of design section 6 it is one of.
    #[must_use]
    pub fn shows(self, promise: Promise) -> Self {
        Self { promise: Some(promise), ..self }
    }

    /// A row for each of ours; `took`: of each entrant, in their order, round by round.
    fn judge(&self, took: &[Result<Vec<f64>, Broken>]) -> Vec<Record> {
        let (ours, theirs) = took.split_at(self.ours);
        let fastest = fastest(theirs);
        let of = |(entrant, took): (&Entrant, &Result<Vec<f64>, Broken>)| {
            let row = format!("{}: {} / the faster of the others", self.name, entrant.name);
            let judged = match (took, &fastest) {
                (Err(broken), _) => {
                    Record::spoilt(row, self.reach.words, &Spoilt::Ours(broken.clone()))
                }
                (_, Err(broken)) => {
                    Record::spoilt(row, self.reach.words, &Spoilt::Theirs(broken.clone()))
                }
                (Ok(took), Ok(fastest)) => {
                    let ratio = Spread::of_ratios(took, fastest);
                    let verdict = self.reach.verdict(ratio.median);
                    let judged = Record::new(row, &Ok(ratio)).judged(self.reach.words, verdict);
                    let middle = |took: &Vec<f64>| format!("{:.2} ms", Spread::of(took).median);
                    Record { sides: [took, fastest].map(middle).into(), ..judged }
                }
            };
            Record { promise: self.promise, ..judged }
        };
        self.entrants.iter().zip(ours).map(of).collect()
    }
}

/// What the fastest took, round by round; who of them broke, if somebody did.
fn fastest(theirs: &[Result<Vec<f64>, Broken>]) -> Result<Vec<f64>, Broken> {
    let mut fastest: Option<Vec<f64>> = None;
    for took in theirs {
        let took = took.as_ref().map_err(Clone::clone)?;
        fastest = Some(match fastest {
            Some(fastest) => fastest.iter().zip(took).map(|(a, b)| a.min(*b)).collect(),
            None => took.clone(),
        });
    }
    Ok(fastest.unwrap_or_default())
}

impl std::fmt::Debug for Race {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Race").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Runs all entrants of one race after the other in so many rounds each, and prints what came out.
/// The rows of a race are recorded as it ends.
///
/// `with`: versions. Whether nobody broke.
#[must_use]
pub fn race(title: &str, with: &str, races: Vec<Race>, rounds: usize) -> bool {
    println!("### {title}\n\n{}; {with}.\nMedians of {rounds} interleaved rounds.\n", machine());
    record_with(with);
    println!("| race | entrant | ms, min - median - max |\n|---|---|---|");
    let (mut judged, mut is_whole) = (Vec::new(), true);
    for mut race in races {
        let took = interleaved(
            rounds,
            &mut race.entrants,
            |entrant| entrant.name,
            |entrant| (entrant.run)().as_secs_f64() * 1e3,
        );
        for (entrant, took) in race.entrants.iter().zip(&took) {
            let figures = match took.as_deref().map(Spread::of) {
                Ok(Spread { min, median, max }) => format!("{min:.2} - **{median:.2}** - {max:.2}"),
                Err(broken) => format!("broke: {}", broken.why),
            };
            println!("| {} | {} | {figures} |", race.name, entrant.name);
        }
        is_whole &= took.iter().all(Result::is_ok);
        let rows = race.judge(&took);
        record(&rows);
        judged.extend(rows);
    }
    println!("\n| row | ours | opponent | ratio min - median - max | reach | |");
    println!("|---|---|---|---|---|---|");
    judged.iter().for_each(|judged| println!("{}", judged.line()));
    println!();
    is_whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_held_against_whoever_is_the_fastest_in_that_round() {
        let entrant = |name| Entrant::new(name, || Duration::ZERO);
        let theirs = vec![entrant("a"), entrant("b")];
        let reach = Reach { at_most: 1.0, words: "at most 1.00" };
        let race = Race::new("10 tasks".to_owned(), vec![entrant("ours")], theirs, reach);
        let race = race.shows(Promise::Broadcast);
        let took = [vec![2.0, 3.0, 9.0], vec![4.0, 2.0, 6.0], vec![2.0, 8.0, 6.0]].map(Ok);
        let judged = race.judge(&took);
        assert_eq!(
            judged[0].line(),
            "| 10 tasks: ours / the faster of the others | 3.00 ms | 2.00 ms | \
             1.000 - **1.500** - 1.500 | at most 1.00 | **not reached**: 1.500 times what it may be |"
        );
        assert_eq!((judged.len(), judged[0].promise), (1, Some(Promise::Broadcast)));
        let broke = || Err(Broken { who: "b".to_owned(), why: "stuck".to_owned() });
        let [ours, theirs, _] = &took;
        let of = |took: [_; 3]| (race.judge(&took)[0].is_reached, race.judge(&took)[0].promise);
        let promise = Some(Promise::Broadcast);
        assert_eq!(of([ours.clone(), theirs.clone(), broke()]), (None, promise));
        assert_eq!(of([broke(), theirs.clone(), broke()]), (Some(false), promise));
    }
}
