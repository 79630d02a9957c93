//! Curves: what something costs by how many there are of it, and whether that grows too fast.
//!
//! Pure: figures in, a table and a verdict out. Not here: what is measured, and the picture
//! (`benches/scaling`).
//!
//! # Invariants
//! 1. A verdict compares figures of the same round.

use crate::measure::Spread;
use crate::record::Record;
use crate::sides::Spoilt;
use crate::table::Reach;

/// What something costs, by how many there are.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Curve {
    /// What is measured.
    pub name: &'static str,
    /// What there are so many of.
    pub of: &'static str,
    /// Of the figures.
    pub unit: &'static str,
    /// How it may grow.
    pub growth: Growth,
    /// Ordered by number.
    pub points: Vec<Point>,
    /// Why the figures say nothing, if they do not.
    pub spoilt: Option<Spoilt>,
}

/// What so many cost.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Point {
    /// How many there were.
    pub number: u64,
    /// Round by round; as many as at the other points, and none where what was measured broke.
    pub figures: Vec<f64>,
}

/// How a cost may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Growth {
    /// Not at all: the figure is that of one operation.
    Flat,
    /// With the number: the figure is that of all of them together.
    Linear,
}

impl Curve {
    /// Whether there are figures at every point.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.points.iter().all(|point| !point.figures.is_empty())
    }

    /// Its table: the figure by number and, where it may grow, what each of them costs.
    #[must_use]
    pub fn table(&self) -> String {
        let Self { name, of, unit, .. } = self;
        if let Some(why) = self.spoilt.as_ref().filter(|_| !self.is_whole()) {
            return format!("#### {name}\n\n{why}\n");
        }
        let mut text = format!("#### {name}\n\n| {of} | {unit}, min - median - max |");
        text.push_str(match self.growth {
            Growth::Flat => "\n|---|---|\n",
            Growth::Linear => " each |\n|---|---|---|\n",
        });
        for Point { number, figures } in &self.points {
            let Spread { min, median, max } = Spread::of(figures);
            let [min, middle, max] = [min, median, max].map(short);
            text.push_str(&format!("| {number} | {min} - **{middle}** - {max} |"));
            if self.growth == Growth::Linear {
                text.push_str(&format!(" {} |", short(median / *number as f64)));
            }
            text.push('\n');
        }
        text
    }

    /// Whether it grows no faster than it may: what one costs at the greatest number, over what
    /// it costs at the middle one.
    ///
    /// # Panics
    /// When it has less than two points.
    #[must_use]
    pub fn judge(&self) -> Record {
        assert!(self.points.len() > 1, "{} has one point", self.name);
        let at = (self.points.len() / 2).min(self.points.len() - 2);
        let (middle, last) = (&self.points[at], &self.points[self.points.len() - 1]);
        let each = |point: &Point| {
            let number = match self.growth {
                Growth::Flat => 1.0,
                Growth::Linear => point.number as f64,
            };
            point.figures.iter().map(|figure| figure / number).collect::<Vec<_>>()
        };
        let [at_last, at_middle] = [last, middle].map(each);
        let reach = match self.growth {
            Growth::Flat => FLAT,
            Growth::Linear => LINEAR,
        };
        let one = if self.growth == Growth::Linear { ", each" } else { "" };
        let row = format!("{}{one}, at {} / at {}", self.name, last.number, middle.number);
        let judged = match &self.spoilt {
            Some(why) => Record::spoilt(row, reach.words, why),
            None => {
                let ratio = Spread::of_ratios(&at_last, &at_middle);
                Record::new(row, &Ok(ratio)).judged(reach.words, reach.verdict(ratio.median))
            }
        };
        if !self.is_whole() {
            return judged;
        }
        let side = |figures: &[f64]| format!("{} {}", short(Spread::of(figures).median), self.unit);
        Record { sides: vec![side(&at_last), side(&at_middle)], ..judged }
    }
}

/// Three digits that count.
fn short(figure: f64) -> String {
    let digits = if figure == 0.0 { 0 } else { 2 - figure.abs().log10().floor() as i32 };
    format!("{figure:.*}", usize::try_from(digits.clamp(0, 9)).unwrap_or(0))
}

/// What a machine that others share may add to what does not grow.
const FLAT: Reach = Reach { at_most: 1.25, words: "flat: at most 1.25" };
/// Caches that are full, and the same.
const LINEAR: Reach = Reach { at_most: 1.5, words: "no worse than linear: at most 1.50" };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sides::Broken;

    fn curve(growth: Growth, points: [(u64, f64); 3]) -> Curve {
        let point = |(number, figure)| Point { number, figures: vec![figure; 3] };
        let points = points.map(point).into();
        let (name, of, unit) = ("a stop", "hooks", "ms");
        Curve { name, of, unit, growth, points, spoilt: None }
    }

    #[test]
    fn what_grows_with_the_number_is_linear_and_with_its_square_is_not() {
        let linear = curve(Growth::Linear, [(1, 5.0), (10, 10.0), (100, 100.0)]).judge();
        assert_eq!(linear.is_reached, Some(true));
        assert_eq!(
            linear.line(),
            "| a stop, each, at 100 / at 10 | 1.00 ms | 1.00 ms | 1.000 - **1.000** - 1.000 | \
             no worse than linear: at most 1.50 | reached |"
        );
        let square = curve(Growth::Linear, [(1, 1.0), (10, 100.0), (100, 10_000.0)]).judge();
        assert_eq!(square.is_reached, Some(false));
        let settled = curve(Growth::Linear, [(1, 50.0), (10, 50.0), (100, 60.0)]).judge();
        assert_eq!(settled.is_reached, Some(true), "what is fixed is not held against it");
    }

    #[test]
    fn what_has_to_be_flat_may_not_grow_with_the_number() {
        assert_eq!(
            curve(Growth::Flat, [(1, 9.0), (2, 9.0), (4, 9.5)]).judge().is_reached,
            Some(true)
        );
        let grows = curve(Growth::Flat, [(1, 9.0), (2, 9.0), (4, 18.0)]).judge();
        assert_eq!(grows.verdict, "**not reached**: 1.600 times what it may be");
    }

    #[test]
    fn a_spoilt_curve_has_no_verdict() {
        let mut curve = curve(Growth::Flat, [(1, 9.0), (2, 9.0), (4, 9.0)]);
        curve.spoilt = Some(Spoilt::Setting("one core".to_owned()));
        assert_eq!((curve.judge().is_reached, curve.judge().spread), (None, None));
        assert_eq!(curve.judge().sides.len(), 2);
    }

    #[test]
    fn a_curve_that_broke_has_not_reached_it() {
        let mut curve = curve(Growth::Flat, [(1, 9.0), (2, 9.0), (4, 9.0)]);
        curve.points.iter_mut().for_each(|point| point.figures.clear());
        let broken = Broken { who: "a stop".to_owned(), why: "stuck".to_owned() };
        curve.spoilt = Some(Spoilt::Ours(broken));
        let judged = curve.judge();
        assert_eq!((judged.is_reached, judged.sides.len()), (Some(false), 0));
        assert_eq!(curve.table(), "#### a stop\n\n**not reached**: a stop: stuck\n");
    }

    #[test]
    fn a_table_has_three_digits_that_count() {
        let table = curve(Growth::Linear, [(1, 0.01234), (10, 1.5), (1000, 1234.4)]).table();
        assert!(table.contains("| 1 | 0.0123 - **0.0123** - 0.0123 | 0.0123 |\n"), "{table}");
        assert!(table.contains("| 10 | 1.50 - **1.50** - 1.50 | 0.150 |\n"), "{table}");
        assert!(table.contains("| 1000 | 1234 - **1234** - 1234 | 1.23 |\n"), "{table}");
    }
}
