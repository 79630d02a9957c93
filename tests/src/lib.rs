//! The harness: finds what the end-to-end tests start, and plays the platform.

#![allow(clippy::large_futures, reason = "the harness runs a few at a time")]

pub mod brokers;
mod options;
pub mod soak;
pub mod torture;

pub mod grpc;

pub use options::OptionError;

use std::path::PathBuf;
use std::time::Duration;

use lifecycle_drill::{Fate, Outcome, ReadyWhen, Scenario, Subject, Theme, Verdict};
use tokio::sync::Mutex;

/// The path of an example's binary, built by the same profile as this test.
///
/// # Panics
/// When it was not built; the message says how to.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a running test has a path");
    // target/PROFILE/deps/e2e-HASH
    let folder =
        this.ancestors().nth(2).expect("a test lies two folders deep in the target folder");
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build -p examples --bins` (tests/run.sh does)",
        path.display()
    );
    path
}

/// A command told what every example has to be told: its addresses, grace 6 s, lame duck 1 s. The
/// slack is the machine's, and ends before the grace does.
pub fn told(subject: Subject) -> Subject {
    subject
        .port_env("PORT")
        .host_env("HOST")
        .probe_addr_env("LIFECYCLE_PROBE_ADDR")
        .env("LIFECYCLE_GRACE_PERIOD", "6s")
        .env("LIFECYCLE_LAME_DUCK", "1s")
        .ready_when(ReadyWhen::Line("ready".into()))
        .start_timeout(Duration::from_secs(30))
        .slack(Duration::from_millis(1500))
}

/// Plays one scenario, and one that was late once more: a machine that stands still for a moment
/// makes one late now and then. A loss is a loss: what is a race would seldom fail twice.
///
/// # Cancel safety
/// Cancel safe: the process is killed; only the verdict is lost.
pub async fn played(scenario: &'static Scenario, subject: &Subject) -> Verdict {
    let verdict = scenario.run(subject).await;
    if verdict.passed() || scenario.theme() == Theme::Load || is_loss(&verdict) {
        return verdict;
    }
    eprintln!("once more: {verdict}");
    // Of what this process plays again, one at a time.
    let _alone = ALONE.lock().await;
    scenario.run(subject).await
}

/// Whether it has failed by what became of a request or a connection.
#[must_use]
pub fn is_loss(verdict: &Verdict) -> bool {
    let Outcome::Fail { seen } = verdict.outcome() else { return false };
    let fates = [
        Fate::EofBeforeResponse,
        Fate::Garbled,
        Fate::Refused,
        Fate::ResetAfterSent,
        Fate::ResetInConnect,
        Fate::Truncated,
    ];
    fates.iter().any(|fate| seen.contains(fate.name())) || seen.contains("answered 5")
}

static ALONE: Mutex<()> = Mutex::const_new(());
