//! A signal that comes again: the same or another, soon or late.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    error::SignalError,
    flaw::{During as _, Flaw, closes, ok},
    process::{Ended, Setting},
    routes::lasting,
    scenario::{Need, Scenario, Theme},
    scenarios::signals::SETTLE,
    signal::Signal,
    stage::{Stage, Window},
};

pub(super) const SCENARIOS: [Scenario; 4] = [
    Scenario::new(
        Theme::Signals,
        "signals-repeat-at-once",
        (
            "Heroku and process groups deliver the same SIGTERM several times at once: taken \
             for impatience it cuts work that had time",
            "take the same signal within a second as one",
        ),
        &[Need::Work],
        |stage| Box::pin(repeat_at_once(stage)),
    ),
    Scenario::new(
        Theme::Signals,
        "signals-repeat-forces",
        (
            "an operator who signals again wants it gone now; otherwise only SIGKILL is left, \
             which closes nothing",
            "take a later second signal as a hard stop: cancel, close, exit with 128 + n",
        ),
        &[Need::Work],
        |stage| Box::pin(repeat_forces(stage)),
    ),
    Scenario::new(
        Theme::Signals,
        "signals-third-at-once",
        (
            "a hard stop can hang as well: the third signal must end the process whatever \
             it waits for",
            "end the process from a thread that nothing of the application can block",
        ),
        &[Need::Work],
        |stage| Box::pin(third_at_once(stage)),
    ),
    Scenario::new(
        Theme::Signals,
        "signals-other-second-forces",
        (
            "SIGINT after SIGTERM comes from a person: it is not a repeated delivery, however \
             soon it comes",
            "take a second signal of another kind as a hard stop at once",
        ),
        &[Need::Work],
        |stage| Box::pin(other_second_forces(stage)),
    ),
];

async fn repeat_at_once(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let time = stage.subject.lame_duck + Duration::from_secs(1);
    let mut wire = stage.wire().await?;
    wire.send(stage.get_work(time)).await.during("asking for work")?;
    sleep(SETTLE).await;
    stage.signal(Signal::Term)?;
    stage.at(SOON).await;
    stage.signal(Signal::Term)?;
    let response = wire.response().await.during("work in flight at the repeated signal")?;
    stage.note("the work in flight is answered");
    ok(&response, "work in flight")?;
    closes(&response, "work in flight")?;
    drop(wire); // As told.
    stage.exits_clean(time.max(stage.idle_end())).await
}

async fn repeat_forces(stage: &mut Stage) -> Result<(), Flaw> {
    let _wire = long_request(stage).await?;
    stage.signal(Signal::Term)?;
    stage.at(LATER).await;
    forced_by(stage, Signal::Term, FORCED_LIMIT, &[]).await
}

async fn third_at_once(stage: &mut Stage) -> Result<(), Flaw> {
    let _wire = long_request(stage).await?;
    stage.signal(Signal::Term)?;
    stage.at(LATER).await;
    stage.signal(Signal::Term)?;
    stage.at(LATER + SOON).await;
    let by_second = stage.subject.exits.forced(Signal::Term);
    match forced_by(stage, Signal::Int, THIRD_LIMIT, &[by_second]).await {
        // Then nothing is left for a third to end.
        Err(Flaw::Signal(SignalError::Gone(Ended::Code(code)))) if code == by_second => {
            stage.note(format!("the second signal had ended it, with code {code}"));
            Ok(())
        }
        judged => judged,
    }
}

async fn other_second_forces(stage: &mut Stage) -> Result<(), Flaw> {
    let _wire = long_request(stage).await?;
    stage.signal(Signal::Term)?;
    stage.at(2 * SOON).await;
    forced_by(stage, Signal::Int, FORCED_LIMIT, &[]).await
}

/// A started process with a request in flight that outlives everything; on a pool thread if
/// there is a route for it, since that cannot be cancelled.
async fn long_request(stage: &mut Stage) -> Result<crate::client::Wire, Flaw> {
    stage.start(Setting::Plain).await?;
    let time = Duration::from_secs(600);
    let ask = match &stage.subject.routes.pool {
        Some(template) => stage.request("GET", &lasting(template, time)),
        None => stage.get_work(time),
    };
    let mut wire = stage.wire().await?;
    wire.send(ask).await.during("asking for long work")?;
    sleep(SETTLE).await;
    Ok(wire)
}

/// Must end soon with the code of this signal, or one of those.
async fn forced_by(
    stage: &mut Stage,
    signal: Signal,
    limit: Duration,
    or_codes: &[i32],
) -> Result<(), Flaw> {
    let base = stage.signal(signal)?;
    let by = limit + stage.subject.slack;
    let codes = [&[stage.subject.exits.forced(signal)], or_codes].concat();
    stage.exits(&codes, Window { base, from: Duration::ZERO, by }).await
}

const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_millis(1500);
const FORCED_LIMIT: Duration = Duration::from_secs(1);
const THIRD_LIMIT: Duration = Duration::from_millis(500);
