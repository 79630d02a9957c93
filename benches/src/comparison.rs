//! Figures of two sides, round by round, and what has to come of them.

use crate::contest::reached;
use crate::machine::machine;
use crate::measure::Spread;
use crate::promise::Promise;
use crate::record::{Record, record, record_with};
use crate::sides::{Broken, Spoilt};

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
    /// Why the figures are not there or say nothing, if so.
    pub spoilt: Option<Spoilt>,
}

/// What has to come of a comparison: the middle counts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Bound {
    /// Our figure over theirs, where more is better.
    RatioAtLeast(f64),
    /// Our figure over theirs, where less is better.
    RatioAtMost(f64),
    /// Our figure, whatever theirs is.
    AtMost(f64),
    /// Nothing: it is there to be read, beside those that have to come to something.
    Beside,
    /// Nothing: it is there to be read.
    None,
}

/// Prints them as a table, and writes their rows; `with`: how, and with which versions; those that
/// have to come to something show `promise`, and those beside them.
///
/// Whether nobody broke.
#[must_use]
pub fn print(
    title: &str,
    with: &str,
    promise: Option<Promise>,
    comparisons: &[Comparison],
) -> bool {
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
    let broken = comparisons.iter().filter_map(|one| one.spoilt.as_ref()).find(|s| s.is_broken());
    broken.inspect(|broken| eprintln!("error: {title}: {broken}")).is_none()
}

impl Comparison {
    /// A figure of what came of two sides, ours first. Where theirs does not matter to the bound
    /// and broke, it is left out.
    #[must_use]
    pub fn of<T>(
        name: impl Into<String>,
        unit: &'static str,
        [ours, theirs]: [&Result<Vec<T>, Broken>; 2],
        figure: impl Fn(&T) -> f64,
        bound: Bound,
    ) -> Self {
        let spoilt = match (ours, theirs) {
            (Err(broken), _) => Some(Spoilt::Ours(broken.clone())),
            (_, Err(broken)) if !matches!(bound, Bound::AtMost(_)) => {
                Some(Spoilt::Theirs(broken.clone()))
            }
            _ => None,
        };
        let [ours, theirs] = [ours, theirs].map(|side| {
            let rounds = side.as_ref().map_or(&[][..], Vec::as_slice);
            rounds.iter().map(&figure).collect()
        });
        Self { name: name.into(), unit, ours, theirs, bound, spoilt }
    }

    /// It says nothing, and why, unless it already is known to.
    #[must_use]
    pub fn unless(self, why: Option<String>) -> Self {
        Self { spoilt: self.spoilt.or(why.map(Spoilt::Setting)), ..self }
    }

    fn ratio(&self) -> Option<Spread> {
        let have_both = !self.ours.is_empty() && !self.theirs.is_empty();
        have_both.then(|| Spread::of_ratios(&self.ours, &self.theirs))
    }

    /// What has to come of it; nothing of what is there to be read.
    fn reach(&self) -> String {
        match self.bound {
            Bound::RatioAtLeast(least) => format!("at least {least:.2}"),
            Bound::RatioAtMost(most) => format!("at most {most:.2}"),
            Bound::AtMost(most) => format!("at most {} {}", figure(most), self.unit),
            Bound::Beside | Bound::None => String::new(),
        }
    }

    /// Whether it comes to that, and in words.
    fn judged(&self) -> Option<(bool, String)> {
        let of_ratio = self.ratio().map_or(f64::NAN, |ratio| ratio.median);
        let ours = Spread::of(&self.ours).median;
        let (good, share, words) = match self.bound {
            Bound::RatioAtLeast(least) => {
                (of_ratio >= least, of_ratio / least, "of what it has to be")
            }
            Bound::RatioAtMost(most) => (of_ratio <= most, of_ratio / most, TOO_MUCH),
            Bound::AtMost(most) => (ours <= most, ours / most, TOO_MUCH),
            Bound::Beside | Bound::None => return None,
        };
        Some((good, reached(good, share, words)))
    }

    fn record(&self, promise: Option<Promise>) -> Record {
        let promise = promise.filter(|_| self.bound != Bound::None);
        let unit = self.unit;
        let sides: Vec<_> = [&self.ours, &self.theirs]
            .into_iter()
            .filter(|figures| !figures.is_empty())
            .map(|figures| format!("{} {unit}", figure(Spread::of(figures).median)))
            .collect();
        if let Some(why) = &self.spoilt {
            // One figure of two would be taken for ours.
            let sides = if self.ours.is_empty() { Vec::new() } else { sides };
            return Record { promise, sides, ..Record::spoilt(&self.name, self.reach(), why) };
        }
        let ratio = self.ratio().filter(|_| !matches!(self.bound, Bound::AtMost(_)));
        let row = Record::new(&self.name, &Ok(ratio.unwrap_or_else(|| Spread::of(&self.ours))));
        let unit = if ratio.is_none() { unit.to_owned() } else { String::new() };
        match self.judged() {
            Some(verdict) => Record { promise, sides, unit, ..row.judged(self.reach(), verdict) },
            None => Record { promise, sides, unit, ..row },
        }
    }

    fn line(&self) -> String {
        let spread = |figures: &Vec<f64>| (!figures.is_empty()).then(|| Spread::of(figures));
        let unit = self.unit;
        let reach = if self.reach().is_empty() { "-".to_owned() } else { self.reach() };
        let verdict = match &self.spoilt {
            Some(why) => why.to_string(),
            None => self.judged().map_or_else(String::new, |(_, verdict)| verdict),
        };
        let ours = spread(&self.ours).map(|Spread { min, median, max }| match self.bound {
            Bound::AtMost(_) => {
                format!("{} - **{}** - {} {unit}", figure(min), figure(median), figure(max))
            }
            _ => format!("{} {unit}", figure(median)),
        });
        let theirs = spread(&self.theirs).map(|of| figure(of.median) + " " + unit);
        let ratio = self.ratio().filter(|_| self.spoilt.is_none());
        let ratio = ratio
            .map(|Spread { min, median, max }| format!("{min:.3} - **{median:.3}** - {max:.3}"));
        let [ours, theirs, ratio] =
            [ours, theirs, ratio].map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
        format!("| {} | {ours} | {theirs} | {ratio} | {reach} | {verdict} |", self.name)
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

    fn comparison(theirs: &[f64], bound: Bound) -> Comparison {
        let sides = [vec![200.0, 100.0, 300.0], theirs.to_vec()].map(Ok);
        Comparison::of("GET", "us", sides.each_ref(), |figure| *figure, bound)
    }

    fn line(theirs: &[f64], bound: Bound) -> String {
        comparison(theirs, bound).line()
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
             **not reached**: 2.000 times what it may be |"
        );
    }

    #[test]
    fn a_figure_may_stand_alone() {
        assert_eq!(
            line(&[], Bound::AtMost(150.0)),
            "| GET | 100 - **200** - 300 us | - | - | at most 150 us | \
             **not reached**: 1.333 times what it may be |"
        );
        assert_eq!(line(&[], Bound::None), "| GET | 200 us | - | - | - |  |");
    }

    #[test]
    fn a_row_says_the_same_as_its_line() {
        let row =
            |bound| comparison(&[100.0, 100.0, 50.0], bound).record(Some(Promise::Throughput));
        let ratio = row(Bound::RatioAtMost(1.0));
        assert_eq!((ratio.is_reached, ratio.promise), (Some(false), Some(Promise::Throughput)));
        assert_eq!((ratio.spread.unwrap()[1], &*ratio.unit), (Some(2.0), ""));
        let alone = row(Bound::AtMost(250.0));
        assert_eq!((alone.is_reached, alone.spread.unwrap()[1]), (Some(true), Some(200.0)));
        assert_eq!(alone.unit, "us");
        let told = row(Bound::None);
        assert_eq!((told.is_reached, told.promise), (None, None));
        let beside = row(Bound::Beside);
        assert_eq!((beside.is_reached, beside.promise), (None, Some(Promise::Throughput)));
        assert_eq!(beside.reach, "");
    }

    #[test]
    fn who_broke_decides_what_a_row_says() {
        let broken = || Err(Broken { who: "a side".to_owned(), why: "it was reset".to_owned() });
        let of = |ours: Result<_, _>, theirs: Result<_, _>, bound| {
            Comparison::of("GET", "us", [&ours, &theirs], |figure| *figure, bound)
        };
        let (whole, least) = (|| Ok(vec![1.0, 2.0]), Bound::RatioAtLeast(1.0));
        let ours = of(broken(), whole(), least);
        let said = "**not reached**: a side: it was reset";
        assert_eq!(ours.line(), format!("| GET | - | 1.50 us | - | at least 1.00 | {said} |"));
        let row = ours.record(None);
        assert_eq!((row.is_reached, &*row.verdict, row.sides.len()), (Some(false), said, 0));
        let theirs = of(whole(), broken(), least).record(None);
        assert_eq!(theirs.is_reached, None);
        assert_eq!(theirs.verdict, "not measured: a side: it was reset");
        let alone = of(whole(), broken(), Bound::AtMost(2.0));
        assert_eq!((alone.spoilt.is_none(), alone.record(None).is_reached), (true, Some(true)));
    }

    #[test]
    fn a_setting_that_says_nothing_takes_the_verdict_and_leaves_the_sides() {
        let idle = || Some("the server's core was idle".to_owned());
        let spoilt = comparison(&[100.0, 100.0, 50.0], Bound::RatioAtLeast(1.0)).unless(idle());
        assert_eq!(
            spoilt.record(None).line(),
            "| GET | 200 us | 100 us | - | at least 1.00 | \
             not measured: the server's core was idle |"
        );
        assert_eq!(spoilt.line(), spoilt.record(None).line());
    }
}
