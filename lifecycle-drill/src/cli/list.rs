//! `lifecycle-drill list`: the scenarios, and what each needs.

use std::fmt::Write as _;

use clap::Args;
use lifecycle_drill::{Scenario, Theme, scenarios};
use serde_json::json;

use super::{Ended, error::CliError, print, values::theme};

/// What is listed, and how.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only scenarios of this theme; may be repeated, or separated by commas
    #[arg(long = "theme", value_name = "THEME", value_delimiter = ',', value_parser = theme)]
    themes: Vec<Theme>,
    /// With why each matters and how a failure is usually mended
    #[arg(long)]
    long: bool,
    /// As JSON
    #[arg(long, conflicts_with = "long")]
    json: bool,
}

impl List {
    /// Prints the list.
    pub(crate) fn run(&self) -> Result<Ended, CliError> {
        let chosen = |one: &&Scenario| self.themes.is_empty() || self.themes.contains(&one.theme());
        let chosen: Vec<_> = scenarios().iter().filter(chosen).collect();
        let text = if self.json { as_json(&chosen) } else { self.as_text(&chosen) };
        print(&text).map(|()| Ended::Passed)
    }

    fn as_text(&self, chosen: &[&Scenario]) -> String {
        let mut text = String::new();
        let mut last = None;
        for one in chosen {
            if last.replace(one.theme()) != Some(one.theme()) {
                let gap = if text.is_empty() { "" } else { "\n" };
                let _fits = writeln!(text, "{gap}{}", one.theme());
            }
            let _fits = match needs(one).as_slice() {
                [] => writeln!(text, "  {}", one.name()),
                needs => writeln!(text, "  {:<34} needs {}", one.name(), needs.join("; ")),
            };
            if self.long {
                let _fits = writeln!(text, "      why: {}", one.why());
                let _fits = writeln!(text, "      mended by: {}", one.mend());
            }
        }
        text
    }
}

fn needs(scenario: &Scenario) -> Vec<String> {
    scenario.needs().iter().map(ToString::to_string).collect()
}

fn as_json(chosen: &[&Scenario]) -> String {
    let all: Vec<_> = chosen
        .iter()
        .map(|one| {
            json!({
                "name": one.name(),
                "theme": one.theme().name(),
                "needs": needs(one),
                "why": one.why(),
                "mend": one.mend(),
            })
        })
        .collect();
    format!("{:#}\n", json!(all))
}
