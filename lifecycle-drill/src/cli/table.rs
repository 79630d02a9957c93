//! The table of a comparison, as Markdown: scenarios by servers, and what each failure was.
//!
//! Pure: verdicts in, text out.

use std::{collections::BTreeMap, fmt};

use lifecycle_drill::{Outcome, Scenario, Verdict};

/// What one server made of one scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// What was seen, and how many requests were lost, where that was counted.
    Fail { seen: String, lost: Option<(u64, u64)> },
    /// As expected.
    Pass,
    /// It could not be started, or this machine had no room for its clients: why.
    NotJudged { why: String },
    /// Not played, and why.
    Skipped { why: String },
}

/// One server: its cells are in the order of the scenarios.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) cells: Vec<Cell>,
}

/// The whole of it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) scenarios: Vec<&'static Scenario>,
    pub(crate) columns: Vec<Column>,
    /// When and where it was measured.
    pub(crate) about: String,
}

impl Cell {
    /// What that verdict comes to.
    pub(crate) fn of(verdict: &Verdict) -> Self {
        match verdict.outcome() {
            Outcome::Pass => Self::Pass,
            Outcome::Skipped { why } => Self::Skipped { why: why.clone() },
            Outcome::Fail { seen } => {
                let lost = verdict.ledger().map(|ledger| (ledger.lost(), ledger.total()));
                Self::Fail { seen: seen.clone(), lost: lost.filter(|(lost, _)| *lost > 0) }
            }
            Outcome::NotStarted { why } => Self::NotJudged { why: why.clone() },
            other => Self::Fail { seen: format!("{other:?}"), lost: None },
        }
    }

    /// Whether a server that is to pass everything has not.
    pub(crate) fn is_against(&self) -> bool {
        matches!(self, Self::Fail { .. } | Self::NotJudged { .. })
    }

    fn short(&self) -> String {
        match self {
            Self::Fail { lost: Some((lost, total)), .. } => {
                format!("**fail**: {lost} of {total} lost")
            }
            Self::Fail { lost: None, .. } => "**fail**".to_owned(),
            Self::NotJudged { .. } => "not judged".to_owned(),
            Self::Pass => "pass".to_owned(),
            Self::Skipped { .. } => "n/a".to_owned(),
        }
    }
}

impl Table {
    /// The table and its legend, without what each failure was.
    pub(crate) fn brief(&self) -> String {
        let heads: Vec<_> =
            self.columns.iter().map(|one| format!("{} {}", one.name, one.version)).collect();
        let mut text = format!("{}.\n\n| scenario | {} |\n", self.about, heads.join(" | "));
        text.push_str(&format!("|---|{}\n", "---|".repeat(heads.len())));
        for (row, scenario) in self.scenarios.iter().enumerate() {
            let cells: Vec<_> = self.columns.iter().map(|one| one.cells[row].short()).collect();
            text.push_str(&format!("| `{}` | {} |\n", scenario.name(), cells.join(" | ")));
        }
        let sums: Vec<_> = self.columns.iter().map(Column::sum).collect();
        text.push_str(&format!("| pass, fail, n/a | {} |\n\n", sums.join(" | ")));
        let mut reasons = BTreeMap::<&str, Vec<&str>>::new();
        for column in &self.columns {
            for cell in &column.cells {
                if let Cell::Skipped { why } = cell {
                    let names = reasons.entry(why).or_default();
                    if !names.contains(&column.name) {
                        names.push(column.name);
                    }
                }
            }
        }
        let told: Vec<_> =
            reasons.iter().map(|(why, names)| format!("{why} ({})", names.join(", "))).collect();
        if !told.is_empty() {
            text.push_str(&format!("n/a, and why: {}.\n", told.join("; ")));
        }
        text
    }
}

impl Column {
    fn sum(&self) -> String {
        let count = |of: fn(&Cell) -> bool| self.cells.iter().filter(|cell| of(cell)).count();
        let pass = count(|cell| matches!(cell, Cell::Pass));
        let fail = count(|cell| matches!(cell, Cell::Fail { .. }));
        let skipped = count(|cell| matches!(cell, Cell::Skipped { .. }));
        match count(|cell| matches!(cell, Cell::NotJudged { .. })) {
            0 => format!("{pass}, {fail}, {skipped}"),
            others => format!("{pass}, {fail}, {skipped}; {others} not judged"),
        }
    }
}

/// The table, then what was seen in each failure.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# The same scenarios, several servers\n\n{ABOUT}\n")?;
        writeln!(f, "{}", self.brief())?;
        writeln!(f, "## What was seen\n")?;
        for (row, scenario) in self.scenarios.iter().enumerate() {
            let seen = self.columns.iter().filter_map(|column| match &column.cells[row] {
                Cell::Fail { seen, .. } => Some((column.name, seen.clone())),
                Cell::NotJudged { why } => Some((column.name, format!("not judged: {why}"))),
                Cell::Pass | Cell::Skipped { .. } => None,
            });
            let seen: Vec<_> = seen.collect();
            if seen.is_empty() {
                continue;
            }
            writeln!(f, "`{}`: {}.\n", scenario.name(), scenario.why())?;
            for (name, seen) in seen {
                writeln!(f, "- {name}: {seen}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Whether one of the marks is there and the other is not.
pub(crate) fn is_half_marked(text: &str) -> bool {
    text.contains(BEGIN) != text.contains(END)
}

/// The text with the table between its two marks; `None` if it has not both.
pub(crate) fn quoted(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

const BEGIN: &str = "<!-- lifecycle-drill compare: begin -->";
const END: &str = "<!-- lifecycle-drill compare: end -->";
const ABOUT: &str = "Written by `lifecycle-drill compare`. Each server has the same routes and is \
    stopped as its documentation says; those that know a deadline are given 4 s of a grace of \
    6 s. `lifecycle` is the example `target`, with a lame duck of 1 s.\n\n\
    More is asked of `lifecycle` than of the others. They have no lame duck: what a server does \
    in one is not asked of them, and what its absence costs is counted under load. Idle and slow \
    clients may hold them for 4 s, and `lifecycle` for 1 s. They need not say by their exit code \
    that work was cut, nor name it. Of their signals only SIGTERM and SIGINT were set up, as \
    their documentation has it; SIGHUP and a second signal are what they make of it.";

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let scenarios: Vec<_> = lifecycle_drill::scenarios().iter().take(2).collect();
        let lost = Cell::Fail { seen: "7 lost".to_owned(), lost: Some((7, 9)) };
        let skipped = Cell::Skipped { why: "needs HTTP/2".to_owned() };
        let column = |name, cells| Column { name, version: "1.0".to_owned(), cells };
        let columns = vec![
            column("ours", vec![Cell::Pass, Cell::Pass]),
            column("theirs", vec![lost, skipped]),
        ];
        Table { scenarios, columns, about: "today".to_owned() }
    }

    #[test]
    fn a_row_has_a_cell_for_each_server() {
        let brief = table().brief();
        assert!(brief.contains("| scenario | ours 1.0 | theirs 1.0 |\n|---|---|---|\n"), "{brief}");
        assert!(brief.contains("| pass | **fail**: 7 of 9 lost |\n"), "{brief}");
        assert!(brief.contains("| pass, fail, n/a | 2, 0, 0 | 0, 1, 1 |\n"), "{brief}");
        assert!(brief.contains("n/a, and why: needs HTTP/2 (theirs).\n"), "{brief}");
    }

    #[test]
    fn the_whole_says_what_was_seen() {
        let whole = table().to_string();
        assert!(whole.contains("- theirs: 7 lost\n") && !whole.contains("- ours"), "{whole}");
    }

    #[test]
    fn a_start_that_failed_is_no_failure_to_stop() {
        let mut table = table();
        let why = "cannot start: in use".to_owned();
        table.columns[1].cells[1] = Cell::NotJudged { why };
        let (brief, whole) = (table.brief(), table.to_string());
        assert!(brief.contains("| pass | not judged |\n"), "{brief}");
        let sums = "| pass, fail, n/a | 2, 0, 0 | 0, 1, 0; 1 not judged |\n";
        assert!(brief.contains(sums), "{brief}");
        assert!(whole.contains("- theirs: not judged: cannot start: in use\n"), "{whole}");
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        assert!(is_half_marked(BEGIN) && is_half_marked(END) && !is_half_marked("text"));
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(quoted(&text, "new\n"), Some(format!("a\n{BEGIN}\nnew\n{END}\nb\n")));
        assert_eq!(quoted("a\nb\n", "new\n"), None);
        assert_eq!(quoted(&format!("a {BEGIN} b"), "new\n"), None);
    }
}
