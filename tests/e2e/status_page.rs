//! The page of `/statusz` in a real browser: Debian's chromium, without a screen.
//!
//! `UPDATE_DOCS=1` writes the picture in the docs as well.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use lifecycle_drill::Process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::probed::{ask, hold, logs, post, raw, start_ready, terminate};

/// Starting a browser takes its time on a busy machine.
const BROWSER_LIMIT: Duration = Duration::from_secs(60);

/// What the browser prints.
pub(crate) async fn browse(arguments: &[&str], url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Command::new("chromium");
    browser
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(url)
        // Debian's wrapper and the crash handler write there.
        .env("HOME", profile.path())
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let ran = timeout(BROWSER_LIMIT, browser.output()).await.expect("the browser ends");
    let output = ran.expect("Debian's package `chromium` is needed: tests/run.sh installs it");
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The text of the element with that id, as far as its first child.
fn element<'a>(page: &'a str, id: &str) -> &'a str {
    let at = page.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {page}"));
    let content = &page[at..][page[at..].find('>').unwrap() + 1..];
    content[..content.find('<').unwrap()].trim()
}

/// Everything up to the end of the table with that id.
fn table<'a>(page: &'a str, id: &str) -> &'a str {
    let at = page.find(&format!("<table id=\"{id}\"")).expect("the table");
    &page[at..at + page[at..].find("</table>").unwrap()]
}

/// A process in a drain that takes long, with something to see.
async fn draining() -> (Process, Vec<lifecycle_drill::Wire>) {
    let process = start_ready(&[
        // A browser may take a minute.
        ("LIFECYCLE_GRACE_PERIOD", "300s"),
        ("LIFECYCLE_LAME_DUCK", "100ms"),
        ("PROBED_WATCHDOG_MS", "5000"),
    ])
    .await;
    post(process.address(), "/break?check=cache").await;
    let mut held = Vec::new();
    for path in ["/hold/invoice-8812?ms=290000", "/hold/a&b?ms=290000"] {
        held.push(hold(&process, path).await);
    }
    terminate(&process);
    logs(&process, "listener.closed", "").await;
    logs(
        &process,
        "check.changed",
        "\"check\":\"cache\",\"kind\":\"readiness\",\"from\":\"passing\"",
    )
    .await;
    (process, held)
}

#[tokio::test]
async fn a_browser_shows_the_drain_and_whom_it_waits_for() {
    let (process, held) = draining().await;
    let url = format!("http://{}/statusz", process.probe_address());
    let page = browse(&["--dump-dom"], &url).await;
    assert_eq!(element(&page, "phase"), "draining");
    assert_eq!(element(&page, "ready"), "no");
    assert_eq!(element(&page, "live"), "yes");
    assert_eq!(element(&page, "cause"), "SIGTERM");
    assert_eq!(element(&page, "in_flight"), "2");
    let left = element(&page, "exit_left");
    assert!(left.starts_with(['3', '4']) && left[1..].starts_with(" min "), "{left}");
    assert!(left.ends_with(" s"), "{left}");
    let blockers = table(&page, "blockers");
    for part in ["GET /hold/invoice-8812", "GET /hold/a&amp;b", "request", "working"] {
        assert!(blockers.contains(part), "no {part} in {blockers}");
    }
    let checks = table(&page, "checks");
    assert!(checks.contains("<td class=\"good\">passing"), "{checks}");
    assert!(checks.contains("<td class=\"bad\">failing"), "{checks}");
    assert!(checks.contains("cache: password \"swordfish\" was refused"), "{checks}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/statusz.png");
        let screenshot = format!("--screenshot={}", path.display());
        browse(
            &[&screenshot, "--window-size=740,650", "--hide-scrollbars", "--disable-lcd-text"],
            &url,
        )
        .await;
    }
    drop(held);
}

/// Answers with the page of that process as long as it may, and then hangs up.
async fn relay(listener: TcpListener, to: SocketAddr, left: usize, seen: Arc<AtomicUsize>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut asked = [0; 4096];
        if client.read(&mut asked).await.is_ok_and(|len| len > 0)
            && seen.fetch_add(1, Relaxed) < left
        {
            let head = "GET /statusz HTTP/1.1\r\nhost: x\r\naccept: text/html\r\n";
            let head = format!("{head}connection: close\r\n\r\n");
            let page = raw(to, head.as_bytes()).await.unwrap();
            client.write_all(page.as_bytes()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_page_asks_again_and_keeps_what_it_saw_when_nobody_answers() {
    let (process, held) = draining().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/statusz", listener.local_addr().unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    let relaying = tokio::spawn(relay(listener, process.probe_address(), 3, Arc::clone(&seen)));
    let page = browse(&["--dump-dom", "--virtual-time-budget=8000"], &url).await;
    relaying.abort();
    assert!(seen.load(Relaxed) > 3, "it asks again by itself: {seen:?}");
    let gone = element(&page, "gone");
    assert!(gone.starts_with("no answer for "), "{gone:?}");
    assert_eq!(element(&page, "phase"), "draining", "what was last known");
    assert_eq!(ask(&process, "/livez").await.0, 200);
    drop(held);
}
