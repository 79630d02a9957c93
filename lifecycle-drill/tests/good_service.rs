//! A service that stops gracefully, in another language, passes: the scenarios do not ask for
//! more than can be given.

mod common;

use common::service;
use lifecycle_drill::{Need, Outcome, Scenario, Theme, scenarios};
use tokio::task::JoinSet;

/// Plays a theme, several scenarios at a time: they mostly wait.
async fn passes(theme: Theme, at_a_time: usize) {
    let scenarios: Vec<_> = scenarios().iter().filter(|one| one.theme() == theme).collect();
    assert!(!scenarios.is_empty());
    for some in scenarios.chunks(at_a_time) {
        let mut playing = JoinSet::new();
        for &scenario in some {
            playing.spawn(async move { scenario.run(&service("")).await });
        }
        while let Some(verdict) = playing.join_next().await {
            let mut verdict = verdict.expect("a scenario never panics");
            eprintln!("{verdict}");
            if matches!(verdict.outcome(), Outcome::Fail { .. }) {
                // A busy machine is late now and then: once more, alone.
                verdict = verdict.scenario().run(&service("")).await;
                eprintln!("again: {verdict}");
            }
            let skipped = matches!(verdict.outcome(), Outcome::Skipped { .. });
            assert_eq!(skipped, cannot_be_played(verdict.scenario()), "{verdict}");
            assert!(skipped || verdict.passed(), "{verdict}");
        }
    }
}

/// It speaks no HTTP/2, and its event loop is single-threaded anyhow.
fn cannot_be_played(scenario: &Scenario) -> bool {
    scenario.needs().iter().any(|need| matches!(need, Need::H2c | Need::SingleThread))
}

#[tokio::test]
async fn signals() {
    passes(Theme::Signals, 4).await;
}

#[tokio::test]
async fn probes() {
    passes(Theme::Probes, 4).await;
}

#[tokio::test]
async fn http1() {
    passes(Theme::Http1, 6).await;
}

#[tokio::test]
async fn http2_is_skipped() {
    passes(Theme::Http2, 1).await;
}

#[tokio::test]
async fn streams() {
    passes(Theme::Streams, 2).await;
}

#[tokio::test]
async fn websocket() {
    passes(Theme::Websocket, 1).await;
}

#[tokio::test]
async fn load() {
    passes(Theme::Load, 1).await;
}

#[tokio::test]
async fn deadline() {
    passes(Theme::Deadline, 6).await;
}
