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
        .env("GRACE", "6")
        .env("LAME_DUCK", "1")
        .env("BAD", bad)
        .ready_when(ReadyWhen::Line("ready".into()))
        // An interpreter's start takes many seconds on a machine that is busy enough.
        .start_timeout(Duration::from_secs(30))
        // Longer than it is told: it cuts what is left 5.1 s after the signal, and a machine that
        // is busy adds to that. The slack is for the same, and ends before that cut.
        .grace(Duration::from_secs(8))
        .lame_duck(Duration::from_secs(1))
        .slack(Duration::from_secs(3))
        .stop_count(2)
        .routes(Routes::conventional())
}
