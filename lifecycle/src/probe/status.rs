//! `/statusz`: everything that is known, as JSON for programs and one page for people.
//!
//! For operators: it names routes and says why checks fail.

use std::time::Duration;

use serde_json::{Value, json};

use super::ask::Form;
use super::render::Answer;
use crate::handle::Handle;
use crate::phase::Phase;

pub(crate) fn answer(handle: &Handle, form: Form) -> Answer {
    let status = status(handle);
    if form == Form::Html {
        let body = page(&status);
        return Answer { status: 200, kind: "text/html; charset=utf-8", body };
    }
    Answer { status: 200, kind: "application/json", body: format!("{status:#}\n") }
}

fn status(handle: &Handle) -> Value {
    let shared = handle.shared();
    let phase = handle.phase();
    let left = |phase| {
        handle
            .deadline(phase)
            .map(|at| ms(at.saturating_duration_since(tokio::time::Instant::now())))
    };
    let blockers = handle.blockers();
    let blockers = blockers.iter().map(|blocker| {
        json!({
            "kind": blocker.kind.name(),
            "name": blocker.name,
            "age_ms": ms(blocker.age),
            "stage": blocker.stage.name(),
        })
    });
    let checks = handle.checks();
    let checks = checks.iter().map(|check| {
        json!({
            "name": check.name,
            "kind": check.kind.name(),
            "state": check.state.name(),
            "informational": check.informational,
            "since_ms": ms(check.since),
            "last_run_ms": check.last_run.map(ms),
            "latency_ms": ms(check.latency),
            "error": check.error,
        })
    });
    json!({
        "phase": phase.name(),
        "ready": shared.is_ready(),
        "live": shared.is_live(),
        "started": shared.is_started(),
        "cause": shared.cause().map(|cause| cause.to_string()),
        "phase_left_ms": left(phase),
        "exit_left_ms": left(Phase::Closing),
        "in_flight": shared.gates().in_flight(),
        "blockers": blockers.collect::<Vec<_>>(),
        "checks": checks.collect::<Vec<_>>(),
        "notes": shared.notes().iter().map(|note| note.text.clone()).collect::<Vec<_>>(),
    })
}

/// One page that loads nothing from elsewhere and refreshes itself.
fn page(status: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => escaped(text),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let mut body = String::from(HEAD);
    let phase = text(&status["phase"]);
    body.push_str(&format!("<h1 id=phase class={phase}>{phase}</h1>\n<dl>\n"));
    for (key, label) in FACTS {
        body.push_str(&format!("<dt>{label}<dd id={key}>{}\n", text(&status[key])));
    }
    body.push_str("</dl>\n");
    for (key, label, columns) in TABLES {
        let rows = status[key].as_array().map(Vec::as_slice).unwrap_or_default();
        body.push_str(&format!("<h2>{label}</h2>\n<table id={key}>\n<tr>"));
        for column in columns {
            body.push_str(&format!("<th>{}", column.replace('_', " ")));
        }
        for row in rows {
            body.push_str("\n<tr>");
            for column in columns {
                body.push_str(&format!("<td>{}", text(&row[column])));
            }
        }
        if rows.is_empty() {
            body.push_str(&format!("\n<tr><td colspan={}>none", columns.len()));
        }
        body.push_str("\n</table>\n");
    }
    body
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const HEAD: &str = "<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">
<meta http-equiv=refresh content=1><title>status</title>
<style>
body{font:14px/1.4 system-ui,sans-serif;margin:2em;max-width:60em;color:#222;background:#fff}
h1{display:inline-block;padding:.1em .5em;border-radius:.2em;background:#2a7;color:#fff}
h1.starting{background:#888}h1.lame_duck,h1.draining{background:#c80}
h1.cancelling,h1.closing,h1.stopped{background:#b22}
dl{display:grid;grid-template-columns:max-content auto;gap:.2em 1em}dt{color:#666}dd{margin:0}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2em .6em .2em 0}
th{color:#666;font-weight:normal;border-bottom:1px solid #ccc}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}
</style>
";

const FACTS: [(&str, &str); 7] = [
    ("ready", "ready"),
    ("live", "live"),
    ("started", "started"),
    ("cause", "cause of the shutdown"),
    ("phase_left_ms", "left of this phase, ms"),
    ("exit_left_ms", "left until the exit, ms"),
    ("in_flight", "in flight"),
];

const TABLES: [(&str, &str, &[&str]); 2] = [
    ("blockers", "In flight", &["kind", "name", "age_ms", "stage"]),
    ("checks", "Checks", &["name", "kind", "state", "since_ms", "latency_ms", "error"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_has_named_cannot_write_the_page() {
        let status = json!({
            "phase": "draining",
            "blockers": [{ "kind": "request", "name": "GET /<script>&\"", "age_ms": 5 }],
        });
        let page = page(&status);
        assert!(page.contains("GET /&lt;script&gt;&amp;&quot;"), "{page}");
        assert!(!page.contains("<script"));
        assert!(page.contains("<h1 id=phase class=draining>draining</h1>"));
        assert!(page.contains("<table id=checks>") && page.contains("none"));
    }
}
