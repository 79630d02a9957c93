//! A listening socket that outlives the processes that serve on it: a parent keeps it, and gives
//! it to one after the other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::systemd::wait_for;

/// A process that is killed when dropped.
struct Successor(Child);

impl Successor {
    /// The example `target` on a duplicate of that socket, announced as systemd does.
    fn on(listener: &TcpListener) -> Self {
        let socket = OwnedFd::from(listener.try_clone().unwrap());
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "exec 3<&0 0</dev/null; export LISTEN_PID=$$; exec \"$0\""]);
        shell.arg(tests::example("target")).stdin(socket);
        shell.envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "http")]);
        shell.envs([("LIFECYCLE_PROBE_ADDR", "off"), ("LIFECYCLE_LAME_DUCK", "0s")]);
        shell.env("LIFECYCLE_GRACE_PERIOD", "6s").stdout(Stdio::null()).stderr(Stdio::null());
        Self(shell.spawn().unwrap())
    }

    /// SIGTERM, and its exit code.
    fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        wait_for("its end", || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // Gone already, or a test has failed.
        let _killed = self.0.kill();
        let _waited = self.0.wait();
    }
}

fn status(addr: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&addr, LIMIT).expect("somebody listens");
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn each_process_on_it_is_heard_and_what_comes_in_between_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    for _ in 0..3 {
        // Before anybody accepts: it waits in the queue.
        let waiting = std::thread::spawn(move || status(addr));
        let process = Successor::on(&listener);
        assert_eq!(waiting.join().unwrap(), "HTTP/1.1 200 OK");
        assert_eq!(status(addr), "HTTP/1.1 200 OK");
        assert_eq!(process.stop(), Some(0));
    }
}

const LIMIT: Duration = Duration::from_secs(10);
