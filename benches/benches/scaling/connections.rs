//! Connections: a server in a process of its own holds so many, idle after a request each, and
//! is told to stop.
//!
//! They talk in lines. The child says its address; to `held` it answers with its memory in KiB,
//! to `stop` with the microseconds until `run` had returned.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, fs, io, thread};

use benches::{Moment, descriptors};
use http::{Request, Response};
use http_body_util::Full;
use lifecycle::Phase;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::parts::{LIMIT, builder};

/// What the child is told.
pub(crate) const CHILD: &str = "--serve-as-child";

/// How many are held, at most.
pub(crate) const MOST: u64 = 20_000;

/// How many are held at each point; and that it is less than `most` at the last, if the system
/// does not let a process have as many.
pub(crate) fn numbers(most: u64) -> (Vec<u64>, Option<String>) {
    let allowed = descriptors(most + SPARE).saturating_sub(SPARE);
    let less = (allowed < most).then(|| {
        format!("{allowed} connections at most instead of {most}: more descriptors are not allowed")
    });
    let most = allowed.min(most);
    let below = [100, 1_000, 5_000].into_iter().filter(|number| *number < most);
    (below.chain([most]).collect(), less)
}

/// Milliseconds until they were closed and the server had ended, and the KiB that they took.
#[expect(
    clippy::disallowed_methods,
    reason = "an idle connection has a second from its last byte on; nobody tells when it is over"
)]
pub(crate) fn measure(number: u64) -> [f64; 2] {
    let mut server = Server::start();
    // What is made once is made by these.
    drop(server.connect(10));
    let before = server.ask("held");
    let mut held = server.connect(number);
    let memory = server.ask("held").saturating_sub(before);
    thread::sleep(SILENT);
    let micros = server.ask("stop");
    for stream in &mut held {
        let end = stream.read(&mut [0; 1]).expect("it is closed in order");
        assert_eq!(end, 0, "nothing was asked");
    }
    assert!(server.process.wait().expect("it ends").success());
    [micros as f64 / 1e3, memory as f64]
}

/// The child: serves until it is told to stop.
pub(crate) fn serve() -> ExitCode {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut life = builder().build().expect("the control thread starts");
    let (handle, running) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        say(&listener.local_addr().expect("it is bound"));
        let app = tower::service_fn(|_: Request<_>| async {
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(&b"hello"[..])))
        });
        life.spawn("http", lifecycle_tower::serve(listener, app));
        let handle = life.handle();
        let running = tokio::spawn(life.run());
        timeout(LIMIT, handle.reached(Phase::Running)).await.expect("it starts");
        (handle, running)
    });
    for line in io::stdin().lines().map_while(Result::ok) {
        if line == "held" {
            say(&resident_kib());
            continue;
        }
        let began = Moment::now();
        handle.shutdown("told");
        let report = runtime.block_on(running).expect("it does not panic").expect("it runs");
        let took = began.to(&Moment::now(), 1, None);
        assert_eq!(report.exit_code(), 0, "{report}");
        say(&took.wall.as_micros());
        return ExitCode::SUCCESS;
    }
    // Whoever has started it is gone.
    ExitCode::FAILURE
}

struct Server {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let program = env::current_exe().expect("a running program has a path");
        let mut process = Command::new(program)
            .arg(CHILD)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (to, from) = process.stdin.take().zip(process.stdout.take()).expect("pipes");
        let mut from = BufReader::new(from);
        let address = hear(&mut from).parse().expect("an address");
        Self { process, to, from, address }
    }

    fn ask(&mut self, what: &str) -> u64 {
        writeln!(self.to, "{what}").expect("it listens");
        hear(&mut self.from).parse().expect("a number")
    }

    /// So many connections that have had an answer.
    fn connect(&self, number: u64) -> Vec<TcpStream> {
        let one = |_| {
            let mut stream = TcpStream::connect(self.address).expect("it accepts");
            stream.set_read_timeout(Some(READ_WITHIN)).expect("it can be set");
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").expect("it reads");
            let mut answer = Vec::new();
            while !answer.ends_with(b"hello") {
                let mut part = [0; 512];
                let length = stream.read(&mut part).expect("it answers");
                assert!(length > 0, "the answer is whole");
                answer.extend_from_slice(&part[..length]);
            }
            stream
        };
        (0..number).map(one).collect()
    }
}

fn hear(from: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("it speaks");
    line.trim().to_owned()
}

fn say(what: &dyn std::fmt::Display) {
    println!("{what}");
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse().ok()).expect("a number")
}

/// What a process has open beside its connections.
const SPARE: u64 = 100;
const SILENT: Duration = Duration::from_millis(1_200);
const READ_WITHIN: Duration = Duration::from_secs(20);
