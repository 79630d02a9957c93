//! The subjects of these tests.

use std::time::Duration;

use lifecycle_drill::{ReadyWhen, Routes, Subject};

/// The service of `fixtures/service.py` with these bad habits.
pub(crate) fn service(bad: &str) -> Subject {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/service.py");
    Subject::new("python3")
        .arg(script)
        .port_env("PORT")
        .probe_addr_env("PROBE_ADDR")
        .env("GRACE", "4")
        .env("LAME_DUCK", "0.6")
        .env("BAD", bad)
        .ready_when(ReadyWhen::Line("ready".into()))
        // An interpreter's start takes many seconds on a machine that is busy enough.
        .start_timeout(Duration::from_secs(30))
        .grace(Duration::from_secs(4))
        .lame_duck(Duration::from_millis(600))
        .stop_count(2)
        .routes(Routes::conventional())
}
