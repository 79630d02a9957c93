//! A signal that comes again: the same or another, soon or late.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    client::Wire,
    error::SignalError,
    flaw::{During as _, Flaw, closes, ok},
    process::{Ended, Setting},
    routes::lasting,
    scenario::{Need, Scenario, Theme},
    scenarios::{cut::nothing_to_cut, signals::SETTLE},
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
    stage.stop()?;
    stage.at(SOON).await;
    stage.stop()?;
    let response = wire.response().await.during("work in flight at the repeated signal")?;
    stage.note("the work in flight is answered");
    ok(&response, "work in flight")?;
    closes(&response, "work in flight")?;
    drop(wire); // As told.
    stage.exits_clean(time.max(stage.idle_end())).await
}

async fn repeat_forces(stage: &mut Stage) -> Result<(), Flaw> {
    let wire = long_request(stage).await?;
    let first = stage.subject.stop_signal;
    stage.stop()?;
    let (_held, answered) = answered_until(stage, wire, LATER).await;
    forced_by(stage, answered, first, FORCED_LIMIT, &[]).await
}

async fn third_at_once(stage: &mut Stage) -> Result<(), Flaw> {
    let wire = long_request(stage).await?;
    let first = stage.subject.stop_signal;
    stage.stop()?;
    let (_held, answered) = answered_until(stage, wire, LATER).await;
    further(stage, first)?;
    stage.at(LATER + SOON).await;
    let by_second = stage.subject.exits.of_forced(first);
    match forced_by(stage, answered, another(first), THIRD_LIMIT, &by_second).await {
        // Then nothing is left for a third to end.
        Err(Flaw::Signal(SignalError::Gone(ended))) if by_second.contains(&ended) => {
            stage.note(format!("the second signal had ended it: {ended}"));
            Ok(())
        }
        judged => judged,
    }
}

async fn other_second_forces(stage: &mut Stage) -> Result<(), Flaw> {
    let wire = long_request(stage).await?;
    let first = stage.subject.stop_signal;
    stage.stop()?;
    let (_held, answered) = answered_until(stage, wire, 2 * SOON).await;
    forced_by(stage, answered, another(first), FORCED_LIMIT, &[]).await
}

/// A started process with a request in flight that outlives everything, unless the service has a
/// limit of its own; on a pool thread if there is a route for it, since that cannot be cancelled.
async fn long_request(stage: &mut Stage) -> Result<Wire, Flaw> {
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

/// A person's signal that is not the one that the platform stops it with.
fn another(first: Signal) -> Signal {
    if first == Signal::Int { Signal::Term } else { Signal::Int }
}

/// Sends a further signal. A stop that was over before it, with the code of one, is not judged.
fn further(stage: &mut Stage, signal: Signal) -> Result<Instant, Flaw> {
    let sent = stage.signal(signal);
    let Err(Flaw::Signal(SignalError::Gone(ended))) = sent else { return sent };
    let over = [stage.clean_ends(), stage.subject.exits.of_cut(stage.asked_by())].concat();
    if over.contains(&ended) {
        let seen = "nothing was left to force: the stop was over before the next signal";
        return Err(Flaw::Skip(format!("{seen}, {ended}")));
    }
    sent
}

/// Must end soon, by this signal or in one of those ways, unless the stop is over all by itself:
/// the request in flight was answered before, or the deadline comes first.
async fn forced_by(
    stage: &mut Stage,
    answered: Option<(u16, Duration)>,
    signal: Signal,
    limit: Duration,
    or_ends: &[Ended],
) -> Result<(), Flaw> {
    let base = further(stage, signal)?;
    let left = (stage.cause() + stage.subject.grace).saturating_duration_since(base);
    let by = (limit + stage.subject.slack).min(left);
    let ends = [&stage.subject.exits.of_forced(signal), or_ends].concat();
    let window = Window { base, from: Duration::ZERO, by };
    let Err(flaw) = stage.exits(&ends, window).await else { return Ok(()) };
    let ended = stage.process()?.exit().map(|exit| exit.ended);
    let is_one = |ends: Vec<Ended>| ended.is_some_and(|ended| ends.contains(&ended));
    match answered {
        Some((status, after)) if is_one(stage.clean_ends()) => Err(nothing_to_cut(status, after)),
        _ if left < limit && is_one(stage.subject.exits.of_cut(stage.asked_by())) => {
            Err(Flaw::Skip("the grace period is too short for a signal before its end".to_owned()))
        }
        _ => Err(flaw),
    }
}

/// Waits until so long after T: either the connection, which is to be held, or the status of the
/// answer that has come meanwhile, and its time.
async fn answered_until(
    stage: &Stage,
    mut wire: Wire,
    end: Duration,
) -> (Option<Wire>, Option<(u16, Duration)>) {
    let Ok(answered) = timeout_at(stage.cause() + end, wire.response()).await else {
        return (Some(wire), None);
    };
    let after = stage.cause().elapsed();
    drop(wire); // As an answer tells it to.
    stage.at(end).await;
    (None, answered.ok().map(|response| (response.status(), after)))
}

const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_millis(1500);
const FORCED_LIMIT: Duration = Duration::from_secs(1);
const THIRD_LIMIT: Duration = Duration::from_millis(500);
