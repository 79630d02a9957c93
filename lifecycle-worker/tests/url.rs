//! Connecting by a URL, as an application does it: what is lost when that is dropped.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use lifecycle_worker::{AnyQueue, Push, Queue};
use tokio_test::task;

/// Cancels: AnyQueue::connect
#[tokio::test]
async fn a_connect_that_is_dropped_leaves_nothing_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.db");
    let urls = ["memory:".to_owned(), format!("sqlite:{}", file.display())];
    for url in urls {
        for polls in 0..4 {
            let mut connecting = task::spawn(AnyQueue::connect(&url));
            for _ in 0..polls {
                if connecting.poll().is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let queue = AnyQueue::connect(&url).await.unwrap();
        queue.prepare().await.unwrap();
        assert!(queue.push(&[Push::new("mail", "x")]).await.unwrap()[0].is_new(), "{url}");
        queue.close().await.unwrap();
    }
}
