//! What happened: cause, time per phase, what was left, exit code.
//!
//! Pure values; the coordinator fills them, `main` returns them, people read them.

use std::fmt;
use std::io::Write;
use std::process::{ExitCode, Termination};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::blockers::Blocker;
use crate::budget::Budget;
use crate::env::show;
use crate::exit::{ExitPolicy, ExitReason};
use crate::jobs::QueueJobs;
use crate::phase::Phase;
use crate::signal::Signal;

/// Why a shutdown began.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Cause {
    /// An essential component returned while nothing had asked it to.
    ComponentEnded {
        /// Its name.
        name: String,
    },
    /// A component returned an error.
    ComponentFailed {
        /// Its name.
        name: String,
        /// The error with its sources.
        error: String,
    },
    /// A component panicked.
    ComponentPanicked {
        /// Its name.
        name: String,
        /// The panic's message.
        message: String,
    },
    /// What the process was started for is done ([`run_once`](crate::Lifecycle::run_once)).
    Finished {
        /// Its name.
        name: String,
    },
    /// The program asked for it.
    Requested {
        /// The words it gave.
        reason: String,
    },
    /// A signal.
    Signal(Signal),
}

/// How a component ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum End {
    /// Dropped, since its time was over.
    Aborted,
    /// Returned an error.
    Failed(String),
    /// Returned as it should.
    Finished,
    /// Still held by a thread that does not yield.
    NotJoined,
    /// Panicked.
    Panicked(String),
    /// It had no time to begin.
    NotRun,
}

/// One component or hook, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Ended {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub end: End,
    /// When, as time since the cause (zero before it).
    pub at: Duration,
    /// How long it ran: a hook since its turn came, a component since it was started.
    pub took: Duration,
}

/// One phase of the shutdown: what it was given and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PhaseTime {
    /// Which.
    pub phase: Phase,
    /// When it began, as time since the cause.
    pub began: Duration,
    /// From its begin to its deadline.
    pub planned: Duration,
    /// What it took.
    pub used: Duration,
}

/// What was still in flight when the time of a phase was over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Cut {
    /// The phase whose time was over.
    pub phase: Phase,
    /// When, as time since the cause.
    pub at: Duration,
    /// Who, by name and age.
    pub blockers: Vec<Blocker>,
}

/// Something worth telling that happened on the way, such as a listener's close.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Note {
    /// When, as time since the cause (zero before it).
    pub at: Duration,
    /// What.
    pub text: String,
}

/// What a shutdown did. Return it from `main`: it prints itself to stderr and gives the
/// process its exit code.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let life = lifecycle::Lifecycle::builder().build_local()?;
/// life.handle().shutdown("the example is over");
/// let report = life.run().await?;
/// assert_eq!(report.exit_code(), 0);
/// assert!(report.to_string().starts_with("shutdown: requested: the example is over"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "the report carries the exit code: return it from main"]
pub struct Report {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    told: Told,
    reason: ExitReason,
    code: u8,
    printed: OnceLock<()>,
}

/// What the coordinator gathers for the report.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub(crate) struct Told {
    pub(crate) cause: Cause,
    pub(crate) budget: Budget,
    pub(crate) took: Duration,
    pub(crate) forced_by: Option<Signal>,
    pub(crate) in_flight_at_cause: usize,
    pub(crate) phases: Vec<PhaseTime>,
    pub(crate) cuts: Vec<Cut>,
    pub(crate) components: Vec<Ended>,
    pub(crate) hooks: Vec<Ended>,
    pub(crate) jobs: Vec<QueueJobs>,
    pub(crate) notes: Vec<Note>,
}

impl Report {
    pub(crate) fn new(told: Told, policy: &ExitPolicy) -> Self {
        let reason = ExitReason::of(&told);
        let code = policy.code(reason);
        Self { inner: Arc::new(Inner { told, reason, code, printed: OnceLock::new() }) }
    }

    /// Why the shutdown began.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.inner.told.cause
    }

    /// The deadlines as they were in the end, as time since the cause.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.inner.told.budget
    }

    /// From the cause to the report.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.inner.told.took
    }

    /// How many were in flight at the cause.
    #[must_use]
    pub fn in_flight_at_cause(&self) -> usize {
        self.inner.told.in_flight_at_cause
    }

    /// The phases that were entered, in order.
    #[must_use]
    pub fn phases(&self) -> &[PhaseTime] {
        &self.inner.told.phases
    }

    /// What the deadlines cut: empty when everything finished in time.
    #[must_use]
    pub fn cuts(&self) -> &[Cut] {
        &self.inner.told.cuts
    }

    /// The components, in the order of their ends.
    #[must_use]
    pub fn components(&self) -> &[Ended] {
        &self.inner.told.components
    }

    /// The close hooks, in the order they were run.
    #[must_use]
    pub fn hooks(&self) -> &[Ended] {
        &self.inner.told.hooks
    }

    /// What became of jobs, by queue, as their workers have told.
    #[must_use]
    pub fn jobs(&self) -> &[QueueJobs] {
        &self.inner.told.jobs
    }

    /// What else happened on the way.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.inner.told.notes
    }

    /// Why the exit code is what it is.
    #[must_use]
    pub fn exit_reason(&self) -> ExitReason {
        self.inner.reason
    }

    /// The exit code, as the [`ExitPolicy`] has it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.inner.code
    }

    /// Prints the timeline to stderr, the first time it is called.
    pub(crate) fn print_once(&self) {
        if self.inner.printed.set(()).is_ok() {
            // A closed stderr must not keep the process from its exit.
            std::io::stderr().write_all(self.to_string().as_bytes()).unwrap_or_default();
        }
    }
}

impl Termination for Report {
    fn report(self) -> ExitCode {
        self.print_once();
        ExitCode::from(self.exit_code())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            told: &'a Told,
            exit_code: u8,
            exit_reason: ExitReason,
        }
        Whole { told: &self.inner.told, exit_code: self.inner.code, exit_reason: self.inner.reason }
            .serialize(serializer)
    }
}

impl fmt::Display for Report {
    /// The timeline, a line for each thing that happened, in the order of time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = &self.inner.told;
        writeln!(
            f,
            "shutdown: {}, {:.3} s of {} grace, exit code {} ({})",
            told.cause,
            told.took.as_secs_f64(),
            show(&told.budget.grace),
            self.inner.code,
            self.inner.reason
        )?;
        let mut lines: Vec<(Duration, String)> = Vec::new();
        let flights = match told.in_flight_at_cause {
            0 => "nothing in flight".to_owned(),
            count => format!("{count} in flight"),
        };
        lines.push((Duration::ZERO, format!("cause       {}, {flights}", told.cause)));
        lines.extend(told.phases.iter().map(|phase| {
            let text = format!(
                "{:<11} took {:.3} s of {:.3} s",
                phase.phase.name(),
                phase.used.as_secs_f64(),
                phase.planned.as_secs_f64()
            );
            (phase.began, text)
        }));
        lines.extend(told.notes.iter().map(|note| (note.at, format!("  {}", note.text))));
        for cut in &told.cuts {
            let text = format!("  cut at the end of {}: {} left", cut.phase, cut.blockers.len());
            lines.push((cut.at, text));
            lines.extend(cut.blockers.iter().map(|who| (cut.at, format!("    {who}"))));
        }
        for (what, ended) in [("component", &told.components), ("hook", &told.hooks)] {
            lines.extend(ended.iter().map(|ended| {
                let took = ended.took.as_secs_f64();
                (ended.at, format!("  {what} {} {} (ran {took:.3} s)", ended.name, ended.end))
            }));
        }
        lines.extend(told.jobs.iter().map(|jobs| (told.took, format!("  {jobs}"))));
        lines.sort_by_key(|(at, _)| *at);
        for (at, text) in lines {
            writeln!(f, "  {:>+8.3} s  {text}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ComponentEnded { name } => write!(f, "component {name} ended"),
            Self::ComponentFailed { name, error } => write!(f, "component {name} failed: {error}"),
            Self::ComponentPanicked { name, message } => {
                write!(f, "component {name} panicked: {message}")
            }
            Self::Finished { name } => write!(f, "{name} is done"),
            Self::Requested { reason } => write!(f, "requested: {reason}"),
            Self::Signal(signal) => signal.fmt(f),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => f.write_str("aborted: out of time"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Finished => f.write_str("finished"),
            Self::NotJoined => f.write_str("not joined: its thread does not yield"),
            Self::NotRun => f.write_str("not run: no time left"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

impl End {
    /// Whether it went wrong by itself, not by the deadline.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Panicked(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blockers::{Kind, Stage};
    use crate::budget::Grace;

    pub(crate) fn told() -> Told {
        let period = Duration::from_secs(6);
        let budget = Budget::split(Grace { period, ..Grace::default() }).expect("6 s");
        Told {
            cause: Cause::Signal(Signal::Terminate),
            budget,
            took: Duration::from_millis(5_104),
            forced_by: None,
            in_flight_at_cause: 1,
            phases: vec![PhaseTime {
                phase: Phase::Draining,
                began: Duration::from_secs(1),
                planned: Duration::from_millis(3_800),
                used: Duration::from_millis(3_800),
            }],
            cuts: vec![Cut {
                phase: Phase::Draining,
                at: Duration::from_millis(4_800),
                blockers: vec![Blocker {
                    kind: Kind::Request,
                    name: "GET /work".into(),
                    age: Duration::from_millis(4_900),
                    stage: Stage::Working,
                }],
            }],
            components: vec![],
            hooks: vec![Ended {
                name: "postgres".into(),
                end: End::Finished,
                at: Duration::from_millis(5_100),
                took: Duration::from_millis(12),
            }],
            jobs: vec![QueueJobs::new("orders")],
            notes: vec![Note {
                at: Duration::from_secs(1),
                text: "listener closed, 2 swept".into(),
            }],
        }
    }

    #[test]
    fn reads_as_a_timeline() {
        let report = Report::new(told(), &ExitPolicy::default());
        assert_eq!(
            report.to_string(),
            "shutdown: SIGTERM, 5.104 s of 6s grace, exit code 3 (the deadline cut work)\n\
             \x20   +0.000 s  cause       SIGTERM, 1 in flight\n\
             \x20   +1.000 s  draining    took 3.800 s of 3.800 s\n\
             \x20   +1.000 s    listener closed, 2 swept\n\
             \x20   +4.800 s    cut at the end of draining: 1 left\n\
             \x20   +4.800 s      request GET /work (4.9s)\n\
             \x20   +5.100 s    hook postgres finished (ran 0.012 s)\n\
             \x20   +5.104 s    jobs of orders: 0 finished\n"
        );
    }

    #[cfg(feature = "serde")]
    #[test]
    fn serializes_with_its_exit_code() {
        let report = Report::new(told(), &ExitPolicy::default());
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(json["exit_code"], 3);
        assert_eq!(json["exit_reason"], "cut");
        assert_eq!(json["cause"]["signal"], "terminate");
        assert_eq!(json["cuts"][0]["blockers"][0]["name"], "GET /work");
    }
}
