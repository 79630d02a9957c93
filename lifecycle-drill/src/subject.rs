//! The command under test: how to start it, when it is ready, what to expect of it.
//!
//! Not here: starting it ([`Process`](crate::Process)), judging it ([`Scenario`](crate::Scenario)).

use std::{
    ffi::{OsStr, OsString},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::client::{Alpn, Head, Peer, Tls};
use crate::exit_codes::ExitCodes;
use crate::routes::Routes;
use crate::signal::Signal;

/// The command under test, and what is expected of it.
///
/// `{port}`, `{host}`, `{addr}` and `{probe_addr}` in arguments and in the values of
/// environment variables are replaced for each start, for services that take their port as
/// an argument. Times are cut to a year.
///
/// # Examples
/// A Python service that knows no lame duck and has 10 s (Docker's default) to stop:
/// ```
/// use std::time::Duration;
/// use lifecycle_drill::{ReadyWhen, Routes, Subject};
///
/// let subject = Subject::new("python3")
///     .args(["app.py", "--port", "{port}"])
///     .ready_when(ReadyWhen::LineContains("listening".into()))
///     .ready_path("/healthz")
///     .grace(Duration::from_secs(10))
///     .lame_duck(Duration::ZERO)
///     .routes(Routes::new().quick("/").work("/sleep?ms={ms}"));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Subject {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) envs: Vec<(OsString, OsString)>,
    pub(crate) current_dir: Option<PathBuf>,
    pub(crate) port_env: Option<OsString>,
    pub(crate) host_env: Option<OsString>,
    pub(crate) probe_addr_env: Option<OsString>,
    pub(crate) single_thread_env: Option<(OsString, OsString)>,
    pub(crate) pid_1: PidOne,
    pub(crate) ready_path: Option<String>,
    pub(crate) live_path: Option<String>,
    pub(crate) startup_path: Option<String>,
    pub(crate) ready_when: ReadyWhen,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<Tls>,
    pub(crate) host: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) report: BlockerReport,
    pub(crate) routes: Routes,
    pub(crate) exits: ExitCodes,
    pub(crate) stop_signal: Signal,
    pub(crate) grace: Duration,
    pub(crate) lame_duck: Duration,
    pub(crate) idle_drain_timeout: Duration,
    pub(crate) slack: Duration,
    pub(crate) start_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) stop_count: u32,
}

/// How to tell that the process is up and its signal handlers are in place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadyWhen {
    /// The main port takes a TCP connection.
    Connects,
    /// GET of this path on the probe address (the main one if there is no other) answers 200.
    Http(String),
    /// A printed line, blanks at its ends removed, equals this.
    Line(String),
    /// A printed line contains this.
    LineContains(String),
}

/// Which versions of HTTP the main port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1 only: the scenarios of HTTP/2 are skipped.
    #[default]
    Http1,
    /// HTTP/1.1, and HTTP/2: without TLS by prior knowledge (h2c), with it by ALPN.
    Http1AndH2c,
    /// HTTP/2 only, as gRPC servers do: the scenarios of HTTP/1 are skipped, and probes without
    /// an address of their own are asked over HTTP/2.
    Http2Only,
}

/// Whether it runs as PID 1 of a namespace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PidOne {
    No,
    Yes,
}

/// Whether the process says on its output what it cut off at the deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockerReport {
    /// It names method and path of each request that was cut, with its age.
    #[default]
    Named,
    /// It does not: what would look for the names is skipped.
    Unnamed,
}

impl Subject {
    /// A command without arguments, told its port by `PORT`, ready when that port connects.
    ///
    /// Expects a grace period of 10 s (Docker's own default) with no lame duck, and probes at
    /// `/readyz`, `/livez` and `/startupz` of the same port.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            envs: Vec::new(),
            current_dir: None,
            port_env: Some("PORT".into()),
            host_env: None,
            probe_addr_env: None,
            single_thread_env: None,
            pid_1: PidOne::No,
            ready_path: Some("/readyz".to_owned()),
            live_path: Some("/livez".to_owned()),
            startup_path: Some("/startupz".to_owned()),
            ready_when: ReadyWhen::Connects,
            protocol: Protocol::default(),
            tls: None,
            host: None,
            headers: Vec::new(),
            report: BlockerReport::default(),
            routes: Routes::new(),
            exits: ExitCodes::new(),
            stop_signal: Signal::Term,
            grace: Duration::from_secs(10),
            lame_duck: Duration::ZERO,
            idle_drain_timeout: Duration::from_secs(1),
            slack: Duration::from_millis(700),
            start_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            stop_count: 30,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable; the rest of the environment is inherited.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The directory to start it in (default: ours).
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.current_dir = Some(directory.as_ref().to_owned());
        self
    }

    /// The variable that tells the port to listen on (default `PORT`).
    pub fn port_env(mut self, key: impl AsRef<OsStr>) -> Self {
        self.port_env = Some(key.as_ref().to_owned());
        self
    }

    /// The variable that tells the address to listen on: `127.0.0.1` is given.
    pub fn host_env(mut self, key: impl AsRef<OsStr>) -> Self {
        self.host_env = Some(key.as_ref().to_owned());
        self
    }

    /// The variable that tells HOST:PORT of a probe server apart from the main port.
    /// Without it the probes are looked for on the main port.
    pub fn probe_addr_env(mut self, key: impl AsRef<OsStr>) -> Self {
        self.probe_addr_env = Some(key.as_ref().to_owned());
        self
    }

    /// The variable that makes the event loop single-threaded, for the scenario that blocks it.
    pub fn single_thread_env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.single_thread_env = Some((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it as PID 1 of a PID namespace of its own, as in a container without an init: there
    /// a signal without a handler does nothing. Linux; needs util-linux' `unshare`, and root or
    /// user namespaces ([`StartError::NoNamespace`](crate::StartError::NoNamespace)).
    pub fn as_pid_1(mut self) -> Self {
        self.pid_1 = PidOne::Yes;
        self
    }

    /// The path of the readiness probe (default `/readyz`).
    pub fn ready_path(mut self, path: impl Into<String>) -> Self {
        self.ready_path = Some(path.into());
        self
    }

    /// The path of the liveness probe (default `/livez`).
    pub fn live_path(mut self, path: impl Into<String>) -> Self {
        self.live_path = Some(path.into());
        self
    }

    /// The path of the startup probe (default `/startupz`).
    pub fn startup_path(mut self, path: impl Into<String>) -> Self {
        self.startup_path = Some(path.into());
        self
    }

    /// Forgets all probe paths: the scenarios of the probes are skipped unless one is set again.
    pub fn without_probes(mut self) -> Self {
        (self.ready_path, self.live_path, self.startup_path) = (None, None, None);
        self
    }

    /// How to tell that it is ready (default: its port connects).
    pub fn ready_when(mut self, ready_when: ReadyWhen) -> Self {
        self.ready_when = ready_when;
        self
    }

    /// Which versions of HTTP it speaks (default HTTP/1.1 only).
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The main port speaks TLS, with any certificate: it is not verified. Probes without an
    /// address of their own are asked over TLS too.
    pub fn tls(mut self) -> Self {
        self.tls = Some(Tls::new());
        self
    }

    /// Whom requests are for (`Host`, `:authority`, and TLS' server name), for services that
    /// look: a name, with a port or without (default: the address and port that it listens on).
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Adds a header to every request, those of the probes included. It is sent as it is.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Whether it names what it cut off (default: it does).
    pub fn blocker_report(mut self, report: BlockerReport) -> Self {
        self.report = report;
        self
    }

    /// What it can be asked for (default: nothing).
    pub fn routes(mut self, routes: Routes) -> Self {
        self.routes = routes;
        self
    }

    /// The exit codes to expect.
    pub fn exit_codes(mut self, exits: ExitCodes) -> Self {
        self.exits = exits;
        self
    }

    /// The signal that the platform stops it with (default SIGTERM). The theme of the signals
    /// sends others too.
    pub fn stop_signal(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// The time from the signal until the platform would send SIGKILL. Only expected here: tell
    /// the process by [`env`](Self::env), if it wants to know.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace.min(TIME_MAX);
        self
    }

    /// How long it keeps its listener open after the signal. Zero skips what happens meanwhile.
    pub fn lame_duck(mut self, lame_duck: Duration) -> Self {
        self.lame_duck = lame_duck.min(TIME_MAX);
        self
    }

    /// How long a silent connection without a request may hold the drain (default 1 s).
    pub fn idle_drain_timeout(mut self, idle_drain_timeout: Duration) -> Self {
        self.idle_drain_timeout = idle_drain_timeout.min(TIME_MAX);
        self
    }

    /// Added to upper bounds, for noisy machines (default 700 ms). None goes past the grace
    /// period by it, and what has to happen within the lame duck still has.
    pub fn slack(mut self, slack: Duration) -> Self {
        self.slack = slack.min(TIME_MAX);
        self
    }

    /// How long it may take to become ready (default 10 s).
    pub fn start_timeout(mut self, start_timeout: Duration) -> Self {
        self.start_timeout = start_timeout.min(TIME_MAX);
        self
    }

    /// The client's limit for one request (default 10 s; never less than the lame duck and 5 s).
    pub fn request_timeout(mut self, request_timeout: Duration) -> Self {
        self.request_timeout = request_timeout.min(TIME_MAX);
        self
    }

    /// How many times each scenario of the load theme starts and stops it (default 30);
    /// `load-keep-alive-think` a third of that, its clients being slow.
    pub fn stop_count(mut self, stop_count: u32) -> Self {
        self.stop_count = stop_count;
        self
    }

    /// The variables and arguments of one start, holes filled.
    pub(crate) fn fill(&self, text: &OsStr, main: SocketAddr, probes: SocketAddr) -> OsString {
        // Not Unicode means no hole of ours in it that could be told apart: left as it is.
        let Some(text) = text.to_str() else {
            return text.to_owned();
        };
        text.replace("{port}", &main.port().to_string())
            .replace("{host}", &main.ip().to_string())
            .replace("{addr}", &main.to_string())
            .replace("{probe_addr}", &probes.to_string())
            .into()
    }

    /// Where the probes answer, as their clients see it.
    pub(crate) fn probes_at(&self, address: SocketAddr) -> Peer {
        let tls = self.tls.clone().filter(|_| !self.separate_probes());
        let speaks = if self.separate_probes() { Alpn::Http1 } else { self.speaks() };
        Peer { tracer: None, address, tls, speaks, head: self.head(address) }
    }

    /// By what its main port is asked where either would do.
    pub(crate) fn speaks(&self) -> Alpn {
        match self.protocol {
            Protocol::Http1 | Protocol::Http1AndH2c => Alpn::Http1,
            Protocol::Http2Only => Alpn::Http2,
        }
    }

    /// What requests to this address say.
    pub(crate) fn head(&self, address: SocketAddr) -> Arc<Head> {
        Arc::new(Head::new(address, self.host.as_deref(), self.headers.as_slice().into()))
    }

    /// Whether the probes have an address of their own.
    pub(crate) fn separate_probes(&self) -> bool {
        self.probe_addr_env.is_some()
            || self
                .args
                .iter()
                .chain(self.envs.iter().map(|(_, value)| value))
                .any(|text| text.to_string_lossy().contains("{probe_addr}"))
    }
}

/// A year: whoever means longer means for ever.
const TIME_MAX: Duration = Duration::from_secs(365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_ports_into_arguments_and_leaves_the_rest() {
        let subject = Subject::new("x");
        let main = SocketAddr::from(([127, 0, 0, 1], 80));
        let probes = SocketAddr::from(([127, 0, 0, 1], 90));
        let filled =
            subject.fill(OsStr::new("{host}|{port}|{addr}|{probe_addr}|{x}"), main, probes);
        assert_eq!(filled, "127.0.0.1|80|127.0.0.1:80|127.0.0.1:90|{x}");
    }

    #[test]
    fn probes_are_apart_when_a_hole_or_a_variable_says_so() {
        assert!(!Subject::new("x").separate_probes());
        assert!(Subject::new("x").arg("--probes={probe_addr}").separate_probes());
        assert!(Subject::new("x").env("A", "{probe_addr}").separate_probes());
        assert!(Subject::new("x").probe_addr_env("PROBES").separate_probes());
    }

    /// Sums of them are added to the time of day.
    #[test]
    fn no_time_is_so_long_that_a_sum_overflows() {
        let long = Duration::MAX;
        let subject = Subject::new("x").grace(long).lame_duck(long).idle_drain_timeout(long);
        let subject = subject.slack(long).start_timeout(long).request_timeout(long);
        let times = [subject.grace, subject.lame_duck, subject.idle_drain_timeout, subject.slack];
        let more = [subject.start_timeout, subject.request_timeout];
        assert!(times.iter().chain(&more).all(|time| *time == TIME_MAX), "{times:?} {more:?}");
    }
}
