//! A private mock of SQS: moto's server, in Python.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

use super::server::{Server, free_port};

/// A moto server with nothing in it, killed on drop. What it has is gone then.
#[derive(Debug)]
pub struct PrivateMoto {
    server: Server,
    _folder: TempDir,
}

impl PrivateMoto {
    /// Starts one: `MOTO_SERVER`, or the one that `tests/run.sh install` makes.
    ///
    /// # Panics
    /// When it is missing, or does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn start() -> Self {
        let (folder, port) = (TempDir::new().expect("a folder"), free_port());
        let mut command = Command::new(program());
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let server = Box::pin(Server::start(command, folder.path(), port)).await;
        Self { server, _folder: folder }
    }

    /// The URL of the queue of that name.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        let port = self.server.port();
        format!("sqs://key:secret@127.0.0.1:{port}/123456789012/{name}?region=us-east-1")
    }

    /// The server itself, to be paused.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }
}

fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("MOTO_SERVER") {
        return named.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let path = target.unwrap_or(ours).join("tools/moto/bin/moto_server");
    assert!(path.is_file(), "{} is missing: run `tests/run.sh install`", path.display());
    path
}
