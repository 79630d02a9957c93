//! The example `orders` under a real systemd: one of our own as PID 1 of new namespaces, with a
//! cgroup of its own, so that nothing of the machine's is touched. Needs root and Debian's
//! package `systemd` (`tests/run.sh` installs it).

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::park_timeout;
use std::time::Duration;

use lifecycle_drill::{Ended, Process, Setting, Signal, Subject};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::target::configured;

/// A systemd that runs one service; everything of it is gone when it is dropped.
pub(crate) struct Systemd {
    unshare: Child,
    /// Its process as we see it; in there it is 1.
    pid: u32,
    cgroup: PathBuf,
    folder: TempDir,
}

impl Systemd {
    /// Boots one that has that unit, `orders.service`.
    fn boot(unit: &str) -> Self {
        Self::boot_with(&[("orders.service", unit)])
    }

    /// Boots one that has those units, with `{log}` in them for where output goes. The service
    /// finds `orders` in `/usr/local/bin`, and an empty `/var/lib`.
    pub(crate) fn boot_with(units: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let log = folder.path().join("log");
        for (name, unit) in units {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, unit.replace("{log}", log.to_str().unwrap())).unwrap();
        }
        let target = "[Unit]\nDefaultDependencies=no\n";
        fs::write(folder.path().join("nothing.target"), target).unwrap();
        assert!(Path::new(SYSTEMD).exists(), "{SYSTEMD} is missing: apt-get install systemd");
        let own = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        let cgroup = cgroups().join(format!("lifecycle-{own}"));
        fs::create_dir(&cgroup).expect("needs root: systemd wants namespaces and a cgroup");
        let mut unshare = Command::new("/bin/sh")
            .args(["-c", BOOT, "sh"])
            .arg(&cgroup)
            .arg(tests::example("orders"))
            .env("SYSTEMD_UNIT_PATH", folder.path())
            .env("SYSTEMD_PROC_CMDLINE", "systemd.unified_cgroup_hierarchy=1")
            .stdin(Stdio::null())
            .stdout(fs::File::create(folder.path().join("systemd")).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let pid = wait_for("systemd", || {
            assert_eq!(unshare.try_wait().unwrap(), None, "needs root, and unshare(1)");
            fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()
        });
        let systemd = Self { unshare, pid, cgroup, folder };
        wait_for("its bus", || systemd.control(&["show", "orders"]).status.success().then_some(()));
        systemd
    }

    pub(crate) fn control(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-p", "-m", "-C", "systemctl"]);
        command.args(arguments).output().unwrap()
    }

    pub(crate) fn show(&self, property: &str) -> String {
        let shown = self.control(&["show", "orders", "--value", "--property", property]);
        String::from_utf8(shown.stdout).unwrap().trim().to_owned()
    }

    /// What the service has printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Where the service listens, as its log says.
    fn address(&self) -> SocketAddr {
        let log = self.log();
        let addr = log.split("\"addr\":\"").nth(1).and_then(|rest| rest.split('"').next());
        addr.expect(&log).parse().unwrap()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // As PID 1 it takes SIGTERM for another command; its death ends its namespace.
        let _sent = Command::new("kill").args(["-KILL", &self.pid.to_string()]).status();
        let _ended = self.unshare.wait();
        let mut find = Command::new("find");
        find.arg(&self.cgroup).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
        for _ in 0..50 {
            let _removed = find.stderr(Stdio::null()).status();
            if !self.cgroup.exists() {
                return;
            }
            // Its processes may take a moment to vanish.
            park_timeout(Duration::from_millis(20));
        }
    }
}

fn cgroups() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let of = |line: &str| -> Option<PathBuf> {
        let mut words = line.split_whitespace().skip(1);
        let path = words.next()?;
        (words.next()? == "cgroup2").then(|| path.into())
    };
    mounts.lines().find_map(of).expect("a cgroup2 file system is mounted")
}

pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "no {what} within {LIMIT:?}");
        park_timeout(Duration::from_millis(20));
    }
}

fn unit(lines: &str) -> String {
    let orders = tests::example("orders");
    format!(
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=notify\nExecStart={}\n\
         StandardOutput=file:{{log}}\nStandardError=inherit\nEnvironment=HOST=127.0.0.1 PORT=0 \
         LIFECYCLE_PROBE_ADDR=127.0.0.1:0 TOKIO_WORKER_THREADS=1 \
         QUEUE_URL=sqlite:{{log}}.db\n{lines}",
        orders.display()
    )
}

pub(crate) fn ask(addr: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// The grace is longer than what systemd gives and than its watchdog's patience.
#[test]
fn a_long_drain_is_waited_for_and_counts_as_success() {
    let systemd = Systemd::boot(&unit(
        "WatchdogSec=3s\nTimeoutStopSec=2s\nEnvironment=LIFECYCLE_GRACE_PERIOD=12s \
         LIFECYCLE_LAME_DUCK=200ms\n",
    ));
    let started = systemd.control(&["start", "orders"]);
    assert!(started.status.success(), "{started:?}");
    assert_eq!(systemd.show("StatusText"), "running");
    let request = "GET /work?ms=4500 HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut work = ask(systemd.address(), request);
    let began = Instant::now();
    assert!(systemd.control(&["stop", "--no-block", "orders"]).status.success());
    wait_for("word of what it waits for", || {
        let status = systemd.show("StatusText");
        let named =
            status.starts_with("draining, waits for ") && status.contains("request GET /work");
        named.then_some(())
    });
    let mut answer = String::new();
    work.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    wait_for("end", || (systemd.show("ActiveState") == "inactive").then_some(()));
    let took = began.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(systemd.show("Result"), "success");
}

#[test]
fn a_runtime_that_stands_still_is_seen_by_its_watchdog() {
    let systemd = Systemd::boot(&unit("WatchdogSec=3s\nWatchdogSignal=SIGKILL\n"));
    assert!(systemd.control(&["start", "orders"]).status.success());
    // Longer than its patience: somebody feeds it.
    park_timeout(Duration::from_secs(7));
    assert_eq!(systemd.show("ActiveState"), "active");
    let _blocked = ask(systemd.address(), "GET /block?ms=15000 HTTP/1.1\r\nhost: x\r\n\r\n");
    wait_for("failure", || (systemd.show("ActiveState") == "failed").then_some(()));
    assert_eq!(systemd.show("Result"), "watchdog");
}

#[tokio::test]
async fn a_notify_socket_that_is_not_there_is_one_warning() {
    let folder = tempfile::tempdir().unwrap();
    let subject = Subject::new(tests::example("orders"))
        .env("QUEUE_URL", format!("sqlite:{}/orders.db", folder.path().display()))
        .env("NOTIFY_SOCKET", "/nowhere/at/all");
    let mut process = Process::start(&configured(subject), Setting::Plain).await.unwrap();
    process.signal(Signal::Term).unwrap();
    let exit = process.wait(LIMIT).await.expect("ends in time");
    assert_eq!(exit.ended, Ended::Code(0));
    let log = process.tail();
    assert_eq!(log.matches("\"message\":\"systemd.unreachable\"").count(), 1, "{log}");
}

/// Its first argument is the cgroup that it is to live in, its second the program to install.
const BOOT: &str = "echo $$ > \"$1/cgroup.procs\" && exec unshare --pid --fork --kill-child \
    --mount --uts --ipc --cgroup --mount-proc sh -c '\
    mount -t tmpfs tmpfs /usr/local/bin && cp \"$1\" /usr/local/bin/orders && \
    mount -t tmpfs tmpfs /var/lib && \
    mount -t tmpfs tmpfs /run && mkdir -p /run/systemd && \
    mount -t tmpfs tmpfs /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
    exec /lib/systemd/systemd --system --unit=nothing.target' sh \"$2\"";
const SYSTEMD: &str = "/lib/systemd/systemd";
const LIMIT: Duration = Duration::from_secs(15);
