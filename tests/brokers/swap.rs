//! One program, `jobs`, on every queue: only `QUEUE_URL` changes. What a queue cannot do it says
//! in one line, and `docs/queues.md` says what each can do.

use std::any::Any;
use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lifecycle_drill::{Ended, Process, Setting, Signal as Stop, Subject, Wire};
use lifecycle_worker::{
    AmqpQueue, AnyQueue, Attempt, Capabilities, Lease, MemoryQueue, Place, Queue, SqsQueue,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tests::brokers::{
    PrivateMoto, PrivateNats, PrivatePostgres, PrivateRabbit, PrivateRedis, free_port,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

/// A queue that several processes share, and what keeps it there.
struct Shared {
    name: &'static str,
    url: String,
    _server: Box<dyn Any>,
}

impl Shared {
    fn new(name: &'static str, url: String, server: impl Any) -> Self {
        Self { name, url, _server: Box::new(server) }
    }
}

/// Of every scheme.
async fn all() -> Vec<Shared> {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}/jobs.db", folder.path().display());
    let mut all = vec![Shared::new("sqlite", url, folder)];
    let server = PrivatePostgres::start().await;
    all.push(Shared::new("postgres", server.url(), server));
    let server = PrivateRedis::start().await;
    all.push(Shared::new("redis", server.url(), server));
    let server = PrivateRabbit::start().await;
    all.push(Shared::new("amqp", server.url(), server));
    let server = PrivateNats::start().await;
    all.push(Shared::new("nats", server.url(), server));
    let server = PrivateMoto::start().await;
    all.push(Shared::new("sqs", server.url("default"), server));
    all
}

fn jobs(url: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(tests::example("jobs"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("QUEUE_URL", url)
        .env("LIFECYCLE_PROBE_ADDR", "off")
        .env("LIFECYCLE_GRACE_PERIOD", "6s")
        .env("LIFECYCLE_LAME_DUCK", "0s")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Its exit code, what it printed and what it said.
async fn run(url: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = TempDir::new().unwrap();
    let output = timeout(LIMIT, jobs(url, folder.path(), arguments).output()).await;
    let output = output.expect("it ends in time").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// It ends with 1, prints nothing, and says one line with these words.
async fn is_refused(url: &str, arguments: &[&str], words: &[&str]) {
    let (code, printed, said) = run(url, arguments).await;
    println!("{arguments:?}: {}", said.trim());
    assert_eq!((code, &*printed), (Some(1), ""), "{said}");
    assert!(said.lines().count() == 1 && said.starts_with("Error: "), "{said}");
    let last = said.trim_end().rsplit(": ").next().unwrap();
    assert_eq!(said.matches(last).count(), 1, "said twice: {said}");
    for word in words {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
}

/// Works until so many are done, and is told to stop; their ids.
async fn work(queue: &Shared, count: usize) -> HashSet<String> {
    let folder = TempDir::new().unwrap();
    let mut child = jobs(&queue.url, folder.path(), &["work"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stderr = child.stderr.take().unwrap();
    let saying = tokio::spawn(async move {
        let mut said = String::new();
        stderr.read_to_string(&mut said).await.map(|_| said)
    });
    let mut ids = HashSet::new();
    for _ in 0..count {
        let line = timeout(LIMIT, lines.next_line()).await.expect("a job in time").unwrap();
        let line = line.unwrap_or_else(|| panic!("{}: it ended after {}", queue.name, ids.len()));
        let done: Value = serde_json::from_str(&line).unwrap();
        ids.insert(done["id"].as_str().unwrap().to_owned());
    }
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let more = timeout(LIMIT, lines.next_line()).await.expect("it ends in time").unwrap();
    assert_eq!(more, None, "{}: more than was pushed", queue.name);
    let status = timeout(LIMIT, child.wait()).await.expect("it ends in time").unwrap();
    let said = saying.await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "{}: {said}", queue.name);
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_url_alone_makes_one_program_work_on_any_queue() {
    for queue in all().await {
        let can = AnyQueue::connect(&queue.url).await.unwrap().capabilities();
        let count = JOBS.to_string();
        let (code, printed, said) = run(&queue.url, &["push", "--count", &count]).await;
        assert_eq!(code, Some(0), "{}: {said}", queue.name);
        assert_eq!(printed, format!("{{\"pushed\":{JOBS}}}\n"), "{}", queue.name);
        let ids = work(&queue, JOBS).await;
        assert_eq!(ids.len(), JOBS, "{}: each once", queue.name);
        if can.stats {
            let (code, printed, said) = run(&queue.url, &["stats"]).await;
            assert_eq!(code, Some(0), "{}: {said}", queue.name);
            let stats: Value = serde_json::from_str(&printed).unwrap();
            let names = ["ready", "scheduled", "running", "done", "dead", "attempts", "returns"];
            let counts = names.map(|name| stats[name].as_u64().expect("a number"));
            let jobs = JOBS as u64;
            assert_eq!(counts, [0, 0, 0, jobs, 0, jobs, 0], "{}: {printed}", queue.name);
        } else {
            is_refused(&queue.url, &["stats"], &["not supported: "]).await;
        }
        if can.dead_letters {
            let (code, printed, said) = run(&queue.url, &["dead"]).await;
            assert_eq!((code, &*printed), (Some(0), ""), "{}: {said}", queue.name);
        } else {
            is_refused(&queue.url, &["dead"], &["not supported: "]).await;
        }
        println!("{}: {} done", queue.name, ids.len());
    }
}

/// The shop has a clock, and NATS no dedupe keys for it.
#[tokio::test]
async fn the_shop_opens_where_its_clock_cannot_be_had() {
    let (nats, folder) = (PrivateNats::start().await, TempDir::new().unwrap());
    let book = format!("sqlite:{}/book.db", folder.path().display());
    let orders = |process: &str| {
        tests::told(Subject::new(tests::example("orders")).arg(process))
            .env("QUEUE_URL", nats.url())
            .env("DATABASE_URL", &book)
    };
    let mut shop = Process::start(&orders("all"), Setting::Plain).await.unwrap();
    let body = r#"{"item":"tea","ms":1}"#;
    let order = format!(
        "POST /orders HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut placing = TcpStream::connect(shop.address()).await.unwrap();
    placing.write_all(order.as_bytes()).await.unwrap();
    let mut placed = String::new();
    timeout(LIMIT, placing.read_to_string(&mut placed)).await.expect("it answers").unwrap();
    assert!(placed.starts_with("HTTP/1.1 202"), "{placed}");
    let done = async {
        loop {
            let mut wire = Wire::connect(shop.address(), LIMIT).await.unwrap();
            let asked = wire.get("/orders/1").await.unwrap();
            if String::from_utf8_lossy(asked.body()).contains("\"state\":\"done\"") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, done).await.expect("the order is prepared");
    shop.signal(Stop::Term).unwrap();
    let exit = shop.wait(LIMIT).await.expect("it ends");
    let log = shop.tail();
    assert_eq!(exit.ended, Ended::Code(0), "{log}");
    let refused = Process::start(&orders("clock"), Setting::Plain).await.expect_err("is a clock");
    assert!(refused.to_string().contains("dedupe"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_refuses_is_told_in_one_line() {
    let nobody = format!("127.0.0.1:{}", free_port());
    for scheme in ["amqp", "nats"] {
        let words = ["QUEUE_URL cannot be used: the broker cannot be reached", "refused"];
        is_refused(&format!("{scheme}://{nobody}"), &["push"], &words).await;
    }
    let rabbit = PrivateRabbit::start().await;
    let at = format!("127.0.0.1:{}", rabbit.port());
    let denied = ["the broker refused access"];
    is_refused(&format!("amqp://guest:wrong@{at}"), &["stats"], &denied).await;
    is_refused(&format!("{}/nowhere", rabbit.url()), &["stats"], &["nowhere"]).await;
    rabbit.ctl(&["add_user", "ada", "x"]).await;
    rabbit.ctl(&["set_permissions", "ada", "^$", ".*", ".*"]).await;
    // The queue is not there, and who works may not create it.
    is_refused(&format!("amqp://ada:x@{at}"), &["stats"], &denied).await;

    let users = "jetstream: enabled\nauthorization { users: [ { user: ada, password: x, \
                 permissions: { publish: { deny: \"$JS.API.STREAM.CREATE.>\" } } } ] }\n";
    let nats = PrivateNats::with(users).await;
    let at = format!("127.0.0.1:{}", nats.port());
    is_refused(&format!("nats://ada:wrong@{at}"), &["stats"], &denied).await;
    is_refused(&format!("nats://{at}"), &["stats"], &denied).await;
    let words = ["the broker refused access", "$JS.API.STREAM.CREATE."];
    is_refused(&format!("nats://ada:x@{at}"), &["stats"], &words).await;
    let without = PrivateNats::with("").await;
    is_refused(&without.url(), &["stats"], &["not supported: ", "JetStream"]).await;
    is_refused(&format!("{}?lease=soon", without.url()), &["work"], &["a duration"]).await;
    is_refused(&format!("{}?lease=9s", rabbit.url()), &["work"], &["lease= is not for amqp"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docs_queues_md_says_what_the_queues_say() {
    let mut table = format!("{}\n|{}\n", line(&HEAD.map(str::to_owned)), "---|".repeat(HEAD.len()));
    let mut add = |name: &str, can: Capabilities| {
        table.push_str(&row(name, &can));
        table.push('\n');
    };
    add("`memory`", MemoryQueue::new("mail").capabilities());
    for queue in all().await {
        let can = AnyQueue::connect(&queue.url).await.unwrap().capabilities();
        add(&format!("`{}`", queue.name), can);
        match queue.name {
            "amqp" => {
                let amqp = AmqpQueue::connect(&queue.url, "mail").await.unwrap();
                assert_eq!(amqp.clone().classic().capabilities(), can);
                let with = amqp.classic_with_priorities().capabilities();
                add("`amqp`, `classic_with_priorities`", with);
            }
            "sqs" => {
                let url = queue.url.replace("/default?", "/default.fifo?");
                add("`sqs`, FIFO", SqsQueue::connect(&url).await.unwrap().capabilities());
            }
            _ => {}
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/queues.md");
    let docs = std::fs::read_to_string(path).unwrap();
    assert!(docs.contains(&table), "docs/queues.md is to have this table:\n\n{table}");
}

fn row(name: &str, can: &Capabilities) -> String {
    let yes = |is: bool| if is { "yes" } else { "-" }.to_owned();
    let lease = match can.lease {
        Lease::Timed { period, longest: None } => time(period),
        Lease::Timed { period, longest: Some(most) } => {
            format!("{}, {} at most", time(period), time(most))
        }
        _ => "the connection".to_owned(),
    };
    let (place, counts, later) = match can.release {
        None => ("-", "-", "-".to_owned()),
        Some(release) => {
            let place = match release.place {
                Place::Back => "behind all",
                Place::Front => "before all",
                Place::Original => "in its place",
                _ => "anywhere",
            };
            let counts = if release.attempt == Attempt::Counted { "**yes**" } else { "no" };
            (place, counts, yes(release.delay))
        }
    };
    let payload = match can.payload_most {
        usize::MAX => "as the broker has it".to_owned(),
        most => format!("{} KiB", most / 1024),
    };
    line(&[
        name.to_owned(),
        lease,
        place.to_owned(),
        counts.to_owned(),
        later,
        yes(can.delay),
        yes(can.priority),
        yes(can.dedupe),
        yes(can.checkpoint),
        yes(can.dead_letters),
        yes(can.stats),
        time(can.interrupt_bound),
        payload,
    ])
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

fn time(time: Duration) -> String {
    match time.as_millis() {
        ms if ms >= 3_600_000 => format!("{} h", ms / 3_600_000),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

const HEAD: [&str; 13] = [
    "queue",
    "lease",
    "a return lands",
    "and counts an attempt",
    "can be delayed",
    "delay",
    "priority",
    "dedupe key",
    "checkpoint",
    "dead letters",
    "stats",
    "interrupt within",
    "payload",
];
const JOBS: usize = 20;
const LIMIT: Duration = Duration::from_secs(60);
