//! Readiness falls first, liveness never, and both are answered until the end.

use std::{fmt, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    client::Fate,
    flaw::{During as _, Flaw, ensure, ms, ok},
    process::Setting,
    scenario::{Need, Scenario, Theme},
    scenarios::signals::SETTLE,
    stage::Stage,
};

pub(super) const SCENARIOS: [Scenario; 4] = [
    Scenario::new(
        Theme::Probes,
        "probes-readiness-falls-first",
        (
            "balancers that probe the process learn from readiness that they must leave; \
             until they have, what they send must be served",
            "fail readiness at the signal and go on accepting for the lame duck",
        ),
        &[Need::ReadyPath, Need::LameDuck],
        |stage| Box::pin(readiness_falls_first(stage)),
    ),
    Scenario::new(
        Theme::Probes,
        "probes-liveness-holds",
        (
            "a failing liveness probe has the kubelet kill the container in the middle of its \
             drain",
            "let liveness know nothing of the shutdown",
        ),
        &[Need::LivePath, Need::ProbesInDrain, Need::Work],
        |stage| Box::pin(liveness_holds(stage)),
    ),
    Scenario::new(
        Theme::Probes,
        "probes-answer-to-the-end",
        (
            "a probe server that ends with the listener looks like a crash for the rest of the \
             drain",
            "serve the probes on a listener of their own and stop it last",
        ),
        &[Need::ReadyPath, Need::SeparateProbes, Need::Work],
        |stage| Box::pin(answer_to_the_end(stage)),
    ),
    Scenario::new(
        Theme::Probes,
        "probes-startup-holds",
        (
            "a startup probe that fails during the drain restarts what is on its way out",
            "let the startup probe succeed to the end once the start was done",
        ),
        &[Need::StartupPath, Need::LameDuck],
        |stage| Box::pin(startup_holds(stage)),
    )
    .without_http1(),
];

async fn readiness_falls_first(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let path = stage.subject.ready_path.clone().unwrap_or_default();
    stage.probe_rises(&path).await?;
    stage.learn_quick().await?;
    let cause = stage.stop()?;
    // Later than the listener's close it would be of no use to anyone.
    let by = (READINESS_LIMIT + stage.subject.slack).min(stage.subject.lame_duck * 3 / 4);
    loop {
        let fate = stage.probe(&path).await?;
        let took = cause.elapsed();
        if fate.is_probe_refusal() {
            stage.note(format!("readiness {fate}"));
            return after_the_fall(stage, took, by).await;
        }
        ensure(fate.is_probe_success(), || format!("readiness after the signal: {fate}"))?;
        ensure(took <= by, || format!("readiness still {fate} after {}", ms(took)))?;
        sleep(POLL).await;
    }
}

async fn after_the_fall(stage: &mut Stage, took: Duration, by: Duration) -> Result<(), Flaw> {
    ensure(took <= by, || format!("readiness failed after {}, not {}", ms(took), ms(by)))?;
    let path = stage.subject.routes.quick_path();
    let (mut count, until) = (0, stage.subject.lame_duck.saturating_sub(CLOSE_MARGIN));
    while count == 0 || stage.cause().elapsed() < until {
        let mut wire = stage.wire().await?;
        let response = wire.get(&path).await.during("a new connection in the lame duck")?;
        stage.served(response.status(), "a new connection in the lame duck")?;
        count += 1;
        sleep(POLL).await;
    }
    stage.note(format!("{count} new connections were served since"));
    stage.exits_clean(stage.idle_end()).await
}

async fn liveness_holds(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let path = stage.subject.live_path.clone().unwrap_or_default();
    stage.probe_rises(&path).await?;
    let apart = stage.subject.separate_probes();
    holds_until_answered(stage, &path, Expected::Success, apart).await
}

async fn answer_to_the_end(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let path = stage.subject.ready_path.clone().unwrap_or_default();
    stage.probe_rises(&path).await?;
    holds_until_answered(stage, &path, Expected::Refusal, true).await
}

async fn startup_holds(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let path = stage.subject.startup_path.clone().unwrap_or_default();
    stage.probe_rises(&path).await?;
    stage.stop()?;
    stage.at(stage.subject.lame_duck / 2).await;
    let during = stage.probe(&path).await?;
    ensure(during.is_probe_success(), || format!("startup in the lame duck: {during}"))?;
    stage.exits_clean(stage.idle_end()).await
}

/// What a probe is to answer.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Refusal,
    Success,
}

impl Expected {
    fn is_met_by(self, fate: Fate) -> bool {
        match self {
            Self::Refusal => fate.is_probe_refusal(),
            Self::Success => fate.is_probe_success(),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refusal => "503 or another failure",
            Self::Success => "200 or another success",
        })
    }
}

/// Holds the drain by a request that is answered some time after C, and asks the probe until
/// then: each answer must be `expected`. If the probes share the main port, only until C.
async fn holds_until_answered(
    stage: &mut Stage,
    path: &str,
    expected: Expected,
    apart: bool,
) -> Result<(), Flaw> {
    let time = stage.subject.lame_duck + AFTER_CLOSE;
    let mut holder = stage.wire().await?;
    // Not from the signal on: the request may be answered sooner after it than was meant.
    let asked = Instant::now();
    holder.send(stage.get_work(time)).await.during("asking for work")?;
    sleep(SETTLE).await;
    stage.stop()?;
    let end = match apart {
        true => asked + time,
        false => stage.cause() + stage.subject.lame_duck,
    };
    stage.at(READINESS_LIMIT).await;
    // A readiness that is slow to fail is the subject of another scenario.
    let by = (READINESS_LIMIT + stage.subject.slack).min(time * 2 / 3);
    let mut count = 0;
    while Instant::now() < end - CLOSE_MARGIN {
        let since = stage.cause().elapsed();
        let fate = stage.probe(path).await?;
        if Instant::now() >= end {
            // It was asked before, but by now it may be gone.
            break;
        }
        let early = since < by && fate.is_probe_success();
        ensure(early || expected.is_met_by(fate), || {
            format!("GET {path}, {} after the signal: {fate}, expected {expected}", ms(since))
        })?;
        count += 1;
        sleep(2 * POLL).await;
    }
    let until = end.saturating_duration_since(stage.cause());
    ensure(count > 0, || format!("GET {path} was not asked once in {}", ms(until)))?;
    stage.note(format!("GET {path} answered as expected {count} times since the signal"));
    let response = holder.response().await.during("work in flight")?;
    ok(&response, "work in flight")?;
    drop(holder); // As told.
    stage.exits_clean(time.max(stage.idle_end())).await
}

const READINESS_LIMIT: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(10);
const CLOSE_MARGIN: Duration = Duration::from_millis(100);
const AFTER_CLOSE: Duration = Duration::from_secs(1);
