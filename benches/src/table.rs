//! The table: what was reached, and by how much not.

use crate::machine::machine;
use crate::measure::{CONTROL_MOST, Rounds, Setting, Spread, Subject};
use crate::promise::Promise;
use crate::record::{Record, record};

/// One comparison. Ratios are ours over theirs: less is better.
#[derive(Clone, Debug)]
pub struct Row {
    name: String,
    ours: f64,
    theirs: f64,
    /// Absent: this was not measured, and why.
    ratio: Result<Spread, String>,
    subjects: [&'static str; 2],
    reach: Reach,
    promise: Option<Promise>,
}

/// What design section 6 wants a ratio to be.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Reach {
    /// The greatest ratio that is good enough.
    pub at_most: f64,
    /// In its words.
    pub words: &'static str,
}

impl Row {
    /// Our time over theirs.
    #[must_use]
    pub fn new(
        rounds: &Rounds,
        setting: Setting,
        [ours, theirs]: [&'static str; 2],
        reach: Reach,
    ) -> Self {
        let figures = [ours, theirs].map(|name| rounds.of(name, setting).to_vec());
        Self::of(rounds, setting, [ours, theirs], figures, reach)
    }

    /// What we add to `base` over what they add to it.
    #[must_use]
    pub fn overhead(
        rounds: &Rounds,
        setting: Setting,
        [ours, theirs]: [&'static str; 2],
        base: &'static str,
        reach: Reach,
    ) -> Self {
        let figures = [ours, theirs].map(|name| rounds.over(name, base, setting));
        Self::of(rounds, setting, [ours, theirs], figures, reach)
    }

    /// Two threads on one object over two threads on an object each: 1 is flat.
    #[must_use]
    pub fn flat(rounds: &Rounds, name: &'static str, reach: Reach) -> Self {
        let figures =
            [Setting::Two, Setting::ControlTwo].map(|setting| rounds.of(name, setting).to_vec());
        let mut row = Self::of(rounds, Setting::Two, [name, name], figures, reach);
        row.name = format!("{name}, 2 threads: shared / not shared");
        row
    }

    /// Whether our side is that subject.
    #[must_use]
    pub fn is_of(&self, subject: &str) -> bool {
        self.subjects[0] == subject
    }

    /// Says which row of design section 6 this is one of.
    #[must_use]
    pub fn shows(self, promise: Promise) -> Self {
        Self { promise: Some(promise), ..self }
    }

    fn of(
        rounds: &Rounds,
        setting: Setting,
        subjects: [&'static str; 2],
        figures: [Vec<f64>; 2],
        reach: Reach,
    ) -> Self {
        let [ours, theirs] = subjects;
        let threads = if setting == Setting::One { "1 thread" } else { "2 threads" };
        let name = format!("{ours} / {theirs}, {threads}");
        let bent = subjects.into_iter().find(|name| !rounds.is_control_flat(name));
        let ratio = match bent {
            Some(_) if setting != Setting::One && rounds.threads < 2 => {
                Err("not measured: there is one core".to_owned())
            }
            Some(bent) if setting != Setting::One => {
                let control = rounds.control(bent).median;
                Err(format!("not measured: the control of {bent} took {control:.2} times as long"))
            }
            _ => Ok(Spread::of_ratios(&figures[0], &figures[1])),
        };
        let [ours, theirs] = figures.map(|figures| Spread::of(&figures).median);
        Self { name, ours, theirs, ratio, subjects, reach, promise: None }
    }

    fn record(&self) -> Record {
        let verdict = self.ratio.as_ref().map(|ratio| self.reach.verdict(ratio.median));
        let record = Record::new(&self.name, &self.ratio)
            .judged(self.reach.words, verdict.unwrap_or_default());
        let sides = [self.ours, self.theirs].map(|side| format!("{side:.1} ns"));
        Record { promise: self.promise, sides: sides.into(), ..record }
    }
}

impl Reach {
    /// Whether that is good enough, and by how much not.
    pub(crate) fn verdict(self, middle: f64) -> (bool, String) {
        if middle <= self.at_most {
            (true, "reached".to_owned())
        } else {
            let times = middle / self.at_most;
            (false, format!("**not reached**: {times:.3} times what it may be"))
        }
    }
}

/// `counted`: instructions by subject, where they could be counted.
pub(crate) fn print(
    title: &str,
    subjects: &[Subject],
    rounds: &Rounds,
    counted: Option<&[f64]>,
    rows: &[Row],
) {
    println!("### {title}\n");
    println!("{}; medians of {} interleaved rounds.\n", machine(), rounds.rounds);
    println!("| subject | ns, 1 thread | ns, 2 threads | control, 2 threads / 1 | instructions |");
    println!("|---|---|---|---|---|");
    let instructions = |name: &str| {
        let at = subjects.iter().position(|subject| subject.name == name);
        let count = at.and_then(|at| counted?.get(at));
        count.map_or_else(|| "-".to_owned(), |count| format!("{count:.0}"))
    };
    for Subject { name, .. } in subjects {
        let median = |setting| Spread::of(rounds.of(name, setting)).median;
        let (one, two) = (median(Setting::One), median(Setting::Two));
        let (control, count) = (rounds.control(name).median, instructions(name));
        println!("| {name} | {one:.1} | {two:.1} | {control:.2} | {count} |");
    }
    println!(
        "\n| row | ours, ns | opponent, ns | ratio min - median - max | instructions | reach | |"
    );
    println!("|---|---|---|---|---|---|---|");
    let records: Vec<_> = rows.iter().map(Row::record).collect();
    for (row, told) in rows.iter().zip(&records) {
        let [ours, theirs] = row.subjects.map(instructions);
        let (ratio, verdict) = (told.figures(), &told.verdict);
        println!(
            "| {} | {:.1} | {:.1} | {ratio} | {ours} / {theirs} | {} | {verdict} |",
            row.name, row.ours, row.theirs, row.reach.words,
        );
    }
    record(&records);
    println!("\nA control of more than {CONTROL_MOST} makes its rows \"not measured\".\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Reach = Reach { at_most: 0.5, words: "half" };

    #[test]
    fn two_threads_are_judged_only_beside_a_flat_control() {
        // One thread, its control; two threads, their control.
        let flat = ("flat", [10.0, 10.0, 10.0, 11.0]);
        let bent = ("bent", [10.0, 10.0, 30.0, 20.0]);
        let rounds = Rounds::made_up(&[flat, bent]);
        assert!(Row::new(&rounds, Setting::One, ["flat", "bent"], HALF).ratio.is_ok());
        let why = Row::new(&rounds, Setting::Two, ["flat", "bent"], HALF).ratio;
        let why = why.expect_err("the control doubled");
        assert!(why.starts_with("not measured: the control of bent took 2.00"), "{why}");
        assert!(Row::flat(&rounds, "flat", HALF).ratio.is_ok());
    }

    #[test]
    fn a_row_says_what_was_reached_and_by_how_much_not() {
        let rounds = Rounds::made_up(&[
            ("base", [20.0, 20.0, 20.0, 20.0]),
            ("ours", [30.0, 30.0, 40.0, 30.0]),
            ("theirs", [60.0, 60.0, 40.0, 60.0]),
        ]);
        let verdict = |setting| {
            let row = Row::overhead(&rounds, setting, ["ours", "theirs"], "base", HALF);
            row.record().verdict
        };
        assert_eq!(verdict(Setting::One), "reached");
        assert_eq!(verdict(Setting::Two), "**not reached**: 2.000 times what it may be");
    }
}
