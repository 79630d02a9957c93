//! A table of promises, kept or broken. Not here: who judges (`judge`).

use std::fmt;

/// A promise, and what was measured.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) promise: String,
    measured: String,
    /// `None`: only to be known.
    pub(super) is_kept: Option<bool>,
}

/// A table of promises.
#[derive(Clone, Debug, Default)]
#[must_use = "it says what is broken"]
pub struct Verdict {
    pub(super) rows: Vec<Row>,
    details: Vec<String>,
}

impl Verdict {
    /// Whether every promise is kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.rows.iter().all(|row| row.is_kept != Some(false))
    }

    pub(super) fn add(&mut self, promise: &str, measured: impl fmt::Display, is_kept: bool) {
        let (promise, measured) = (promise.to_owned(), measured.to_string());
        self.rows.push(Row { promise, measured, is_kept: Some(is_kept) });
    }

    pub(super) fn tell(&mut self, what: &str, measured: impl fmt::Display) {
        let (promise, measured) = (what.to_owned(), measured.to_string());
        self.rows.push(Row { promise, measured, is_kept: None });
    }

    /// None may be; the first few are shown.
    pub(super) fn none(&mut self, promise: &str, found: Vec<String>) {
        self.add(promise, found.len(), found.is_empty());
        self.details.extend(found.into_iter().take(SHOWN).map(|one| format!("{promise}: {one}")));
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| promise | measured | |\n|---|---|---|")?;
        for Row { promise, measured, is_kept } in &self.rows {
            let kept = is_kept.map_or("", |is_kept| if is_kept { "kept" } else { "**BROKEN**" });
            writeln!(f, "| {promise} | {measured} | {kept} |")?;
        }
        self.details.iter().try_for_each(|line| writeln!(f, "\n{line}"))
    }
}

const SHOWN: usize = 5;
