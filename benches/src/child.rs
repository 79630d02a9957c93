//! A server in a process of its own: what it holds and how long it takes to stop are its own
//! then, and its descriptors too.
//!
//! The two talk in lines: the child says its address, then answers `held` and `stop`. It ends
//! with its parent, which holds the other end of its standard input.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use std::{fs, thread};

use rustix::time::{ClockId, clock_gettime};

use crate::servers::{OneCore, Stack};

/// The server, seen from outside.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    to: ChildStdin,
    lines: Receiver<String>,
    addr: SocketAddr,
}

/// What a process has of memory.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Held {
    /// Bytes asked for and not given back; none where nobody counts them.
    pub heap: u64,
    /// Bytes of memory that it lies in.
    pub resident: u64,
}

/// What a stop took.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Stopped {
    /// From being told to the server's return.
    pub wall: Duration,
    /// Of the process' processors meanwhile.
    pub used: Duration,
}

impl Child {
    /// Runs `program`, which has to do [`serve_as_child`].
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(program: &Path, stack: Stack) -> Self {
        let mut process = Command::new(program)
            .args([CHILD, stack.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (to, from) = process.stdin.take().zip(process.stdout.take()).expect("pipes");
        let (said, lines) = sync_channel(1);
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    return;
                }
            }
        });
        let addr = lines.recv_timeout(LIMIT).expect("it says its address");
        let addr = addr.parse().expect("an address");
        Self { process, to, lines, addr }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it holds now.
    ///
    /// # Panics
    /// When it does not say.
    #[must_use]
    pub fn held(&mut self) -> Held {
        let said = self.ask("held");
        let (heap, resident) = said.split_once(' ').expect("two numbers");
        let number = |text: &str| text.parse().expect("a number");
        Held { heap: number(heap), resident: number(resident) }
    }

    /// Stops its server.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn stop(mut self) -> Stopped {
        let said = self.ask("stop");
        let (wall, used) = said.split_once(' ').expect("two numbers");
        let nanos = |text: &str| Duration::from_nanos(text.parse().expect("a number"));
        Stopped { wall: nanos(wall), used: nanos(used) }
    }

    fn ask(&mut self, what: &str) -> String {
        writeln!(self.to, "{what}").expect("it reads");
        self.lines.recv_timeout(LIMIT).expect("it answers")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nothing that it still does is of interest; it may have ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The child's side, if these are a child's arguments; `heap` says what it has asked for.
#[must_use]
pub fn serve_as_child(arguments: &[String], heap: impl Fn() -> u64) -> Option<ExitCode> {
    let [child, stack] = arguments else { return None };
    let stack = Stack::of_name(stack).filter(|_| child == CHILD)?;
    match serve(stack, heap) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("error: {error}");
            Some(ExitCode::FAILURE)
        }
    }
}

fn serve(stack: Stack, heap: impl Fn() -> u64) -> io::Result<()> {
    let server = OneCore::start(stack);
    println!("{}", server.addr());
    for line in io::stdin().lines() {
        match &*line? {
            "held" => println!("{} {}", heap(), resident()?),
            "stop" => {
                let before = used();
                let wall = server.stop();
                println!("{} {}", wall.as_nanos(), (used() - before).as_nanos());
                return Ok(());
            }
            other => return Err(io::Error::other(format!("unknown: {other}"))),
        }
    }
    Ok(())
}

fn used() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs() as u32)
}

fn resident() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    let kib: Option<u64> = kib.and_then(|kib| kib.trim().parse().ok());
    Ok(kib.ok_or_else(|| io::Error::other("no VmRSS"))? * 1024)
}

const CHILD: &str = "--child";
const LIMIT: Duration = Duration::from_secs(90);
