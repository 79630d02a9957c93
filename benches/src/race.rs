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
use crate::table::Reach;

/// Who takes part.
pub struct Entrant {
    name: &'static str,
    run: Box<dyn Fn() -> Duration>,
}

/// Entrants that do the same thing.
pub struct Race {
    name: String,
    ours: Vec<Entrant>,
    theirs: Vec<Entrant>,
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
        Self { name, ours, theirs, reach, promise: None }
    }

    /// Says which row of design section 6 it is one of.
    #[must_use]
    pub fn shows(self, promise: Promise) -> Self {
        Self { promise: Some(promise), ..self }
    }

    fn entrants(&self) -> impl Iterator<Item = &Entrant> {
        self.ours.iter().chain(&self.theirs)
    }

    /// A row for each of ours; `took`: of each entrant, in their order, round by round.
    fn judge(&self, took: &[Vec<f64>]) -> Vec<Record> {
        let (ours, theirs) = took.split_at(self.ours.len());
        let rounds = ours.first().map_or(0, Vec::len);
        let fastest = |round: usize| theirs.iter().map(|took| took[round]).fold(f64::MAX, f64::min);
        let fastest: Vec<_> = (0..rounds).map(fastest).collect();
        let of = |(entrant, took): (&Entrant, &Vec<f64>)| {
            let ratio = Spread::of_ratios(took, &fastest);
            let row = format!("{}: {} / the faster of the others", self.name, entrant.name);
            let judged = Record::new(row, &Ok(ratio))
                .judged(self.reach.words, self.reach.verdict(ratio.median));
            let sides = [took, &fastest].map(|took| format!("{:.2} ms", Spread::of(took).median));
            Record { promise: self.promise, sides: sides.into(), ..judged }
        };
        self.ours.iter().zip(ours).map(of).collect()
    }
}

impl std::fmt::Debug for Race {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Race").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Runs all entrants of all races in each of so many rounds, and prints what came out.
///
/// `with`: versions. `only`: races that have this in their name.
pub fn race(title: &str, with: &str, races: &[Race], rounds: usize, only: Option<&str>) {
    let wanted = |race: &&Race| only.is_none_or(|only| race.name.contains(only));
    let races: Vec<_> = races.iter().filter(wanted).collect();
    let mut took: Vec<Vec<Vec<f64>>> =
        races.iter().map(|race| vec![Vec::new(); race.entrants().count()]).collect();
    for round in 0..rounds {
        for (race, took) in races.iter().zip(&mut took) {
            let entrants: Vec<_> = race.entrants().collect();
            // Whoever comes first differs from round to round.
            for nth in 0..entrants.len() {
                let at = (nth + round) % entrants.len();
                took[at].push((entrants[at].run)().as_secs_f64() * 1e3);
            }
        }
    }
    println!("### {title}\n\n{}; {with}.\nMedians of {rounds} interleaved rounds.\n", machine());
    println!("| race | entrant | ms, min - median - max |\n|---|---|---|");
    for (race, took) in races.iter().zip(&took) {
        for (entrant, took) in race.entrants().zip(took) {
            let Spread { min, median, max } = Spread::of(took);
            let (race, name) = (&race.name, entrant.name);
            println!("| {race} | {name} | {min:.2} - **{median:.2}** - {max:.2} |");
        }
    }
    println!("\n| row | ours | opponent | ratio min - median - max | reach | |");
    println!("|---|---|---|---|---|---|");
    let judged: Vec<_> =
        races.iter().zip(&took).flat_map(|(race, took)| race.judge(took)).collect();
    judged.iter().for_each(|judged| println!("{}", judged.line()));
    println!();
    record(&judged);
    record_with(with);
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
        let took = [vec![2.0, 3.0, 9.0], vec![4.0, 2.0, 6.0], vec![2.0, 8.0, 6.0]];
        let judged = race.judge(&took);
        assert_eq!(
            judged[0].line(),
            "| 10 tasks: ours / the faster of the others | 3.00 ms | 2.00 ms | \
             1.00 - **1.50** - 1.50 | at most 1.00 | **not reached**: 1.50 times what it may be |"
        );
        assert_eq!((judged.len(), judged[0].promise), (1, Some(Promise::Broadcast)));
    }
}
