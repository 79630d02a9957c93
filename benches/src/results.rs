//! The page of results: the promises in one table, then every bench's own tables.
//!
//! Pure: rows and texts in, Markdown out. Not here: reading and writing (`src/bin/results.rs`).

use std::collections::BTreeMap;

use crate::promise::{Promise, Shown};
use crate::quote::Compared;
use crate::record::{Line, Record};

/// All that a run of the benches has left.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Results {
    /// When, on what machine, with what.
    pub about: String,
    /// The rows of all benches.
    pub lines: Vec<Line>,
    /// What each bench has printed, by its name.
    pub tables: BTreeMap<String, String>,
    /// What the drill has counted, if that can be read.
    pub compared: Option<Compared>,
    /// What of it could not be read.
    pub warnings: Vec<String>,
}

impl Results {
    /// The promises, a line for each of their rows.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("{}.\n\n{HEAD}", self.about);
        for promise in Promise::ALL {
            let what = promise.what();
            let lines = match promise.shown() {
                Shown::Bench(bench) => self.measured(promise, bench),
                Shown::Command(command) => vec![self.counted(promise, command)],
            };
            for (nth, line) in lines.iter().enumerate() {
                text.push_str(&format!("| {} {line}\n", if nth == 0 { what } else { "" }));
            }
        }
        let (reached, not, unknown) = self.count();
        text.push_str(&format!(
            "\nOf {} measured rows {reached} are reached, {not} are not; {unknown} were not \
             measured.\n",
            reached + not
        ));
        for (bench, code) in self.failed() {
            text.push_str(&format!("\n**`{bench}` ended with exit code {code}.**\n"));
        }
        text
    }

    /// The whole page; `picture`: the file of the curves, from where the page is.
    #[must_use]
    pub fn page(&self, picture: Option<&str>) -> String {
        let mut text = format!("# Results\n\n{ABOUT}\n\n{}", self.table());
        for (bench, with) in self.lines.iter().filter_map(Line::with) {
            text.push_str(&format!("\nIn `{bench}`: {with}.\n"));
        }
        if let Some(compared) = &self.compared {
            text.push_str(&format!("\nIn the comparison: {}.\n", compared.about));
        }
        for warning in &self.warnings {
            text.push_str(&format!("\n**Warning:** {warning}.\n"));
        }
        text.push_str("\n## Tables\n");
        for tables in self.tables.values() {
            text.push_str(&format!("\n{}\n", tables.trim()));
        }
        if let Some(picture) = picture {
            text.push_str(&format!(
                "\n![What each thing costs, by how many there are]({picture})\n"
            ));
        }
        text
    }

    fn rows(&self) -> impl Iterator<Item = &Record> {
        self.lines.iter().filter_map(|line| match line {
            Line::Row(row) => Some(row),
            Line::Ended { .. } | Line::With { .. } => None,
        })
    }

    /// The benches that did not come to their end, and their codes.
    fn failed(&self) -> impl Iterator<Item = (&str, i32)> {
        self.lines.iter().filter_map(Line::ended).filter(|(_, code)| *code != 0)
    }

    /// What stands behind what a bench has to say, if it failed.
    fn mark(&self, bench: &str) -> String {
        let code = self.failed().find(|(failed, _)| *failed == bench).map(|(_, code)| code);
        code.map_or_else(String::new, |code| format!(" (`{bench}` ended with exit code {code})"))
    }

    fn of(&self, promise: Promise) -> impl Iterator<Item = &Record> {
        self.rows().filter(move |row| row.promise == Some(promise))
    }

    fn measured(&self, promise: Promise, bench: &str) -> Vec<String> {
        let mark = self.mark(bench);
        let marked = |row: &Record| {
            let verdict = format!("{}{mark}", row.verdict).trim_start().to_owned();
            Record { verdict, ..row.clone() }.line()
        };
        let lines: Vec<_> = self.of(promise).map(marked).collect();
        if lines.is_empty() {
            return vec![format!(
                "| - | - | - | - | - | not measured: no row of bench `{bench}`{mark} |"
            )];
        }
        lines
    }

    fn counted(&self, promise: Promise, command: &str) -> String {
        match self.sums(promise) {
            Some((is_reached, sums)) => {
                let verdict = if is_reached { "reached" } else { "**not reached**" };
                format!("| {sums} | - | - | - | 0 | {verdict}: `{command}` |")
            }
            None => format!("| - | - | - | - | 0 | not measured here: `{command}` |"),
        }
    }

    /// What was counted for that promise, and whether it is nothing, if it can be told.
    fn sums(&self, promise: Promise) -> Option<(bool, String)> {
        let compared = self.compared.as_ref()?;
        match promise {
            Promise::Lost => compared.lost(),
            Promise::Held => compared.held(),
            _ => None,
        }
    }

    /// How many are reached, are not, and were not measured: rows that have to reach something,
    /// and promises of which there is no row.
    fn count(&self) -> (usize, usize, usize) {
        let verdicts = Promise::ALL.into_iter().flat_map(|promise| match promise.shown() {
            Shown::Bench(_) => {
                let judged = self.of(promise).filter(|row| !row.reach.is_empty());
                let verdicts: Vec<_> = judged.map(|row| row.is_reached).collect();
                if verdicts.is_empty() { vec![None] } else { verdicts }
            }
            Shown::Command(_) => vec![self.sums(promise).map(|(is_reached, _)| is_reached)],
        });
        verdicts.fold((0, 0, 0), |(yes, no, unknown), is_reached| match is_reached {
            Some(true) => (yes + 1, no, unknown),
            Some(false) => (yes, no + 1, unknown),
            None => (yes, no, unknown + 1),
        })
    }
}

impl Line {
    fn ended(&self) -> Option<(&str, i32)> {
        match self {
            Self::Ended { bench, code } => Some((bench, *code)),
            Self::Row(_) | Self::With { .. } => None,
        }
    }

    fn with(&self) -> Option<(&str, &str)> {
        match self {
            Self::With { bench, with } => Some((bench, with)),
            Self::Row(_) | Self::Ended { .. } => None,
        }
    }
}

/// The text with the table between its two marks; `None` if it has not both.
#[must_use]
pub fn between(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

const BEGIN: &str = "<!-- results: begin -->";
const END: &str = "<!-- results: end -->";
const HEAD: &str = "| what | row | ours | opponent | min - **median** - max | reach | |\n\
                    |---|---|---|---|---|---|---|\n";
const ABOUT: &str = "Written by `benches/run.sh`. [README.md](README.md) says how to read it, and \
                     why rows are not reached. Figures without a unit are ratios, taken round by \
                     round: ours over theirs.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Spread;

    fn row(name: &str, promise: Promise, measured: &Result<Spread, String>, good: bool) -> Line {
        let judged = Record::new(name, measured).judged("less: 1.00", (good, "so".to_owned()));
        Line::Row(Record { promise: Some(promise), ..judged })
    }

    fn results() -> Results {
        let spread = Ok(Spread { min: 0.5, median: 0.75, max: 2.0 });
        let lines = vec![
            row("gate a", Promise::Gate, &spread, true),
            row("gate b", Promise::Gate, &spread, false),
            row("layer", Promise::Layer, &Err("not measured: one core".to_owned()), true),
            row("idle", Promise::Idle, &spread, true),
            Line::Ended { bench: "serve".to_owned(), code: 101 },
            Line::Ended { bench: "gate".to_owned(), code: 0 },
            Line::With { bench: "worker".to_owned(), with: "Redis 7".to_owned() },
        ];
        let tables = [("gate".to_owned(), "### gate\n\n| a |\n".to_owned())].into();
        let warnings = vec!["line 7 is none".to_owned()];
        Results { about: "today, 2 cores".to_owned(), lines, tables, compared: None, warnings }
    }

    #[test]
    fn every_promise_has_a_line_and_says_who_has_not_measured_it() {
        let table = results().table();
        for promise in Promise::ALL {
            assert!(table.contains(&format!("\n| {} |", promise.what())), "{promise:?}: {table}");
        }
        let gate = "| gate: enter and leave | gate a | - | - | 0.500 - **0.750** - 2.000 | \
                    less: 1.00 | so |\n|  | gate b |";
        assert!(table.contains(gate), "{table}");
        assert!(table.contains("| not measured: no row of bench `broadcast` |"), "{table}");
        assert!(table.contains("| less: 1.00 | not measured: one core |"), "{table}");
        // The layer was not; nor were ten promises of which there is no row.
        assert_eq!(Promise::ALL.len(), 13);
        let sum = "Of 3 measured rows 2 are reached, 1 are not; 11 were not measured.\n";
        assert!(table.contains(sum), "{table}");
    }

    #[test]
    fn what_was_counted_counts() {
        let text = include_str!("../../docs/compare.md");
        let compared = Compared::of(text);
        let kept =
            compared.as_ref().and_then(|compared| Some([compared.lost()?, compared.held()?]));
        let kept = kept.expect("a table").into_iter().filter(|(is_reached, _)| *is_reached).count();
        let (yes, no, unknown) = results().count();
        let with = Results { compared, ..results() };
        assert_eq!(with.count(), (yes + kept, no + 2 - kept, unknown - 2));
    }

    #[test]
    fn what_is_there_to_be_read_is_shown_and_not_counted() {
        let mut with = results();
        let spread = Ok(Spread { min: 0.5, median: 0.75, max: 2.0 });
        let row = Record { promise: Some(Promise::Gate), ..Record::new("gate c", &spread) };
        with.lines.push(Line::Row(row));
        assert_eq!(with.count(), results().count());
        assert!(with.table().contains("| gate c | - | - | 0.500 - **0.750** - 2.000 | - |  |\n"));
    }

    #[test]
    fn a_bench_that_failed_is_named_wherever_its_rows_are() {
        let table = results().table();
        assert!(table.contains("**`serve` ended with exit code 101.**"), "{table}");
        assert!(!table.contains("`gate` ended"), "{table}");
        assert!(
            table.contains("| less: 1.00 | so (`serve` ended with exit code 101) |"),
            "{table}"
        );
        let none = "| not measured: no row of bench `serve` (`serve` ended with exit code 101) |";
        assert_eq!(table.matches(none).count(), 3, "throughput, memory, latency: {table}");
    }

    #[test]
    fn the_page_shows_all_tables_and_what_could_not_be_read() {
        let page = results().page(Some("scaling.svg"));
        assert!(page.contains("**Warning:** line 7 is none.\n"), "{page}");
        assert!(page.contains("In `worker`: Redis 7.\n") && page.contains("### gate\n\n| a |\n"));
        assert!(page.contains("(scaling.svg)"), "{page}");
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(between(&text, "new\n"), Some(format!("a\n{BEGIN}\nnew\n{END}\nb\n")));
        assert_eq!(between("a\nb\n", "new\n"), None);
    }
}
