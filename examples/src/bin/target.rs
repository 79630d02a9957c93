//! Every state that a stop has to deal with, behind one port: what the end-to-end tests
//! (and `lifecycle-drill`) are aimed at.
//!
//! Run with `cargo run -p examples --bin target`; `TARGET_RUNTIME=current_thread` puts it
//! on one thread.

use std::error::Error;

use lifecycle::{Lifecycle, Report};

fn main() -> Result<Report, Box<dyn Error>> {
    examples::runtime("TARGET_RUNTIME")?.block_on(run())
}

async fn run() -> Result<Report, Box<dyn Error>> {
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    life.serve_probes().await?;
    let listener = examples::listen().await?;
    life.spawn("http", lifecycle_tower::serve(listener, examples::routes::routes()));
    examples::say_ready();
    Ok(life.run().await?)
}
