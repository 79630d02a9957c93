//! A private NATS server with JetStream. Not here: any client.

use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use super::server::{Server, free_port, needs};

/// A NATS server with a folder of its own, killed on drop.
///
/// What it has acknowledged outlives a stop and a kill of the process, since it is written
/// before; only the machine's end could lose what is not yet synced.
#[derive(Debug)]
pub struct PrivateNats {
    /// `None` while it is stopped.
    server: Option<Server>,
    folder: TempDir,
    port: u16,
}

impl PrivateNats {
    /// Starts one with JetStream, for jobs of up to 8 MB.
    ///
    /// # Panics
    /// When the package is missing, or it does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn start() -> Self {
        Self::with("jetstream: enabled\nmax_payload: 8MB\n").await
    }

    /// Starts one with that configuration, and JetStream only if it says so.
    ///
    /// # Panics
    /// When the package is missing, or it does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn with(configuration: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("nats.conf"), configuration).expect("a file");
        let mut nats = Self { server: None, folder, port: free_port() };
        Box::pin(nats.start_again()).await;
        nats
    }

    /// Starts it again where it was, on the same port with the same data.
    ///
    /// # Panics
    /// When it does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn start_again(&mut self) {
        let mut command = Command::new(needs(&["/usr/sbin/nats-server"], "nats-server"));
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string()]);
        command.arg("-c").arg(self.folder.path().join("nats.conf"));
        command.arg("-sd").arg(self.folder.path().join("js"));
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

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}
