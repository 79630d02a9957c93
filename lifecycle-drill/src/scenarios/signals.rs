//! Which signal does what.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    error::StartError,
    flaw::{During as _, Flaw, ensure, ms},
    process::{Ended, Setting},
    routes::lasting,
    scenario::{Need, Scenario, Theme},
    scenarios::cut::{answered, nothing_to_cut},
    signal::Signal,
    stage::{Stage, Window},
};

pub(super) const SCENARIOS: [Scenario; 6] = [
    Scenario::new(
        Theme::Signals,
        "signals-sigterm-idle",
        (
            "every deploy ends with SIGTERM: an idle service must go by itself, cleanly, and \
             after its lame duck, not at once",
            "install a SIGTERM handler before anything else, keep serving for the lame duck, \
             then return from main",
        ),
        &[],
        |stage| Box::pin(full_sequence(stage, Signal::Term)),
    )
    .without_http1(),
    Scenario::new(
        Theme::Signals,
        "signals-sigterm-at-start",
        (
            "a rollout that is undone stops processes that have just begun; one that hangs \
             or fails then blocks it until SIGKILL",
            "install the handlers in the first line of main; let the start-up itself end when \
             the signal comes",
        ),
        &[Need::OrdinaryPid],
        |stage| Box::pin(first_milliseconds(stage)),
    )
    .starting(DELAYS_MS.len())
    .without_http1(),
    Scenario::new(
        Theme::Signals,
        "signals-sigint-terminal",
        (
            "a developer who presses Ctrl-C does not want to wait for balancers that are not \
             there",
            "skip the lame duck when SIGINT comes and stderr is a terminal",
        ),
        &[Need::LameDuck],
        |stage| Box::pin(interrupt_on_terminal(stage)),
    )
    .without_http1(),
    Scenario::new(
        Theme::Signals,
        "signals-sigint-no-terminal",
        (
            "Nomad and Fly stop with SIGINT: there it needs the same care as SIGTERM",
            "handle SIGINT as SIGTERM unless stderr is a terminal",
        ),
        &[],
        |stage| Box::pin(full_sequence(stage, Signal::Int)),
    )
    .without_http1(),
    Scenario::new(
        Theme::Signals,
        "signals-sigquit",
        (
            "SIGQUIT asks for an immediate stop (nginx, uWSGI and others): it must not wait for \
             work in flight, and its code must not claim a clean stop",
            "handle SIGQUIT as a hard stop: cancel, close, leave within a second",
        ),
        &[Need::Work],
        |stage| Box::pin(quit(stage)),
    ),
    Scenario::new(
        Theme::Signals,
        "signals-sighup",
        (
            "without a handler SIGHUP kills at once and loses what is in flight; some \
             supervisors and every closed terminal send it",
            "handle SIGHUP as SIGTERM, unless it means reload",
        ),
        &[],
        |stage| Box::pin(full_sequence(stage, Signal::Hup)),
    )
    .without_http1(),
];

/// Idle: gone cleanly, in about the lame duck.
async fn full_sequence(stage: &mut Stage, signal: Signal) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let base = stage.signal(signal)?;
    let subject = &stage.subject;
    let from = subject.lame_duck.saturating_sub(CLOCKS_APART);
    let by = (subject.lame_duck + subject.slack).min(subject.grace);
    let window = Window { base, from, by };
    stage.exits(&stage.clean_ends(), window).await
}

async fn first_milliseconds(stage: &mut Stage) -> Result<(), Flaw> {
    for delay in DELAYS_MS.map(Duration::from_millis) {
        stage.spawn()?;
        // A process at its start tells nothing that one could wait for: time is the input here.
        sleep(delay).await;
        let base = match stage.signal(Signal::Term) {
            Ok(base) => base,
            Err(flaw) => {
                let seen = format!("before the signal, {} from its start: {flaw}", ms(delay));
                return Err(Flaw::Seen(seen));
            }
        };
        let by = (stage.idle_end() + stage.subject.slack).min(stage.subject.grace);
        let clean = stage.clean_ends();
        let killed = Ended::Signal(Signal::Term.number());
        let ended = stage.ends(by + Duration::from_secs(2)).await?;
        let took = ended.at.saturating_duration_since(base);
        let when = format!("SIGTERM {} from its start", ms(delay));
        stage.note(format!("{when}: {} after {}", ended.ended, ms(took)));
        ensure(clean.contains(&ended.ended) || ended.ended == killed, || {
            format!("{when}: {}, expected a clean end, or death by the signal", ended.ended)
        })?;
        ensure(took <= by, || format!("{when}: gone after {}, expected by {}", ms(took), ms(by)))?;
    }
    Ok(())
}

async fn interrupt_on_terminal(stage: &mut Stage) -> Result<(), Flaw> {
    match stage.start(Setting::Terminal).await {
        // It may print something else there. That it starts at all, others look at.
        Err(Flaw::Start(error @ StartError::NotReady { .. })) => {
            return Err(Flaw::Skip(format!("on a terminal: {error}")));
        }
        started => started?,
    }
    let base = stage.signal(Signal::Int)?;
    // Well before the lame duck would be over.
    let by = stage.subject.lame_duck * 3 / 4;
    stage.exits(&stage.clean_ends(), Window { base, from: Duration::ZERO, by }).await
}

async fn quit(stage: &mut Stage) -> Result<(), Flaw> {
    if stage.subject.stop_signal == Signal::Quit {
        return Err(Flaw::Skip("SIGQUIT is what an ordinary stop is asked for with".to_owned()));
    }
    stage.start(Setting::Plain).await?;
    let mut wire = stage.wire().await?;
    wire.send(stage.get_work(Duration::from_secs(600))).await.during("asking for long work")?;
    sleep(SETTLE).await;
    let base = stage.signal(Signal::Quit)?;
    let by = (QUIT_LIMIT + stage.subject.slack).min(stage.subject.grace);
    let patience = by + Duration::from_secs(2);
    let answered = answered(Some(&mut wire), base, patience);
    let (ended, answered) = tokio::join!(stage.ends(patience), answered);
    let ended = ended?;
    let took = ended.at.saturating_duration_since(base);
    stage.note(format!("{} after {}", ended.ended, ms(took)));
    if stage.subject.exits.claims_clean(ended.ended) {
        let untold = "ended with the clean code although a request was cut".to_owned();
        return Err(match answered {
            Some((status, after)) => nothing_to_cut(status, after),
            None => Flaw::Seen(untold),
        });
    }
    ensure(took <= by, || format!("gone after {}, expected by {}", ms(took), ms(by)))
}

impl Stage {
    /// The bytes of a GET of the work route, or of the quick path if there is no such route.
    pub(super) fn get_work(&self, time: Duration) -> String {
        let routes = &self.subject.routes;
        let path = routes.work.as_ref().map_or_else(|| routes.quick_path(), |t| lasting(t, time));
        self.request("GET", &path)
    }
}

/// From the start of a process to its signal.
const DELAYS_MS: [u64; 8] = [0, 1, 2, 5, 10, 20, 50, 100];
/// Its clock and ours may differ by a tick and a rounding.
const CLOCKS_APART: Duration = Duration::from_millis(50);
const QUIT_LIMIT: Duration = Duration::from_secs(1);
/// For a request that was sent to reach its handler, before a signal is sent.
pub(super) const SETTLE: Duration = Duration::from_millis(150);
