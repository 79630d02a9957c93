//! What holds a process in ways that no runtime can help: a log that nobody reads, no
//! descriptors left.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use lifecycle_drill::{Ended, Process, Setting, Signal, Subject};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::target::configured;

const LIMIT: Duration = Duration::from_secs(10);
/// Of the process whose output nobody reads.
const STUCK_GRACE: Duration = Duration::from_secs(3);
/// Of the 64 KiB that it holds.
const PIPE_IS_FULL: u64 = 32 * 1024;

/// Processor time that a process has used, in ticks of 10 ms.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

async fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"GET /work?ms=1 HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let mut answer = [0; 512];
    let len = stream.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..len]).into_owned())
}

#[tokio::test]
async fn out_of_descriptors_it_neither_spins_nor_ends_and_recovers() {
    let shell = Subject::new("/bin/sh").args(["-c", "ulimit -n 40; exec \"$0\""]);
    let subject = configured(shell.arg(tests::example("target")));
    let mut process = Process::start(&subject, Setting::Plain).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(timeout(LIMIT, TcpStream::connect(process.address())).await.unwrap().unwrap());
    }
    sleep(Duration::from_millis(500)).await;
    let before = ticks(process.pid());
    sleep(Duration::from_secs(2)).await;
    let used = ticks(process.pid()) - before;
    println!("processor time of 2 s without descriptors: {} ms", used * 10);
    assert!(used < 20, "it spins: {used} ticks in 2 s");
    assert!(process.tail().contains("cannot accept connections"), "{}", process.tail());
    drop(held);
    let mut fresh = timeout(LIMIT, TcpStream::connect(process.address())).await.unwrap().unwrap();
    let answer = timeout(LIMIT, ask(&mut fresh)).await.expect("it accepts again").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(fresh);
    process.signal(Signal::Term).unwrap();
    let exit = process.wait(Duration::from_secs(6)).await.expect("ends in time");
    assert_eq!(exit.ended, Ended::Code(0), "{}", process.tail());
}

/// The reader of stderr stops reading: what panics blocks in its message, and the control
/// thread in its report. The last resort waits for nothing but the clock.
#[tokio::test]
async fn an_output_that_nobody_reads_cannot_hold_the_process_past_its_deadline() {
    // Of three, as a stall of the machine is not the process's; most often one is enough.
    let mut best = Duration::MAX;
    for _ in 0..3 {
        if best >= STUCK_GRACE {
            best = best.min(gone_with_a_stuck_output().await);
        }
    }
    assert!(best < STUCK_GRACE, "before the platform's SIGKILL: {best:?}");
}

/// How long after SIGTERM it was gone, by itself.
async fn gone_with_a_stuck_output() -> Duration {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = Command::new(tests::example("target"))
        .env("HOST", "127.0.0.1")
        .env("PORT", port.to_string())
        .env("LIFECYCLE_PROBE_ADDR", "off")
        .env("LIFECYCLE_GRACE_PERIOD", STUCK_GRACE.as_secs().to_string())
        .env("RUST_BACKTRACE", "full")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(line) = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap() {
        if line == "ready" {
            break;
        }
    }
    // Panic until the pipe is full: then a connection no longer ends. Before that one may take
    // its time too, to find the names for the first backtrace.
    let stderr = child.stderr.take().unwrap();
    let mut stuck = None;
    for _ in 0..1_000 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut end = Vec::new();
        let mut reading = Box::pin(stream.read_to_end(&mut end));
        let mut is_full = false;
        let limit = Instant::now() + LIMIT;
        while !is_full && timeout(Duration::from_secs(1), &mut reading).await.is_err() {
            assert!(Instant::now() < limit, "it neither ends nor is the pipe full");
            is_full = ioctl_fionread(&stderr).unwrap() > PIPE_IS_FULL;
        }
        drop(reading);
        if is_full {
            stuck = Some(stream);
            break;
        }
    }
    assert!(stuck.is_some(), "the pipe never filled");
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    let told = Instant::now();
    kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = timeout(LIMIT, child.wait()).await.expect("gone by itself").unwrap();
    assert_eq!(status.code(), Some(3), "{status:?}");
    let took = told.elapsed();
    println!("with a stuck stderr and {STUCK_GRACE:?} of grace: gone after {took:?}");
    took
}

#[tokio::test]
async fn out_of_descriptors_those_in_service_go_on_and_a_stop_is_clean() {
    let shell = Subject::new("/bin/sh").args(["-c", "ulimit -n 40; exec \"$0\""]);
    let subject = configured(shell.arg(tests::example("target")));
    let mut process = Process::start(&subject, Setting::Plain).await.unwrap();
    let connect = || timeout(LIMIT, TcpStream::connect(process.address()));
    let mut first = connect().await.unwrap().unwrap();
    let served = |answer: &str| answer.starts_with("HTTP/1.1 200");
    assert!(served(&timeout(LIMIT, ask(&mut first)).await.unwrap().unwrap()));
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(connect().await.unwrap().unwrap());
    }
    timeout(LIMIT, async {
        while !process.tail().contains("cannot accept connections") {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it runs out");
    for _ in 0..20 {
        let answer = timeout(LIMIT, ask(&mut first)).await.expect("goes on").unwrap();
        assert!(served(&answer), "{answer}");
    }
    let told = Instant::now();
    process.signal(Signal::Term).unwrap();
    // Through the lame duck too: the first answer after the signal says goodbye.
    let goodbye = timeout(LIMIT, async {
        loop {
            let answer = ask(&mut first).await.expect("served until it was told to leave");
            assert!(served(&answer), "{answer}");
            if answer.contains("connection: close") {
                return;
            }
        }
    });
    goodbye.await.expect("told to leave");
    let exit = process.wait(Duration::from_secs(6)).await.expect("ends in time");
    assert_eq!(exit.ended, Ended::Code(0), "{}", process.tail());
    println!("stopped without descriptors: gone after {:?}", told.elapsed());
    assert!(told.elapsed() < Duration::from_secs(4), "{:?}", told.elapsed());
    drop(held);
}
