//! Stops with a request under way that would last longer than they may.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    client::Wire,
    flaw::{Flaw, ms},
    process::Exit,
    stage::{Stage, Window},
};

/// How a stop ended that had such a request under way.
#[derive(Debug)]
pub(super) enum Cut {
    /// The service had answered it before, within limits of its own: nothing was left to cut.
    Answered { status: u16, after: Duration },
    /// As it must: in time, and told by the exit code.
    Told,
    /// In time, but with the code of a stop that cut nothing, or sooner than work should be cut.
    Untold { flaw: Flaw, after: Duration },
}

impl Stage {
    /// Must have kept the work for a fair part of the time, then end by itself, before SIGKILL
    /// would come, with the code that says that work was cut.
    pub(super) async fn exits_cut(&mut self, held: &mut Wire) -> Result<(), Flaw> {
        match self.cuts(Some(held)).await? {
            Cut::Told => Ok(()),
            Cut::Untold { flaw, .. } => Err(flaw),
            Cut::Answered { status, after } => Err(nothing_to_cut(status, after)),
        }
    }

    /// Waits for the end of the process; meanwhile for the answer, if `held` is given.
    pub(super) async fn cuts(&mut self, held: Option<&mut Wire>) -> Result<Cut, Flaw> {
        let (lame_duck, grace) = (self.subject.lame_duck, self.subject.grace);
        let cause = self.cause();
        let from = lame_duck + grace.saturating_sub(lame_duck) / 2;
        let window = Window { base: cause, from, by: grace };
        let ends = self.subject.exits.of_cut(self.asked_by());
        let answered = answered(held, cause, grace);
        let (exited, answered) = tokio::join!(Box::pin(self.exits(&ends, window)), answered);
        let Err(flaw) = exited else { return Ok(Cut::Told) };
        let exit = self.process()?.exit();
        let clean = self.clean_ends();
        let in_time = |exit: &Exit| clean.contains(&exit.ended) && exit.at <= cause + grace;
        let Some(exit) = exit.filter(in_time) else {
            return Err(flaw);
        };
        let after = exit.at.saturating_duration_since(cause);
        Ok(match answered {
            Some((status, after)) => Cut::Answered { status, after },
            None => Cut::Untold { flaw, after },
        })
    }
}

/// The status of a whole answer, and its time since the cause.
pub(super) async fn answered(
    held: Option<&mut Wire>,
    cause: Instant,
    limit: Duration,
) -> Option<(u16, Duration)> {
    let response = held?.outcome(limit).await?;
    Some((response.status(), cause.elapsed()))
}

pub(super) fn nothing_to_cut(status: u16, after: Duration) -> Flaw {
    let after = ms(after);
    Flaw::Skip(format!("nothing was left to cut: answered {status}, {after} after the signal"))
}
