//! `lifecycle-drill run`: plays the scenarios, tells how it goes, and judges.

use std::{collections::VecDeque, time::SystemTime};

use clap::Args;
use lifecycle_drill::{Outcome, Scenario, Subject, Theme, Verdict};
use tokio::{task::JoinSet, time::Instant};

use super::{
    Ended, config,
    error::CliError,
    html, json, junit, note,
    options::Options,
    report::Report,
    trial,
    written::{Destinations, judged},
};

/// What is drilled, how, and where the verdicts go.
#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    options: Options,
}

impl Run {
    /// Plays and tells.
    pub(crate) async fn run(self) -> Result<Ended, CliError> {
        let options = config::complete(self.options)?;
        let chosen = options.chosen()?;
        let subject = options.subject()?;
        let files = [(JSON, &options.json), (JUNIT, &options.junit), (HTML, &options.html)];
        let files = Destinations::new(files)?;
        let (began_at, began) = (SystemTime::now(), Instant::now());
        trial(&subject, options.stop_signal(), options.grace()).await?;
        let verdicts = play(&chosen, &subject, options.jobs()).await;
        let report = Report {
            command: options.command.join(" "),
            jobs: options.jobs(),
            began_at,
            elapsed: began.elapsed(),
            lame_duck: options.lame_duck(),
            grace: options.grace(),
            readiness: options.readiness(),
            verdicts,
        };
        let unwritten = files.write(&format!("\n{}", report.text()), |name| match name {
            JSON => json::write(&report),
            JUNIT => junit::write(&report),
            _ => html::write(&report),
        });
        judged(report.ended(), unwritten)
    }
}

/// Plays all, `jobs` at a time, and says on stderr how each went; the verdicts are in the order
/// of the scenarios.
async fn play(chosen: &[&'static Scenario], subject: &Subject, jobs: usize) -> Vec<Verdict> {
    let (load, rest): (VecDeque<&'static Scenario>, VecDeque<_>) =
        chosen.iter().copied().partition(|one| one.theme() == Theme::Load);
    let mut verdicts = Vec::with_capacity(chosen.len());
    // A load fills the machine: what is played beside it would be judged by that.
    for (mut waiting, jobs) in [(rest, jobs), (load, 1)] {
        let mut playing = JoinSet::new();
        loop {
            while playing.len() < jobs
                && let Some(scenario) = waiting.pop_front()
            {
                let subject = subject.clone();
                playing.spawn(async move { scenario.run(&subject).await });
            }
            match playing.join_next().await {
                None => break,
                Some(Ok(verdict)) => {
                    verdicts.push(verdict);
                    progress(&verdicts, chosen.len());
                }
                // A scenario never panics; if one did, its panic was printed and goes on here.
                Some(Err(failed)) => {
                    if let Ok(panic) = failed.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
    }
    let place =
        |verdict: &Verdict| chosen.iter().position(|one| one.name() == verdict.scenario().name());
    verdicts.sort_by_key(place);
    verdicts
}

/// One line for the newest verdict.
fn progress(verdicts: &[Verdict], of: usize) {
    let Some(newest) = verdicts.last() else { return };
    let text = newest.to_string();
    let line = text.lines().next().unwrap_or_default();
    let seen = match newest.outcome() {
        Outcome::Fail { seen: why } | Outcome::NotStarted { why } => {
            format!(": {}", why.lines().next().unwrap_or_default())
        }
        _ => String::new(),
    };
    note(format_args!("[{:>2}/{of}] {line}{seen}", verdicts.len()));
}

const JSON: &str = "--json";
const JUNIT: &str = "--junit";
const HTML: &str = "--html";
