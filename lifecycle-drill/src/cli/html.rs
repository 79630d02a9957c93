//! `--html`: one page that stands by itself, with a timeline picture for each scenario.
//!
//! # Invariants
//! 1. Nothing is loaded from anywhere, and nothing runs: the page's own policy allows its one
//!    style sheet, by its hash, and nothing else.
//! 2. Where even that is stripped (some CI servers do), text and pictures remain readable.

use std::fmt::{self, Write as _};

use lifecycle_drill::{Outcome, Verdict};

use super::{
    escape::Escaped,
    kind::Kind,
    report::Report,
    timeline::{Expected, svg},
};

/// The whole page.
pub(crate) fn write(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _fits = page(&mut text, report);
    text
}

fn page(out: &mut String, report: &Report) -> fmt::Result {
    let command = Escaped(&report.command);
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         '{STYLE_HASH}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Drill of {command}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Drill of <code>{command}</code></h1>\n"
    )?;
    writeln!(
        out,
        "<p id=\"summary\">{}</p>\n<p class=\"faint\">{}, grace period {:?}, lame duck {:?}, \
         lifecycle-drill {}</p>",
        report.summary(),
        humantime::format_rfc3339_seconds(report.began_at),
        report.grace,
        report.lame_duck,
        env!("CARGO_PKG_VERSION"),
    )?;
    contents(out, report)?;
    legend(out)?;
    for theme in report.verdicts.chunk_by(|a, b| a.scenario().theme() == b.scenario().theme()) {
        let name = theme.first().map(|verdict| verdict.scenario().theme().name());
        writeln!(out, "<h2>{}</h2>", name.unwrap_or_default())?;
        theme.iter().try_for_each(|one| verdict(out, one, report))?;
    }
    out.write_str("</body>\n</html>\n")
}

fn contents(out: &mut String, report: &Report) -> fmt::Result {
    out.write_str("<nav>")?;
    for verdict in &report.verdicts {
        let (name, (class, _)) = (verdict.scenario().name(), words(verdict.outcome()));
        write!(out, "<a class=\"{class}\" href=\"#{name}\">{name}</a>")?;
    }
    out.write_str("</nav>\n")
}

fn legend(out: &mut String) -> fmt::Result {
    out.write_str("<ul class=\"legend\">")?;
    for kind in Kind::ALL {
        let ((class, fill), meaning) = (kind.paint(), kind.meaning());
        let square =
            format!("<rect class=\"{class}\" width=\"12\" height=\"12\" fill=\"{fill}\"/>");
        write!(
            out,
            "<li><svg width=\"12\" height=\"12\" viewBox=\"0 0 12 12\">{square}</svg>{meaning}</li>"
        )?;
    }
    let band = "<rect class=\"duck\" width=\"12\" height=\"12\" fill=\"#e8b931\" \
                fill-opacity=\".35\"/>";
    writeln!(
        out,
        "<li><svg width=\"12\" height=\"12\" viewBox=\"0 0 12 12\">{band}</svg>the lame duck that \
         is expected</li></ul>"
    )
}

fn verdict(out: &mut String, verdict: &Verdict, report: &Report) -> fmt::Result {
    let (scenario, (class, word)) = (verdict.scenario(), words(verdict.outcome()));
    let (name, elapsed) = (scenario.name(), verdict.elapsed().as_secs_f64());
    if let Outcome::Skipped { why } = verdict.outcome() {
        return writeln!(
            out,
            "<section id=\"{name}\" class=\"{class}\"><h3><b>{word}</b>{name}</h3>\
             <p class=\"faint\">{}</p></section>",
            Escaped(why)
        );
    }
    writeln!(
        out,
        "<section id=\"{name}\" class=\"{class}\"><h3><b>{word}</b>{name}\
         <small>{elapsed:.1} s</small></h3>"
    )?;
    let (why, mend) = (Escaped(scenario.why()), Escaped(scenario.mend()));
    match verdict.outcome() {
        Outcome::Fail { seen } => writeln!(
            out,
            "<pre class=\"seen\">{}</pre>\n<dl><dt>why it matters</dt><dd>{why}</dd>\
             <dt>usually mended by</dt><dd>{mend}</dd></dl>",
            Escaped(seen)
        )?,
        Outcome::NotStarted { why } => writeln!(out, "<pre class=\"seen\">{}</pre>", Escaped(why))?,
        _ => writeln!(out, "<p class=\"faint\">{why}</p>")?,
    }
    let expected =
        Expected { lame_duck: report.lame_duck, grace: report.grace, readiness: report.readiness };
    writeln!(out, "{}", svg(name, verdict.events(), expected))?;
    details(out, "what was noted", verdict.evidence().iter().map(ToString::to_string))?;
    let skip = verdict.output().len().saturating_sub(OUTPUT_LINES);
    let output = verdict.output().iter().skip(skip).map(|line| line.text.clone());
    details(out, "what it printed", output)?;
    writeln!(out, "</section>")
}

fn details(out: &mut String, title: &str, lines: impl Iterator<Item = String>) -> fmt::Result {
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return Ok(());
    }
    let text = lines.join("\n");
    writeln!(out, "<details><summary>{title}</summary><pre>{}</pre></details>", Escaped(text))
}

/// The class of its section, and what it is called.
fn words(outcome: &Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Fail { .. } => ("fail", "fail"),
        Outcome::NotStarted { .. } => ("fail", "not started"),
        Outcome::Skipped { .. } => ("skipped", "skipped"),
        _ => ("pass", "pass"),
    }
}

const STYLE: &str = include_str!("page.css");
/// Of [`STYLE`]; a test computes it anew.
const STYLE_HASH: &str = "sha256-bbt003qp6o5mHMg9mOQ6fz0gdmAobcVXl1nkACoyED4=";
const OUTPUT_LINES: usize = 60;
