//! A service whose health can be broken and mended from outside: what the tests of the probes
//! and the transcripts in `docs/probes.md` are aimed at.
//!
//! Run with `cargo run -p examples --bin probed`; then
//! `curl -X POST 'localhost:8080/break?check=db'` and `curl -i localhost:9090/readyz`.
//! `PROBED_BROKEN=schema,db` begins with broken checks, `PROBED_WARM_UP=1` warms up until
//! `POST /startup-done`, `PROBED_WATCHDOG_MS`, `PROBED_HOOK_MS`, `PROBED_DRAIN_BY_POST=1` and
//! `PROBED_RUNTIME=current_thread` do what they say.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use lifecycle::{Check, Handle, Lifecycle, Probes, Report};
use serde::Deserialize;
use tokio::time::sleep;

/// The checks that are broken, and how.
type Broken = Arc<Mutex<BTreeMap<String, How>>>;

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    /// Blocks its thread for 3 s.
    Block,
    #[default]
    Fail,
    Hang,
    Panic,
}

#[derive(Deserialize)]
struct Which {
    check: String,
    #[serde(default)]
    how: How,
}

#[derive(Deserialize)]
struct Ms {
    ms: u64,
}

fn main() -> Result<Report, Box<dyn Error>> {
    examples::runtime("PROBED_RUNTIME")?.block_on(run())
}

async fn run() -> Result<Report, Box<dyn Error>> {
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    life.serve_probes().await?;
    let broken = Broken::default();
    for name in var("PROBED_BROKEN").unwrap_or_default().split(',') {
        locked(&broken).insert(name.to_owned(), How::Fail);
    }
    let frequent = |check: Check| check.interval(EVERY).timeout(Duration::from_millis(200));
    life.check(frequent(Check::startup("schema", look_at("schema", &broken))));
    life.check(frequent(Check::readiness("db", look_at("db", &broken))));
    life.check(frequent(Check::readiness("cache", look_at("cache", &broken))).informational());
    life.check(frequent(Check::liveness("loop", look_at("loop", &broken))));
    if var("PROBED_WARM_UP").is_some() {
        life.warm_up();
    }
    if let Some(limit) = ms("PROBED_WATCHDOG_MS")? {
        life.watchdog(limit);
    }
    if var("PROBED_DRAIN_BY_POST").is_some() {
        life.drain_by_post();
    }
    if let Some(takes) = ms("PROBED_HOOK_MS")? {
        // In a block: a bare `sleep` would count from here.
        life.on_close("db pool", async move { sleep(takes).await });
    }
    let listener = examples::listen().await?;
    life.spawn("http", lifecycle_tower::serve(listener, app(&life.handle(), broken)));
    examples::say_ready();
    Ok(life.run().await?)
}

fn app(handle: &Handle, broken: Broken) -> Router {
    let done = handle.clone();
    let mut app = Router::new()
        .route("/break", post(break_check))
        .route("/mend", post(mend_check))
        .route("/startup-done", post(|| async move { done.startup_done() }))
        .route("/block-runtime", post(block_runtime))
        .route("/hold/{what}", get(|Query(Ms { ms }): Query<Ms>| sleep(Duration::from_millis(ms))))
        .with_state(broken)
        .merge(examples::routes::routes());
    // The probes on the main port too, each by its whole path.
    let probes: Probes = handle.probes();
    for path in ["/livez", "/readyz", "/readyz/{check}", "/startupz", "/statusz"] {
        app = app.route_service(path, probes.clone());
    }
    app
}

/// A check that does what it was told to.
fn look_at(name: &'static str, broken: &Broken) -> impl FnMut() -> Answer + Send + use<> {
    let broken = Arc::clone(broken);
    move || {
        let how = locked(&broken).get(name).copied();
        Box::pin(async move {
            match how {
                None => return Ok(()),
                Some(How::Block) => block(Duration::from_secs(3)),
                Some(How::Fail) => {}
                Some(How::Hang) => std::future::pending().await,
                Some(How::Panic) => panic!("{name} was told to"),
            }
            Err(format!("{name}: password \"swordfish\" was refused"))
        })
    }
}

type Answer = std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

async fn break_check(State(broken): State<Broken>, Query(Which { check, how }): Query<Which>) {
    locked(&broken).insert(check, how);
}

async fn mend_check(State(broken): State<Broken>, Query(Which { check, .. }): Query<Which>) {
    locked(&broken).remove(&check);
}

/// Blocks every thread of the runtime for so long: what nobody should do.
async fn block_runtime(Query(Ms { ms }): Query<Ms>) {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    for _ in 0..workers {
        tokio::spawn(async move { block(Duration::from_millis(ms)) });
    }
}

#[allow(clippy::disallowed_methods, reason = "blocking the thread is the point")]
fn block(time: Duration) {
    std::thread::sleep(time);
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn ms(name: &str) -> Result<Option<Duration>, std::num::ParseIntError> {
    var(name).map(|value| value.parse().map(Duration::from_millis)).transpose()
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const EVERY: Duration = Duration::from_millis(50);
