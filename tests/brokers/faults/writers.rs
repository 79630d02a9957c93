//! Many who write to one SQLite file at once: each gets its turn.

use std::time::Duration;

use lifecycle_worker::{Push, Queue, SqliteQueue};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Each value has connections of its own, as processes have. A worker that returns its jobs has
/// some tenths of a second: less than SQLite lets those wait who have waited for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_of_six_writers_on_sqlite_starves_none() {
    // The best of three: another process may have had the machine.
    let late = [late().await, late().await, late().await];
    assert!(late.iter().any(|late| *late < Duration::from_millis(300)), "{late:?}");
}

/// What 999 of 1000 writes take at most.
async fn late() -> Duration {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}/jobs.db", folder.path().display());
    let mut writing = JoinSet::new();
    for _ in 0..WRITERS {
        let queue = SqliteQueue::connect(&url, "mail").await.unwrap();
        queue.prepare().await.unwrap();
        writing.spawn(async move {
            let mut times = Vec::new();
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end {
                let began = Instant::now();
                queue.push(&[Push::new("mail", "x")]).await.unwrap();
                times.push(began.elapsed());
            }
            times
        });
    }
    let mut times: Vec<_> = writing.join_all().await.into_iter().flatten().collect();
    times.sort_unstable();
    let (count, longest) = (times.len(), times[times.len() - 1]);
    let (middle, late) = (times[count / 2], times[count * 999 / 1000]);
    println!("{count} writes: middle {middle:?}, 999 of 1000 {late:?}, longest {longest:?}");
    late
}

const WRITERS: usize = 6;
