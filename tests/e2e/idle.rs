//! An idle process sleeps: no wake-ups but for what comes from outside.

use std::fs;
use std::time::Duration;

use lifecycle_drill::{Process, Setting, Signal};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::target::target;

/// Context switches of all threads of a process so far: each wake-up is at least one.
fn switches(pid: i32) -> u64 {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for line in status.lines().filter(|line| line.contains("ctxt_switches")) {
            sum += line.split_whitespace().last().unwrap().parse::<u64>().unwrap();
        }
    }
    sum
}

#[tokio::test]
async fn a_process_without_traffic_does_not_wake_up() {
    let mut process = Process::start(&target(), Setting::Plain).await.unwrap();
    // Idle connections are held without a tick as well: mute, and between two requests.
    let mut held = Vec::new();
    for n in 0..10 {
        let stream = TcpStream::connect(process.address()).await.unwrap();
        if n % 2 == 0 {
            stream.try_write(b"GET /work HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            stream.readable().await.unwrap();
        }
        held.push(stream);
    }
    // The threads that the traffic has woken need a moment to park again.
    sleep(Duration::from_millis(700)).await;
    let before = switches(process.pid());
    sleep(Duration::from_secs(3)).await;
    let woken = switches(process.pid()) - before;
    println!("context switches of an idle process with 10 idle connections in 3 s: {woken}");
    assert_eq!(woken, 0, "an idle process woke up");
    drop(held);
    process.signal(Signal::Term).unwrap();
    let exit = process.wait(Duration::from_secs(6)).await.expect("ends in time");
    assert_eq!(exit.ended, lifecycle_drill::Ended::Code(0));
}
