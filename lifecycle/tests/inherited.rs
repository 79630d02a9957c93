//! Sockets that a parent passes on: by `systemd-socket-activate`, by a shell, and by
//! variables that lie. A child is this test binary again.
#![cfg(all(target_os = "linux", feature = "systemd", feature = "probes", not(lifecycle_loom)))]
#![allow(clippy::print_stdout, reason = "the child tells its parent")]

mod parts;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lifecycle::{Inherited, Lifecycle, was_inherited};
use parts::{pause, plays};
use tempfile::TempDir;
use tokio::time::Instant;

/// A child that is killed when dropped.
struct Activated(Child);

impl Drop for Activated {
    fn drop(&mut self) {
        // Gone already, or a test has failed.
        let _killed = self.0.kill();
        let _waited = self.0.wait();
    }
}

/// This binary, playing that part behind what the command is.
fn playing(mut command: Command, part: &str) -> Command {
    command.arg(std::env::current_exe().expect("a path"));
    command.args(["--exact", "--nocapture", part]).env("LIFECYCLE_TEST_PART", part);
    command
}

/// As a parent that passes two descriptors, its stdin and its stderr, and announces what the
/// script says.
fn passing(script: &str, first: impl Into<OwnedFd>, second: impl Into<OwnedFd>) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!(
        "exec 3<&0 4<&2 0</dev/null 2>/dev/null; export LISTEN_PID=$$; {script}; exec \"$0\" \"$@\""
    ));
    shell.stdin(Stdio::from(first.into())).stderr(Stdio::from(second.into()));
    shell
}

fn tcp() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    (listener, addr)
}

/// Serves the probes on the socket of that name, and one word on each connection to `http`.
#[test]
fn part_serves_what_it_inherits() {
    if !plays("part_serves_what_it_inherits") {
        return;
    }
    let mut inherited = Inherited::from_env().expect("two sockets");
    println!("names {:?}", inherited.names().collect::<Vec<_>>());
    let http = inherited.named("http").expect("passed").tcp().expect("a TCP listener");
    println!("again {:?}", Inherited::from_env().expect_err("taken already"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut life = Lifecycle::builder().probe_addr(None).build_local().expect("builds");
        let probes = inherited.named("probes").expect("passed").tcp().expect("a TCP listener");
        life.serve_probes_on(probes).await.expect("serves");
        assert_eq!(inherited.names().count(), 0);
        assert!(inherited.named("http").is_none() && inherited.at(1).is_none(), "taken once");
        let http = tokio::net::TcpListener::from_std(http).expect("in non-blocking mode");
        assert!(was_inherited(&http), "and its parent may give it to another");
        assert!(!was_inherited(TcpListener::bind("127.0.0.1:0").expect("a port")));
        // Killed by the test.
        loop {
            let (stream, _) = http.accept().await.expect("a connection");
            let mut stream = stream.into_std().expect("a socket");
            stream.write_all(b"hello").expect("somebody reads");
        }
    });
}

#[test]
fn sockets_are_served_that_a_parent_has_bound() {
    let ((http, http_addr), (probes, probes_addr)) = (tcp(), tcp());
    let passed = passing("export LISTEN_FDS=2 LISTEN_FDNAMES=http:probes", http, probes);
    let mut command = playing(passed, "part_serves_what_it_inherits");
    // The shell's copies are gone with it: only the service holds the sockets.
    let mut child = Activated(command.stdout(Stdio::piped()).spawn().expect("starts"));
    drop(command);
    let mut hello = String::new();
    let mut stream = TcpStream::connect(http_addr).expect("bound by us");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    stream.read_to_string(&mut hello).expect("an answer");
    assert_eq!(hello, "hello");
    let mut probe = TcpStream::connect(probes_addr).expect("bound by us");
    probe.set_read_timeout(Some(LIMIT)).expect("a socket");
    probe.write_all(b"GET /livez HTTP/1.0\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    probe.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    let mut said = BufReader::new(child.0.stdout.take().expect("piped")).lines();
    let mut line = |start: &str| {
        let found = said.by_ref().map_while(Result::ok).find_map(|line| {
            // The harness' own words may stand before ours.
            line.find(start).map(|at| line[at..].to_owned())
        });
        found.expect(start)
    };
    assert_eq!(line("names"), "names [\"http\", \"probes\"]");
    assert!(line("again").contains("was not inherited, or was taken already"));
    // Nobody else holds the listener: it closes with the service.
    drop(child);
    TcpStream::connect(http_addr).expect_err("closed");
}

#[test]
fn part_answers_on_a_unix_socket() {
    if plays("part_answers_on_a_unix_socket") {
        let mut inherited = Inherited::from_env().expect("one socket");
        let socket = inherited.at(0).expect("passed");
        let name = socket.name().to_owned();
        let listener = socket.unix().expect("a listener on a Unix socket");
        assert!(was_inherited(listener.try_clone().expect("a duplicate is the same socket")));
        let (mut stream, _) = listener.accept().expect("systemd starts us for a connection");
        stream.write_all(name.as_bytes()).expect("somebody reads");
    }
}

#[test]
fn systemd_starts_it_at_the_first_connection() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("socket");
    let mut activate = Command::new("systemd-socket-activate");
    activate.arg("--listen").arg(&path).args(["--fdname", "orders", "--setenv"]);
    activate.arg("LIFECYCLE_TEST_PART=part_answers_on_a_unix_socket");
    let mut command = playing(activate, "part_answers_on_a_unix_socket");
    let spawned = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _child = Activated(spawned.expect("systemd-socket-activate: apt-get install systemd"));
    let until = Instant::now() + LIMIT;
    let mut stream = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        pause();
    };
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    let mut name = String::new();
    stream.read_to_string(&mut name).expect("an answer");
    assert_eq!(name, "orders");
}

#[test]
fn part_says_what_is_wrong() {
    if plays("part_says_what_is_wrong") {
        match Inherited::from_env() {
            Err(error) => println!("error {error:?}"),
            Ok(mut inherited) => {
                for position in 0..2 {
                    let Some(socket) = inherited.at(position) else { continue };
                    let used = if position == 0 { socket.tcp().err() } else { socket.unix().err() };
                    println!("error {:?}", used.expect("not of that kind"));
                }
                println!("error none");
            }
        }
    }
}

/// What the part says when it is started so.
fn wrong(script: &str) -> String {
    let ((first, _), (second, _)) = (tcp(), tcp());
    wrong_with(script, first, second)
}

fn wrong_with(script: &str, first: impl Into<OwnedFd>, second: impl Into<OwnedFd>) -> String {
    let mut command = playing(passing(script, first, second), "part_says_what_is_wrong");
    let output = command.stdout(Stdio::piped()).output().expect("starts");
    assert!(output.status.success(), "{script}: {:?}", output.status);
    let said = String::from_utf8(output.stdout).expect("text");
    said.lines().filter_map(|line| line.split_once("error ")).map(|(_, said)| said).collect()
}

#[test]
fn variables_that_lie_are_errors_that_say_so() {
    for (script, said) in [
        ("export LISTEN_FDS=1 LISTEN_PID=1", "for process 1, and this is process"),
        ("export LISTEN_FDS=1; unset LISTEN_PID", "LISTEN_PID=\"\" is not understood"),
        ("export LISTEN_FDS=many", "LISTEN_FDS=\"many\" is not understood"),
        ("export LISTEN_FDS=-1", "LISTEN_FDS=\"-1\" is not understood"),
        ("export LISTEN_FDS=2 LISTEN_FDNAMES=http", "1 names for 2 sockets"),
        ("exec 3<&-; export LISTEN_FDS=1", "descriptor 3, which "),
        ("exec 3</dev/null; export LISTEN_FDS=1", "descriptor 3, which is no socket"),
        ("exec 5<&-; export LISTEN_FDS=3", "descriptor 5, which "),
        ("export LISTEN_FDS=1000000", "LISTEN_FDS announces descriptor "),
        ("unset LISTEN_PID", "none"),
    ] {
        let heard = wrong(script);
        assert!(heard.contains(said), "{script}: {heard}");
    }
}

#[test]
fn sockets_of_another_kind_are_errors_that_say_so() {
    let folder = TempDir::new().expect("a folder");
    let unix = UnixListener::bind(folder.path().join("a")).expect("a socket");
    let heard = wrong_with("export LISTEN_FDS=2 LISTEN_FDNAMES=http:b", unix, tcp().0);
    assert!(heard.contains("\"http\" (descriptor 3) is no TCP listener"), "{heard}");
    assert!(heard.contains("\"b\" (descriptor 4) is no listener on a Unix socket"), "{heard}");
    let (listener, addr) = tcp();
    let connected = TcpStream::connect(addr).expect("listens");
    let (pair, _other) = UnixStream::pair().expect("a pair");
    let heard = wrong_with("export LISTEN_FDS=2", connected, pair);
    assert!(heard.contains("\"unknown\" (descriptor 3) is no TCP listener"), "{heard}");
    assert!(heard.contains("(descriptor 4) is no listener on a Unix socket"), "{heard}");
    drop(listener);
}

const LIMIT: Duration = Duration::from_secs(20);
