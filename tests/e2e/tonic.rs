//! The example `03_tonic` as a process: the drill on its plain routes, and gRPC calls around
//! a stop. Grace 6 s, lame duck 1 s.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use lifecycle_drill::{
    Ended, Process, Protocol, Routes, Scenario, Setting, Signal, Subject, Theme, scenarios,
};
use tests::grpc::{Client, number};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use crate::target::{cuts, is_cut};

const LIMIT: Duration = Duration::from_secs(10);

/// What is not played, and why not. All else is.
const LEFT_OUT: [(&str, &str); 9] = [
    ("http1-finite-stream", BIG),
    ("http1-client-does-not-read", BIG),
    ("streams-sse", EVENTS),
    ("streams-sse-http2", EVENTS),
    ("websocket-closed-1001", "gRPC has no upgrades"),
    ("deadline-blocked-event-loop", FAULT),
    ("deadline-blocked-single-thread", FAULT),
    ("deadline-blocked-pool", FAULT),
    ("deadline-panic-contained", FAULT),
];
const BIG: &str = "gRPC's long answers are streams of messages: see `cross` and below";
const EVENTS: &str = "gRPC has its own streams: see `cross` and below";
const FAULT: &str = "what a handler does to its thread is the same under any router: see `target`";

fn subject() -> Subject {
    tests::told(Subject::new(tests::example("03_tonic")))
        .protocol(Protocol::Http1AndH2c)
        .grace(Duration::from_secs(6))
        .lame_duck(Duration::from_secs(1))
        .stop_count(5)
        .routes(Routes::new().work("/work/{ms}").echo("/echo"))
}

/// Plays what applies of these themes, a few at a time; skipped counts as failed.
async fn play(themes: &[Theme], at_once: usize) {
    let left_out = LEFT_OUT.map(|(name, _)| name);
    let plays = scenarios()
        .iter()
        .filter(|scenario| themes.contains(&scenario.theme()))
        .filter(|scenario| !left_out.contains(&scenario.name()))
        .map(|scenario| async move {
            if is_cut(scenario.name()) {
                cuts(subject(), scenario.name(), &[]).await;
                return None;
            }
            Some(tests::played(scenario, &subject()).await)
        });
    let verdicts: Vec<_> = stream::iter(plays).buffer_unordered(at_once).collect().await;
    assert!(!verdicts.is_empty(), "{themes:?}");
    for verdict in verdicts.into_iter().flatten() {
        assert!(verdict.passed(), "{verdict}");
        if let Some(ledger) = verdict.ledger() {
            println!("{}: {ledger}", verdict.scenario().name());
        }
    }
}

/// The themes, as the tests below play them.
const SIGNALS: &[Theme] = &[Theme::Signals];
const PROBES: &[Theme] = &[Theme::Probes, Theme::Deadline];
const HTTP: &[Theme] = &[Theme::Http1, Theme::Http2];
const LOAD: &[Theme] = &[Theme::Load];

#[test]
fn what_is_left_out_is_what_the_example_has_no_route_for() {
    let subject = subject();
    let is_unmet =
        |scenario: &Scenario| scenario.needs().iter().any(|need| !need.is_met_by(&subject));
    let unmet: BTreeSet<_> =
        scenarios().iter().filter(|scenario| is_unmet(scenario)).map(Scenario::name).collect();
    assert_eq!(unmet, LEFT_OUT.map(|(name, _)| name).into());
    let played = [SIGNALS, PROBES, HTTP, LOAD].concat();
    for scenario in scenarios() {
        let (name, theme) = (scenario.name(), scenario.theme());
        assert!(unmet.contains(name) || played.contains(&theme), "{name} is forgotten");
    }
}

#[tokio::test]
async fn signals_and_their_repeats() {
    play(SIGNALS, 3).await;
}

#[tokio::test]
async fn probes_and_the_deadline() {
    play(PROBES, 3).await;
}

#[tokio::test]
async fn connections_in_every_state() {
    play(HTTP, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_on_the_plain_routes_loses_nothing() {
    play(LOAD, 1).await;
}

async fn start() -> Process {
    Process::start(&subject(), Setting::Plain).await.unwrap()
}

/// Waits until it has logged that event.
async fn said(process: &Process, event: &str) {
    let said = async {
        while !process.lines().iter().any(|line| line.text.contains(event)) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(LIMIT, said).await.is_ok(), "no {event}: {}", process.tail());
}

async fn code(process: &mut Process) -> Ended {
    process.wait(Duration::from_secs(6)).await.expect("gone before its grace is over").ended
}

#[tokio::test]
async fn calls_in_flight_finish_and_new_ones_are_served_through_the_lame_duck() {
    let mut process = start().await;
    let client = Client::new(process.address());
    assert_eq!(client.unary("/examples.Work/Once", 1).await.unwrap(), 1);
    let long = tokio::spawn({
        let client = client.clone();
        async move { client.unary("/examples.Work/Once", 2_500).await }
    });
    // Its last number comes when the drain is well under way.
    let (send, numbers) = tokio::sync::mpsc::channel(1);
    let numbers = stream::unfold(numbers, |mut numbers| async {
        numbers.recv().await.map(|n| (number(n), numbers))
    });
    let numbers = Box::pin(numbers);
    let sum = tokio::spawn({
        let client = client.clone();
        async move { client.client_streaming("/examples.Work/Sum", numbers).await }
    });
    send.send(40).await.unwrap();
    let mut count = client.server_streaming("/examples.Work/Count", 50).await.unwrap();
    assert_eq!(timeout(LIMIT, count.message()).await.unwrap().unwrap(), Some(number(0)));

    process.signal(Signal::Term).unwrap();
    said(&process, "shutdown.initiated").await;
    assert_eq!(client.unary("/examples.Work/Once", 2).await.unwrap(), 2, "on its channel");
    let fresh = Client::new(process.address());
    assert_eq!(fresh.unary("/examples.Work/Once", 3).await.unwrap(), 3, "on a new one");

    said(&process, "listener.closed").await;
    send.send(2).await.unwrap();
    drop(send);
    assert_eq!(timeout(LIMIT, sum).await.unwrap().unwrap().unwrap(), 42);
    let rest = async { while count.message().await.expect("status OK").is_some() {} };
    timeout(LIMIT, rest).await.expect("it sees the drain");
    assert_eq!(timeout(LIMIT, long).await.unwrap().unwrap().unwrap(), 2_500);
    let late = Client::new(process.address()).unary("/examples.Work/Once", 1).await;
    assert_eq!(late.expect_err("closed").code(), Code::Unavailable);
    assert_eq!(code(&mut process).await, Ended::Code(0), "{}", process.tail());
}

#[tokio::test]
async fn at_the_deadline_calls_end_with_unavailable_and_the_exit_code_is_3() {
    // Of so long a grace a second is for what is cancelled: of the usual one 300 ms, which a busy
    // machine may miss.
    let patient = subject().env("LIFECYCLE_GRACE_PERIOD", "20s").grace(Duration::from_secs(20));
    let mut process = Process::start(&patient, Setting::Plain).await.unwrap();
    let client = Client::new(process.address());
    let open = |n| stream::iter([number(n)]).chain(stream::pending());
    let once = tokio::spawn({
        let client = client.clone();
        async move { client.unary("/examples.Work/Once", 60_000).await }
    });
    let sum = tokio::spawn({
        let client = client.clone();
        async move { client.client_streaming("/examples.Work/Sum", open(1)).await }
    });
    let mut echo = client.streaming("/examples.Work/Echo", open(7)).await.unwrap();
    assert_eq!(timeout(LIMIT, echo.message()).await.unwrap().unwrap(), Some(number(7)));
    process.signal(Signal::Term).unwrap();
    let assert_cut = |ended: Result<(), Status>| {
        let status = ended.expect_err("cut");
        let seen = (status.code(), status.message());
        assert_eq!(seen, (Code::Unavailable, "shutdown: hard stop"));
    };
    let patience = 2 * Duration::from_secs(20);
    assert_cut(timeout(patience, echo.message()).await.unwrap().map(drop));
    assert_cut(timeout(LIMIT, once).await.unwrap().unwrap().map(drop));
    assert_cut(timeout(LIMIT, sum).await.unwrap().unwrap().map(drop));
    assert_eq!(code(&mut process).await, Ended::Code(3), "{}", process.tail());
    let report = process.tail();
    for name in ["Echo", "Once", "Sum"] {
        assert!(report.contains(&format!("request POST /examples.Work/{name} (")), "{report}");
    }
    assert!(report.contains("cut at the end of draining: 3 left"), "{report}");
    assert!(!report.contains("cut at the end of cancelling"), "{report}");
}

/// What became of one call, as the drill counts it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Answered,
    /// Never processed, as the client knows: it may be made again. The connection had said
    /// GOAWAY, or was over before the call was written.
    NotProcessed,
    /// There was no connection to make it on.
    Refused,
    /// Perhaps processed, with no answer.
    Lost(String),
}

fn fate(ended: Result<u64, Status>) -> Fate {
    let status = match ended {
        Ok(_) => return Fate::Answered,
        Err(status) => status,
    };
    let mut source: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = source {
        if error.downcast_ref().is_some_and(hyper::Error::is_canceled) {
            // hyper's word for a request that it had not begun to send.
            return Fate::NotProcessed;
        }
        let goaway = |error: &h2::Error| {
            error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
        };
        if error.downcast_ref().is_some_and(goaway) {
            // RFC 9113, 6.8: it is above the last stream that the server took.
            return Fate::NotProcessed;
        }
        let refused = |error: &std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
        if error.downcast_ref().is_some_and(refused) {
            return Fate::Refused;
        }
        source = error.source();
    }
    Fate::Lost(format!("{status:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_of_unary_calls_without_retry_loses_nothing() {
    let mut fates = BTreeMap::<Fate, u64>::new();
    for _ in 0..STOPS {
        let mut process = start().await;
        let mut calls = JoinSet::new();
        for _ in 0..CHANNELS {
            let client = Client::new(process.address());
            for _ in 0..CALLERS {
                let client = client.clone();
                calls.spawn(async move {
                    let mut fates = BTreeMap::<Fate, u64>::new();
                    let ends = Instant::now() + LIMIT;
                    while Instant::now() < ends {
                        let fate = fate(client.unary("/examples.Work/Once", 1).await);
                        *fates.entry(fate.clone()).or_default() += 1;
                        if fate == Fate::Refused {
                            break;
                        }
                    }
                    fates
                });
            }
        }
        sleep(WARM_UP).await;
        process.signal(Signal::Term).unwrap();
        assert_eq!(code(&mut process).await, Ended::Code(0), "{}", process.tail());
        for (fate, count) in calls.join_all().await.into_iter().flatten() {
            *fates.entry(fate).or_default() += count;
        }
    }
    println!("{STOPS} stops, {CHANNELS} channels of {CALLERS} callers: {fates:?}");
    let callers = u64::from(STOPS * CHANNELS * CALLERS);
    assert!(!fates.keys().any(|fate| matches!(fate, Fate::Lost(_))), "{fates:#?}");
    assert!(fates[&Fate::Answered] > callers, "{fates:?}");
    // Nothing is retried here: each caller meets the end of its connection once at most.
    assert!(fates.get(&Fate::NotProcessed).is_none_or(|count| *count <= callers), "{fates:?}");
}

const STOPS: u32 = 5;
const CHANNELS: u32 = 16;
const CALLERS: u32 = 2;
const WARM_UP: Duration = Duration::from_millis(300);
