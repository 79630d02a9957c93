//! Figures of two sides, round by round, and what has to come of them.

use crate::contest::reached;
use crate::machine::machine;
use crate::measure::Spread;
use crate::promise::Promise;
use crate::record::{Record, record, record_with};

/// One line of a table.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Comparison {
    /// What was compared.
    pub name: String,
    /// Of the figures.
    pub unit: &'static str,
    /// Ours, by round.
    pub ours: Vec<f64>,
    /// Theirs, of the same rounds; empty where there is no opponent.
    pub theirs: Vec<f64>,
    /// What has to come of it.
    pub bound: Bound,
}

/// What has to come of a comparison: the middle counts.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Bound {
    /// Our figure over theirs, where more is better.
    RatioAtLeast(f64),
    /// Our figure over theirs, where less is better.
    RatioAtMost(f64),
    /// Our figure, whatever theirs is.
    AtMost(f64),
    /// Nothing: it is there to be read.
    None,
}

/// Runs all sides in each of so many rounds, whoever comes first differing from round to round;
/// what came of it, by side.
pub fn interleaved<S, T>(
    rounds: usize,
    sides: &mut [S],
    mut run: impl FnMut(&mut S) -> T,
) -> Vec<Vec<T>> {
    let mut results: Vec<Vec<T>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for nth in 0..sides.len() {
            let at = (nth + round) % sides.len();
            results[at].push(run(&mut sides[at]));
        }
    }
    results
}

/// Prints them as a table, and writes their rows; `with`: how, and with which versions; those that
/// have to come to something show `promise`.
pub fn print(title: &str, with: &str, promise: Option<Promise>, comparisons: &[Comparison]) {
    println!("### {title}\n\n{}; {with}.\n", machine());
    println!("| row | ours | opponent | ratio min - median - max | reach | |");
    println!("|---|---|---|---|---|---|");
    for comparison in comparisons {
        println!("{}", comparison.line());
    }
    println!();
    let rows: Vec<_> = comparisons.iter().map(|one| one.record(promise)).collect();
    record(&rows);
    record_with(&format!("{title}: {with}"));
}

impl Comparison {
    fn ratio(&self) -> Option<Spread> {
        (!self.theirs.is_empty()).then(|| Spread::of_ratios(&self.ours, &self.theirs))
    }

    /// What has to come of it, whether it does, and that in words.
    fn judged(&self) -> Option<(String, bool, String)> {
        let of_ratio = self.ratio().map_or(f64::NAN, |ratio| ratio.median);
        let ours = Spread::of(&self.ours).median;
        let (reach, good, share, words) = match self.bound {
            Bound::RatioAtLeast(least) => {
                let share = of_ratio / least;
                (format!("at least {least:.2}"), of_ratio >= least, share, "of what it has to be")
            }
            Bound::RatioAtMost(most) => {
                (format!("at most {most:.2}"), of_ratio <= most, of_ratio / most, TOO_MUCH)
            }
            Bound::AtMost(most) => {
                let reach = format!("at most {} {}", figure(most), self.unit);
                (reach, ours <= most, ours / most, TOO_MUCH)
            }
            Bound::None => return None,
        };
        Some((reach, good, reached(good, share, words)))
    }

    fn record(&self, promise: Option<Promise>) -> Record {
        let (unit, ours) = (self.unit, Spread::of(&self.ours));
        let theirs = (!self.theirs.is_empty()).then(|| Spread::of(&self.theirs));
        let ratio = self.ratio().filter(|_| !matches!(self.bound, Bound::AtMost(_)));
        let row = Record::new(self.name.clone(), &Ok(ratio.unwrap_or(ours)));
        let sides = [Some(ours), theirs].into_iter().flatten();
        let sides = sides.map(|side| format!("{} {unit}", figure(side.median))).collect();
        let unit = if ratio.is_none() { unit.to_owned() } else { String::new() };
        match self.judged() {
            Some((reach, good, verdict)) => {
                Record { promise, sides, unit, ..row.judged(reach, (good, verdict)) }
            }
            None => Record { sides, unit, ..row },
        }
    }

    fn line(&self) -> String {
        let (unit, ours) = (self.unit, Spread::of(&self.ours));
        let theirs = (!self.theirs.is_empty()).then(|| Spread::of(&self.theirs));
        let (reach, verdict) = self.judged().map_or_else(
            || ("-".to_owned(), String::new()),
            |(reach, _, verdict)| (reach, verdict),
        );
        let ours = match self.bound {
            Bound::AtMost(_) => {
                let Spread { min, median, max } = ours;
                format!("{} - **{}** - {}", figure(min), figure(median), figure(max))
            }
            _ => figure(ours.median),
        };
        let theirs = theirs.map_or_else(|| "-".to_owned(), |of| figure(of.median) + " " + unit);
        let ratio = self.ratio().map_or_else(
            || "-".to_owned(),
            |Spread { min, median, max }| format!("{min:.3} - **{median:.3}** - {max:.3}"),
        );
        let name = &self.name;
        format!("| {name} | {ours} {unit} | {theirs} | {ratio} | {reach} | {verdict} |")
    }
}

const TOO_MUCH: &str = "times what it may be";

/// Three digits at least.
fn figure(figure: f64) -> String {
    match figure {
        ..10.0 => format!("{figure:.2}"),
        ..100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(theirs: &[f64], bound: Bound) -> String {
        let (name, ours) = ("GET".to_owned(), vec![200.0, 100.0, 300.0]);
        Comparison { name, unit: "us", ours, theirs: theirs.to_vec(), bound }.line()
    }

    #[test]
    fn the_middle_of_the_ratios_counts() {
        let theirs = [100.0, 100.0, 50.0];
        assert_eq!(
            line(&theirs, Bound::RatioAtLeast(2.0)),
            "| GET | 200 us | 100 us | 1.000 - **2.000** - 6.000 | at least 2.00 | reached |"
        );
        assert_eq!(
            line(&theirs, Bound::RatioAtMost(1.0)),
            "| GET | 200 us | 100 us | 1.000 - **2.000** - 6.000 | at most 1.00 | \
             **not reached**: 2.00 times what it may be |"
        );
    }

    #[test]
    fn a_figure_may_stand_alone() {
        assert_eq!(
            line(&[], Bound::AtMost(150.0)),
            "| GET | 100 - **200** - 300 us | - | - | at most 150 us | \
             **not reached**: 1.33 times what it may be |"
        );
        assert_eq!(line(&[], Bound::None), "| GET | 200 us | - | - | - |  |");
    }

    #[test]
    fn a_row_says_the_same_as_its_line() {
        let row = |bound| {
            let (name, ours) = ("GET".to_owned(), vec![200.0, 100.0, 300.0]);
            let theirs = vec![100.0, 100.0, 50.0];
            let of = Comparison { name, unit: "us", ours, theirs, bound };
            of.record(Some(Promise::Throughput))
        };
        let ratio = row(Bound::RatioAtMost(1.0));
        assert_eq!((ratio.is_reached, ratio.promise), (Some(false), Some(Promise::Throughput)));
        assert_eq!((ratio.spread.unwrap()[1], &*ratio.unit), (Some(2.0), ""));
        let alone = row(Bound::AtMost(250.0));
        assert_eq!((alone.is_reached, alone.spread.unwrap()[1]), (Some(true), Some(200.0)));
        assert_eq!(alone.unit, "us");
        let told = row(Bound::None);
        assert_eq!((told.is_reached, told.promise), (None, None));
    }

    #[test]
    fn each_side_comes_first_in_turn() {
        let mut order = Vec::new();
        let results = interleaved(3, &mut ["a", "b"], |side| {
            order.push(*side);
            order.len()
        });
        assert_eq!(order, ["a", "b", "b", "a", "a", "b"]);
        assert_eq!(results, [[1, 4, 5], [2, 3, 6]]);
    }
}
