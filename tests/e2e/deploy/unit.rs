//! The systemd units: read by `systemd-analyze`, and run as they are by a systemd of our own.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use super::read;
use crate::systemd::{Systemd, ask, wait_for};

/// The units as shipped but for the program's path, which must be there.
fn analysed(change: impl Fn(String) -> String) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let orders = tests::example("orders");
    for name in ["orders.service", "orders.socket"] {
        let unit = read(&format!("systemd/{name}"));
        let unit = unit.replace("/usr/local/bin/orders", orders.to_str().unwrap());
        fs::write(folder.path().join(name), change(unit)).unwrap();
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "orders.service", "orders.socket"]).current_dir(folder.path());
    command.output().expect("apt-get install systemd")
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let output = analysed(|unit| unit);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let about_ours: Vec<_> = said.lines().filter(|line| line.contains("orders")).collect();
    assert!(about_ours.is_empty(), "{said}");
}

#[test]
fn systemd_finds_what_is_misspelt() {
    let output = analysed(|unit| unit.replace("TimeoutStopSec", "TimeoutStoppSec"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("TimeoutStoppSec"), "{said}");
}

#[test]
fn the_unit_gives_what_it_tells() {
    let unit = read("systemd/orders.service");
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key));
        humantime::parse_duration(line.expect(key)).expect(key)
    };
    assert_eq!(value("Environment=LIFECYCLE_GRACE_PERIOD="), value("TimeoutStopSec="));
}

/// The restart of a service whose socket systemd holds: connections wait, none is refused.
#[test]
fn a_restart_refuses_no_connection_and_loses_no_request() {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, tests::brokers::free_port()));
    let (service, socket) = (read("systemd/orders.service"), read("systemd/orders.socket"));
    let address = format!("[Socket]\nListenStream=\nListenStream={addr}\n");
    let mut units = vec![
        ("orders.service", service.as_str()),
        ("orders.socket", &socket),
        ("orders.service.d/test.conf", OURS),
        ("orders.socket.d/test.conf", &address),
    ];
    units.extend(TARGETS.map(|target| (target, "[Unit]\nDefaultDependencies=no\n")));
    let systemd = Systemd::boot_with(&units);
    let started = systemd.control(&["start", "orders.socket"]);
    assert!(started.status.success(), "{started:?}");
    assert_eq!(systemd.show("ActiveState"), "inactive", "nobody has asked yet");
    // The first connection starts it.
    assert!(status(addr, "/orders/stats").starts_with("HTTP/1.1 200"), "{}", systemd.log());
    let first = systemd.show("MainPID");
    let in_flight = thread::spawn(move || status(addr, "/work?ms=1500"));
    // Sleeps: until that request has arrived nothing can be seen of it from here.
    thread::park_timeout(Duration::from_millis(300));
    assert!(systemd.control(&["restart", "--no-block", "orders.service"]).status.success());
    let mut answers = 0;
    wait_for("its successor", || {
        let answer = status(addr, "/work?ms=0");
        assert!(answer.starts_with("HTTP/1.1 200"), "after {answers}: {answer:?}");
        answers += 1;
        let is_other = systemd.show("MainPID") != first;
        (is_other && systemd.show("ActiveState") == "active").then_some(())
    });
    assert!(in_flight.join().unwrap().starts_with("HTTP/1.1 200"), "{}", systemd.log());
    let log = systemd.log();
    assert!(log.contains("of 1m grace, exit code 0"), "{log}");
    assert!(systemd.control(&["stop", "orders.socket", "orders.service"]).status.success());
    assert_eq!(systemd.show("Result"), "success");
}

fn status(addr: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let (mut stream, mut answer) = (ask(addr, &request), String::new());
    stream.flush().unwrap();
    let read = stream.read_to_string(&mut answer);
    read.map_or_else(|error| error.to_string(), |_| answer)
}

/// A log that can be read from outside, and an address of its own for the probes.
const OURS: &str = "[Service]\nStandardOutput=append:{log}\nStandardError=inherit\n\
                    Environment=LIFECYCLE_PROBE_ADDR=127.0.0.1:0 TOKIO_WORKER_THREADS=1\n";
/// What units depend on by default, and this systemd has not.
const TARGETS: [&str; 5] =
    ["basic.target", "network.target", "shutdown.target", "sockets.target", "sysinit.target"];
