//! A SQLite file that has no more room, and has some again.

use std::process::Stdio;
use std::time::Duration;

use lifecycle_worker::{Push, Queue, QueueError, SqliteQueue};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::process::Command;
use tokio::time::timeout;

use super::common::{File, jobs, most};

const TEST: &str = "sql::full::a_file_that_was_full_takes_jobs_again";
const FILE: &str = "FULL_FILE";
const LIMIT: Duration = Duration::from_secs(60);

/// SQLite ends a transaction by itself whose commit cannot be written, and a rollback after that
/// is an error: a connection that takes itself to be in one all the same never writes again.
///
/// In a process of its own, since it is the process that may write no more; `sh` makes that an
/// error, and not its end.
#[tokio::test]
async fn a_file_that_was_full_takes_jobs_again() {
    if let Some(url) = std::env::var_os(FILE) {
        return full_and_not(url.to_str().unwrap()).await;
    }
    let file = File::new();
    let mut child = Command::new("sh");
    child.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    child.args(["--exact", TEST, "--nocapture"]).env(FILE, file.url());
    child.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, child.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{errors}");
}

async fn full_and_not(url: &str) {
    let queue = SqliteQueue::connect(url, "mail").await.unwrap();
    queue.prepare().await.unwrap();
    queue.push(&jobs(1)).await.unwrap();
    let room = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(200_000), ..room }).unwrap();
    let large = [Push::new("mail", vec![0; 400_000])];
    for _ in 0..3 {
        let error = queue.push(&large).await.unwrap_err();
        assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    }
    setrlimit(Resource::Fsize, room).unwrap();
    queue.push(&large).await.unwrap();
    assert_eq!(queue.claim(most(3), Duration::ZERO).await.unwrap().len(), 2);
}
