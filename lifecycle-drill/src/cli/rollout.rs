//! `lifecycle-drill rollout`: a rolling update behind haproxy, and the account of its requests.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use lifecycle_drill::{
    ReadyWhen, Subject,
    kubelet::PreStop,
    rollout::{Checks, Opinion, Post, Rollout, RolloutError, RolloutReport},
};

use super::{
    Ended,
    error::CliError,
    note,
    values::{UrlPath, duration, pair, share},
    written::{Destinations, judged},
};

/// What is rolled, under what load, behind what balancer.
#[derive(Args, Debug)]
pub(crate) struct Roll {
    /// How many replicas stand behind the balancer
    #[arg(long, value_name = "COUNT", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=32), help_heading = ROLLED)]
    replicas: u32,
    /// How many times all of them are replaced
    #[arg(long, value_name = "COUNT", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..), help_heading = ROLLED)]
    rolls: u32,
    /// How long a fresh replica is ready before an old one is deleted (minReadySeconds)
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration,
          help_heading = ROLLED)]
    min_ready: Duration,
    /// From the deletion to SIGKILL (terminationGracePeriodSeconds)
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration,
          help_heading = ROLLED)]
    grace: Duration,
    /// A sleep before SIGTERM (preStop)
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration,
          help_heading = ROLLED)]
    pre_stop: Duration,
    /// How long the command serves on after SIGTERM. Only expected: where the balancer may send
    /// for longer than this and preStop, refused connections are no failure of the command
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = ROLLED)]
    lame_duck: Option<Duration>,
    /// The exit code of a replica that lost nothing
    #[arg(long, value_name = "CODE", default_value_t = 0, help_heading = ROLLED)]
    exit_clean: i32,
    /// Another command to put through the same, roll by roll in turn; split at blanks
    #[arg(long, value_name = "CMD2", help_heading = ROLLED)]
    compare_with: Option<String>,

    /// How long the balancer takes to hear that a replica is ready or is being deleted
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration,
          help_heading = BALANCER)]
    endpoint_lag: Duration,
    /// How often the balancer asks for readiness by itself; 0: never
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration,
          help_heading = BALANCER)]
    check_every: Duration,

    /// How many requests are due a second
    #[arg(long, value_name = "COUNT", default_value_t = 2_000,
          value_parser = clap::value_parser!(u32).range(1..), help_heading = LOAD)]
    rate: u32,
    /// How many requests there are at least, for each command
    #[arg(long, value_name = "COUNT", default_value_t = 0, help_heading = LOAD)]
    requests: u64,
    /// The share of requests by h2c, to the balancer and from it to the replicas
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = share,
          help_heading = LOAD)]
    h2_share: f64,
    /// The share of requests that are POST
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = share,
          requires = "post", help_heading = LOAD)]
    post_share: f64,
    /// What is asked for by GET
    #[arg(long, value_name = "PATH", default_value = "/", help_heading = LOAD)]
    get: UrlPath,
    /// What is posted to
    #[arg(long, value_name = "PATH", help_heading = LOAD)]
    post: Option<UrlPath>,
    /// What is posted
    #[arg(long, value_name = "TEXT", default_value = "{}", help_heading = LOAD)]
    post_body: String,
    /// Its Content-Type
    #[arg(long, value_name = "TYPE", default_value = "application/json", help_heading = LOAD)]
    post_type: String,
    /// After what time a request has failed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration,
          help_heading = LOAD)]
    request_timeout: Duration,

    /// Runs this oha (1.12 or later) beside the load, for a second opinion; haproxy counts its
    /// requests too
    #[arg(long, value_name = "PATH", help_heading = LOAD)]
    oha: Option<PathBuf>,

    /// The variable that tells the command its port
    #[arg(long, value_name = "KEY", default_value = "PORT", help_heading = TOLD)]
    port_env: String,
    /// The variable that tells it the address to listen on, 127.0.0.1
    #[arg(long, value_name = "KEY", help_heading = TOLD)]
    host_env: Option<String>,
    /// The variable that tells it HOST:PORT of a probe server apart from the main port
    #[arg(long, value_name = "KEY", help_heading = TOLD)]
    probe_addr_env: Option<String>,
    /// The same for CMD2; without it its probes are on its main port
    #[arg(long, value_name = "KEY", help_heading = TOLD)]
    compare_probe_addr_env: Option<String>,
    /// Sets a variable; {port}, {host}, {addr} and {probe_addr} are filled in, as in ARGS
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, help_heading = TOLD)]
    env: Vec<(String, String)>,
    /// The readiness probe, asked by the kubelet and by the balancer
    #[arg(long, value_name = "PATH", default_value = "/readyz", help_heading = TOLD)]
    ready: UrlPath,

    /// Writes all that was counted as JSON; - is stdout
    #[arg(long, value_name = "FILE", help_heading = WRITTEN)]
    json: Option<PathBuf>,
    /// Writes a page with a picture over time; - is stdout
    #[arg(long, value_name = "FILE", help_heading = WRITTEN)]
    html: Option<PathBuf>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Roll {
    /// Rolls, counts and judges.
    pub(crate) async fn run(self) -> Result<Ended, CliError> {
        let rollout = self.rollout()?;
        let files = Destinations::new([(JSON, &self.json), (HTML, &self.html)])?;
        let told = |rolls: u32, text: &str| {
            note(format_args!("roll {rolls:>3} of {}  {text}", self.rolls));
        };
        let (report, broken) = match rollout.run_telling(told).await {
            Ok(report) => (report, None),
            // What was counted is written all the same.
            Err(RolloutError::BrokenOff { report, source }) => (*report, Some(source)),
            Err(error) => return Err(error.into()),
        };
        let unwritten = files.write(&report.to_string(), |name| match name {
            JSON => report.json() + "\n",
            _ => report.html(),
        });
        let ended = match broken {
            Some(source) => Err(CliError::Rollout(*source)),
            None if self.passed(&report) => Ok(Ended::Passed),
            None => Ok(Ended::Failed),
        };
        judged(ended, unwritten)
    }

    fn rollout(&self) -> Result<Rollout, CliError> {
        let subject = self.subject(&self.command, self.probe_addr_env.as_ref())?;
        let mut rollout = Rollout::new(self.command.join(" "), subject)
            .replicas(self.replicas)
            .rolls(self.rolls)
            .rate(self.rate)
            .requests(self.requests)
            .endpoint_lag(self.endpoint_lag)
            .min_ready(self.min_ready)
            .checks(self.checks())
            .h2_share(self.h2_share)
            .get(self.get.as_str())
            .request_timeout(self.request_timeout);
        if let Some(program) = &self.oha {
            rollout = rollout.oha(program);
        }
        if !self.pre_stop.is_zero() {
            rollout = rollout.pre_stop(PreStop::Sleep(self.pre_stop));
        }
        if let Some(path) = &self.post {
            let (body, content_type) = (self.post_body.clone().into(), self.post_type.clone());
            let post = Post { path: path.clone().into(), body, content_type };
            rollout = rollout.post(post, self.post_share);
        }
        if let Some(other) = &self.compare_with {
            let words: Vec<_> = other.split_whitespace().map(str::to_owned).collect();
            let subject = self.subject(&words, self.compare_probe_addr_env.as_ref())?;
            rollout = rollout.compare_with(other, subject);
        }
        Ok(rollout)
    }

    fn checks(&self) -> Checks {
        match self.check_every {
            Duration::ZERO => Checks::Off,
            period => Checks::Every(period),
        }
    }

    fn subject(
        &self,
        command: &[String],
        probe_addr_env: Option<&String>,
    ) -> Result<Subject, CliError> {
        let (program, args) = command.split_first().ok_or(CliError::NoCommand)?;
        let mut subject = Subject::new(program)
            .args(args)
            .port_env(&self.port_env)
            .ready_path(self.ready.clone())
            .ready_when(ReadyWhen::Http(self.ready.clone().into()))
            .grace(self.grace);
        if let Some(key) = &self.host_env {
            subject = subject.host_env(key);
        }
        if let Some(key) = probe_addr_env {
            subject = subject.probe_addr_env(key);
        }
        Ok(self.env.iter().fold(subject, |subject, (key, value)| subject.env(key, value)))
    }

    /// Nothing failed, or nothing but what the balancer turned away where it is said to send to
    /// whom nobody listens any more; oha says the same; and every replica ended by itself.
    fn passed(&self, report: &RolloutReport) -> bool {
        let first = report.first();
        let serves = self.lame_duck.map(|lame_duck| lame_duck + self.pre_stop);
        let may_refuse = serves.is_some_and(|serves| serves <= self.endpoint_lag);
        let excused = if may_refuse { first.turned_away() } else { 0 };
        let oha_failed = report.oha().map_or(0, Opinion::failed);
        let complaints = [
            (first.lost() > 0, "requests were lost"),
            (first.failed() > excused, "requests failed"),
            (first.failed() == first.requests(), "nothing was answered"),
            (oha_failed > 0 && !may_refuse, "requests of oha failed"),
            (
                first.ended_badly(self.exit_clean) > 0,
                "replicas were killed, or ended with another exit code (--exit-clean)",
            ),
        ];
        let mut passed = true;
        for (_, complaint) in complaints.iter().filter(|(applies, _)| *applies) {
            note(format_args!("failed: {complaint}"));
            passed = false;
        }
        passed
    }
}

const JSON: &str = "--json";
const HTML: &str = "--html";
const ROLLED: &str = "What is replaced, and how";
const BALANCER: &str = "The balancer";
const LOAD: &str = "The load";
const TOLD: &str = "How a replica is started and asked";
const WRITTEN: &str = "What is written";
