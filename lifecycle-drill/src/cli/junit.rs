//! `--junit`: the outcomes as the XML that CI servers read, a suite for each theme.

use std::fmt::{self, Write as _};

use lifecycle_drill::{Outcome, Verdict};

use super::{
    escape::Escaped,
    report::{Report, count},
};

/// The whole report.
pub(crate) fn write(report: &Report) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail.
    let _fits = suites(&mut text, report);
    text
}

fn suites(text: &mut String, report: &Report) -> fmt::Result {
    let sum = report.counts();
    writeln!(
        text,
        "<testsuites name=\"lifecycle-drill\" tests=\"{}\" failures=\"{}\" errors=\"{}\" \
         skipped=\"{}\" time=\"{:.3}\">",
        report.verdicts.len(),
        sum.failed,
        sum.not_started,
        sum.skipped,
        report.elapsed.as_secs_f64(),
    )?;
    let began_at = humantime::format_rfc3339_seconds(report.began_at);
    for suite in report.verdicts.chunk_by(|a, b| a.scenario().theme() == b.scenario().theme()) {
        let counts = count(suite.iter());
        let time: f64 = suite.iter().map(|verdict| verdict.elapsed().as_secs_f64()).sum();
        let theme = suite.first().map(|verdict| verdict.scenario().theme().name());
        let theme = theme.unwrap_or_default();
        writeln!(
            text,
            "  <testsuite name=\"{theme}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" \
             skipped=\"{}\" time=\"{time:.3}\" timestamp=\"{began_at}\">",
            suite.len(),
            counts.failed,
            counts.not_started,
            counts.skipped,
        )?;
        suite.iter().try_for_each(|verdict| case(text, verdict))?;
        writeln!(text, "  </testsuite>")?;
    }
    writeln!(text, "</testsuites>")
}

fn case(text: &mut String, verdict: &Verdict) -> fmt::Result {
    let scenario = verdict.scenario();
    write!(
        text,
        "    <testcase classname=\"lifecycle-drill.{}\" name=\"{}\" time=\"{:.3}\"",
        scenario.theme(),
        scenario.name(),
        verdict.elapsed().as_secs_f64(),
    )?;
    let mut told = |tag: &str, kind: &str, what: &str| {
        let message = Escaped(what.lines().next().unwrap_or_default());
        let story = Escaped(verdict.to_string());
        writeln!(text, ">")?;
        writeln!(text, "      <{tag} type=\"{kind}\" message=\"{message}\">{story}</{tag}>")?;
        writeln!(text, "    </testcase>")
    };
    match verdict.outcome() {
        Outcome::Fail { seen } => told("failure", "shutdown", seen),
        Outcome::NotStarted { why } => told("error", "start", why),
        Outcome::Skipped { why } => {
            writeln!(text, ">\n      <skipped message=\"{}\"/>\n    </testcase>", Escaped(why))
        }
        _ => writeln!(text, "/>"),
    }
}
