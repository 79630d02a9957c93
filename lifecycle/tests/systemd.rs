//! systemd's protocol against a real datagram socket: what a process says of itself from its
//! start to its end. A child is this test binary again.
#![cfg(all(target_os = "linux", feature = "systemd", feature = "signal", not(lifecycle_loom)))]
#![allow(clippy::print_stdout, reason = "the child tells its parent")]

mod parts;

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use lifecycle::{Handle, Lifecycle, StopTimeout, component_fn};
use parts::{Ended, Part, best_of_three, part_by, plays};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What the test's side of `NOTIFY_SOCKET` hears.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        Self { socket, folder }
    }

    /// Starts that part as systemd would, watching it within that time if given.
    fn starts(&self, part: &str, watchdog: Option<Duration>) -> Part {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        if let Some(watchdog) = watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        part_by(part, command)
    }

    /// The next message that comes within that time.
    fn hears_within(&self, time: Duration) -> Option<String> {
        let mut text = vec![0; 4097];
        self.socket.set_read_timeout(Some(time)).expect("a socket");
        let len = self.socket.recv(&mut text).ok()?;
        assert!(len <= 4096, "systemd ignores longer ones");
        text.truncate(len);
        Some(String::from_utf8(text).expect("systemd ignores a status that is not UTF-8"))
    }

    fn hears(&self) -> String {
        self.hears_within(LIMIT).expect("a message")
    }

    /// Hears up to a message with a line that begins so; all that was said, lines of their own.
    fn hears_up_to(&self, line: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            lines.extend(self.hears().lines().map(str::to_owned));
            if lines.iter().any(|said| said.starts_with(line)) {
                return lines;
            }
        }
    }
}

fn says(part: &mut Part, line: &str) {
    let stdin = part.child.stdin.as_mut().expect("piped");
    writeln!(stdin, "{line}").expect("it reads");
}

/// Runs a service that does what its stdin says, on a runtime of one thread.
fn play(build: impl FnOnce(&mut Lifecycle)) {
    let (lines, heard) = mpsc::channel(8);
    let (pass, passed) = std_mpsc::sync_channel(8);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            // What a blocked runtime waits for passes it by.
            let sent =
                if line == "go" { pass.send(()).ok() } else { lines.blocking_send(line).ok() };
            if sent.is_none() {
                return;
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async move {
        let grace = Duration::from_secs(6);
        let mut life = Lifecycle::builder().grace_period(grace).build().expect("builds");
        life.notify_systemd(StopTimeout::Extend).await;
        build(&mut life);
        life.spawn("puppet", component_fn(move |handle| puppet(handle, heard, passed)));
        println!("ready");
        let report = Box::pin(life.run()).await.expect("runs");
        assert_eq!(report.exit_code(), 0, "{report}");
    });
}

async fn puppet(handle: Handle, mut lines: mpsc::Receiver<String>, passed: std_mpsc::Receiver<()>) {
    let mut order = None;
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = handle.draining(), if order.is_none() => return,
        };
        match line.as_deref() {
            Some("warm") => handle.startup_done(),
            Some("order") => order = Some(handle.enter("order 7").expect("in service")),
            Some("block") => {
                println!("blocks");
                passed.recv().expect("the test says go");
            }
            Some("finish") => order = None,
            Some(other) => panic!("{other:?} is no part"),
            None => return,
        }
    }
}

#[test]
fn part_lives_a_whole_life() {
    if plays("part_lives_a_whole_life") {
        play(|life| {
            life.warm_up();
            life.on_reload("limits", async || println!("reloaded"));
        });
    }
}

#[test]
fn a_whole_life_is_told_in_order() {
    let manager = Manager::new();
    let mut child = manager.starts("part_lives_a_whole_life", None);
    let start = manager.hears_up_to("STATUS=running, not ready");
    assert_eq!(start, ["STATUS=starting", "STATUS=running, not ready"], "not warm yet");
    says(&mut child, "warm");
    assert_eq!(manager.hears(), "READY=1\nSTATUS=running\n");

    child.signal("HUP");
    let reload = manager.hears();
    let clock = reload.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reload);
    clock.trim_end().parse::<u64>().expect("microseconds");
    assert_eq!(manager.hears(), "READY=1\n");
    child.says("reloaded");

    says(&mut child, "order");
    // The order must be there before the signal is: what follows it was read after it.
    says(&mut child, "block");
    child.says("blocks");
    child.signal("TERM");
    let stop = manager.hears_up_to("STATUS=draining");
    assert_eq!(stop[0], "STOPPING=1", "{stop:?}");
    let extended = stop[1].strip_prefix("EXTEND_TIMEOUT_USEC=").expect(&stop[1]);
    let extended = Duration::from_micros(extended.parse().expect("microseconds"));
    let grace = Duration::from_secs(6);
    assert!(extended <= grace && extended > grace - Duration::from_secs(1), "{extended:?}");
    assert!(stop[2].contains("waits for 2: ") && stop[2].contains("work order 7"), "{stop:?}");
    says(&mut child, "go");
    says(&mut child, "finish");
    let last = manager.hears_up_to("STATUS=stopped");
    assert_eq!(last.last().expect("a line"), "STATUS=stopped: everything finished");
    assert!(!last.iter().any(|line| line.starts_with("READY") || line.starts_with("STOP")));
    assert!(child.ends(LIMIT).status.success());
}

#[test]
fn part_is_watched() {
    if plays("part_is_watched") {
        play(|_| {});
    }
}

#[test]
fn pings_stop_while_the_runtime_is_blocked_and_in_a_shutdown() {
    const WATCHDOG: Duration = Duration::from_secs(1);
    let manager = Manager::new();
    let mut child = manager.starts("part_is_watched", Some(WATCHDOG));
    let start = manager.hears_up_to("READY=1");
    assert!(!start[..start.len() - 3].contains(&PING.to_owned()), "none before: {start:?}");
    for _ in 0..3 {
        // As long as systemd would wait.
        best_of_three(WATCHDOG, || {
            let before = Instant::now();
            manager.hears_up_to(PING);
            before.elapsed()
        });
    }

    says(&mut child, "block");
    child.says("blocks");
    manager.hears_up_to("STATUS=running, not live");
    let silent = Instant::now() + 2 * WATCHDOG;
    while let Some(left) = silent.checked_duration_since(Instant::now()) {
        let said = manager.hears_within(left.max(Duration::from_millis(1)));
        assert_eq!(said, None, "the runtime stands still");
    }
    says(&mut child, "go");
    let again = manager.hears();
    assert!(again.starts_with(PING) && again.contains("STATUS=running\n"), "{again}");

    says(&mut child, "order");
    says(&mut child, "block");
    child.says("blocks");
    child.signal("TERM");
    let stop = manager.hears_up_to("STOPPING=1");
    let year = stop.iter().find_map(|line| line.strip_prefix("WATCHDOG_USEC=")).expect("given up");
    assert!(year.parse::<u64>().expect("microseconds") > 1_000_000_000);
    let silent = Instant::now() + 2 * WATCHDOG;
    while let Some(left) = silent.checked_duration_since(Instant::now()) {
        let said = manager.hears_within(left.max(Duration::from_millis(1))).unwrap_or_default();
        assert!(!said.contains(PING), "it would watch the drain again: {said}");
    }
    says(&mut child, "go");
    says(&mut child, "finish");
    assert!(child.ends(LIMIT).status.success());
}

#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let manager = Manager::new();
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.env("NOTIFY_SOCKET", manager.folder.path().join("notify"));
    command.env("WATCHDOG_USEC", "200000").env("WATCHDOG_PID", "1");
    let child = part_by("part_is_watched", command);
    manager.hears_up_to("STATUS=running");
    assert_eq!(manager.hears_within(Duration::from_secs(1)), None);
    assert!(child.terminate(LIMIT).status.success());
}

#[test]
fn part_drops_what_tells() {
    if plays("part_drops_what_tells") {
        play(|life| {
            // Polled never, then once, by a waker that nobody hears.
            drop(Box::pin(life.notify_systemd(StopTimeout::AsConfigured)));
            let mut told = tokio_test::task::spawn(life.notify_systemd(StopTimeout::AsConfigured));
            let _pending_or_not = told.poll();
        });
    }
}

/// Cancels: Lifecycle::notify_systemd
#[test]
fn telling_dropped_after_any_poll_leaves_one_voice() {
    let manager = Manager::new();
    let child = manager.starts("part_drops_what_tells", Some(Duration::from_secs(60)));
    let start = manager.hears_up_to("READY=1");
    child.signal("TERM");
    let rest = manager.hears_up_to("STATUS=stopped");
    let ready = |lines: &[String]| lines.iter().filter(|line| *line == "READY=1").count();
    assert_eq!((ready(&start), ready(&rest)), (1, 0), "{start:?} {rest:?}");
    assert!(child.ends(LIMIT).status.success());
}

#[test]
fn a_manager_that_is_not_there_hinders_nothing() {
    let folder = TempDir::new().expect("a folder");
    let nobody = folder.path().join("nobody");
    drop(UnixDatagram::bind(&nobody).expect("a socket"));
    let nowhere = folder.path().join("nowhere");
    for socket in [nobody.as_path(), nowhere.as_path(), "vsock:2:1".as_ref(), "@".as_ref()] {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "300000");
        let child = part_by("part_is_watched", command);
        let Ended { status, took, .. } = child.terminate(LIMIT);
        assert!(status.success(), "{socket:?}: {status:?}");
        assert!(took < Duration::from_secs(4), "{socket:?}: {took:?}");
    }
}

/// How many messages went into its queue from one more sender.
fn filled(manager: &Manager) -> usize {
    let fill = UnixDatagram::unbound().expect("a socket");
    fill.set_nonblocking(true).expect("a socket");
    let sent = || fill.send_to(b"X=1", manager.folder.path().join("notify"));
    std::iter::repeat_with(sent).take_while(Result::is_ok).count()
}

/// Full from the first message on: nobody reads.
#[test]
fn a_manager_that_does_not_read_stalls_nothing() {
    let manager = Manager::new();
    // One sender may come to the end of its own buffer first.
    while filled(&manager) > 0 {}
    let mut child = manager.starts("part_is_watched", None);
    says(&mut child, "order");
    says(&mut child, "block");
    child.says("blocks");
    let kept = loop {
        let said = manager.hears();
        if said != "X=1" {
            break said;
        }
    };
    assert!(kept.starts_with("READY=1\n"), "it comes when there is room: {kept}");
    child.signal("TERM");
    manager.hears_up_to("STOPPING=1");
    says(&mut child, "go");
    says(&mut child, "finish");
    assert!(child.ends(LIMIT).status.success());
}

const PING: &str = "WATCHDOG=1";
const LIMIT: Duration = Duration::from_secs(20);
