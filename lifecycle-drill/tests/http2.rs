//! The HTTP/2 scenarios against a small server that is this very test binary, started again:
//! one that stops well, and variations that do not.

#![allow(
    clippy::disallowed_methods,
    clippy::exit,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "`serve` is a program of its own and has an exit code"
)]

use std::{env, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Request, Response};
use lifecycle_drill::{Outcome, Protocol, ReadyWhen, Routes, Subject, Theme, by_name, scenarios};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, sleep, sleep_until, timeout},
};

fn subject(bad: &str) -> Subject {
    Subject::new(env::current_exe().unwrap())
        .args(["--exact", "serve", "--nocapture"])
        .env("DRILL_BAD", bad)
        .without_probes()
        .ready_when(ReadyWhen::LineContains("ready".into()))
        .protocol(Protocol::Http1AndH2c)
        .grace(GRACE)
        .lame_duck(LAME_DUCK)
        .slack(SLACK)
        .stop_count(2)
        .routes(Routes::new().work("/work?ms={ms}").events("/events"))
}

#[tokio::test]
async fn a_server_that_stops_well_passes() {
    let mut count = 0;
    for scenario in scenarios() {
        if scenario.theme() == Theme::Http2 || scenario.name().ends_with("http2") {
            let mut verdict = scenario.run(&subject("")).await;
            eprintln!("{verdict}");
            if !verdict.passed() && scenario.theme() != Theme::Load {
                // A busy machine is late now and then.
                verdict = scenario.run(&subject("")).await;
            }
            assert!(verdict.passed(), "{verdict}");
            count += 1;
        }
    }
    assert_eq!(count, 9);
}

/// It answers nothing else: readiness too is asked for over HTTP/2.
#[tokio::test]
async fn one_without_http1_is_asked_over_http2() {
    let subject = subject("")
        .protocol(Protocol::Http2Only)
        .ready_when(ReadyWhen::Http("/work".into()))
        .startup_path("/work");
    for name in ["signals-sigterm-idle", "probes-startup-holds", "load-http2"] {
        let verdict = by_name(name).unwrap().run(&subject).await;
        assert!(verdict.passed(), "{verdict}");
    }
    let verdict = by_name("http1-in-flight").unwrap().run(&subject).await;
    let Outcome::Skipped { why } = verdict.outcome() else { panic!("{verdict}") };
    assert_eq!(why, "needs HTTP/1");
}

async fn fails(bad: &str, name: &str, seen_any: &[&str]) {
    let verdict = by_name(name).unwrap().run(&subject(bad)).await;
    let Outcome::Fail { seen } = verdict.outcome() else { panic!("not failed: {verdict}") };
    assert!(seen_any.iter().any(|part| seen.contains(part)), "{verdict}");
}

#[tokio::test]
async fn one_that_drops_its_connections_loses_streams() {
    fails("no-goaway", "http2-idle-goaway", &["no GOAWAY"]).await;
    let torn = ["closed before any response", "reset after sent"];
    fails("no-goaway", "http2-streams-in-flight", &torn).await;
    fails("no-goaway", "load-http2", &["lost"]).await;
    fails("no-goaway", "streams-sse-http2", &["truncated"]).await;
}

/// More than the window that a client has who never speaks of it.
#[tokio::test]
async fn a_large_answer_comes_whole_to_a_client_by_hand() {
    let subject = subject("").routes(Routes::new().quick("/large"));
    let verdict = by_name("http2-never-answers-ping").unwrap().run(&subject).await;
    assert!(verdict.passed(), "{verdict}");
}

#[tokio::test]
async fn one_that_resets_streams_is_seen() {
    fails("resets", "http2-never-answers-ping", &["a stream was reset"]).await;
}

#[tokio::test]
async fn one_that_waits_for_mute_peers_never_ends() {
    for name in ["http2-preface-then-silence", "http2-never-answers-ping"] {
        fails("waits", name, &["still running"]).await;
    }
}

/// The server, when this binary is started by the subject above; nothing otherwise.
#[test]
fn serve() {
    let (Ok(port), Ok(bad)) = (env::var("PORT"), env::var("DRILL_BAD")) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run(port.parse().unwrap(), bad));
    std::process::exit(0);
}

async fn run(port: u16, bad: String) {
    let mut term = signal(SignalKind::terminate()).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    println!("\nready");
    let (drain, draining) = watch::channel(None);
    let mut connections = JoinSet::new();
    let mut close = Instant::now() + Duration::from_secs(3600);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                connections.spawn(connection(accepted.unwrap().0, draining.clone(), bad.clone()));
            }
            _ = term.recv() => close = Instant::now() + LAME_DUCK,
            () = sleep_until(close) => break,
        }
    }
    while let Ok(Ok((stream, _))) = timeout(Duration::from_millis(1), listener.accept()).await {
        connections.spawn(connection(stream, draining.clone(), bad.clone()));
    }
    drop(listener);
    drain.send(Some(Instant::now() + Duration::from_secs(1))).unwrap();
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, draining: watch::Receiver<Option<Instant>>, bad: String) {
    let mut drain = draining.clone();
    let patient = bad == "waits";
    let mut connection = tokio::select! {
        made = h2::server::handshake(stream) => match made {
            Ok(connection) => connection,
            Err(_) => return,
        },
        () = patience_over(draining.clone(), patient) => return,
    };
    let in_flight = Arc::new(());
    let mut told = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    if bad == "resets" {
                        let mut respond = respond;
                        respond.send_reset(h2::Reason::INTERNAL_ERROR);
                        continue;
                    }
                    let guard = Arc::clone(&in_flight);
                    let (draining, endless) = (draining.clone(), bad == "no-goaway");
                    tokio::spawn(async move {
                        answer(request, respond, draining, endless).await;
                        drop(guard);
                    });
                }
                _ => return,
            },
            _ = drain.wait_for(Option::is_some), if !told => {
                if bad == "no-goaway" {
                    return;
                }
                told = true;
                connection.graceful_shutdown();
            }
            () = patience_over(draining.clone(), patient),
                if Arc::strong_count(&in_flight) == 1 => return,
        }
    }
}

/// Ends when mute connections have had their time.
async fn patience_over(mut draining: watch::Receiver<Option<Instant>>, patient: bool) {
    let end = draining.wait_for(Option::is_some).await.ok().and_then(|end| *end);
    match end {
        Some(end) if !patient => sleep_until(end).await,
        _ => std::future::pending().await,
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    mut draining: watch::Receiver<Option<Instant>>,
    endless: bool,
) {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    if path == "/events" {
        let Ok(mut body) = respond.send_response(Response::new(()), false) else {
            return;
        };
        let mut tick = interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    if body.send_data(Bytes::from_static(b"data: x\n\n"), false).is_err() {
                        return;
                    }
                }
                _ = draining.wait_for(Option::is_some), if !endless => break,
            }
        }
        let _gone = body.send_data(Bytes::new(), true);
        return;
    }
    if path == "/large" {
        if let Ok(mut body) = respond.send_response(Response::new(()), false) {
            let _gone = body.send_data(Bytes::from(vec![b'x'; 100 * 1024]), true);
        }
        return;
    }
    let ms = query.strip_prefix("ms=").and_then(|ms| ms.parse().ok()).unwrap_or_default();
    sleep(Duration::from_millis(ms)).await;
    let _gone = respond.send_response(Response::new(()), true);
}

const GRACE: Duration = Duration::from_secs(6);
const SLACK: Duration = Duration::from_secs(3);
const LAME_DUCK: Duration = Duration::from_millis(600);
