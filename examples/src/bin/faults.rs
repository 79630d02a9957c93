//! Every way in which a component, a hook or `main` can go wrong, by name: what
//! `examples/tests/faults.rs` is aimed at, and where to see what each looks like.
//!
//! Run with `cargo run -p examples --bin faults hook-hangs`; those that do not end by
//! themselves are stopped with Ctrl-C or SIGTERM.

use std::error::Error;
use std::future::pending;

use lifecycle::{Lifecycle, Report};

#[tokio::main]
async fn main() -> Result<Report, Box<dyn Error>> {
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    life.serve_probes().await?;
    let handle = life.handle();
    let hook = |what: &'static str| {
        let handle = handle.clone();
        async move { handle.note(format!("the hook {what} ran")) }
    };
    life.on_close("first", hook("first"));
    match std::env::args().nth(1).as_deref() {
        Some("main-fails") => return Err("no database".into()),
        Some("main-panics") => panic!("on purpose"),
        Some("two-alike") => {
            life.spawn("a", pending::<()>()).spawn("a", pending::<()>());
        }
        Some("after-nobody") => {
            life.spawn("a", pending::<()>()).after("nobody");
        }
        Some("after-itself") => {
            life.spawn("a", pending::<()>()).after("b").spawn("b", pending::<()>()).after("a");
        }
        Some("component-panics") => {
            life.spawn("a", panics());
        }
        Some("component-fails") => {
            life.spawn("a", async { Err::<(), _>("no luck") });
        }
        Some("component-ends") => {
            life.spawn("a", async {});
        }
        Some("component-never-ends") => {
            life.spawn("a", pending::<()>());
        }
        Some("component-blocks") => {
            life.spawn("a", async { block() });
        }
        Some("hook-panics") => {
            life.on_close("bad", panics());
        }
        Some("hook-fails") => {
            life.on_close("bad", async { Err::<(), _>("no luck") });
        }
        Some("hook-hangs") => {
            life.on_close("bad", pending::<()>());
        }
        Some("hook-blocks") => {
            life.on_close("bad", async { block() });
        }
        other => return Err(format!("{other:?} is none of the faults in faults.rs").into()),
    }
    life.on_close("last", hook("last"));
    examples::say_ready();
    Ok(life.run().await?)
}

async fn panics() {
    panic!("on purpose")
}

/// What no abort can end: a thread of the runtime that does not come back.
fn block() {
    loop {
        std::thread::park();
    }
}
