//! What a probe server meets: a taken port, bad clients, many of them.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use lifecycle_drill::{Ended, Process, Setting};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::probed::{
    LIMIT, ask, ends_clean, raw, start_ready, stops_clean, subject, terminate, try_ask,
};

const READYZ: &[u8] = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_taken_port_is_a_clear_error_at_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap();
    let subject = subject().probe_addr_env("UNUSED").env("LIFECYCLE_PROBE_ADDR", addr.to_string());
    let mut process = Process::spawn(&subject, Setting::Plain).unwrap();
    let exit = process.wait(LIMIT).await.expect("it does not go on without probes");
    assert_eq!(exit.ended, Ended::Code(1));
    let tail = process.tail();
    assert!(tail.contains(&format!("cannot bind the probe server to {addr}")), "{tail}");
    assert!(tail.contains("LIFECYCLE_PROBE_ADDR") && tail.contains("in use"), "{tail}");
}

#[tokio::test]
async fn five_hundred_clients_at_once_are_answered() {
    let process = start_ready(&[]).await;
    let address = process.probe_address();
    let began = Instant::now();
    let asked: Vec<_> = (0..500).map(|_| tokio::spawn(raw(address, READYZ))).collect();
    for one in asked {
        let answer = one.await.unwrap().expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    stops_clean(process).await;
}

/// More silent and never-reading connections than the server holds at once.
#[tokio::test]
async fn a_crowd_that_neither_sends_nor_reads_does_not_keep_the_platform_out() {
    let process = start_ready(&[]).await;
    let address = process.probe_address();
    let mut crowd = Vec::new();
    for n in 0..700 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if n % 2 == 0 {
            stream
                .write_all(b"GET /statusz HTTP/1.1\r\nhost: x\r\n\r\n".repeat(50).as_slice())
                .await
                .unwrap();
        } else {
            stream.write_all(b"GET /livez HT").await.unwrap();
        }
        crowd.push(stream);
        if n % 100 == 99 {
            lives(address, n).await;
        }
    }
    let began = terminate(&process);
    ends_clean(process).await;
    let took = began.elapsed();
    // The lame duck takes 1 s of it; each of the crowd has 5 s.
    assert!(took < Duration::from_secs(4), "the crowd delays the exit: {took:?}");
    drop(crowd);
}

/// As a platform asks: an answer within a second, one of three.
async fn lives(address: SocketAddr, beside: usize) {
    for _ in 0..3 {
        let asked = timeout(Duration::from_secs(1), try_ask(address, "/livez")).await;
        if let Ok(answer) = asked {
            return assert_eq!(answer.map(|(status, _)| status), Some(200), "beside {beside}");
        }
    }
    panic!("no answer within 1 s, three times, beside {beside}");
}

#[tokio::test]
async fn those_who_wait_for_the_drain_and_read_nothing_do_not_hold_the_exit() {
    let process = start_ready(&[]).await;
    let mut held = Vec::new();
    for n in 0..20 {
        let mut stream = TcpStream::connect(process.probe_address()).await.unwrap();
        stream.write_all(b"GET /drainz?wait=1h HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        if n % 2 == 0 {
            stream.write_all(b"GET /statusz HTTP/1.1\r\nhost: x").await.unwrap();
        }
        held.push(stream);
    }
    let began = terminate(&process);
    ends_clean(process).await;
    let took = began.elapsed();
    // The lame duck takes 1 s of it; at the deadline, at 5.7 s, the process would be ended.
    assert!(took < Duration::from_secs(4), "they delay the exit: {took:?}");
}

#[tokio::test]
async fn a_slow_client_is_answered_and_a_huge_head_is_refused() {
    let process = start_ready(&[]).await;
    let address = process.probe_address();
    let slow = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        for byte in READYZ {
            stream.write_all(&[*byte]).await.unwrap();
            sleep(Duration::from_millis(20)).await;
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    for head in [
        format!("GET /livez HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(1 << 20)),
        format!("GET /livez HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(1 << 17)),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may be told off before it has sent all.
        let _torn = timeout(LIMIT, stream.write_all(head.as_bytes())).await.unwrap();
        let mut answer = [0; 64];
        let read = timeout(LIMIT, stream.read(&mut answer)).await.expect("it is told off");
        let told = read.map_or(0, |len| len);
        let answer = String::from_utf8_lossy(&answer[..told]);
        assert!(told == 0 || answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert_eq!(ask(&process, "/livez").await.0, 200);
    }
    let answer = timeout(LIMIT, slow).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = raw(address, &[garbage, b"\r\n\r\n"].concat()).await.unwrap_or_default();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    stops_clean(process).await;
}

#[tokio::test]
async fn one_listener_on_the_ipv6_wildcard_answers_ipv4_too() {
    let free = std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap();
    let subject = subject().probe_addr_env("UNUSED").env("LIFECYCLE_PROBE_ADDR", free.to_string());
    let process = Process::start(&subject, Setting::Plain).await.unwrap();
    for host in [SocketAddr::from(([127, 0, 0, 1], 0)).ip(), Ipv6Addr::LOCALHOST.into()] {
        let answer = try_ask(SocketAddr::new(host, free.port()), "/livez").await;
        assert_eq!(answer, Some((200, "ok".to_owned())), "{host}");
    }
    stops_clean(process).await;
}

#[tokio::test]
async fn off_means_that_nobody_listens() {
    let subject = subject().probe_addr_env("UNUSED").env("LIFECYCLE_PROBE_ADDR", "off");
    let process = Process::start(&subject, Setting::Plain).await.unwrap();
    assert_eq!(try_ask(process.probe_address(), "/livez").await, None);
    let live = try_ask(process.address(), "/livez").await;
    assert_eq!(live, Some((200, "ok".to_owned())), "the main port's are another matter");
    let line = crate::probed::logs(&process, "lifecycle.configured", "").await;
    assert!(line.contains("\"probe_addr\":\"off\""), "{line}");
    stops_clean(process).await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_answered_in_plain_words() {
    let process = start_ready(&[]).await;
    let address = process.probe_address();
    for (request, status, words) in [
        ("HEAD /readyz", "200", ""),
        ("HEAD /startupz?verbose", "200", ""),
        ("GET /nothing", "404", "not found: try /livez"),
        ("GET /readyz/nothing", "404", "no check \"nothing\" in /readyz: startup, shutdown, db"),
        ("GET /drainz?wait=soon", "400", "wait=soon is not understood: a duration such as 20s"),
        ("DELETE /readyz", "405", "only GET, HEAD\n"),
        ("PUT /drainz", "405", "only GET, HEAD, POST\n"),
        ("GET /readyz?exclude=nothing", "200", "\"nothing\" cannot be excluded"),
    ] {
        let head = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = raw(address, head.as_bytes()).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
        assert!(head.contains("cache-control: no-store"), "{request}: {head}");
        assert!(body.contains(words), "{request}: {body}");
        assert_eq!(body.is_empty(), request.starts_with("HEAD"), "{request}: {body}");
        let length = head.to_lowercase().contains("content-length: ");
        assert!(length, "{request}: {head}");
    }
    let head = "DELETE /drainz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = raw(address, head.as_bytes()).await.unwrap();
    assert!(answer.contains("allow: GET, HEAD, POST"), "{answer}");
    stops_clean(process).await;
}
