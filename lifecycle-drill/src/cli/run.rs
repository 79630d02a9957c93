//! `lifecycle-drill run`: plays the scenarios and judges.

use clap::Args;
use lifecycle_drill::{Outcome, Process, Setting};

use super::{Ended, config, error::CliError, options::Options, print};

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
        // Once for itself: a command that never runs is no verdict about how it stops.
        drop(Process::start(&subject, Setting::Plain).await?);
        let mut ended = Ended::Passed;
        for scenario in chosen {
            let verdict = scenario.run(&subject).await;
            print(&format!("{verdict}\n"))?;
            if matches!(verdict.outcome(), Outcome::Fail { .. }) {
                ended = Ended::Failed;
            }
        }
        Ok(ended)
    }
}
