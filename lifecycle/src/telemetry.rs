//! Every event of the crate in one place: names and fields are a promise.
//!
//! The name is both the event's metadata name and its message, since many subscribers
//! print only the message. INFO; WARN when something was cut. Never ERROR for an
//! ordinary signal: nobody should be woken by a deploy.

use std::time::Duration;

use crate::blockers::{Blocker, listed};
use crate::budget::Budget;
use crate::env::Settings;
use crate::health::{CheckState, CheckStatus, Pulse};
#[cfg(feature = "metrics")]
use crate::metering;
use crate::phase::Phase;
use crate::report::{Cause, End, Ended, Report};

pub(crate) fn configured(budget: &Budget, settings: &Settings) {
    #[cfg(feature = "metrics")]
    metering::begin();
    let probe_addr = settings.probe_addr.map_or_else(|| "off".to_owned(), |addr| addr.to_string());
    tracing::info!(
        name: "lifecycle.configured",
        target: TARGET,
        grace_ms = ms(budget.grace),
        grace_source = settings.grace_source,
        pre_stop_ms = ms(settings.grace.pre_stop),
        lame_duck_ms = ms(budget.lame_duck_ends),
        lame_duck_least_ms = settings.quiet.map(|quiet| ms(quiet.least)),
        lame_duck_quiet_ms = settings.quiet.map(|quiet| ms(quiet.window)),
        drain_until_ms = ms(budget.drain_ends),
        cancel_until_ms = ms(budget.cancel_ends),
        exit_by_ms = ms(budget.exit_by),
        readiness = %settings.readiness,
        probe_addr,
        "lifecycle.configured"
    );
    let drain = budget.drain_ends.saturating_sub(budget.lame_duck_ends);
    if let Some(timeout) = settings.request_timeout.filter(|timeout| *timeout > drain) {
        tracing::warn!(
            name: "request_timeout.exceeds_drain",
            target: TARGET,
            request_timeout_ms = ms(timeout),
            drain_ms = ms(drain),
            "request_timeout.exceeds_drain"
        );
    }
}

pub(crate) fn initiated(cause: &Cause, grace: Duration, in_flight: usize) {
    #[cfg(feature = "metrics")]
    metering::initiated();
    tracing::info!(
        name: "shutdown.initiated",
        target: TARGET,
        cause = %cause,
        grace_ms = ms(grace),
        in_flight,
        "shutdown.initiated"
    );
}

pub(crate) fn phase_entered(phase: Phase, since_cause: Duration) {
    tracing::debug!(
        name: "phase.entered",
        target: TARGET,
        phase = phase.name(),
        since_cause_ms = ms(since_cause),
        "phase.entered"
    );
}

pub(crate) fn phase_ended(phase: Phase, took: Duration) {
    #[cfg(feature = "metrics")]
    metering::phase_ended(phase, took);
    tracing::debug!(
        name: "phase.ended",
        target: TARGET,
        phase = phase.name(),
        took_ms = ms(took),
        "phase.ended"
    );
}

pub(crate) fn readiness_changed(ready: bool) {
    let (from, to) = if ready { ("not ready", "ready") } else { ("ready", "not ready") };
    tracing::info!(name: "readiness.changed", target: TARGET, from, to, "readiness.changed");
}

pub(crate) fn waiting(blockers: &[Blocker], left: Duration) {
    tracing::info!(
        name: "drain.waiting",
        target: TARGET,
        count = blockers.len(),
        remaining = listed(blockers),
        left_ms = ms(left),
        "drain.waiting"
    );
}

pub(crate) fn drained(duration: Duration) {
    tracing::info!(
        name: "drain.completed",
        target: TARGET,
        duration_ms = ms(duration),
        "drain.completed"
    );
}

pub(crate) fn cut(phase: Phase, blockers: &[Blocker]) {
    tracing::warn!(
        name: "drain.cut",
        target: TARGET,
        phase = phase.name(),
        count = blockers.len(),
        remaining = listed(blockers),
        "drain.cut"
    );
}

pub(crate) fn component_ended(ended: &Ended) {
    let (component, end) = (&ended.name, ended.end.to_string());
    if ended.end.is_failure() {
        tracing::warn!(name: "component.ended", target: TARGET, component, end, "component.ended");
    } else {
        tracing::debug!(name: "component.ended", target: TARGET, component, end, "component.ended");
    }
}

pub(crate) fn hook_finished(ended: &Ended) {
    let (hook, end, took_ms) = (&ended.name, ended.end.to_string(), ms(ended.took));
    if ended.end == End::Finished {
        tracing::info!(name: "hook.finished", target: TARGET, hook, end, took_ms, "hook.finished");
    } else {
        tracing::warn!(name: "hook.finished", target: TARGET, hook, end, took_ms, "hook.finished");
    }
}

pub(crate) fn reload_finished(hook: &str, end: &End, took: Duration) {
    let (end, took_ms, failed) = (end.to_string(), ms(took), *end != End::Finished);
    if failed {
        tracing::warn!(name: "reload.finished", target: TARGET, hook, end, took_ms, "reload.finished");
    } else {
        tracing::info!(name: "reload.finished", target: TARGET, hook, end, took_ms, "reload.finished");
    }
}

pub(crate) fn check_changed(status: &CheckStatus, from: CheckState, to: CheckState) {
    #[cfg(feature = "metrics")]
    metering::check(status);
    let (check, kind) = (&status.name, status.kind.name());
    let (from, to, latency_ms) = (from.name(), to.name(), ms(status.latency));
    if status.state == CheckState::Failing {
        let error = status.error.as_deref().unwrap_or_default();
        tracing::warn!(
            name: "check.changed",
            target: TARGET,
            check,
            kind,
            from,
            to,
            latency_ms,
            error,
            "check.changed"
        );
    } else {
        tracing::info!(
            name: "check.changed",
            target: TARGET,
            check,
            kind,
            from,
            to,
            latency_ms,
            "check.changed"
        );
    }
}

pub(crate) fn heart_changed(name: &str, pulse: Pulse, silent: Duration, limit: Duration) {
    let (silent_ms, limit_ms) = (ms(silent), ms(limit));
    match pulse {
        Pulse::Stalled => tracing::warn!(
            name: "watchdog.stalled",
            target: TARGET,
            heart = name,
            silent_ms,
            limit_ms,
            "watchdog.stalled"
        ),
        Pulse::Recovered => tracing::info!(
            name: "watchdog.recovered",
            target: TARGET,
            heart = name,
            limit_ms,
            "watchdog.recovered"
        ),
    }
}

#[cfg(all(target_os = "linux", feature = "systemd"))]
pub(crate) fn manager_unreachable(socket: &str, error: &std::io::Error) {
    tracing::warn!(
        name: "systemd.unreachable",
        target: TARGET,
        socket,
        %error,
        "systemd.unreachable"
    );
}

/// The report is next. Counted before the probe server ends, so that whoever scrapes at this
/// very moment may still see it.
pub(crate) fn ending() {
    #[cfg(feature = "metrics")]
    metering::completed();
}

pub(crate) fn completed(report: &Report) {
    let (duration_ms, exit_code) = (ms(report.took()), report.exit_code());
    let reason = report.exit_reason().to_string();
    let hooks = report.hooks().iter().all(|hook| hook.end == End::Finished);
    if report.cuts().is_empty() && hooks {
        tracing::info!(
            name: "shutdown.completed",
            target: TARGET,
            duration_ms,
            exit_code,
            reason,
            "shutdown.completed"
        );
    } else {
        tracing::warn!(
            name: "shutdown.completed",
            target: TARGET,
            duration_ms,
            exit_code,
            reason,
            "shutdown.completed"
        );
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const TARGET: &str = "lifecycle";
