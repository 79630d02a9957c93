//! Private Redis servers, alone or as a cluster. Not here: any client but `redis-cli`.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::server::{Server, free_port, needs};

/// A Redis server with a folder of its own, killed on drop.
///
/// What it has acknowledged outlives [`restart`](Self::restart): it writes an append-only file
/// before it answers. It does not sync it, since only the process is killed, not the machine.
#[derive(Debug)]
pub struct PrivateRedis {
    /// `None` while it is stopped.
    server: Option<Server>,
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    password: Option<String>,
}

impl PrivateRedis {
    /// Starts one.
    ///
    /// # Panics
    /// When the package is missing, or it does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn start() -> Self {
        Self::with(&[], None).await
    }

    /// Starts one that asks for that password.
    ///
    /// # Panics
    /// When the package is missing, or it does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn with_password(password: &str) -> Self {
        Self::with(&["--requirepass", password], Some(password)).await
    }

    /// Starts one with those further options.
    ///
    /// # Panics
    /// When the package is missing, or it does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn with(options: &[&str], password: Option<&str>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let password = password.map(str::to_owned);
        let mut redis = Self { server: None, folder, port: free_port(), options, password };
        Box::pin(redis.start_again()).await;
        redis
    }

    /// Starts it again where it was, on the same port with the same data.
    ///
    /// # Panics
    /// When it does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn start_again(&mut self) {
        let mut command = Command::new(needs(&["/usr/bin/redis-server"], "redis-server"));
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir"]);
        command.arg(self.folder.path()).args(["--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "no", "--daemonize", "no"]).args(&self.options);
        let started = Box::pin(Server::start(command, self.folder.path(), self.port));
        self.server = Some(started.await);
        self.wait_for("ping", &["ping"], |said| said.contains("PONG")).await;
    }

    /// Stops it: SIGTERM.
    ///
    /// # Panics
    /// When it does not end within 60 s.
    ///
    /// # Cancel safety
    /// Cancel safe: it has been told, and is killed on drop.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.end(Signal::TERM).await;
        }
    }

    /// Kills it and starts it again with its data.
    ///
    /// # Panics
    /// When it does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn restart(&mut self) {
        if let Some(server) = self.server.take() {
            server.end(Signal::KILL).await;
        }
        self.start_again().await;
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

    /// Its URL, with the password.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same at another port, for a proxy's.
    #[must_use]
    pub fn url_at(&self, port: u16) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{port}"),
            None => format!("redis://127.0.0.1:{port}"),
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

    /// What `redis-cli` says to that command.
    ///
    /// # Panics
    /// When it cannot be started.
    ///
    /// # Cancel safety
    /// Not cancel safe: the command may have been carried out.
    pub async fn cli(&self, command: &[&str]) -> String {
        let mut cli = Command::new(needs(&["/usr/bin/redis-cli"], "redis-tools"));
        cli.args(["-p", &self.port.to_string()]).kill_on_drop(true);
        if let Some(password) = &self.password {
            cli.args(["--no-auth-warning", "-a", password]);
        }
        let output = cli.args(command).output().await.expect("redis-cli starts");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    async fn wait_for(&self, what: &str, command: &[&str], is_so: impl Fn(&str) -> bool) {
        let limit = Instant::now() + LIMIT;
        loop {
            let said = self.cli(command).await;
            if is_so(&said) {
                return;
            }
            assert!(Instant::now() < limit, "no {what} within {LIMIT:?}: {said}");
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// A cluster of servers without replicas, killed on drop.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<PrivateRedis>,
}

impl RedisCluster {
    /// Starts so many nodes, which share the slots, and waits until all agree.
    ///
    /// # Panics
    /// When the package is missing, or they do not agree within 30 s.
    ///
    /// # Cancel safety
    /// Cancel safe: the processes are killed.
    pub async fn start(count: usize) -> Self {
        let mut nodes = Vec::new();
        for at in 0..count {
            let bus = free_port().to_string();
            let options = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            let node = Box::pin(PrivateRedis::with(&options, None)).await;
            let (first, last) = (SLOTS * at / count, SLOTS * (at + 1) / count - 1);
            let (first, last) = (first.to_string(), last.to_string());
            node.cli(&["cluster", "addslotsrange", &first, &last]).await;
            if let Some(other) = nodes.first().map(PrivateRedis::port) {
                let other_bus = bus_of(&nodes[0]).await;
                let other = other.to_string();
                node.cli(&["cluster", "meet", "127.0.0.1", &other, &other_bus]).await;
            }
            nodes.push(node);
        }
        for node in &nodes {
            let agree = |said: &str| {
                said.contains("cluster_state:ok")
                    && said.contains(&format!("cluster_known_nodes:{count}"))
            };
            node.wait_for("agreement", &["cluster", "info"], agree).await;
        }
        Self { nodes }
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[PrivateRedis] {
        &self.nodes
    }

    /// Its nodes, to stop them and start them again.
    #[must_use]
    pub fn nodes_mut(&mut self) -> &mut [PrivateRedis] {
        &mut self.nodes
    }

    /// Their URLs.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(PrivateRedis::url).collect()
    }
}

async fn bus_of(node: &PrivateRedis) -> String {
    let said = node.cli(&["config", "get", "cluster-port"]).await;
    said.lines().last().unwrap_or_default().to_owned()
}

const SLOTS: usize = 16384;
const LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
