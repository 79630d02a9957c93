//! Deliberately bad services fail exactly what they do badly: no scenario more, none less.
//!
//! The load theme fills the machine: it is played for a few of them only, by tests of their own.

#![allow(clippy::large_futures, reason = "a test runs a few at a time")]

mod common;

use std::{collections::BTreeSet, time::Duration};

use common::service;
use lifecycle_drill::{Outcome, Subject, Theme, by_name, scenarios};
use tokio::{sync::Semaphore, task::JoinSet};

/// So many services at a time, over all tests of this process.
static SEATS: Semaphore = Semaphore::const_new(4);

/// The names of those that fail, and of those that pass; all but the load theme.
async fn play(subject: Subject) -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let mut playing = JoinSet::new();
    for scenario in scenarios().iter().filter(|one| one.theme() != Theme::Load) {
        let subject = subject.clone();
        playing.spawn(async move {
            let _seat = SEATS.acquire().await.expect("it is never closed");
            scenario.run(&subject).await
        });
    }
    let (mut failed, mut passed) = (BTreeSet::new(), BTreeSet::new());
    while let Some(verdict) = playing.join_next().await {
        let verdict = verdict.expect("a scenario never panics");
        let name = verdict.scenario().name();
        match verdict.outcome() {
            Outcome::Fail { .. } => {
                eprintln!("{verdict}");
                failed.insert(name);
            }
            Outcome::Pass => {
                passed.insert(name);
            }
            _ => {}
        }
    }
    (failed, passed)
}

async fn fails_exactly(subject: Subject, expected: &[&str]) {
    let (mut failed, passed) = play(subject.clone()).await;
    // A busy machine fails now and then, a bad habit every time: what should have passed is
    // played again, alone.
    for name in failed.clone() {
        if !expected.contains(&name)
            && by_name(name).expect("it has played").run(&subject).await.passed()
        {
            failed.remove(name);
        }
    }
    assert_eq!(failed, expected.iter().copied().collect());
    assert!(passed.len() > 25, "{passed:?}");
}

async fn passes_exactly(subject: Subject, expected: &[&'static str], either: &[&str]) {
    let (mut failed, mut passed) = play(subject.clone()).await;
    failed.retain(|name| !either.contains(name));
    passed.retain(|name| !either.contains(name));
    for name in expected {
        if failed.contains(name)
            && by_name(name).expect("it has played").run(&subject).await.passed()
        {
            passed.insert(name);
        }
    }
    assert_eq!(passed, expected.iter().copied().collect());
    assert!(failed.len() > 25, "{failed:?}");
}

/// A process that is told in its first milliseconds has no handler yet, and dies as it should.
/// How far it has come after 100 ms depends on the machine.
const AT_START: &str = "signals-sigterm-at-start";

#[tokio::test]
async fn one_that_ignores_the_signals_passes_nothing() {
    let subject = service("ignores-sigterm").grace(Duration::from_secs(2));
    passes_exactly(subject, &[], &[AT_START]).await;
}

#[tokio::test]
async fn one_that_exits_at_once_passes_where_nothing_is_under_way() {
    let idle =
        ["http1-connected-silent", "http1-half-head", "signals-sigint-terminal", "signals-sigquit"];
    // Its last answer is sent before it is counted as done: 0 or 3, as the signal comes.
    let either = [AT_START, "deadline-panic-contained", "http1-idle-keep-alive"];
    passes_exactly(service("exits-at-once"), &idle, &either).await;
}

#[tokio::test]
async fn one_whose_liveness_falls_fails_for_its_probes_alone() {
    let probes = ["probes-liveness-holds", "probes-startup-holds"];
    fails_exactly(service("liveness-fails"), &probes).await;
}

#[tokio::test]
async fn one_that_closes_its_listener_first_fails_where_somebody_connects() {
    let connects =
        ["http1-early-answer", "http1-new-connections-lame-duck", "probes-readiness-falls-first"];
    fails_exactly(service("closes-listener-first"), &connects).await;
}

#[tokio::test]
async fn one_that_drops_its_streams_fails_for_them_alone() {
    fails_exactly(service("cuts-streams"), &["streams-sse"]).await;
}

/// One stop each, one after another.
async fn load_fails_exactly(subject: Subject, expected: &[&str]) {
    let subject = subject.stop_count(1);
    let mut failed = BTreeSet::new();
    for scenario in scenarios().iter().filter(|one| one.theme() == Theme::Load) {
        let verdict = scenario.run(&subject).await;
        eprintln!("{verdict}");
        if matches!(verdict.outcome(), Outcome::Fail { .. }) {
            failed.insert(scenario.name());
        }
    }
    assert_eq!(failed, expected.iter().copied().collect());
}

#[tokio::test]
async fn load_is_refused_by_one_that_closes_its_listener_first() {
    let expected = ["load-connect-race", "load-keep-alive", "load-keep-alive-think"];
    load_fails_exactly(service("closes-listener-first"), &expected).await;
}

#[tokio::test]
async fn load_is_turned_away_by_one_that_answers_otherwise_when_leaving() {
    let expected = ["load-connect-race", "load-keep-alive", "load-keep-alive-think"];
    load_fails_exactly(service("429-when-leaving"), &expected).await;
}
