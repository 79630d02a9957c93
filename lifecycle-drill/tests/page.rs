//! The page of `--html` in a real browser: Debian's chromium, without a screen.
//!
//! `UPDATE_DOCS=1` writes the picture in the docs as well.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

/// Starting a browser takes its time on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// Idle, with a request in flight, under load.
const SCENARIOS: [&str; 3] = ["signals-sigterm-idle", "http1-in-flight", "load-keep-alive"];

/// The page of a drill of the server in the docs, which knows no signals.
async fn page(folder: &TempDir) -> PathBuf {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lifecycle-drill"));
    command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/drill"))
        .args(["--ready=/readyz", "--route=work=/sleep/{ms}"])
        .args(["--grace=6s", "--lame-duck=1s", "--stops=1"])
        .arg(format!("--only={}", SCENARIOS.join(",")))
        .arg(format!("--html={}", folder.path().join("out.html").display()))
        .args(["--", "python3", "server.py"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output =
        timeout(LIMIT, command.output()).await.expect("the drill ends").expect("the drill runs");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    folder.path().join("out.html")
}

/// What the browser prints on stdout, and what on stderr.
async fn browse(arguments: &[&str], page: &Path) -> (String, String) {
    let profile = tempfile::tempdir().expect("a folder for the profile");
    let mut browser = Command::new("chromium");
    browser
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
        // What the page's policy refuses is told there.
        .args(["--enable-logging=stderr", "--log-level=0"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        // Debian's wrapper and the crash handler write there.
        .env("HOME", profile.path())
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let ran = timeout(LIMIT, browser.output()).await.expect("the browser ends");
    let output = ran.expect("Debian's package `chromium` is needed: tests/run.sh installs it");
    assert!(output.status.success(), "{}", output.status);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_browser_shows_the_verdicts_and_draws_the_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(&folder).await;
    let (dom, log) = browse(&["--dump-dom"], &page).await;
    assert!(!log.contains("Content Security Policy"), "{log}");
    for scenario in SCENARIOS {
        assert!(dom.contains(&format!("data-scenario=\"{scenario}\"")), "{scenario}");
    }
    assert!(dom.contains("class=\"answered\"") && dom.contains("class=\"lost\""), "{dom}");
    assert!(dom.contains("SIGTERM</text>") && dom.contains(">killed by signal 15, +"), "{dom}");
    let picture = folder.path().join("drill.png");
    let screenshot = format!("--screenshot={}", picture.display());
    let window = ["--window-size=1040,1530", "--hide-scrollbars", "--disable-lcd-text"];
    let (_, log) = browse(&[&window[..], &[&screenshot]].concat(), &page).await;
    let bytes = std::fs::read(&picture).unwrap_or_else(|error| panic!("{error}: {log}"));
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 50_000, "{} bytes", bytes.len());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/drill.png");
        std::fs::write(docs, bytes).unwrap();
    }
}
