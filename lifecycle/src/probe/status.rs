//! `/statusz`: everything that is known, as JSON for programs and one page (`page`) for people.
//!
//! For operators: it names routes and says why checks fail.

use std::time::Duration;

use serde_json::{Value, json};

use super::ask::Form;
use super::page::page;
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
    let blockers = super::waited_for(shared);
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
        "uptime_ms": shared.clock().now_ms(),
        "cause": shared.cause().map(|cause| cause.to_string()),
        "phase_left_ms": left(phase),
        "exit_left_ms": left(Phase::Closing),
        "in_flight": shared.gates().in_flight(),
        "blockers": blockers.collect::<Vec<_>>(),
        "checks": checks.collect::<Vec<_>>(),
        "notes": shared.additions().notes().iter().map(|note| note.text.clone()).collect::<Vec<_>>(),
    })
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
