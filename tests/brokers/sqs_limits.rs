//! What SQS takes and what it refuses, on moto.

use std::num::NonZeroUsize;
use std::time::Duration;

use lifecycle_worker::{Fail, Next, Push, Queue, Release, SqsQueue};
use tests::brokers::PrivateMoto;
use tokio::time::sleep;

/// SQS counts the 12 hours from the receive, moto even from the push.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_of_twelve_hours_is_cut_by_what_has_passed_of_them() {
    const LONG: Duration = Duration::from_secs(12 * 3600);
    let moto = PrivateMoto::start().await;
    let queue = SqsQueue::connect(&moto.url("mail")).await.unwrap();
    queue.prepare().await.unwrap();
    queue.push(&[Push::new("mail", "a"), Push::new("mail", "b")]).await.unwrap();
    let held = queue.claim(NonZeroUsize::MIN.saturating_add(1), Duration::ZERO).await.unwrap();
    assert_eq!(held.len(), 2);
    // Sleeps: what is tested is that this time counts.
    sleep(Duration::from_millis(2500)).await;
    let fail = Fail::new(held[0].receipt.clone(), "no", Next::Retry(LONG));
    let settled = queue.fail(&[fail]).await;
    assert!(settled[0].is_done(), "{settled:?}");
    let release = Release::unstarted(held[1].receipt.clone()).delay(LONG * 2);
    let settled = queue.release(&[release]).await;
    assert!(settled[0].is_done(), "{settled:?}");
}
