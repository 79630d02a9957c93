//! The examples with a queue as real processes: jobs that are stopped in the middle, given back
//! and done after the next start.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use lifecycle_worker::{AnyQueue, Push, Queue};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(20);
const JOBS: &str = env!("CARGO_BIN_EXE_jobs");
const ORDERS: &str = env!("CARGO_BIN_EXE_orders");

fn command(program: &str, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(folder)
        .env("HOST", "127.0.0.1")
        .env("PORT", "0")
        .env("LIFECYCLE_PROBE_ADDR", "off")
        .env("LIFECYCLE_GRACE_PERIOD", "3s")
        .env("LIFECYCLE_LAME_DUCK", "0s")
        .env_remove("QUEUE_URL")
        .env_remove("DATABASE_URL")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its own end.
async fn run(mut command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        timeout(LIMIT, command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}

async fn jobs(folder: &Path, args: &[&str]) -> Vec<Value> {
    let (code, stdout, stderr) = run(command(JOBS, folder, args)).await;
    assert_eq!(code, Some(0), "{args:?}: {stderr}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn stat(folder: &Path, name: &str) -> u64 {
    jobs(folder, &["stats"]).await[0][name].as_u64().unwrap()
}

/// A process that says when it is ready, and what it says afterwards.
struct Running {
    child: Child,
    stdout: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    stderr: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
}

impl Running {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, stdout, stderr }
    }

    /// `jobs work`, which says so on stderr.
    async fn worker(folder: &Path, args: &[&str]) -> Self {
        Self::working(command(JOBS, folder, &[&["work"], args].concat())).await
    }

    async fn working(command: Command) -> Self {
        let mut running = Self::spawn(command);
        let ready =
            async { while running.stderr.next_line().await.unwrap().expect("lives") != "ready" {} };
        timeout(LIMIT, ready).await.unwrap();
        running
    }

    /// `orders`, which says so on stdout, and before it where it listens.
    async fn orders(folder: &Path, process: &str) -> (Self, Option<SocketAddr>) {
        Self::open(command(ORDERS, folder, &[process])).await
    }

    async fn open(command: Command) -> (Self, Option<SocketAddr>) {
        let mut running = Self::spawn(command);
        let mut address = None;
        loop {
            let line = timeout(LIMIT, running.stdout.next_line()).await.unwrap().unwrap();
            let line = line.expect("it lives");
            if line == "ready" {
                return (running, address);
            }
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["message"] == "listening" {
                address = Some(event["addr"].as_str().unwrap().parse().unwrap());
            }
        }
    }

    /// The exit code after SIGTERM, what was printed since, and the report.
    async fn stop(mut self) -> (Option<i32>, Vec<String>, String) {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let (mut printed, mut report) = (Vec::new(), String::new());
        let all = async {
            let out = async {
                while let Some(line) = self.stdout.next_line().await.unwrap() {
                    printed.push(line);
                }
            };
            let err = async {
                while let Some(line) = self.stderr.next_line().await.unwrap() {
                    report.push_str(&line);
                    report.push('\n');
                }
            };
            tokio::join!(out, err);
            self.child.wait().await.unwrap()
        };
        let status = timeout(LIMIT, all).await.expect("ends before its grace");
        (status.code(), printed, report)
    }

    async fn next(&mut self) -> Value {
        let line = timeout(LIMIT, self.stdout.next_line()).await.unwrap().unwrap();
        serde_json::from_str(&line.expect("lives")).unwrap()
    }
}

/// Looks from here: a process for each look would take too long to see what lasts a second.
async fn until_running(folder: &Path, count: u64) {
    let queue = AnyQueue::connect(&url(folder)).await.unwrap();
    let running = async { while queue.stats().await.unwrap().running != count {} };
    timeout(LIMIT, running).await.unwrap();
    queue.close().await.unwrap();
}

fn url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("jobs.db").display())
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn jobs_are_pushed_done_and_counted() {
    let folder = folder();
    let folder = folder.path();
    let pushed = jobs(folder, &["push", "--count", "3", "--ms", "10", "--ids"]).await;
    assert_eq!(pushed[3]["pushed"], 3, "{pushed:?}");
    let stats = jobs(folder, &["stats"]).await.remove(0);
    let names = ["ready", "scheduled", "running", "done", "dead", "attempts", "returns"];
    let counts = names.map(|name| stats[name].as_u64().unwrap_or_else(|| panic!("{stats}")));
    assert_eq!(counts, [3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(stats.as_object().unwrap().len(), names.len(), "{stats}");
    let mut worker = Running::worker(folder, &["--concurrency", "2", "--claim-wait", "1s"]).await;
    let mut done = HashSet::new();
    for _ in 0..3 {
        let line = worker.next().await;
        assert_eq!((&line["attempt"], line.as_object().unwrap().len()), (&1.into(), 3), "{line}");
        assert_eq!(line["worker"], worker.child.id().unwrap());
        done.insert(line["id"].as_str().unwrap().to_owned());
    }
    let ids = pushed[..3].iter().map(|one| one["id"].as_str().unwrap().to_owned());
    assert_eq!(done, ids.collect());
    let (code, printed, report) = worker.stop().await;
    assert_eq!((code, printed.len()), (Some(0), 0), "{printed:?} {report}");
    assert!(report.contains("jobs of default: 0 finished"), "{report}");
    let stats = jobs(folder, &["stats"]).await.remove(0);
    let counts = names.map(|name| stats[name].as_u64().unwrap());
    assert_eq!(counts, [0, 0, 0, 3, 0, 3, 0]);
}

/// The time to give jobs back is some tenths of a second, and another process may have had the
/// machine for as long: one that was too late is tried again.
async fn in_three_tries(one: impl AsyncFn(bool) -> bool) {
    for is_last in [false, false, true] {
        if Box::pin(one(is_last)).await {
            return;
        }
    }
    panic!("the last try says itself what is wrong");
}

#[tokio::test]
async fn a_job_that_outlasts_the_grace_is_given_back_and_done_after_the_next_start() {
    in_three_tries(is_given_back_and_done).await;
}

async fn is_given_back_and_done(is_last: bool) -> bool {
    let folder = folder();
    let folder = folder.path();
    // One that fits into the grace, whose drain ends at 3.05 s, and one that does not.
    jobs(folder, &["push", "--ms", "1500"]).await;
    jobs(folder, &["push", "--ms", "6500"]).await;
    let mut command = command(JOBS, folder, &["work"]);
    command.env("LIFECYCLE_GRACE_PERIOD", "4s");
    let worker = Running::working(command).await;
    until_running(folder, 2).await;
    let (code, printed, report) = worker.stop().await;
    let is_so = report.contains("jobs of default: 1 finished, 1 returned half done");
    if !is_so && !is_last {
        return false;
    }
    assert_eq!((code, printed.len()), (Some(3), 1), "{printed:?} {report}");
    assert!(is_so, "{report}");
    let stats = jobs(folder, &["stats"]).await.remove(0);
    assert_eq!((&stats["ready"], &stats["returns"]), (&1.into(), &1.into()), "{stats}");
    assert_eq!(stats["attempts"], 1, "the return counts none: {stats}");
    let mut worker = Running::worker(folder, &[]).await;
    assert_eq!(worker.next().await["attempt"], 1);
    assert_eq!(worker.stop().await.0, Some(0));
    assert_eq!(stat(folder, "attempts").await, 2);
    true
}

#[tokio::test]
async fn what_cannot_be_read_is_a_dead_letter_with_its_reason() {
    let folder = folder();
    let folder = folder.path();
    jobs(folder, &["push", "--payload", "{\"ms\":\"soon\"}"]).await;
    jobs(folder, &["push", "--payload", "not JSON", "--kind", "poison"]).await;
    let queue = AnyQueue::connect(&url(folder)).await.unwrap();
    queue.push(&[Push::new("bytes", vec![0xff, 0x00]), Push::new("empty", "")]).await.unwrap();
    queue.close().await.unwrap();
    let worker = Running::worker(folder, &[]).await;
    let dead = async { while stat(folder, "dead").await != 4 {} };
    timeout(LIMIT, dead).await.unwrap();
    let (code, printed, report) = worker.stop().await;
    assert_eq!((code, printed.len()), (Some(0), 0), "{printed:?} {report}");
    let dead = jobs(folder, &["dead"]).await;
    assert_eq!(dead.len(), 4, "{dead:?}");
    for letter in &dead {
        let error = letter["error"].as_str().unwrap();
        assert!(error.starts_with("the payload is not what it should be: "), "{letter}");
        assert_eq!(letter["attempts"], 1, "{letter}");
    }
    assert!(dead.iter().any(|letter| letter["kind"] == "poison"), "{dead:?}");
}

#[tokio::test]
async fn two_workers_on_one_file_never_print_one_id_twice() {
    let folder = folder();
    let folder = folder.path();
    let first = Running::worker(folder, &["--concurrency", "5"]).await;
    let second = Running::worker(folder, &["--concurrency", "5"]).await;
    // When both look for jobs; one alone would take a second.
    jobs(folder, &["push", "--count", "200", "--ms", "25"]).await;
    let done = async { while stat(folder, "done").await != 200 {} };
    timeout(LIMIT, done).await.unwrap();
    let ((code, mut printed, _), (second_code, more, _)) =
        tokio::join!(first.stop(), second.stop());
    assert_eq!((code, second_code), (Some(0), Some(0)));
    assert!(!more.is_empty() && !printed.is_empty(), "both had some");
    printed.extend(more);
    let id = |line: &String| serde_json::from_str::<Value>(line).unwrap()["id"].clone();
    let ids: HashSet<_> = printed.iter().map(|line| id(line).to_string()).collect();
    assert_eq!((ids.len(), printed.len()), (200, 200));
}

#[tokio::test]
async fn a_wrong_argument_is_usage_and_a_wrong_url_one_line() {
    let folder = folder();
    for args in [&[][..], &["nonsense"], &["push", "--count", "x"], &["work", "--lease", "soon"]] {
        let (code, stdout, stderr) = run(command(JOBS, folder.path(), args)).await;
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        assert!(stderr.contains("sage") || stderr.contains("--help"), "{stderr}");
    }
    for (url, says) in [
        ("jobs.db", "begins with one of amqp:"),
        ("kafka://app:swordfish@host", "no queue has the scheme kafka:"),
        ("sqlite:/nowhere/at/all.db", "unable to open database file"),
        ("sqlite::memory:", "needs a file"),
        ("sqlite:jobs.db?lease=soon", "it takes a duration such as 30s"),
    ] {
        for args in [&["stats"][..], &["work"]] {
            let mut command = command(JOBS, folder.path(), args);
            command.env("QUEUE_URL", url);
            let (code, stdout, stderr) = run(command).await;
            assert_eq!((code, stdout.as_str()), (Some(1), ""), "{url}: {stderr}");
            let lines: Vec<_> = stderr.lines().filter(|line| !line.starts_with('{')).collect();
            assert!(lines.len() == 1 && lines[0].contains(says), "{url}: {stderr}");
            assert!(lines[0].starts_with("Error: QUEUE_URL cannot be used: "), "{stderr}");
            assert!(!stderr.contains("swordfish"), "{stderr}");
        }
    }
}

async fn ask(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = timeout(LIMIT, TcpStream::connect(address)).await.unwrap().unwrap();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

/// The order when it is like this.
async fn order(address: SocketAddr, id: u32, is: impl Fn(&Value) -> bool) -> Value {
    let looked = async {
        loop {
            let order = body(&ask(address, &format!("GET /orders/{id}"), "").await);
            if is(&order) {
                return order;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, looked).await.unwrap()
}

#[tokio::test]
async fn an_order_in_the_middle_of_which_the_shop_closes_is_done_when_it_opens_again() {
    in_three_tries(is_done_when_it_opens_again).await;
}

async fn is_done_when_it_opens_again(is_last: bool) -> bool {
    let folder = folder();
    let mut command = command(ORDERS, folder.path(), &["all"]);
    // Time to give it back and to count the book: 0.9 s when the drain has ended at 4.8 s.
    command.env("LIFECYCLE_GRACE_PERIOD", "6s");
    let (shop, address) = Running::open(command).await;
    let address = address.unwrap();
    let answer = ask(address, "POST /orders", r#"{"item":"pie","ms":6500}"#).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert!(answer.contains("location: /orders/1\r\n"), "{answer}");
    let answer = ask(address, "GET /orders/2", "").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let running =
        async { while body(&ask(address, "GET /orders/stats", "").await)["running"] != 1 {} };
    timeout(LIMIT, running).await.unwrap();
    let (code, _, report) = shop.stop().await;
    let is_so = report.contains("jobs of orders: 0 finished, 1 returned half done");
    if !is_so && !is_last {
        return false;
    }
    assert_eq!(code, Some(3), "{report}");
    assert!(is_so, "{report}");
    assert!(report.contains("orders in the book: 0 done, 1 to be done"), "{report}");

    let (shop, address) = Running::orders(folder.path(), "all").await;
    let done = order(address.unwrap(), 1, |order| order["state"] == "done").await;
    assert_eq!((&done["attempt"], &done["returns"]), (&1.into(), &1.into()), "{done}");
    let (code, _, report) = shop.stop().await;
    assert_eq!(code, Some(0), "{report}");
    true
}

#[tokio::test]
async fn web_and_worker_are_two_processes_that_want_their_database_prepared() {
    let folder = folder();
    for process in ["web", "worker"] {
        let (code, stdout, stderr) = run(command(ORDERS, folder.path(), &[process])).await;
        assert_eq!(code, Some(1), "{process}: {stderr}");
        assert!(stderr.contains("run `orders migrate` first"), "{stderr}");
        assert_eq!((stderr.lines().count(), stdout.contains("ready")), (1, false), "{stderr}");
        let mut memory = command(ORDERS, folder.path(), &[process]);
        memory.env("QUEUE_URL", "memory:");
        let (code, _, stderr) = run(memory).await;
        assert!(code == Some(1) && stderr.contains("share none"), "{stderr}");
    }
    for _ in 0..2 {
        let (code, _, stderr) = run(command(ORDERS, folder.path(), &["migrate"])).await;
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("shutdown: migrate is done"), "{stderr}");
    }
    let (web, address) = Running::orders(folder.path(), "web").await;
    let address = address.unwrap();
    let answer = ask(address, "POST /orders", r#"{"item":"tea"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert_eq!(order(address, 1, |_| true).await["state"], "taken");
    let (worker, _) = Running::orders(folder.path(), "worker").await;
    let done = order(address, 1, |order| order["state"] == "done").await;
    assert_eq!(done["attempt"], 1, "{done}");
    let (code, _, report) = worker.stop().await;
    assert!(code == Some(0) && report.contains("jobs of orders: "), "{report}");
    let (code, _, report) = web.stop().await;
    assert!(code == Some(0) && report.contains("hook queue finished"), "{report}");
    let (code, _, stderr) = run(command(ORDERS, folder.path(), &["shop"])).await;
    assert!(code == Some(2) && stderr.contains("migrate"), "{stderr}");
}

/// Two clocks of one shop, one of them stopped on the way: each tick is worked on once.
#[tokio::test]
async fn however_many_clocks_the_book_is_counted_once_a_tick() {
    let folder = folder();
    let (code, _, stderr) = run(command(ORDERS, folder.path(), &["migrate"])).await;
    assert_eq!(code, Some(0), "{stderr}");
    let clock = async || {
        let mut command = command(ORDERS, folder.path(), &["clock"]);
        command.env("ORDERS_TALLY", "* * * * * *");
        let mut running = Running::spawn(command);
        while timeout(LIMIT, running.stdout.next_line()).await.unwrap().unwrap().unwrap() != "ready"
        {
        }
        running
    };
    let (one, other) = (clock().await, clock().await);
    let (mut worker, _) = Running::orders(folder.path(), "worker").await;
    let mut ticks = Vec::new();
    let mut one = Some(one);
    while ticks.len() < 5 {
        let event = worker.next().await;
        if event["message"] == "tally" {
            ticks.push(event["tick"].as_str().unwrap().to_owned());
        }
        if ticks.len() == 2
            && let Some(one) = one.take()
        {
            let (code, _, report) = one.stop().await;
            assert_eq!(code, Some(0), "{report}");
        }
    }
    let different: HashSet<_> = ticks.iter().collect();
    assert_eq!(different.len(), ticks.len(), "{ticks:?}");
    assert_eq!(other.stop().await.0, Some(0));
    assert_eq!(worker.stop().await.0, Some(0));
    let wrong = {
        let mut command = command(ORDERS, folder.path(), &["clock"]);
        command.env("ORDERS_TALLY", "now and then");
        run(command).await
    };
    assert!(wrong.0 == Some(1) && wrong.2.contains("now and then"), "{wrong:?}");
}
