//! One scenario: its description, what it needs, and the frame in which it is played.

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};

use crate::{
    flaw::Flaw,
    stage::Stage,
    subject::{BlockerReport, PidOne, Protocol, Subject},
    verdict::{Outcome, Verdict},
};

/// One thing that can go wrong in a shutdown, and how to find out.
///
/// Taken from [`scenarios`](crate::scenarios) or [`by_name`](crate::by_name).
#[must_use]
pub struct Scenario {
    theme: Theme,
    name: &'static str,
    why: &'static str,
    mend: &'static str,
    needs: &'static [Need],
    play: fn(&mut Stage) -> BoxFuture<'_, Result<(), Flaw>>,
    starts: Starts,
    by_http1: ByHttp1,
}

/// What a scenario is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Theme {
    /// What becomes of work that outlives the deadline.
    Deadline,
    /// States of an HTTP/1 connection.
    Http1,
    /// States of an HTTP/2 connection.
    Http2,
    /// Requests lost under load.
    Load,
    /// Readiness, liveness, startup.
    Probes,
    /// Which signal does what, and again.
    Signals,
    /// Responses without an end.
    Streams,
    /// Upgraded connections.
    Websocket,
}

/// What a scenario needs the subject to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// The route [`Routes::big`](crate::Routes::big).
    Big,
    /// The route [`Routes::block`](crate::Routes::block).
    Block,
    /// The route [`Routes::echo`](crate::Routes::echo).
    Echo,
    /// The route [`Routes::events`](crate::Routes::events).
    Events,
    /// [`Protocol::Http1AndH2c`] or [`Protocol::Http2Only`].
    H2c,
    /// A [`Subject::lame_duck`] of 300 ms or more.
    LameDuck,
    /// A [`Subject::live_path`].
    LivePath,
    /// [`BlockerReport::Named`].
    NamedBlockers,
    /// Not [`Subject::as_pid_1`]: of PID 1 the kernel drops signals that it has no handler for.
    OrdinaryPid,
    /// The route [`Routes::panic`](crate::Routes::panic).
    Panic,
    /// The route [`Routes::pool`](crate::Routes::pool).
    Pool,
    /// Probes that can be asked after the signal: a lame duck, or an address of their own.
    ProbesInDrain,
    /// A [`Subject::ready_path`].
    ReadyPath,
    /// Probes on an address of their own, since the main listener closes.
    SeparateProbes,
    /// [`Subject::single_thread_env`].
    SingleThread,
    /// A [`Subject::startup_path`].
    StartupPath,
    /// The route [`Routes::work`](crate::Routes::work).
    Work,
    /// The route [`Routes::ws`](crate::Routes::ws).
    Ws,
}

/// How many processes a scenario starts, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Starts {
    /// As many as [`Subject::stop_count`] says.
    StopCount,
    Times(usize),
}

/// Whether its clients speak HTTP/1 to the main port. Those of HTTP/2 say so by their needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByHttp1 {
    No,
    UnlessHttp2,
}

impl Scenario {
    pub(crate) const fn new(
        theme: Theme,
        name: &'static str,
        (why, mend): (&'static str, &'static str),
        needs: &'static [Need],
        play: fn(&mut Stage) -> BoxFuture<'_, Result<(), Flaw>>,
    ) -> Self {
        Self {
            theme,
            name,
            why,
            mend,
            needs,
            play,
            starts: Starts::Times(FEW),
            by_http1: ByHttp1::UnlessHttp2,
        }
    }

    /// It starts and stops the process [`Subject::stop_count`] times.
    pub(crate) const fn repeated(mut self) -> Self {
        self.starts = Starts::StopCount;
        self
    }

    /// It starts and stops the process so many times.
    pub(crate) const fn starting(mut self, times: usize) -> Self {
        self.starts = Starts::Times(times);
        self
    }

    /// It asks nothing, or only the probes.
    pub(crate) const fn without_http1(mut self) -> Self {
        self.by_http1 = ByHttp1::No;
        self
    }

    /// Starts the subject, plays the scenario, kills what is left, and judges.
    ///
    /// Never fails: whatever goes wrong is in the verdict. Has a limit of its own, from the
    /// subject's timing. Needs a tokio runtime with IO and time.
    ///
    /// # Cancel safety
    /// Cancel safe: dropping the future kills the process; only the verdict is lost.
    pub async fn run(&'static self, subject: &Subject) -> Verdict {
        let began = Instant::now();
        // Boxed, so that the future stays small for those who play many.
        let mut stage = Box::new(Stage::new(subject));
        let outcome = match self.lacks(subject) {
            Some(what) => Outcome::Skipped { why: format!("needs {what}") },
            None => {
                let limit = self.limit(&stage.subject);
                match timeout(limit, (self.play)(&mut stage)).await {
                    Ok(Ok(())) => Outcome::Pass,
                    // That says nothing about how it stops.
                    Ok(Err(flaw @ (Flaw::Start(_) | Flaw::Unjudged(_)))) => {
                        Outcome::NotStarted { why: flaw.to_string() }
                    }
                    Ok(Err(Flaw::Skip(why))) => Outcome::Skipped { why },
                    Ok(Err(flaw)) => Outcome::Fail { seen: flaw.to_string() },
                    Err(_) => Outcome::Fail { seen: format!("not over after {limit:?}") },
                }
            }
        };
        Box::pin(stage.last_look()).await;
        stage.verdict(self, outcome, began.elapsed())
    }

    /// What it is about.
    #[must_use]
    pub fn theme(&self) -> Theme {
        self.theme
    }

    /// Its name: the theme, a dash, and more.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Why it matters in production.
    #[must_use]
    pub fn why(&self) -> &'static str {
        self.why
    }

    /// How a failure is usually mended.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        self.mend
    }

    /// What the subject must have; it is skipped otherwise.
    #[must_use]
    pub fn needs(&self) -> &'static [Need] {
        self.needs
    }

    /// What it needs and this subject has not.
    fn lacks(&self, subject: &Subject) -> Option<String> {
        let asks_http1 = self.by_http1 == ByHttp1::UnlessHttp2 && !self.needs.contains(&Need::H2c);
        if asks_http1 && subject.protocol == Protocol::Http2Only {
            return Some("HTTP/1".to_owned());
        }
        self.needs.iter().find(|need| !need.is_met_by(subject)).map(ToString::to_string)
    }

    /// The overall limit: above the sum of the waits inside, against surprises only.
    fn limit(&self, subject: &Subject) -> Duration {
        let one = subject.start_timeout.saturating_add(subject.grace);
        let one = one.saturating_add(subject.request_timeout);
        let starts = match self.starts {
            Starts::StopCount => subject.stop_count.max(1),
            Starts::Times(times) => u32::try_from(times).unwrap_or(u32::MAX),
        };
        one.saturating_mul(starts).saturating_add(SPARE)
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .field("theme", &self.theme)
            .field("needs", &self.needs)
            .finish_non_exhaustive()
    }
}

impl Theme {
    /// Its name in lower case, as scenario names begin.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Load => "load",
            Self::Probes => "probes",
            Self::Signals => "signals",
            Self::Streams => "streams",
            Self::Websocket => "websocket",
        }
    }
}

impl fmt::Display for Theme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Need {
    /// Whether this subject has it.
    #[must_use]
    pub fn is_met_by(self, subject: &Subject) -> bool {
        let routes = &subject.routes;
        match self {
            Self::Big => routes.big.is_some(),
            Self::Block => routes.block.is_some(),
            Self::Echo => routes.echo.is_some(),
            Self::Events => routes.events.is_some(),
            Self::H2c => subject.protocol != Protocol::Http1,
            Self::LameDuck => subject.lame_duck >= LAME_DUCK_MIN,
            Self::LivePath => subject.live_path.is_some(),
            Self::NamedBlockers => subject.report == BlockerReport::Named,
            Self::OrdinaryPid => subject.pid_1 == PidOne::No,
            Self::Panic => routes.panic.is_some(),
            Self::Pool => routes.pool.is_some(),
            Self::ProbesInDrain => Self::LameDuck.is_met_by(subject) || subject.separate_probes(),
            Self::ReadyPath => subject.ready_path.is_some(),
            Self::SeparateProbes => subject.separate_probes(),
            Self::SingleThread => subject.single_thread_env.is_some(),
            Self::StartupPath => subject.startup_path.is_some(),
            Self::Work => routes.work.is_some(),
            Self::Ws => routes.ws.is_some(),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Big => "the route `big` (a GET that answers so many bytes)",
            Self::Block => "the route `block` (a GET that blocks its event loop)",
            Self::Echo => "the route `echo` (a POST that reads its body)",
            Self::Events => "the route `events` (endless server-sent events)",
            Self::H2c => "HTTP/2",
            Self::LameDuck => "a lame duck of 300 ms or more",
            Self::LivePath => "the path of a liveness probe",
            Self::NamedBlockers => "a report that names what was cut",
            Self::OrdinaryPid => "not to be PID 1, whose signals are dropped until it has handlers",
            Self::Panic => "the route `panic` (a GET whose handler panics)",
            Self::Pool => "the route `pool` (a GET that blocks a pool thread)",
            Self::ProbesInDrain => {
                "probes that can be asked after the signal (a lame duck, or an address of their own)"
            }
            Self::ReadyPath => "the path of a readiness probe",
            Self::SeparateProbes => "probes on an address of their own",
            Self::SingleThread => "a variable that makes the event loop single-threaded",
            Self::StartupPath => "the path of a startup probe",
            Self::Work => "the route `work` (a GET that takes so long)",
            Self::Ws => "the route `ws` (a WebSocket echo)",
        })
    }
}

/// Scenarios start one or two; the time of a third is spare.
const FEW: usize = 3;
const SPARE: Duration = Duration::from_secs(10);
const LAME_DUCK_MIN: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::Routes;

    #[tokio::test]
    async fn a_missing_need_skips_and_says_which() {
        let scenario = crate::by_name("websocket-closed-1001").unwrap();
        let verdict = scenario.run(&Subject::new("/nonexistent")).await;
        let Outcome::Skipped { why } = verdict.outcome() else { panic!("{verdict}") };
        assert!(why.contains("`ws`"), "{why}");
    }

    #[tokio::test]
    async fn what_the_stop_signal_contradicts_is_not_judged() {
        let scenario = crate::by_name("signals-sigquit").unwrap();
        let subject = Subject::new("/nonexistent").routes(Routes::conventional());
        let verdict = scenario.run(&subject.stop_signal(crate::Signal::Quit)).await;
        let Outcome::Skipped { why } = verdict.outcome() else { panic!("{verdict}") };
        assert!(why.contains("SIGQUIT"), "{why}");
    }

    #[test]
    fn the_limit_has_room_for_all_starts() {
        let seconds = Duration::from_secs;
        let subject = Subject::new("x").grace(seconds(60)).lame_duck(seconds(45)).stop_count(7);
        for (name, starts) in [("signals-sigterm-at-start", 8), ("load-keep-alive", 7)] {
            let limit = crate::by_name(name).unwrap().limit(&subject);
            assert!(limit > starts * seconds(45 + 1), "{name}: {limit:?}");
        }
    }

    #[tokio::test]
    async fn a_command_that_cannot_run_is_neither_a_panic_nor_a_failure_to_stop() {
        let scenario = crate::by_name("signals-sigterm-idle").unwrap();
        let verdict = scenario.run(&Subject::new("/nonexistent/command")).await;
        let Outcome::NotStarted { why } = verdict.outcome() else { panic!("{verdict}") };
        assert!(why.contains("cannot run /nonexistent/command"), "{why}");
        let told = verdict.to_string();
        assert!(told.starts_with("ERROR ") && !told.contains("mended by"), "{told}");
    }

    #[test]
    fn without_http1_that_is_played_which_asks_nothing_by_it() {
        let subject = Subject::new("x").routes(Routes::conventional());
        let subject = subject.protocol(Protocol::Http2Only).lame_duck(Duration::from_secs(1));
        let played = crate::scenarios().iter().filter(|one| one.lacks(&subject).is_none());
        let (http2, rest): (Vec<_>, Vec<_>) =
            played.map(Scenario::name).partition(|name| name.contains("http2"));
        assert_eq!(http2.len(), 9, "{http2:?}");
        let expected = [
            "signals-sigterm-idle",
            "signals-sigterm-at-start",
            "signals-sigint-terminal",
            "signals-sigint-no-terminal",
            "signals-sighup",
            "probes-startup-holds",
        ];
        assert_eq!(rest, expected);
    }

    #[test]
    fn needs_are_met_by_what_the_subject_has() {
        let subject = Subject::new("x").routes(Routes::conventional());
        assert!(Need::Work.is_met_by(&subject) && Need::Ws.is_met_by(&subject));
        assert!(!Need::H2c.is_met_by(&subject) && !Need::LameDuck.is_met_by(&subject));
        assert!(!Need::ReadyPath.is_met_by(&subject.without_probes()));
    }
}
