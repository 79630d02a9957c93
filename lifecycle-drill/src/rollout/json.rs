//! The report as JSON: durations in microseconds, times in milliseconds since the beginning.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    histogram::micros,
    report::{Latency, Replica, RolloutReport, Side},
};

impl RolloutReport {
    /// All of it but the single slices of time, as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let settings = &self.settings;
        let value = json!({
            "settings": {
                "replicas": settings.replicas,
                "rolls": settings.rolls,
                "rate": settings.rate,
                "requests": settings.requests,
                "endpoint_lag_ms": ms(settings.endpoint_lag),
                "min_ready_ms": ms(settings.min_ready),
                "checks": format!("{:?}", settings.checks),
                "pre_stop": format!("{:?}", settings.pre_stop),
                "h2_share": settings.h2_share,
                "post_share": settings.post_share,
                "get": settings.get,
                "post": settings.post.as_ref().map(|post| &post.path),
            },
            "elapsed_ms": ms(self.elapsed),
            "oha": self.oha.as_ref().map(|oha| json!({
                "failed": oha.failed(),
                "statuses": oha.statuses,
                "errors": oha.errors,
            })),
            "sides": self.sides.iter().map(side).collect::<Vec<_>>(),
        });
        format!("{value:#}")
    }
}

fn side(side: &Side) -> Value {
    let balanced = side.balanced();
    let sent = side.account.sent.iter();
    let sent = sent.map(|((protocol, method), count)| (format!("{protocol} {method}"), *count));
    json!({
        "name": side.name,
        "rolls": side.rolls,
        "loaded_ms": ms(side.loaded),
        "requests": side.requests(),
        "failed": side.failed(),
        "lost": side.lost(),
        "sent": sent.map(|(key, count)| (key, count.into())).collect::<serde_json::Map<_, Value>>(),
        "outcomes": side.kinds().map(|(kind, count)| (kind.key(), count.into()))
            .collect::<serde_json::Map<_, Value>>(),
        "haproxy": {
            "requests": balanced.requests,
            "refused": balanced.refused,
            "lost": balanced.lost,
            "retries": balanced.retries,
            "reuses": balanced.reuses,
            "states": balanced.states,
        },
        "latency": latency(side.latency()),
        "latency_in_rolls": latency(side.latency_in_rolls()),
        "client_late_max_us": micros(side.client_late_max()),
        "ended": side.ends(),
        "replicas": side.replicas.iter().map(replica).collect::<Vec<_>>(),
        "failures": side.account.failures.iter().map(|failure| json!({
            "at_ms": ms(failure.done.due),
            "took_us": micros(failure.done.took),
            "protocol": failure.done.protocol,
            "method": failure.done.method,
            "outcome": failure.done.kind.key(),
            "why": failure.why,
        })).collect::<Vec<_>>(),
    })
}

fn latency(latency: Latency) -> Value {
    json!({
        "count": latency.count,
        "p50_us": micros(latency.p50),
        "p99_us": micros(latency.p99),
        "p999_us": micros(latency.p999),
        "max_us": micros(latency.max),
    })
}

fn replica(replica: &Replica) -> Value {
    json!({
        "address": replica.address.to_string(),
        "ready_ms": replica.ready.map(ms),
        "told_ms": replica.told.map(ms),
        "deleted_ms": replica.deleted.map(ms),
        "unready_ms": replica.unready.map(ms),
        "terminated_ms": replica.terminated.map(ms),
        "removed_ms": replica.removed.map(ms),
        "killed_ms": replica.killed.map(ms),
        "ended_ms": replica.ended.map(|(at, _)| ms(at)),
        "ended": replica.ended.map(|(_, ended)| ended.to_string()),
    })
}

fn ms(time: Duration) -> u64 {
    micros(time) / 1_000
}
