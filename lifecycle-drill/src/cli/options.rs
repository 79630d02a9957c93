//! The command under test and the choice of scenarios, as options and as keys of `drill.toml`.
//!
//! One struct for both, so that they cannot drift apart: `--lame-duck 2s` is
//! `lame-duck = "2s"`. Where they differ by nature (repeated `KEY=VALUE` arguments), the file
//! has a table.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use lifecycle_drill::{
    ExitCodes, ReadyWhen, Routes, Scenario, Signal, Subject, Theme, by_name, scenarios,
};
use serde::Deserialize;

use super::{
    error::CliError,
    report::Readiness,
    values::{
        CleanExit, ProtocolName, ReportName, RouteName, SignalName, UrlPath, duration,
        duration_in_file, header, headers_in_file, host, host_in_file, pair, pair_in_file, route,
        routes_in_file, table, theme, themes_in_file,
    },
};

/// What is drilled, and by which scenarios.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Options {
    /// Reads the options that are not given here from this file [default: drill.toml, if there]
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,

    /// The variable that tells the command its port [default: PORT]
    #[arg(long, value_name = "KEY", help_heading = TOLD)]
    port_env: Option<String>,
    /// The variable that tells it the address to listen on, 127.0.0.1
    #[arg(long, value_name = "KEY", help_heading = TOLD)]
    host_env: Option<String>,
    /// The variable that tells it HOST:PORT of a probe server apart from the main port
    #[arg(long, value_name = "KEY", help_heading = TOLD)]
    probe_addr_env: Option<String>,
    /// Sets a variable; {port}, {host}, {addr} and {probe_addr} are filled in, as in ARGS
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, help_heading = TOLD)]
    #[serde(deserialize_with = "table")]
    env: Vec<(String, String)>,
    /// The variable that makes its event loop single-threaded, for a scenario that blocks it
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, help_heading = TOLD)]
    #[serde(deserialize_with = "pair_in_file")]
    single_thread_env: Option<(String, String)>,
    /// The directory to start it in
    #[arg(long, value_name = "PATH", help_heading = TOLD)]
    dir: Option<PathBuf>,
    /// Runs it as PID 1 of a PID namespace, where signals without a handler are dropped
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = TOLD)]
    pid_1: Option<bool>,

    /// The readiness probe: the command is ready when this path answers 200
    #[arg(long, value_name = "PATH", help_heading = READY)]
    ready: Option<UrlPath>,
    /// It is ready when it prints this line, instead
    #[arg(long, value_name = "LINE", help_heading = READY)]
    ready_line: Option<String>,
    /// It is ready when it prints a line that contains this, instead
    #[arg(long, value_name = "TEXT", conflicts_with = "ready_line", help_heading = READY)]
    ready_text: Option<String>,
    /// It is ready when its port takes a connection (the default without --ready)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", conflicts_with_all = ["ready_line", "ready_text"],
          help_heading = READY)]
    ready_port: Option<bool>,
    /// The path of the liveness probe
    #[arg(long, value_name = "PATH", help_heading = READY)]
    live: Option<UrlPath>,
    /// The path of the startup probe
    #[arg(long, value_name = "PATH", help_heading = READY)]
    startup: Option<UrlPath>,

    /// What it can be asked for: quick=/, work=/sleep?ms={ms}, echo=, big=/x?n={bytes},
    /// events=, ws=, block=, pool=, panic=
    #[arg(long = "route", value_name = "NAME=PATH", value_parser = route, help_heading = SPEAKS)]
    #[serde(deserialize_with = "routes_in_file")]
    routes: Vec<(RouteName, UrlPath)>,
    /// All routes under the names of the `target` example: /work?ms={ms}, /echo, ..
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = SPEAKS)]
    conventional_routes: Option<bool>,
    /// Which versions of HTTP the main port speaks [default: http1]
    #[arg(long, value_enum, help_heading = SPEAKS)]
    protocol: Option<ProtocolName>,
    /// The main port speaks TLS, with any certificate
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = SPEAKS)]
    tls: Option<bool>,

    /// Whom requests are for, with a port or without: `Host`, `:authority`, TLS' server name
    /// [default: its address and port]
    #[arg(long, value_name = "HOST", value_parser = host, help_heading = SPEAKS)]
    #[serde(deserialize_with = "host_in_file")]
    host: Option<String>,
    /// Added to every request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header,
          help_heading = SPEAKS)]
    #[serde(deserialize_with = "headers_in_file")]
    headers: Vec<(String, String)>,

    /// From the signal until the platform would send SIGKILL [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = EXPECTED)]
    #[serde(deserialize_with = "duration_in_file")]
    grace: Option<Duration>,
    /// How long it serves on after the signal, its readiness failing already [default: 0]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = EXPECTED)]
    #[serde(deserialize_with = "duration_in_file")]
    lame_duck: Option<Duration>,
    /// How long a silent connection may hold the drain [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = EXPECTED)]
    #[serde(deserialize_with = "duration_in_file")]
    idle_drain_timeout: Option<Duration>,
    /// Added to upper bounds, for noisy machines, but never past the grace period or what the
    /// lame duck leaves [default: 0.7s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = EXPECTED)]
    #[serde(deserialize_with = "duration_in_file")]
    slack: Option<Duration>,
    /// How long it may take to become ready [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = EXPECTED)]
    #[serde(deserialize_with = "duration_in_file")]
    start_timeout: Option<Duration>,
    /// The clients' limit for one request, never less than the lame duck and 5s [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = EXPECTED)]
    #[serde(deserialize_with = "duration_in_file")]
    request_timeout: Option<Duration>,
    /// The signal that the platform stops it with [default: SIGTERM]
    #[arg(long, value_enum, help_heading = EXPECTED)]
    signal: Option<SignalName>,
    /// The exit code of a stop that lost nothing, or `signal`: it ends by the signal that asked
    /// for it, or with 128 and its number [default: 0]
    #[arg(long, value_name = "CODE", help_heading = EXPECTED)]
    exit_clean: Option<CleanExit>,
    /// The exit code of a stop whose deadline cut work [default: 3]
    #[arg(long, value_name = "CODE", help_heading = EXPECTED)]
    exit_cut: Option<i32>,
    /// Added to the number of a further signal that forced the stop [default: 128]
    #[arg(long, value_name = "CODE", help_heading = EXPECTED)]
    exit_forced_base: Option<i32>,
    /// Whether its output names the requests that were cut [default: unnamed]
    #[arg(long, value_enum, help_heading = EXPECTED)]
    blocker_report: Option<ReportName>,

    /// Only scenarios of this theme; may be repeated, or separated by commas
    #[arg(long = "theme", value_name = "THEME", value_delimiter = ',', value_parser = theme,
          help_heading = PLAYED)]
    #[serde(rename = "theme", deserialize_with = "themes_in_file")]
    themes: Vec<Theme>,
    /// Only the scenarios of these names
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = PLAYED)]
    only: Vec<String>,
    /// Not the scenarios of these names
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = PLAYED)]
    skip: Vec<String>,
    /// How many times each scenario of the load theme stops it; load-keep-alive-think a third of
    /// that [default: 30]
    #[arg(long, value_name = "COUNT", help_heading = PLAYED)]
    stops: Option<u32>,
    /// How many scenarios are played at once; those of the load theme alone [default: 4]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..),
          help_heading = PLAYED)]
    jobs: Option<u16>,

    /// Writes all that was found as JSON; - is stdout
    #[arg(long, value_name = "FILE", help_heading = WRITTEN)]
    pub(crate) json: Option<PathBuf>,
    /// Writes the outcomes as JUnit's XML; - is stdout
    #[arg(long, value_name = "FILE", help_heading = WRITTEN)]
    pub(crate) junit: Option<PathBuf>,
    /// Writes a page with a timeline picture for each scenario; - is stdout
    #[arg(long, value_name = "FILE", help_heading = WRITTEN)]
    pub(crate) html: Option<PathBuf>,

    /// The command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

impl Options {
    /// These, and for what they leave out those of the file.
    pub(crate) fn over(self, file: Self) -> Self {
        let either = |ours: Vec<String>, file| if ours.is_empty() { file } else { ours };
        // Who names scenarios or themes here means these, whatever the file chooses or skips.
        let left = file.skip.into_iter().filter(|name| !self.only.contains(name));
        let skip = either(self.skip, left.collect());
        let (themes, only) = if self.themes.is_empty() && self.only.is_empty() {
            (file.themes, file.only)
        } else {
            (self.themes, self.only)
        };
        // What makes it ready is one decision: a line given here replaces a text given there.
        let says_when = self.ready_line.is_some() || self.ready_text.is_some();
        let when = if says_when || self.ready_port.is_some() {
            (self.ready_line, self.ready_text, self.ready_port)
        } else {
            (file.ready_line, file.ready_text, file.ready_port)
        };
        let is_ours =
            |name: &str| self.headers.iter().any(|(ours, _)| ours.eq_ignore_ascii_case(name));
        let kept = file.headers.into_iter().filter(|(name, _)| !is_ours(name)).collect();
        Self {
            config: self.config,
            port_env: self.port_env.or(file.port_env),
            host_env: self.host_env.or(file.host_env),
            probe_addr_env: self.probe_addr_env.or(file.probe_addr_env),
            // The later of two values of a variable or route counts.
            env: [file.env, self.env].concat(),
            single_thread_env: self.single_thread_env.or(file.single_thread_env),
            dir: self.dir.or(file.dir),
            pid_1: self.pid_1.or(file.pid_1),
            ready: self.ready.or(file.ready),
            ready_line: when.0,
            ready_text: when.1,
            ready_port: when.2,
            live: self.live.or(file.live),
            startup: self.startup.or(file.startup),
            routes: [file.routes, self.routes].concat(),
            conventional_routes: self.conventional_routes.or(file.conventional_routes),
            protocol: self.protocol.or(file.protocol),
            tls: self.tls.or(file.tls),
            host: self.host.or(file.host),
            headers: [kept, self.headers].concat(),
            grace: self.grace.or(file.grace),
            lame_duck: self.lame_duck.or(file.lame_duck),
            idle_drain_timeout: self.idle_drain_timeout.or(file.idle_drain_timeout),
            slack: self.slack.or(file.slack),
            start_timeout: self.start_timeout.or(file.start_timeout),
            request_timeout: self.request_timeout.or(file.request_timeout),
            signal: self.signal.or(file.signal),
            exit_clean: self.exit_clean.or(file.exit_clean),
            exit_cut: self.exit_cut.or(file.exit_cut),
            exit_forced_base: self.exit_forced_base.or(file.exit_forced_base),
            blocker_report: self.blocker_report.or(file.blocker_report),
            themes,
            only,
            skip,
            stops: self.stops.or(file.stops),
            jobs: self.jobs.or(file.jobs),
            json: self.json.or(file.json),
            junit: self.junit.or(file.junit),
            html: self.html.or(file.html),
            command: either(self.command, file.command),
        }
    }

    /// The command as it is started and what is expected of it.
    pub(crate) fn subject(&self) -> Result<Subject, CliError> {
        let (program, args) = self.command.split_first().ok_or(CliError::NoCommand)?;
        let (lame_duck, grace) = (self.lame_duck(), self.grace());
        if lame_duck >= grace {
            return Err(CliError::LameDuckTooLong { lame_duck, grace });
        }
        let exits = match self.exit_clean {
            None => ExitCodes::new(),
            Some(CleanExit::Code(code)) => ExitCodes::new().clean(code),
            Some(CleanExit::Signal) => ExitCodes::new().clean_by_signal(),
        };
        let exits =
            exits.cut(self.exit_cut.unwrap_or(3)).forced_base(self.exit_forced_base.unwrap_or(128));
        let mut subject = Subject::new(program)
            .args(args)
            .ready_when(self.ready_when())
            .protocol(self.protocol.unwrap_or(ProtocolName::Http1).into())
            .blocker_report(self.blocker_report.unwrap_or(ReportName::Unnamed).into())
            .exit_codes(exits)
            .grace(grace)
            .lame_duck(lame_duck)
            .routes(self.routes())
            .stop_signal(self.stop_signal())
            .without_probes();
        for (key, value) in &self.env {
            subject = subject.env(key, value);
        }
        subject = with(subject, &self.port_env, Subject::port_env);
        subject = with(subject, &self.host_env, Subject::host_env);
        subject = with(subject, &self.probe_addr_env, Subject::probe_addr_env);
        subject = with(subject, &self.single_thread_env, |subject, (key, value)| {
            subject.single_thread_env(key, value)
        });
        for (name, value) in &self.headers {
            subject = subject.header(name, value);
        }
        subject = with(subject, &self.host, Subject::host);
        subject = with(subject, &self.dir, Subject::current_dir);
        subject = with(subject, &self.ready, Subject::ready_path);
        subject = with(subject, &self.live, Subject::live_path);
        subject = with(subject, &self.startup, Subject::startup_path);
        subject = with(subject, &self.idle_drain_timeout, Subject::idle_drain_timeout);
        subject = with(subject, &self.slack, Subject::slack);
        subject = with(subject, &self.start_timeout, Subject::start_timeout);
        subject = with(subject, &self.request_timeout, Subject::request_timeout);
        subject = with(subject, &self.stops, Subject::stop_count);
        if self.tls == Some(true) {
            subject = subject.tls();
        }
        Ok(if self.pid_1 == Some(true) { subject.as_pid_1() } else { subject })
    }

    /// The scenarios that were chosen, in their order.
    pub(crate) fn chosen(&self) -> Result<Vec<&'static Scenario>, CliError> {
        let named = self.only.iter().chain(&self.skip);
        if let Some(unknown) = named.into_iter().find(|name| by_name(name).is_none()) {
            return Err(CliError::NoScenario(unknown.clone()));
        }
        let is_in = |names: &[String], one: &Scenario| names.iter().any(|name| name == one.name());
        let chosen: Vec<_> = scenarios()
            .iter()
            .filter(|one| self.themes.is_empty() || self.themes.contains(&one.theme()))
            .filter(|one| self.only.is_empty() || is_in(&self.only, one))
            .filter(|one| !is_in(&self.skip, one))
            .collect();
        if chosen.is_empty() { Err(CliError::NothingPlayed(NONE_CHOSEN)) } else { Ok(chosen) }
    }

    /// How many at once.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.map_or(JOBS, usize::from).max(1)
    }

    /// The lame duck that is expected.
    pub(crate) fn lame_duck(&self) -> Duration {
        self.lame_duck.unwrap_or_default()
    }

    /// The grace period that is expected.
    pub(crate) fn grace(&self) -> Duration {
        self.grace.unwrap_or(GRACE)
    }

    /// What the platform stops it with.
    pub(crate) fn stop_signal(&self) -> Signal {
        self.signal.unwrap_or(SignalName::Term).into()
    }

    /// Whether there is a readiness probe.
    pub(crate) fn readiness(&self) -> Readiness {
        if self.ready.is_some() { Readiness::Probed } else { Readiness::Unknown }
    }

    fn ready_when(&self) -> ReadyWhen {
        match (&self.ready_line, &self.ready_text, self.ready_port, &self.ready) {
            (Some(line), ..) => ReadyWhen::Line(line.clone()),
            (None, Some(part), ..) => ReadyWhen::LineContains(part.clone()),
            (None, None, Some(true), _) | (None, None, _, None) => ReadyWhen::Connects,
            (None, None, _, Some(path)) => ReadyWhen::Http(path.clone().into()),
        }
    }

    fn routes(&self) -> Routes {
        let routes = match self.conventional_routes {
            Some(true) => Routes::conventional(),
            _ => Routes::new(),
        };
        self.routes.iter().fold(routes, |routes, (name, path)| match (name, path.as_str()) {
            (RouteName::Big, path) => routes.big(path),
            (RouteName::Block, path) => routes.block(path),
            (RouteName::Echo, path) => routes.echo(path),
            (RouteName::Events, path) => routes.events(path),
            (RouteName::Panic, path) => routes.panic(path),
            (RouteName::Pool, path) => routes.pool(path),
            (RouteName::Quick, path) => routes.quick(path),
            (RouteName::Work, path) => routes.work(path),
            (RouteName::Ws, path) => routes.ws(path),
        })
    }
}

/// The subject with the value, if there is one.
fn with<T: Clone>(subject: Subject, value: &Option<T>, set: fn(Subject, T) -> Subject) -> Subject {
    match value {
        Some(value) => set(subject, value.clone()),
        None => subject,
    }
}

const TOLD: &str = "How it is started";
const READY: &str = "When it is ready, and its probes";
const SPEAKS: &str = "What it offers";
const EXPECTED: &str = "What is expected of it";
const PLAYED: &str = "What is played";
const WRITTEN: &str = "What is written";
const NONE_CHOSEN: &str = "the options leave no scenario";
const JOBS: usize = 4;
/// Docker's own default, as [`Subject::new`] has it.
const GRACE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str) -> Options {
        toml::from_str(file).unwrap()
    }

    fn names(options: &Options) -> Vec<&str> {
        options.chosen().unwrap().into_iter().map(Scenario::name).collect()
    }

    #[test]
    fn what_is_named_on_the_command_line_is_played_whatever_the_file_chooses() {
        let file = || read("theme = ['load']\nskip = ['http1-in-flight', 'load-http2']");
        let only = |names: &[&str]| Options {
            only: names.iter().map(ToString::to_string).collect(),
            ..Options::default()
        };
        let named = only(&["http1-in-flight"]).over(file());
        assert_eq!(names(&named), ["http1-in-flight"]);
        let themed = Options { themes: vec![Theme::Http1], ..Options::default() }.over(file());
        assert!(!names(&themed).contains(&"http1-in-flight"));
        assert!(names(&themed).contains(&"http1-half-head"));
        let silent = Options::default().over(file());
        assert!(
            names(&silent).iter().all(|name| name.starts_with("load-") && *name != "load-http2")
        );
        // Both here: that is what was asked for.
        let both = Options { skip: vec!["http1-in-flight".into()], ..only(&["http1-half-head"]) };
        assert_eq!(names(&both.over(file())), ["http1-half-head"]);
    }

    #[test]
    fn a_header_replaces_the_one_of_the_file_and_leaves_the_others() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let ours = Options { headers: vec![pair("X-A", "ours")], ..Options::default() };
        let both = ours.over(read("[headers]\nx-a = 'theirs'\nx-b = 'theirs'"));
        assert_eq!(both.headers, [pair("x-b", "theirs"), pair("X-A", "ours")]);
    }
}
