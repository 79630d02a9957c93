//! Rows as lines of JSON, for the command `results` to put together.
//!
//! A bench prints its tables for people. When the variable `BENCH_ROWS` names a file, it also
//! appends each row to it; without it nothing is written.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::{env, fmt, fs};

use serde::{Deserialize, Serialize};

use crate::measure::Spread;
use crate::promise::Promise;
use crate::sides::Spoilt;

/// A line of that file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Line {
    /// A row of a table.
    Row(Record),
    /// How the process of a bench ended; written by `run.sh`.
    Ended {
        /// Which.
        bench: String,
        /// Its exit code.
        code: i32,
    },
    /// What took part in a bench.
    With {
        /// Which.
        bench: String,
        /// Names and versions.
        with: String,
    },
}

/// A figure, and what it has to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Record {
    /// Who has measured it.
    pub bench: String,
    /// What was measured, and against what.
    pub row: String,
    /// What it shows of design section 6, if it does.
    pub promise: Option<Promise>,
    /// Ours and theirs, with their unit; empty where there is one side.
    pub sides: Vec<String>,
    /// The least, the middle and the greatest; one that is absent is infinite. Without them the
    /// row was not measured, or ours broke.
    pub spread: Option<[Option<f64>; 3]>,
    /// What those are of; empty for a ratio.
    pub unit: String,
    /// What it has to be; empty for what is there to be read.
    pub reach: String,
    /// Whether it is; absent where it was not measured, false where ours broke.
    pub is_reached: Option<bool>,
    /// The same in words.
    pub verdict: String,
}

impl Record {
    /// A row of this bench.
    #[must_use]
    pub fn new(row: impl Into<String>, measured: &Result<Spread, String>) -> Self {
        let (spread, verdict) = match measured {
            Ok(Spread { min, median, max }) => {
                (Some([Some(*min), Some(*median), Some(*max)]), String::new())
            }
            Err(why) => (None, why.clone()),
        };
        Self {
            bench: this_bench(),
            row: row.into(),
            promise: None,
            sides: Vec::new(),
            spread,
            unit: String::new(),
            reach: String::new(),
            is_reached: None,
            verdict,
        }
    }

    /// A row of this bench that has no figures: ours has not reached what has to be if ours broke.
    #[must_use]
    pub fn spoilt(row: impl Into<String>, reach: impl Into<String>, why: &Spoilt) -> Self {
        let reach = reach.into();
        let broke = matches!(why, Spoilt::Ours(_)) && !reach.is_empty();
        let row = Self::new(row, &Err(why.to_string()));
        Self { is_reached: broke.then_some(false), reach, ..row }
    }

    /// What it has to be and, if it was measured, whether it is, and in which words.
    #[must_use]
    pub fn judged(self, reach: impl Into<String>, verdict: (bool, String)) -> Self {
        let reach = reach.into();
        match self.spread {
            Some(_) => Self { reach, is_reached: Some(verdict.0), verdict: verdict.1, ..self },
            None => Self { reach, ..self },
        }
    }

    /// As a row of a table: what, ours, theirs, the figures, the reach, the verdict.
    #[must_use]
    pub fn line(&self) -> String {
        let side = |at: usize| self.sides.get(at).map_or("-", String::as_str);
        let Self { row, reach, verdict, .. } = self;
        let reach = if reach.is_empty() { "-" } else { reach };
        format!("| {row} | {} | {} | {} | {reach} | {verdict} |", side(0), side(1), self.figures())
    }

    /// The three figures, the middle one marked.
    #[must_use]
    pub fn figures(&self) -> String {
        let Some(spread) = self.spread else { return "-".to_owned() };
        let [min, median, max] = spread.map(|figure| figure.unwrap_or(f64::INFINITY));
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        format!("{min:.3} - **{median:.3}** - {max:.3}{unit}")
    }
}

/// Appends these rows to the file that `BENCH_ROWS` names, if it is set.
///
/// # Panics
/// When it cannot be written: whoever asks for rows wants all of them.
pub fn record(rows: &[Record]) {
    append(rows.iter().cloned().map(Line::Row));
}

/// Says what takes part in this bench, in the same file.
///
/// # Panics
/// As [`record`].
pub fn record_with(with: &str) {
    append([Line::With { bench: this_bench(), with: with.to_owned() }]);
}

/// The lines of such a file, and those that are none: a bench that was killed may have left half
/// a line.
///
/// # Errors
/// When it cannot be read.
pub fn lines_of(file: &Path) -> io::Result<(Vec<Line>, Vec<NoRow>)> {
    let (mut lines, mut others) = (Vec::new(), Vec::new());
    for (at, line) in fs::read_to_string(file)?.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(line) => lines.push(line),
            Err(source) => others.push(NoRow { line: at + 1, source }),
        }
    }
    Ok((lines, others))
}

/// A line that is not one of ours.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct NoRow {
    /// Which, from 1.
    pub line: usize,
    /// Why.
    pub source: serde_json::Error,
}

impl fmt::Display for NoRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the rows is none: {}", self.line, self.source)
    }
}

fn append(lines: impl IntoIterator<Item = Line>) {
    let Some(file) = env::var_os(VARIABLE) else { return };
    let mut file =
        OpenOptions::new().append(true).create(true).open(file).expect("the file can be written");
    for line in lines {
        let line = serde_json::to_string(&line).expect("strings and numbers are JSON");
        // In one call, so that a bench that is killed leaves whole lines.
        file.write_all(format!("{line}\n").as_bytes()).expect("the file can be written");
    }
}

/// The name of this program without the hash that cargo has put behind it.
fn this_bench() -> String {
    let program = env::current_exe().expect("a running program has a path");
    let name = program.file_stem().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-').map_or(&*name, |(name, _)| name).to_owned()
}

const VARIABLE: &str = "BENCH_ROWS";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sides::Broken;

    #[test]
    fn a_row_comes_back_as_it_was_written() {
        let spread = Spread { min: 0.5, median: 0.75, max: f64::INFINITY };
        let measured = Record::new("ours / theirs", &Ok(spread))
            .judged("less: 1.00", (true, "reached".to_owned()));
        let measured = Record { promise: Some(Promise::JobsOfPeers), ..measured };
        assert_eq!(measured.bench, "benches", "this test's program");
        assert_eq!(measured.figures(), "0.500 - **0.750** - inf");
        let not = Record::new("theirs / ours", &Err("not measured: one core".to_owned()))
            .judged("less: 1.00", (false, "not reached".to_owned()));
        assert_eq!((not.is_reached, not.figures().as_str()), (None, "-"));
        assert_eq!(not.verdict, "not measured: one core");
        let broken = Broken { who: "ours".to_owned(), why: "it was reset".to_owned() };
        let spoilt = |why: &Spoilt, reach: &str| Record::spoilt("idle", reach, why).is_reached;
        assert_eq!(spoilt(&Spoilt::Ours(broken.clone()), "at most 1.00"), Some(false));
        assert_eq!(spoilt(&Spoilt::Ours(broken.clone()), ""), None);
        assert_eq!(spoilt(&Spoilt::Theirs(broken), "at most 1.00"), None);
        for row in [measured, not] {
            let text = serde_json::to_string(&Line::Row(row.clone())).expect("JSON");
            let back: Line = serde_json::from_str(&text).expect("a line");
            let Line::Row(back) = back else { panic!("{back:?}") };
            // What is infinite is absent in JSON, and shown as it was.
            assert_eq!(back.figures(), row.figures());
            assert_eq!((back.promise, back.is_reached), (row.promise, row.is_reached));
        }
    }

    #[test]
    fn a_line_that_is_none_is_named_and_the_others_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("rows");
        let ended = "{\"kind\":\"ended\",\"bench\":\"serve\",\"code\":1}";
        fs::write(&file, format!("{ended}\n{{\"kind\":\"ro\n\n{ended}\n")).expect("written");
        let (lines, others) = lines_of(&file).expect("it is there");
        let [other] = &others[..] else { panic!("{others:?}") };
        assert!(other.to_string().starts_with("line 2 of the rows is none: "), "{other}");
        assert_eq!(lines, vec![Line::Ended { bench: "serve".to_owned(), code: 1 }; 2]);
        lines_of(&folder.path().join("nothing")).expect_err("it is not there");
    }
}
