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
    scenarios::{
        cut::{answered, nothing_to_cut},
        signals::SETTLE,
    },
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
    let held = held_until(stage, wire, LATER).await;
    forced_by(stage, held, first, FORCED_LIMIT, &[]).await
}

async fn third_at_once(stage: &mut Stage) -> Result<(), Flaw> {
    let wire = long_request(stage).await?;
    let first = stage.subject.stop_signal;
    stage.stop()?;
    let held = held_until(stage, wire, LATER).await;
    further(stage, first, &held, &[])?;
    stage.at(LATER + SOON).await;
    let by_second = stage.subject.exits.of_forced(first);
    match forced_by(stage, held, another(first), THIRD_LIMIT, &by_second).await {
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
    let held = held_until(stage, wire, 2 * SOON).await;
    forced_by(stage, held, another(first), FORCED_LIMIT, &[]).await
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

/// The request in flight: either its connection, or the status of its answer and its time after T.
struct Held {
    wire: Option<Wire>,
    answered: Option<(u16, Duration)>,
}

impl Held {
    /// Its answer, if one has come in the end: when the process has gone nothing more comes.
    async fn in_the_end(&mut self, stage: &Stage) -> Option<(u16, Duration)> {
        if let Some(mut wire) = self.wire.take() {
            self.answered = answered(Some(&mut wire), stage.cause(), SOON).await;
        }
        self.answered
    }
}

/// Sends a further signal. A stop that was over before it all by itself is not judged: its work was
/// answered, or cut by the deadline.
fn further(
    stage: &mut Stage,
    signal: Signal,
    held: &Held,
    or_ends: &[Ended],
) -> Result<Instant, Flaw> {
    let sent = stage.signal(signal);
    let Err(Flaw::Signal(SignalError::Gone(ended))) = sent else { return sent };
    if or_ends.contains(&ended) {
        return sent;
    }
    let was_answered = held.answered.is_some() && stage.clean_ends().contains(&ended);
    if was_answered || is_cut(stage, ended)? {
        let seen = "nothing was left to force: the stop was over before the next signal";
        return Err(Flaw::Skip(format!("{seen}, {ended}")));
    }
    sent
}

/// Whether it ended so by its deadline: not at once, and not in the lame duck.
fn is_cut(stage: &mut Stage, ended: Ended) -> Result<bool, Flaw> {
    let (lame_duck, grace) = (stage.subject.lame_duck, stage.subject.grace);
    let from = stage.cause() + lame_duck.max(SOON);
    let window = from..=stage.cause() + grace;
    let is_so = stage.subject.exits.of_cut(stage.asked_by()).contains(&ended);
    Ok(is_so && stage.process()?.exit().is_some_and(|exit| window.contains(&exit.at)))
}

/// Must end soon, by this signal or in one of those ways, unless the stop is over all by itself:
/// the request in flight was answered, or the deadline comes first.
async fn forced_by(
    stage: &mut Stage,
    mut held: Held,
    signal: Signal,
    limit: Duration,
    or_ends: &[Ended],
) -> Result<(), Flaw> {
    let base = further(stage, signal, &held, or_ends)?;
    let left = (stage.cause() + stage.subject.grace).saturating_duration_since(base);
    let by = (limit + stage.subject.slack).min(left);
    let ends = [&stage.subject.exits.of_forced(signal), or_ends].concat();
    let judged = stage.exits(&ends, Window { base, from: Duration::ZERO, by }).await;
    let Some(ended) = stage.process()?.exit().map(|exit| exit.ended) else { return judged };
    let answered = held.in_the_end(stage).await;
    match (judged, answered) {
        // Also where the signal's own end is no other: it may have been ignored.
        (_, Some((status, after))) if stage.clean_ends().contains(&ended) => {
            Err(nothing_to_cut(status, after))
        }
        (Err(_), _) if left < limit && is_cut(stage, ended)? => {
            Err(Flaw::Skip("the grace period is too short for a signal before its end".to_owned()))
        }
        (judged, _) => judged,
    }
}

/// Waits until so long after T, and for the answer meanwhile.
async fn held_until(stage: &Stage, mut wire: Wire, end: Duration) -> Held {
    let Ok(answered) = timeout_at(stage.cause() + end, wire.response()).await else {
        return Held { wire: Some(wire), answered: None };
    };
    let after = stage.cause().elapsed();
    drop(wire); // As an answer tells it to.
    stage.at(end).await;
    Held { wire: None, answered: answered.ok().map(|response| (response.status(), after)) }
}

const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_millis(1500);
const FORCED_LIMIT: Duration = Duration::from_secs(1);
const THIRD_LIMIT: Duration = Duration::from_millis(500);
