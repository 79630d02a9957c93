//! `--json`: everything that was found. Fields are added, and neither renamed nor removed.

use lifecycle_drill::{Ended, Event, Ledger, Outcome, Verdict, What};
use serde_json::{Value, json};

use super::report::{Counts, Report, ms_since, signal_at};

/// The whole report.
pub(crate) fn write(report: &Report) -> String {
    let Counts { passed, failed, not_started, skipped } = report.counts();
    let whole = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "command": report.command,
        "began_at": humantime::format_rfc3339_seconds(report.began_at).to_string(),
        "elapsed_ms": ms(report.elapsed),
        "grace_ms": ms(report.grace),
        "lame_duck_ms": ms(report.lame_duck),
        "passed": passed,
        "failed": failed,
        "not_started": not_started,
        "skipped": skipped,
        "scenarios": report.verdicts.iter().map(verdict).collect::<Vec<_>>(),
    });
    format!("{whole:#}\n")
}

fn verdict(verdict: &Verdict) -> Value {
    let scenario = verdict.scenario();
    let (outcome, seen, skipped) = match verdict.outcome() {
        Outcome::Fail { seen } => ("fail", Some(seen), None),
        // Not judged: what was seen is of the start.
        Outcome::NotStarted { why } => ("not_started", Some(why), None),
        Outcome::Skipped { why } => ("skipped", None, Some(why)),
        _ => ("pass", None, None),
    };
    let evidence = verdict
        .evidence()
        .iter()
        .map(|line| json!({ "since_signal_ms": line.since_signal_ms, "text": line.text }));
    let origin = signal_at(verdict.events());
    let skip = verdict.output().len().saturating_sub(OUTPUT_LINES);
    let output = verdict.output().iter().skip(skip).map(|line| &line.text);
    json!({
        "name": scenario.name(),
        "theme": scenario.theme().name(),
        "outcome": outcome,
        "seen": seen,
        "skipped_because": skipped,
        "why": scenario.why(),
        "mend": scenario.mend(),
        "elapsed_ms": ms(verdict.elapsed()),
        "exit": verdict.exit().map(|exit| ended(exit.ended)),
        "requests": verdict.ledger().map(ledger),
        "evidence": evidence.collect::<Vec<_>>(),
        "events": verdict.events().iter().map(|one| event(one, origin)).collect::<Vec<_>>(),
        "output": output.collect::<Vec<_>>(),
    })
}

/// Times are since the first signal, or since the start where `signal` is no event.
fn event(event: &Event, origin: Option<std::time::Duration>) -> Value {
    let at = (ms_since(origin, event.at) * 1e3).round() / 1e3;
    let mut value = match &event.what {
        What::AnswersLeftOut { count } => json!({ "what": "answers_left_out", "count": count }),
        What::Connection { client, took } => {
            json!({ "what": "connection", "client": client, "took_ms": ms(*took) })
        }
        What::Exited(how) => json!({ "what": "exited", "exit": ended(*how) }),
        What::ListenerClosed => json!({ "what": "listener_closed" }),
        What::ReadinessFell => json!({ "what": "readiness_fell" }),
        What::Ready => json!({ "what": "ready" }),
        What::Request { client, name, took, count, fate } => json!({
            "what": "request",
            "client": client,
            "name": name,
            "took_ms": ms(*took),
            "count": count,
            "fate": fate.map(|fate| fate.to_string()),
            "lost": fate.is_some_and(lifecycle_drill::Fate::is_lost),
        }),
        What::Signal(signal) => json!({ "what": "signal", "signal": signal.to_string() }),
        other => json!({ "what": format!("{other:?}") }),
    };
    if let Some(fields) = value.as_object_mut() {
        fields.insert("at_ms".to_owned(), json!(at));
    }
    value
}

fn ledger(ledger: &Ledger) -> Value {
    let fates = ledger.iter().map(|(fate, count)| (fate.to_string(), json!(count)));
    json!({
        "total": ledger.total(),
        "answered": ledger.answered(),
        "lost": ledger.lost(),
        "by_fate": fates.collect::<serde_json::Map<_, _>>(),
    })
}

fn ended(ended: Ended) -> Value {
    match ended {
        Ended::Code(code) => json!({ "code": code }),
        Ended::Signal(signal) => json!({ "signal": signal }),
        other => json!({ "other": other.to_string() }),
    }
}

fn ms(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

const OUTPUT_LINES: usize = 200;
