//! A private RabbitMQ: a node of its own with an epmd of its own, gone when it is dropped.
//!
//! It is some five seconds in starting: one for as many tests as it can serve.

use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use super::server::{Server, free_port, needs};

/// A RabbitMQ node with the user `guest`, killed on drop.
#[derive(Debug)]
pub struct PrivateRabbit {
    /// `None` while it is stopped. Before what it needs, so that it is dropped first.
    server: Option<Server>,
    /// Where nodes find each other, and `rabbitmqctl` its node.
    _epmd: Server,
    folder: TempDir,
    port: u16,
    distribution: u16,
    names: u16,
}

const CONFIGURATION: &str = "rabbitmq.conf";
/// Nodes meet on this machine only, and a scheduler without work sleeps: by default it spins
/// for a while, on cores that the test needs.
const ERLANG: &str =
    "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none";

impl PrivateRabbit {
    /// Starts one.
    ///
    /// # Panics
    /// When the package is missing, or it does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the processes are killed.
    pub async fn start() -> Self {
        Box::pin(Self::with("")).await
    }

    /// Starts one with this in its configuration file, `rabbitmq.conf`.
    ///
    /// # Panics
    /// When the package is missing, or it does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the processes are killed.
    pub async fn with(configuration: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let names = free_port();
        let mut epmd = Command::new(needs(&["/usr/bin/epmd"], "rabbitmq-server"));
        epmd.args(["-port", &names.to_string(), "-address", "127.0.0.1"]);
        let own = folder.path().join("epmd");
        std::fs::create_dir(&own).expect("a folder");
        let epmd = Box::pin(Server::start(epmd, &own, names)).await;
        std::fs::write(folder.path().join("plugins"), "[].").expect("a file");
        std::fs::write(folder.path().join(CONFIGURATION), configuration).expect("a file");
        let (port, distribution) = (free_port(), free_port());
        let mut this = Self { server: None, _epmd: epmd, folder, port, distribution, names };
        Box::pin(this.start_again()).await;
        this
    }

    /// Starts it again where it was, on the same port with the same data.
    ///
    /// # Panics
    /// When it does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn start_again(&mut self) {
        let command = self.command("rabbitmq-server");
        self.server = Some(Box::pin(Server::start(command, self.folder.path(), self.port)).await);
    }

    /// Stops it: SIGTERM.
    ///
    /// # Panics
    /// When it does not end within 60 s.
    ///
    /// # Cancel safety
    /// Cancel safe: it has been told, and is killed on drop.
    pub async fn stop(&mut self) {
        self.end(Signal::TERM).await;
    }

    /// Kills it.
    ///
    /// # Panics
    /// When it does not end.
    ///
    /// # Cancel safety
    /// Cancel safe: it has been killed.
    pub async fn kill(&mut self) {
        self.end(Signal::KILL).await;
    }

    async fn end(&mut self, signal: Signal) {
        if let Some(server) = self.server.take() {
            server.end(signal).await;
        }
    }

    /// Stops its clock: it keeps its sockets and answers nobody.
    pub fn pause(&self) {
        if let Some(server) = &self.server {
            server.pause();
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        if let Some(server) = &self.server {
            server.resume();
        }
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder, gone with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of `guest` on the default virtual host.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// What `rabbitmqctl` says to that command. It takes a second or two.
    ///
    /// # Panics
    /// When it fails.
    ///
    /// # Cancel safety
    /// Not cancel safe: the command may have been carried out.
    pub async fn ctl(&self, command: &[&str]) -> String {
        let mut ctl = self.command("rabbitmqctl");
        ctl.arg("--quiet").args(command).stdin(Stdio::null()).kill_on_drop(true);
        let output = ctl.output().await.expect("rabbitmqctl starts");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rabbitmqctl {command:?}: {said} {errors}");
        said
    }

    /// One of RabbitMQ's own programs, not those in the path, which change the user.
    fn command(&self, program: &str) -> Command {
        let path = format!("/usr/lib/rabbitmq/bin/{program}");
        let mut command = Command::new(needs(&[&path], "rabbitmq-server"));
        let folder = self.folder.path();
        for (name, value) in [
            ("RABBITMQ_NODENAME", "lifecycle@localhost"),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1"),
            ("RABBITMQ_NODE_PORT", &self.port.to_string()),
            ("RABBITMQ_DIST_PORT", &self.distribution.to_string()),
            ("ERL_EPMD_PORT", &self.names.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1"),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null"),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG),
            // Its script is then replaced by the node: a signal meets the node itself.
            ("RUNNING_UNDER_SYSTEMD", "true"),
        ] {
            command.env(name, value);
        }
        for (name, file) in [
            ("HOME", ""),
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_CONFIG_FILE", CONFIGURATION),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
        ] {
            command.env(name, folder.join(file));
        }
        command
    }
}
