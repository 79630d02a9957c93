//! The example `probed` as the tests start it, and how they ask it.

use std::net::SocketAddr;
use std::time::Duration;

use lifecycle_drill::{Line, Process, Setting, Signal, Subject, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Nothing in these tests takes longer unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);

/// Grace 6 s, lame duck 1 s.
pub(crate) fn subject() -> Subject {
    tests::told(Subject::new(tests::example("probed")))
}

/// With these variables, started, and its checks run once.
pub(crate) async fn start(variables: &[(&str, &str)]) -> Process {
    let set = |subject: Subject, (key, value): &(&str, &str)| subject.env(key, value);
    let subject = variables.iter().fold(subject(), set);
    Box::pin(Process::start(&subject, Setting::Plain)).await.unwrap()
}

/// As `start`, and ready.
pub(crate) async fn start_ready(variables: &[(&str, &str)]) -> Process {
    let process = start(variables).await;
    Box::pin(becomes(&process, "/readyz", 200)).await;
    process
}

/// Status and body of an answer; `None` when there is none.
pub(crate) async fn try_ask(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let response = Wire::connect(address, LIMIT).await.ok()?.get(path).await.ok()?;
    Some((response.status(), String::from_utf8_lossy(response.body()).into_owned()))
}

pub(crate) async fn ask(process: &Process, path: &str) -> (u16, String) {
    try_ask(process.probe_address(), path).await.expect("an answer")
}

pub(crate) async fn post(address: SocketAddr, path: &str) -> (u16, String) {
    let response = Wire::connect(address, LIMIT).await.unwrap().post(path, b"").await.unwrap();
    (response.status(), String::from_utf8_lossy(response.body()).into_owned())
}

/// Asks until the answer has that status; how long that took, and the answer.
pub(crate) async fn becomes(process: &Process, path: &str, status: u16) -> (Duration, String) {
    let began = Instant::now();
    let asked = timeout(LIMIT, async {
        loop {
            let (found, body) = ask(process, path).await;
            if found == status {
                return body;
            }
            sleep(Duration::from_millis(2)).await;
        }
    });
    let body = asked.await.unwrap_or_else(|_| panic!("{path} never {status}:\n{}", process.tail()));
    (began.elapsed(), body)
}

/// A request to the main port that stays in flight for so long; keep it to keep it.
pub(crate) async fn hold(process: &Process, path: &str) -> Wire {
    let mut wire = Wire::connect(process.address(), LIMIT).await.unwrap();
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await.unwrap();
    let name = path.split('?').next().unwrap();
    let asked = timeout(LIMIT, async {
        while !ask(process, "/statusz").await.1.contains(&format!("GET {name}\"")) {
            sleep(Duration::from_millis(2)).await;
        }
    });
    asked.await.expect("it shows among the blockers");
    wire
}

/// Sends these bytes and reads until the end of the connection.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> std::io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(LIMIT, exchange).await.expect("the connection ends")
}

/// Sends SIGTERM; when, and not later: what comes of it counts from there.
pub(crate) fn terminate(process: &Process) -> Instant {
    let began = Instant::now();
    process.signal(Signal::Term).unwrap();
    began
}

/// The first log line of that event.
pub(crate) fn event(process: &Process, name: &str) -> Option<Line> {
    let named = format!("\"message\":\"{name}\"");
    process.lines().into_iter().find(|line| line.text.contains(&named))
}

/// Waits for an event with that text in it.
pub(crate) async fn logs(process: &Process, name: &str, part: &str) -> String {
    let named = format!("\"message\":\"{name}\"");
    let seen = timeout(LIMIT, async {
        loop {
            let mut lines = process.lines().into_iter().map(|line| line.text);
            if let Some(line) = lines.find(|line| line.contains(&named) && line.contains(part)) {
                return line;
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    seen.await.unwrap_or_else(|_| panic!("no {name} with {part}:\n{}", process.tail()))
}

/// Ends a process with SIGTERM, cleanly.
pub(crate) async fn stops_clean(process: Process) -> String {
    if process.exit().is_none() {
        let _sent = process.signal(Signal::Term);
    }
    ends_clean(process).await
}

/// As `stops_clean`, of one that was told before: told twice, it may leave by the second.
pub(crate) async fn ends_clean(mut process: Process) -> String {
    let exit = process.wait(Duration::from_secs(7)).await.expect("ends in time");
    assert_eq!(exit.ended, lifecycle_drill::Ended::Code(0), "{}", process.tail());
    process.tail()
}
