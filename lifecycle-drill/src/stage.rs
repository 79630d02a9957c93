//! What every scenario stands on: the process, the clock since the signal, the timeline.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::{
    client::{Alpn, Fate, H2c, Peer, Wire, ask},
    events::{Log, What},
    flaw::{During as _, Flaw, ensure, ms},
    ledger::Ledger,
    process::{Ended, Exit, Process, Setting},
    scenario::Scenario,
    signal::Signal,
    subject::Subject,
    verdict::{Evidence, Outcome, Verdict},
    watch::Watch,
};

/// When the process has to be gone, as time since `base`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) base: Instant,
    pub(crate) from: Duration,
    pub(crate) by: Duration,
}

/// The process under test and the record of what happens to it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) subject: Subject,
    process: Option<Process>,
    /// When the first signal was sent to the present process, and which.
    cause: Option<(Instant, Signal)>,
    notes: Vec<(Instant, Option<i64>, String)>,
    pub(crate) ledger: Option<Ledger>,
    /// The status of the quick route before any signal.
    quick_status: Option<u16>,
    log: Log,
    /// The log of the first process that lost a request, if another was started since.
    lossy: Option<Log>,
    watch: Option<Watch>,
}

impl Stage {
    pub(crate) fn new(subject: &Subject) -> Self {
        let mut subject = subject.clone();
        // Scenarios ask for work that lasts until some time after C.
        let longest_work = subject.lame_duck + Duration::from_secs(5);
        subject.request_timeout = subject.request_timeout.max(longest_work);
        Self {
            subject,
            process: None,
            cause: None,
            notes: Vec::new(),
            ledger: None,
            quick_status: None,
            log: Log::new(),
            lossy: None,
            watch: None,
        }
    }

    /// Starts the process (again) and waits until it is ready.
    pub(crate) async fn start(&mut self, setting: Setting) -> Result<(), Flaw> {
        self.clear();
        let began = Instant::now();
        let process = Process::start(&self.subject, setting).await?;
        let (pid, address) = (process.pid(), process.address());
        self.process = Some(process);
        self.log.mark(What::Ready);
        let took = began.elapsed().as_millis();
        self.note(format!("ready after {took} ms: process {pid} on {address}"));
        Ok(())
    }

    /// Starts the process (again) without waiting.
    pub(crate) fn spawn(&mut self) -> Result<(), Flaw> {
        self.clear();
        self.process = Some(Process::spawn(&self.subject, Setting::Plain)?);
        Ok(())
    }

    /// Kills what was started before, and begins its successor's log.
    fn clear(&mut self) {
        (self.process, self.cause, self.watch) = (None, None, None);
        let log = std::mem::replace(&mut self.log, Log::new());
        if self.lossy.is_none() && log.has_lost() {
            self.lossy = Some(log);
        }
    }

    pub(crate) fn process(&self) -> Result<&Process, Flaw> {
        self.process.as_ref().ok_or_else(|| Flaw::Seen("nothing was started".to_owned()))
    }

    /// A new HTTP/1 connection to the main port.
    pub(crate) async fn wire(&self) -> Result<Wire, Flaw> {
        let (peer, limit) = (self.peer()?, self.subject.request_timeout);
        Wire::open(&peer, Alpn::Http1, limit).await.during("connecting")
    }

    /// The same for HTTP/2 by hand.
    pub(crate) async fn wire_for_http2(&self) -> Result<Wire, Flaw> {
        let (peer, limit) = (self.peer()?, self.subject.request_timeout);
        Wire::open(&peer, Alpn::Http2, limit).await.during("connecting for HTTP/2")
    }

    /// The main port, as its clients see it.
    pub(crate) fn peer(&self) -> Result<Peer, Flaw> {
        let address = self.process()?.address();
        Ok(Peer {
            address,
            tls: self.subject.tls.clone(),
            speaks: self.subject.speaks(),
            head: self.subject.head(address),
            tracer: Some(self.log.client()),
        })
    }

    /// The head of a request without a body to the main port of what was started.
    pub(crate) fn request(&self, method: &str, path: &str) -> String {
        let head = self.process.as_ref().map(|process| self.subject.head(process.address()));
        head.map(|head| head.http1(method, path, None)).unwrap_or_default()
    }

    /// A new HTTP/2 connection to the main port.
    pub(crate) async fn h2c(&self) -> Result<H2c, Flaw> {
        let (peer, limit) = (self.peer()?, self.subject.request_timeout);
        H2c::connect(&peer, limit).await.during("connecting with HTTP/2")
    }

    /// A probe, on a connection of its own. Its status, or how it failed.
    pub(crate) async fn probe(&self, path: &str) -> Result<Fate, Flaw> {
        let peer = self.subject.probes_at(self.process()?.probe_address());
        Ok(ask(&peer, path, PROBE_LIMIT).await)
    }

    /// Waits until the probe succeeds, as it must before any signal: a process may say
    /// that it is ready a moment before its probes do.
    pub(crate) async fn probe_rises(&self, path: &str) -> Result<(), Flaw> {
        let ends = Instant::now() + self.subject.start_timeout;
        loop {
            let fate = self.probe(path).await?;
            if fate.is_probe_success() {
                return Ok(());
            }
            ensure(Instant::now() < ends, || format!("GET {path} before the signal: {fate}"))?;
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks the quick route, before any signal, for the status that it must go on giving. Not
    /// written down: it is no part of what is played.
    pub(crate) async fn learn_quick(&mut self) -> Result<u16, Flaw> {
        let (peer, path) =
            (Peer { tracer: None, ..self.peer()? }, self.subject.routes.quick_path());
        let limit = self.subject.request_timeout;
        let fate = ask(&peer, &path, limit).await;
        let status = fate.status().ok_or_else(|| Flaw::Seen(format!("a first request: {fate}")))?;
        self.learn(status, "a first request")
    }

    /// The same over HTTP/2.
    pub(crate) async fn learn_quick_on(&mut self, client: &H2c) -> Result<u16, Flaw> {
        let fate = client.get(&self.subject.routes.quick_path()).await.during("a first stream")?;
        let status = fate.status().ok_or_else(|| Flaw::Seen(format!("a first stream: {fate}")))?;
        self.learn(status, "a first stream")
    }

    /// Keeps what the quick route answered before any signal: anything below 500.
    pub(crate) fn learn(&mut self, status: u16, what: &str) -> Result<u16, Flaw> {
        ensure(status < 500, || format!("{what}: answered {status}"))?;
        Ok(*self.quick_status.insert(status))
    }

    /// The quick route must have answered as it did before the signal.
    pub(crate) fn served(&self, status: u16, what: &str) -> Result<(), Flaw> {
        debug_assert!(self.quick_status.is_some(), "learnt before the signal");
        let before = self.quick_status.unwrap_or(status);
        ensure(status == before, || format!("{what}: answered {status}, at first {before}"))
    }

    /// Sends a signal. The first to a process is the moment T.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<Instant, Flaw> {
        let now = Instant::now();
        self.cause.get_or_insert((now, signal));
        self.begin_to_watch();
        self.process()?.signal(signal)?;
        self.log.mark_at(now, What::Signal(signal));
        self.note(signal.to_string());
        Ok(now)
    }

    /// Sends the signal that the platform would stop it with.
    pub(crate) fn stop(&mut self) -> Result<Instant, Flaw> {
        self.signal(self.subject.stop_signal)
    }

    /// From the first signal on.
    fn begin_to_watch(&mut self) {
        if let (None, Some(process)) = (&self.watch, &self.process) {
            let probes = self.subject.probes_at(process.probe_address());
            let readiness = self.subject.ready_path.clone().map(|path| (probes, path));
            self.watch = Some(Watch::start(&self.log, process.address(), readiness));
        }
    }

    /// The moment T; now, if no signal was sent.
    pub(crate) fn cause(&self) -> Instant {
        self.cause.map_or_else(Instant::now, |(at, _)| at)
    }

    /// How the process may end if it has lost nothing.
    pub(crate) fn clean_ends(&self) -> Vec<Ended> {
        self.subject.exits.of_clean(self.asked_by())
    }

    /// The first signal.
    pub(crate) fn asked_by(&self) -> Signal {
        self.cause.map_or(self.subject.stop_signal, |(_, signal)| signal)
    }

    /// Waits until so long after T.
    pub(crate) async fn at(&self, since_cause: Duration) {
        sleep_until(self.cause() + since_cause).await;
    }

    /// Waits until new connections are refused, which must be soon after C.
    pub(crate) async fn listener_closed(&mut self) -> Result<(), Flaw> {
        let lame_duck = self.subject.lame_duck;
        self.at(lame_duck + POLL).await;
        let by = (lame_duck + self.subject.slack).min(self.subject.grace);
        let address = self.process()?.address();
        while Instant::now() < self.cause() + by {
            match Wire::connect(address, CLOSED_LIMIT).await {
                Err(error) if error.fate == Fate::Refused => {
                    self.note("the listener is closed");
                    return Ok(());
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
        Err(Flaw::Seen(format!("the listener still takes connections {} after the signal", ms(by))))
    }

    /// Waits for the end of the process and judges time and code. No slack is added here.
    pub(crate) async fn exits(&mut self, ends: &[Ended], window: Window) -> Result<(), Flaw> {
        let patience = (window.base + window.by).saturating_duration_since(Instant::now());
        let limit = patience.max(self.subject.grace) + EXIT_PATIENCE;
        let Some(process) = self.process.as_mut() else {
            return self.process().map(drop);
        };
        let Some(exit) = process.wait(limit).await else {
            let seen = window.base.elapsed();
            return Err(Flaw::Seen(format!("still running after {}", ms(seen))));
        };
        self.ended(exit);
        self.notes.push((exit.at, None, format!("ended: {}", exit.ended)));
        judge(exit, ends, window)
    }

    /// Waits for the end of the process, whatever it is.
    pub(crate) async fn ends(&mut self, limit: Duration) -> Result<Exit, Flaw> {
        let Some(process) = self.process.as_mut() else {
            return Err(Flaw::Seen("nothing was started".to_owned()));
        };
        let ended = process.wait(limit).await;
        if let Some(exit) = ended {
            self.ended(exit);
        }
        ended.ok_or_else(|| Flaw::Seen(format!("still running after {}", ms(limit))))
    }

    /// Writes down the end of the process, and what ended with it.
    fn ended(&self, exit: Exit) {
        if let Some(watch) = &self.watch {
            watch.ended(&self.log, exit);
        }
        self.log.exited(exit);
    }

    /// For the record: one that was cut off by its process' end is judged before the end is told.
    pub(crate) async fn last_look(&mut self) {
        if let (Some(_), Some(process)) = (self.cause, self.process.as_mut()) {
            let _exit = process.wait(LAST_LOOK).await;
        }
    }

    /// Must end with the clean code until so long after T (slack is added), and before SIGKILL
    /// would come.
    pub(crate) async fn exits_clean(&mut self, by: Duration) -> Result<(), Flaw> {
        let by = (by + self.subject.slack).min(self.subject.grace);
        let window = Window { base: self.cause(), from: Duration::ZERO, by };
        self.exits(&self.clean_ends(), window).await
    }

    /// When everything silent must have been closed: C and the idle timeout.
    pub(crate) fn idle_end(&self) -> Duration {
        self.subject.lame_duck + self.subject.idle_drain_timeout
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push((Instant::now(), None, text.into()));
        if self.cause.is_some() {
            self.settle_times();
        }
    }

    pub(crate) fn verdict(
        mut self,
        scenario: &'static Scenario,
        outcome: Outcome,
        elapsed: Duration,
    ) -> Verdict {
        self.settle_times();
        let exit = self.process.as_ref().and_then(Process::exit);
        if let Some(exit) = exit {
            self.ended(exit);
        }
        let evidence = self.notes.into_iter();
        let evidence =
            evidence.map(|(_, since_signal_ms, text)| Evidence { since_signal_ms, text }).collect();
        Verdict {
            scenario,
            outcome,
            evidence,
            elapsed,
            exit,
            events: self.lossy.unwrap_or(self.log).events(),
            ledger: self.ledger,
            output: self.process.as_ref().map(Process::lines).unwrap_or_default(),
        }
    }

    /// Gives each note that has no time yet its time since the present signal.
    fn settle_times(&mut self) {
        let Some((cause, _)) = self.cause else { return };
        for (at, since, _) in &mut self.notes {
            since.get_or_insert_with(|| signed_ms(*at, cause));
        }
    }
}

fn judge(exit: Exit, ends: &[Ended], window: Window) -> Result<(), Flaw> {
    let took = exit.at.saturating_duration_since(window.base);
    ensure(ends.contains(&exit.ended), || {
        format!("{} after {}, expected {}", exit.ended, ms(took), any_of(ends))
    })?;
    ensure(took >= window.from, || {
        format!("gone after {}, expected not before {}", ms(took), ms(window.from))
    })?;
    ensure(took <= window.by, || format!("gone after {}, expected by {}", ms(took), ms(window.by)))
}

/// "code 0 or 3 or signal 15".
fn any_of(ends: &[Ended]) -> String {
    let (mut text, mut kind_before) = (String::new(), "");
    for end in ends {
        let (kind, number) = match end {
            Ended::Code(code) => ("code ", code),
            Ended::Signal(number) => ("signal ", number),
        };
        let or = if text.is_empty() { "" } else { " or " };
        let kind_again = if kind == kind_before { "" } else { kind };
        text.push_str(&format!("{or}{kind_again}{number}"));
        kind_before = kind;
    }
    text
}

fn signed_ms(at: Instant, cause: Instant) -> i64 {
    let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    if at >= cause { ms(at.duration_since(cause)) } else { -ms(cause.duration_since(at)) }
}

const POLL: Duration = Duration::from_millis(20);
const PROBE_LIMIT: Duration = Duration::from_secs(1);
const CLOSED_LIMIT: Duration = Duration::from_millis(300);
const LAST_LOOK: Duration = Duration::from_millis(100);
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_time_and_code_of_an_exit() {
        let base = Instant::now();
        let (from, by) = (Duration::from_millis(100), Duration::from_millis(200));
        let window = Window { base, from, by };
        let judge = |ended, at_ms| {
            let at = base + Duration::from_millis(at_ms);
            let ends = [Ended::Code(0), Ended::Code(3), Ended::Signal(2)];
            judge(Exit { ended, at }, &ends, window).map_err(|flaw| flaw.to_string())
        };
        assert_eq!(judge(Ended::Code(0), 150), Ok(()));
        assert_eq!(judge(Ended::Code(3), 200), Ok(()));
        assert_eq!(judge(Ended::Signal(2), 200), Ok(()));
        let seen = judge(Ended::Code(1), 150).unwrap_err();
        assert_eq!(seen, "exit code 1 after 150 ms, expected code 0 or 3 or signal 2");
        assert!(judge(Ended::Signal(15), 150).unwrap_err().contains("killed by signal 15"));
        assert!(judge(Ended::Code(0), 99).unwrap_err().contains("not before 100 ms"));
        assert!(judge(Ended::Code(0), 201).unwrap_err().contains("by 200 ms"));
    }

    #[test]
    fn times_before_the_signal_are_negative() {
        let cause = Instant::now() + Duration::from_secs(1);
        assert_eq!(signed_ms(cause - Duration::from_millis(20), cause), -20);
        assert_eq!(signed_ms(cause + Duration::from_millis(20), cause), 20);
    }
}
