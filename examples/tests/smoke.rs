//! Starts every example as a process, uses it a little, and stops it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(clippy::large_futures, reason = "a test runs a few at a time")]

use std::time::Duration;

use lifecycle_drill::{
    Ended, Process, Protocol, ReadyWhen, Routes, Setting, Signal, Subject, by_name,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

fn subject(path: &str) -> Subject {
    Subject::new(path)
        .port_env("PORT")
        .host_env("HOST")
        .probe_addr_env("LIFECYCLE_PROBE_ADDR")
        .env("LIFECYCLE_GRACE_PERIOD", "6s")
        .env("LIFECYCLE_LAME_DUCK", "1s")
        .ready_when(ReadyWhen::Line("ready".into()))
        .start_timeout(Duration::from_secs(30))
        // Longer than it is told, for a machine that stands still at the end: that it keeps to
        // what it is told is seen in `tests/e2e`.
        .grace(Duration::from_secs(8))
        .lame_duck(Duration::from_secs(1))
        .slack(Duration::from_millis(1500))
}

/// Plays these, and once more what is not passed: a busy machine is late now and then.
async fn passes(subject: &Subject, names: &[&str]) {
    for name in names {
        let scenario = by_name(name).unwrap();
        let mut verdict = scenario.run(subject).await;
        if !verdict.passed() {
            eprintln!("once more: {verdict}");
            verdict = scenario.run(subject).await;
        }
        assert!(verdict.passed(), "{verdict}");
    }
}

async fn ask(process: &Process, request: &str) -> String {
    let mut stream = timeout(LIMIT, TcpStream::connect(process.address())).await.unwrap().unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

async fn stop(mut process: Process) -> String {
    process.signal(Signal::Term).unwrap();
    let exit = process.wait(Duration::from_secs(6)).await.expect("ends before its grace");
    assert_eq!(exit.ended, Ended::Code(0), "{}", process.tail());
    let tail = process.tail();
    assert!(tail.contains("shutdown: SIGTERM"), "the report: {tail}");
    tail
}

/// From the first `use` on, the two are one text.
#[test]
fn the_quick_start_of_the_readme_is_01_axum() {
    let readme = include_str!("../../README.md");
    let block = readme.split("```rust,no_run\n").nth(1).unwrap().split("```").next().unwrap();
    let example = include_str!("../src/bin/01_axum.rs");
    let code = &example[example.find("use std").unwrap()..];
    assert_eq!(block, code);
}

#[tokio::test]
async fn axum() {
    let process = Process::start(&subject(env!("CARGO_BIN_EXE_01_axum")), Setting::Plain).await;
    let process = process.unwrap();
    let answer = ask(&process, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("hello\n"), "{answer}");
    drop(stop(process).await);
}

#[tokio::test]
async fn hyper() {
    let routes = Routes::new().work("/work?ms={ms}").echo("/echo");
    let subject = subject(env!("CARGO_BIN_EXE_02_hyper")).routes(routes);
    passes(
        &subject,
        &["http1-in-flight-across-close", "http1-slow-upload", "deadline-cuts-long-request"],
    )
    .await;
}

/// What it does with gRPC is in `tests/e2e/tonic.rs`.
#[tokio::test]
async fn tonic() {
    let routes = Routes::new().work("/work/{ms}").echo("/echo");
    let subject = subject(env!("CARGO_BIN_EXE_03_tonic")).protocol(Protocol::Http1AndH2c);
    let subject = subject.routes(routes);
    passes(&subject, &["http1-in-flight-across-close", "http2-streams-in-flight"]).await;
}

#[tokio::test]
async fn layer_only() {
    let subject = subject(env!("CARGO_BIN_EXE_04_layer_only")).routes(Routes::conventional());
    passes(&subject, &["http1-in-flight", "streams-sse", "deadline-cuts-long-request"]).await;
    // Half a head before the stop, the rest once the listener is closed: refused.
    let mut process = Process::start(&subject, Setting::Plain).await.unwrap();
    let mut late = timeout(LIMIT, TcpStream::connect(process.address())).await.unwrap().unwrap();
    late.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let answer = ask(&process, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
    process.signal(Signal::Term).unwrap();
    while timeout(LIMIT, TcpStream::connect(process.address())).await.unwrap().is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    late.write_all(b"\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, late.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 5"), "{answer}");
    let exit = process.wait(Duration::from_secs(6)).await.expect("ends before its grace");
    assert_eq!(exit.ended, Ended::Code(0), "{}", process.tail());
}

#[tokio::test]
async fn admin() {
    let admin = env!("CARGO_BIN_EXE_05_admin");
    let done = Process::start(&subject(admin).arg("2"), Setting::Plain).await;
    let mut done = done.unwrap();
    let exit = done.wait(LIMIT).await.expect("ends by itself");
    assert_eq!(exit.ended, Ended::Code(0), "{}", done.tail());
    assert!(done.tail().contains("shutdown: backfill is done"), "{}", done.tail());
    let stopped = Process::start(&subject(admin).arg("100000"), Setting::Plain).await;
    let stopped = stopped.unwrap();
    let report = stop(stopped).await;
    assert!(report.contains("of 100000 batches done; go on from"), "{report}");
}

/// What becomes of orders is in `queues.rs`; here it is a server as it was.
#[tokio::test]
async fn orders() {
    let folder = tempfile::tempdir().unwrap();
    let subject = subject(env!("CARGO_BIN_EXE_orders")).current_dir(folder.path());
    let process = Process::start(&subject.env("QUEUE_URL", ""), Setting::Plain).await.unwrap();
    let order = "{\"item\":\"tea\",\"ms\":10}";
    let placed = format!(
        "POST /orders HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{order}",
        order.len()
    );
    let answer = ask(&process, &placed).await;
    assert!(
        answer.starts_with("HTTP/1.1 202") && answer.contains("location: /orders/1\r\n"),
        "{answer}"
    );
    let began = tokio::time::Instant::now();
    let get = "GET /orders/1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let done =
        "{\"id\":1,\"item\":\"tea\",\"ms\":10,\"state\":\"done\",\"attempt\":1,\"returns\":0}";
    loop {
        let answer = ask(&process, get).await;
        if answer.ends_with(done) {
            break;
        }
        assert!(began.elapsed() < LIMIT, "{answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(folder.path().join("orders.db").exists(), "in the current folder");

    // One request more, and the stop while it is under way.
    let mut stream = TcpStream::connect(process.address()).await.unwrap();
    stream.write_all(b"GET /work?ms=1500 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let stopped = stop(process);
    let mut answer = String::new();
    let answered = timeout(LIMIT, stream.read_to_string(&mut answer));
    let (report, answered) = tokio::join!(stopped, answered);
    answered.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    assert!(report.contains("orders in the book: 1 done, 0 to be done"), "{report}");
}

#[tokio::test]
async fn worker() {
    let folder = tempfile::tempdir().unwrap();
    let subject = subject(env!("CARGO_BIN_EXE_08_worker")).current_dir(folder.path());
    let process = Process::start(&subject.env("QUEUE_URL", ""), Setting::Plain).await.unwrap();
    // The mail takes 200 ms: it is under way, or not yet claimed.
    let report = stop(process).await;
    assert!(report.contains("jobs of default: "), "{report}");
    assert!(folder.path().join("mail.db").exists(), "in the current folder");
}

#[tokio::test]
async fn tower_worker() {
    let subject = subject(env!("CARGO_BIN_EXE_09_tower_worker")).env("QUEUE_URL", "");
    let process = Process::start(&subject, Setting::Plain).await.unwrap();
    let began = tokio::time::Instant::now();
    let until = async |what: &str, is_so: &dyn Fn(&[String]) -> bool| loop {
        let lines: Vec<_> = process.lines().into_iter().map(|line| line.text).collect();
        if is_so(&lines) {
            return lines;
        }
        assert!(began.elapsed() < LIMIT, "never {what}: {}", process.tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let count = |lines: &[String], message: &str| {
        let message = format!("\"message\":\"{message}\"");
        lines.iter().filter(|line| line.contains(&message)).count()
    };
    let lines = until("more than a second's", &|lines| count(lines, "sent") >= 12).await;
    // Ten in the first second, whatever the concurrency. By the lines' own clock: no job has
    // begun when it says that it is ready.
    let at = |message: &str, nth: usize| {
        let message = format!("\"message\":\"{message}\"");
        let line = lines.iter().filter(|line| line.contains(&message)).nth(nth).expect("a line");
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        humantime::parse_rfc3339(event["timestamp"].as_str().unwrap()).unwrap()
    };
    let took = at("sent", 11).duration_since(at("readiness.changed", 0)).unwrap();
    assert!(took > Duration::from_millis(950), "{took:?}");
    let lines = until("all reports", &|lines| count(lines, "report written") == 3).await;
    // One report at a time, though there are slots for more.
    let reports = lines.iter().filter(|line| line.contains("\"message\":\"report "));
    let begun: Vec<_> = reports.map(|line| line.contains("report begun")).collect();
    assert_eq!(begun, [true, false, true, false, true, false], "{}", process.tail());
    drop(stop(process).await);
}

#[tokio::test]
async fn own_queue() {
    conforms_and_works(env!("CARGO_BIN_EXE_10_own_queue"), "jobs of own: ").await;
}

#[tokio::test]
async fn folder_queue() {
    conforms_and_works(env!("CARGO_BIN_EXE_12_folder_queue"), "jobs of folder: ").await;
}

async fn conforms_and_works(example: &str, line: &str) {
    let folder = tempfile::tempdir().unwrap();
    let queue = subject(example);
    let conforms = queue.clone().arg("--conformance").env("TMPDIR", folder.path());
    let mut conforms = Process::spawn(&conforms, Setting::Plain).unwrap();
    let works = queue.arg(folder.path().join("mail"));
    let process = Process::start(&works, Setting::Plain).await.unwrap();
    let report = stop(process).await;
    assert!(report.contains(line), "{report}");
    let exit = conforms.wait(Duration::from_secs(60)).await.expect("ends by itself");
    let said: Vec<_> = conforms.lines().into_iter().map(|line| line.text).collect();
    assert_eq!(exit.ended, Ended::Code(0), "{said:?}");
    assert!(said.iter().any(|line| line.contains(" passed, 0 failed, ")), "{said:?}");
}

/// Two clocks and workers on one file: each tick is worked on once.
#[tokio::test]
async fn schedule() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/schedule.db", folder.path().display());
    let subject = subject(env!("CARGO_BIN_EXE_11_schedule")).env("QUEUE_URL", url);
    let first = Process::start(&subject, Setting::Plain).await.unwrap();
    let second = Process::start(&subject, Setting::Plain).await.unwrap();
    // Sleeps: only time makes a clock tick.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let said = format!("{}\n{}", stop(first).await, stop(second).await);
    let mut pulses: Vec<_> = said.lines().filter(|line| line.contains("pulse for ")).collect();
    let count = pulses.len();
    pulses.sort_unstable();
    pulses.dedup();
    assert!(count >= 2 && pulses.len() == count, "{said}");
}

#[tokio::test]
async fn tls() {
    let subject = subject(env!("CARGO_BIN_EXE_06_tls")).tls().protocol(Protocol::Http1AndH2c);
    let subject = subject.routes(Routes::conventional());
    passes(&subject, &["http1-in-flight-across-close", "http2-streams-in-flight"]).await;
}

/// With the certificate of files: the one that a client sees is the file's.
#[tokio::test]
async fn tls_with_a_certificate_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["from-a-file".to_owned()]).unwrap();
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let subject = subject(env!("CARGO_BIN_EXE_06_tls")).env("CERT", &cert);
    let mut half = Process::spawn(&subject, Setting::Plain).unwrap();
    let exit = half.wait(LIMIT).await.expect("ends at once");
    assert_eq!(exit.ended, Ended::Code(1));
    assert!(half.tail().contains("CERT and KEY go together"), "{}", half.tail());

    let process = Process::start(&subject.env("KEY", &key), Setting::Plain).await.unwrap();
    let address = process.address();
    let url = format!("https://from-a-file:{}/", address.port());
    // curl trusts this certificate and no other.
    let curl = Command::new("curl")
        .args(["-sS", "--resolve", &format!("from-a-file:{}:127.0.0.1", address.port())])
        .arg("--cacert")
        .arg(&cert)
        .arg(&url)
        .kill_on_drop(true)
        .output();
    let curl = timeout(LIMIT, curl).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "hello", "{curl:?}");
    stop(process).await;
}

/// Neither a panic nor a backtrace, and nothing that could be taken for ready.
#[tokio::test]
async fn an_address_in_use_is_said_in_one_line() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (name, path) in
        [("target", env!("CARGO_BIN_EXE_target")), ("tls", env!("CARGO_BIN_EXE_06_tls"))]
    {
        let subject = subject(path).port_env("UNUSED").env("PORT", &port);
        let mut process = Process::spawn(&subject, Setting::Plain).unwrap();
        let exit = process.wait(LIMIT).await.expect("ends at once");
        assert_eq!(exit.ended, Ended::Code(1), "{name}");
        let said = process.tail();
        assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}: ")), "{said}");
        assert!(!said.contains("panicked") && !said.contains("ready\n"), "{said}");
    }
}

#[tokio::test]
async fn a_bad_variable_is_said_in_one_line() {
    let subject = subject(env!("CARGO_BIN_EXE_01_axum")).env("LIFECYCLE_LAME_DUCK", "-3s");
    let mut process = Process::spawn(&subject, Setting::Plain).unwrap();
    let exit = process.wait(LIMIT).await.expect("ends at once");
    assert_eq!(exit.ended, Ended::Code(1));
    let said = process.tail();
    assert!(said.contains("LIFECYCLE_LAME_DUCK=\"-3s\" is not understood: it takes"), "{said}");
}
