//! A private PostgreSQL: a cluster of its own on a port of its own, gone when it is dropped.
//!
//! PostgreSQL refuses to run as root: then it runs as the user `postgres`, who owns the folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use super::server::{Server, free_port, needs, stand_still, stands_still};

/// A PostgreSQL server with one superuser, `postgres`, and one database of that name.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: Option<Server>,
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    password: Option<String>,
}

impl PrivatePostgres {
    /// Starts one that asks nobody for a password.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, or does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts one that asks for that password.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    pub async fn start_with_password(password: &str) -> Self {
        Self::start_with(Some(password.to_owned())).await
    }

    async fn start_with(password: Option<String>) -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("lifecycle-pg-").tempdir().expect("a folder");
        give_away(folder.path());
        let (server, port) = (None, free_port());
        let mut this = Self { server, folder, programs, port, password };
        this.create_cluster();
        this.start_again().await;
        this
    }

    /// The URL of its superuser.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => self.url_of(&format!("postgres:{password}")),
            None => self.url_of("postgres"),
        }
    }

    /// The URL of `user` or `user:password`.
    #[must_use]
    pub fn url_of(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops the clocks of all its processes: their sockets stay, and nobody answers. Returns
    /// when all of them stand still, which takes a moment after the signal.
    ///
    /// # Panics
    /// When it is not running, or they do not within some seconds.
    pub fn pause(&self) {
        // The first one first: it would start others.
        let stopped = self.signal(Signal::STOP);
        stand_still(|| stopped.iter().all(|id| stands_still(*id)));
    }

    /// Lets them go on.
    ///
    /// # Panics
    /// When it is not running.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Stops it: its clients are cut off.
    ///
    /// # Panics
    /// When it does not end.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            // SIGTERM would wait for the clients to leave.
            server.end(Signal::INT).await;
        }
    }

    /// Starts it again, on the same port and data.
    ///
    /// # Panics
    /// When it does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: the process is killed.
    pub async fn start_again(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        let sockets = format!("unix_socket_directories={}", self.folder.path().display());
        let port = format!("port={}", self.port);
        let settings = ["listen_addresses=127.0.0.1", "fsync=off", "full_page_writes=off"];
        for setting in settings.into_iter().chain([&*sockets, &*port]) {
            command.arg("-c").arg(setting);
        }
        let server = Server::start(command.into(), self.folder.path(), self.port).await;
        let mut ready = self.command("pg_isready");
        ready.args(["-q", "-t", "20", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        // It listens before it has recovered. Bound: each asks once, and START_LOOKS of them.
        let is_ready = (0..START_LOOKS).any(|_| ready.status().expect("pg_isready runs").success());
        assert!(is_ready, "not ready: {}", server.tail());
        self.server = Some(server);
    }

    /// Whom it has signalled.
    fn signal(&self, signal: Signal) -> Vec<i32> {
        let id = self.process().expect("it is running");
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.expect("its children are listed");
        let children = children.split_whitespace().map(|id| id.parse::<i32>().expect("an id"));
        let all: Vec<_> = std::iter::once(id).chain(children).collect();
        for id in &all {
            let id = Pid::from_raw(*id).expect("an id");
            // One that has just ended needs no signal.
            if let Err(error) = kill_process(id, signal) {
                assert_eq!(error, rustix::io::Errno::SRCH, "a server can be signalled");
            }
        }
        all
    }

    /// The id of its first process.
    fn process(&self) -> Option<i32> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A new cluster, which takes half a second, or a copy of one that asks for no password.
    fn create_cluster(&self) {
        let mut init = self.command("initdb");
        init.args(["-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync", "-D"]);
        if let Some(password) = &self.password {
            let file = self.folder.path().join("password");
            fs::write(&file, password).expect("a file for the password");
            give_away(&file);
            run(init.arg(self.data()).args(["-A", "scram-sha-256", "--pwfile"]).arg(file));
            return;
        }
        let template = template(&self.programs);
        if !template.exists() {
            let fresh = self.folder.path().join("template");
            run(init.arg(&fresh).args(["-A", "trust"]));
            // Whoever comes second leaves the first one's.
            if let Err(error) = fs::rename(&fresh, &template) {
                assert!(template.exists(), "{}: {error}", template.display());
            }
        }
        run(self.command("/bin/cp").arg("-r").arg(&template).arg(self.data()));
    }

    /// A command that runs as somebody who may be a server, in a folder that is theirs.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path());
        if let Some((user, group)) = servant() {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if self.server.is_none() || self.process().is_none() {
            return;
        }
        self.resume();
        // Killed, it would leave its processes a moment and its shared memory for good.
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "-s", "-m", "immediate", "-t", "10", "-D"]).arg(self.data());
        drop(stop.output());
    }
}

/// Runs a command that has to succeed.
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

/// Where the programs of the newest PostgreSQL on this machine are.
fn programs() -> PathBuf {
    let paths: Vec<_> =
        VERSIONS.rev().map(|v| format!("/usr/lib/postgresql/{v}/bin/postgres")).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let program = needs(&paths, "postgresql");
    program.parent().expect("a program is in a folder").to_owned()
}

/// A cluster to copy, shared by all tests of this machine and user; made whole by a rename.
fn template(programs: &Path) -> PathBuf {
    let version = programs.components().nth_back(1).expect("it is in the path");
    let version = version.as_os_str().to_string_lossy().into_owned();
    let user = servant().map_or(geteuid().as_raw(), |(user, _)| user);
    std::env::temp_dir().join(format!("lifecycle-pg-template-{version}-{user}"))
}

/// The user and group `postgres`, when this process is root.
fn servant() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("a list of users");
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.expect("root needs the user postgres: its package makes one").split(':');
    let mut number = |at| fields.nth(at)?.parse().ok();
    number(2).zip(number(0))
}

/// Gives a file or folder to the user that the server runs as.
fn give_away(path: &Path) {
    if let Some((user, group)) = servant() {
        chown(path, Some(user), Some(group)).expect("root may give it away");
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("it is ours");
}

const VERSIONS: std::ops::RangeInclusive<u32> = 13..=20;
const START_LOOKS: u32 = 1000;
