//! A clock that ticks each second into the queue of a URL, for `tests/brokers/clocks.rs` to stop
//! and kill: `clock sqlite:FILE` or `clock redis://HOST`.
#![allow(clippy::print_stdout, reason = "it says when it is ready")]

use std::error::Error;
use std::time::Duration;

use lifecycle::{Lifecycle, Report};
use lifecycle_worker::{Missed, Push, RedisQueue, Schedule, SqliteQueue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<Report, Box<dyn Error>> {
    let mut life = Lifecycle::from_env()?;
    let url = std::env::args().nth(1).ok_or("give the queue's URL")?;
    let schedule = if url.starts_with("sqlite:") {
        Schedule::new(SqliteQueue::connect(&url, "clocks").await?)?
    } else {
        Schedule::new(RedisQueue::connect(&url, "clocks").await?)?
    };
    // Whoever starts also enqueues what nobody did while all were gone.
    let schedule = schedule.missed(Missed::All).look_back(Duration::from_secs(30)).every(
        "second",
        "* * * * * *",
        "Europe/Berlin",
        Push::new("tick", ""),
    )?;
    life.spawn("clock", schedule);
    println!("ready");
    Ok(life.run().await?)
}
