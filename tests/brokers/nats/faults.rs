//! Servers that are paused, killed and started again, and what is said when something is wrong.

use std::collections::HashSet;
use std::time::Duration;

use lifecycle_worker::{Claimed, Fail, NatsQueue, Next, Push, Queue, QueueError, Release, Settled};
use tests::brokers::{PrivateNats, free_port};
use tokio::time::{Instant, sleep, timeout};
use tokio_test::task::spawn;

use super::{all_done, jobs, most, receipts, work_off};
use crate::held::held;

const BOUND: Duration = Duration::from_millis(500);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(3);
const LEASE: Duration = Duration::from_secs(1);

async fn server_and_queue() -> (PrivateNats, NatsQueue) {
    server_and_queue_with(LEASE).await
}

async fn server_and_queue_with(lease: Duration) -> (PrivateNats, NatsQueue) {
    let server = PrivateNats::start().await;
    let queue = NatsQueue::connect(&server.url(), "mail").await.unwrap().lease(lease);
    queue.prepare().await.unwrap();
    (server, queue)
}

/// Every call ends within its bound and says that it does not know.
async fn nothing_works(queue: &NatsQueue, held: &[Claimed]) {
    let queue = queue.clone().call_bound(BOUND);
    let began = Instant::now();
    let error = queue.push(&[Push::new("mail", "maybe")]).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    let error = queue.claim(most(1), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    assert!(matches!(queue.ping().await, Err(QueueError::Unavailable(_))));
    let settled = queue.ack(&receipts(held)).await;
    let unknown = |one: &Settled| matches!(one, Settled::Retry(_) | Settled::Lost);
    assert!(settled.iter().all(unknown), "{settled:?}");
    queue.interrupt().await;
    assert!(began.elapsed() < 4 * BOUND + SLACK, "{:?}", began.elapsed());
}

async fn works_again(queue: &NatsQueue) {
    let limit = Instant::now() + Duration::from_secs(20);
    while let Err(error) = queue.ping().await {
        assert!(!error.is_fatal() && Instant::now() < limit, "{error:?}");
        // Sleeps: the server is starting, and tells nobody.
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_paused_and_then_killed() {
    let (mut server, queue) = server_and_queue().await;
    queue.push(&jobs(10)).await.unwrap();
    let held = held(&queue, 3).await;
    server.pause();
    nothing_works(&queue, &held).await;
    server.resume();
    works_again(&queue).await;
    server.kill().await;
    nothing_works(&queue, &held).await;
    server.start_again().await;
    works_again(&queue).await;
    // Their leases have ended, whatever the server thinks.
    assert!(queue.ack(&receipts(&held)).await.iter().all(Settled::is_lost));
    let mut seen = HashSet::new();
    let limit = Instant::now() + Duration::from_secs(10);
    while seen.len() < 7 && Instant::now() < limit {
        let claimed = queue.claim(most(10), LEASE).await.unwrap();
        assert!(all_done(&queue.ack(&receipts(&claimed)).await));
        seen.extend(claimed.into_iter().map(|job| job.payload));
    }
    // The three may have been acknowledged before the pause's end, or come again.
    assert!(seen.len() >= 7, "{seen:?}");
}

/// Cancels: NatsQueue::connect
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_strands_nothing_beyond_its_lease() {
    let (server, queue) = server_and_queue().await;
    for polls in 0..3 {
        let url = server.url();
        let mut connecting = spawn(NatsQueue::connect(&url, "mail"));
        for _ in 0..polls {
            drop(connecting.poll());
            tokio::task::yield_now().await;
        }
    }
    queue.push(&jobs(100)).await.unwrap();
    for micros in (0..40).map(|at| at * 100) {
        let claim = queue.claim(most(3), Duration::from_secs(60));
        if let Ok(claimed) = timeout(Duration::from_micros(micros), claim).await {
            let back = receipts(&claimed.unwrap()).into_iter().map(Release::unstarted);
            assert!(all_done(&queue.release(&back.collect::<Vec<_>>()).await));
        }
    }
    let began = Instant::now();
    let mut seen = HashSet::new();
    while seen.len() < 100 {
        assert!(began.elapsed() < 2 * LEASE + SLACK, "only {}", seen.len());
        let claimed = queue.claim(most(100), LEASE).await.unwrap();
        assert!(all_done(&queue.ack(&receipts(&claimed)).await));
        seen.extend(claimed.into_iter().map(|job| job.payload));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupts_under_load_lose_nothing() {
    // No lease ends in this test: an attempt more is a delivery that was lost.
    let lease = Duration::from_secs(60);
    let (server, queue) = server_and_queue_with(lease).await;
    let other = NatsQueue::connect(&server.url(), "mail").await.unwrap().lease(lease);
    let pushing = {
        let queue = queue.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                queue.push(&jobs(25)).await.unwrap();
            }
        })
    };
    let mut seen = HashSet::new();
    let limit = Instant::now() + Duration::from_secs(30);
    while seen.len() < 500 {
        assert!(Instant::now() < limit, "only {}", seen.len());
        for queue in [&queue, &other] {
            let claim = queue.claim(most(10), LEASE);
            let (claimed, ()) = tokio::join!(claim, async {
                tokio::task::yield_now().await;
                queue.interrupt().await;
            });
            let claimed = claimed.unwrap();
            assert!(claimed.iter().all(|job| job.attempt == 1), "a delivery was lost");
            assert!(all_done(&queue.ack(&receipts(&claimed)).await));
            seen.extend(claimed.iter().map(|job| job.receipt.id().clone()));
        }
    }
    pushing.await.unwrap();
    assert_eq!(work_off(&queue).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisonous_job_is_counted_and_buried_and_keys_are_remembered() {
    let (_server, queue) = server_and_queue().await;
    let once = Push::new("mail", vec![0, 159, 255]).dedupe("once");
    let pushed = queue.push(&[once.clone(), once.clone()]).await.unwrap();
    assert_eq!(pushed.iter().map(|one| one.is_new()).collect::<Vec<_>>(), [true, false]);
    for attempt in 1..=3 {
        let claimed = queue.claim(most(1), Duration::from_secs(5)).await.unwrap();
        assert_eq!(claimed[0].attempt, attempt);
        let back = Release::unstarted(claimed[0].receipt.clone());
        assert!(all_done(&queue.release(&[back]).await));
    }
    let claimed = queue.claim(most(1), Duration::from_secs(5)).await.unwrap();
    let fail = Fail::new(claimed[0].receipt.clone(), "it kills\n", Next::Dead);
    assert!(all_done(&queue.fail(&[fail]).await));
    let dead = queue.dead(most(9)).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts, dead[0].error.as_str()), (1, 4, "it kills\n"));
    assert!(!queue.push(&[once]).await.unwrap()[0].is_new());
    assert_eq!(work_off(&queue).await, 0);
    for bytes in [Vec::new(), vec![7; 4 << 20]] {
        queue.push(&[Push::new("mail", bytes.clone())]).await.unwrap();
        let claimed = queue.claim(most(1), Duration::from_secs(5)).await.unwrap();
        assert!(claimed[0].payload == bytes);
        assert!(all_done(&queue.ack(&receipts(&claimed)).await));
    }
    let error = queue.push(&[Push::new("mail", vec![7; 9 << 20])]).await.unwrap_err();
    assert!(matches!(&error, QueueError::Invalid { what } if what.contains("max_payload")));
}

async fn refusal(url: &str) -> QueueError {
    NatsQueue::connect(url, "mail").await.err().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_clearly() {
    let error = refusal(&format!("nats://127.0.0.1:{}", free_port())).await;
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    for no_url in ["", "mail", "http://127.0.0.1", "nats://"] {
        assert!(matches!(refusal(no_url).await, QueueError::Invalid { .. }), "{no_url}");
    }
    let without = PrivateNats::with("").await;
    let error = refusal(&without.url()).await;
    assert!(error.to_string().contains("JetStream"), "{error:?}");

    let server =
        PrivateNats::with("jetstream: enabled\nauthorization { user: ada, password: \"x y\" }\n")
            .await;
    let port = server.port();
    for wrong in ["nats://127.0.0.1", "nats://ada:y@127.0.0.1"] {
        let error = refusal(&format!("{wrong}:{port}")).await;
        assert!(matches!(error, QueueError::Denied(_)), "{wrong}: {error:?}");
    }
    let url = format!("nats://ada:x%20y@127.0.0.1:{port}");
    let queue = NatsQueue::connect(&url, "mail").await.unwrap();
    let not_prepared = |error: QueueError| {
        assert!(matches!(error, QueueError::NotPrepared { .. }), "{error:?}");
    };
    not_prepared(queue.ping().await.unwrap_err());
    not_prepared(queue.push(&jobs(1)).await.unwrap_err());
    not_prepared(queue.claim(most(1), Duration::ZERO).await.unwrap_err());
    queue.prepare().await.unwrap();
    queue.prepare().await.unwrap();
    queue.ping().await.unwrap();
    // Two that are not of one mind about the lease.
    not_prepared(queue.clone().lease(LEASE).ping().await.unwrap_err());
    for no_job in [
        Push::new("mail", "").delay(LEASE),
        Push::new("mail", "").priority(1),
        Push::new("mail", "").dedupe_for("once", LEASE),
    ] {
        let error = queue.push(&[no_job]).await.unwrap_err();
        assert!(matches!(error, QueueError::Unsupported { .. }), "{error:?}");
    }
    for name in ["", "a.b", "a b", "*"] {
        let error = NatsQueue::connect(&url, name).await.err().unwrap();
        assert!(matches!(error, QueueError::Invalid { .. }), "{name}: {error:?}");
    }
}

/// The server says it beside the call, which it leaves without an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_may_not_do_is_said_at_once() {
    let user = |name: &str, deny: &str| {
        format!("{{ user: {name}, password: x, permissions: {{ {deny} }} }}\n")
    };
    let users = [
        "{ user: all, password: x }\n".to_owned(),
        user("creates", "publish: { deny: \"$JS.API.STREAM.CREATE.>\" }"),
        user("pushes", "publish: { deny: \"lifecycle.>\" }"),
        user("claims", "publish: { deny: \"$JS.API.CONSUMER.MSG.NEXT.>\" }"),
        user("settles", "publish: { deny: \"$JS.ACK.>\" }"),
        user("hears", "subscribe: { deny: \"_INBOX.>\" }"),
    ];
    let users = users.concat();
    let server =
        PrivateNats::with(&format!("jetstream: enabled\nauthorization {{ users: [\n{users}] }}\n"))
            .await;
    let queue = async |user: &str| {
        let url = format!("nats://{user}:x@127.0.0.1:{}", server.port());
        NatsQueue::connect(&url, "mail").await.unwrap()
    };
    let denied = |error: &QueueError, subject: &str| {
        assert!(matches!(error, QueueError::Denied(_)), "{error:?}");
        assert!(format!("{error:?}").contains(subject), "{error:?}");
    };
    let error = soon(queue("creates").await.prepare()).await.unwrap_err();
    denied(&error, "$JS.API.STREAM.CREATE.lifecycle-mail");
    let all = queue("all").await;
    all.prepare().await.unwrap();
    all.push(&jobs(1)).await.unwrap();
    let error = soon(queue("pushes").await.push(&jobs(1))).await.unwrap_err();
    denied(&error, "lifecycle.mail.jobs");
    let error = soon(queue("claims").await.claim(most(1), LEASE)).await.unwrap_err();
    denied(&error, "$JS.API.CONSUMER.MSG.NEXT.lifecycle-mail");
    let settles = queue("settles").await;
    let held = settles.claim(most(1), LEASE).await.unwrap();
    let not_taken = |settled: &[Settled]| match settled {
        [Settled::Retry(error)] => denied(error, "$JS.ACK.lifecycle-mail.workers."),
        other => panic!("{other:?}"),
    };
    not_taken(&soon(settles.ack(&receipts(&held))).await);
    let back = Release::unstarted(held[0].receipt.clone());
    for _ in 0..2 {
        // Nobody has heard it: it may be said again.
        not_taken(&soon(settles.release(std::slice::from_ref(&back))).await);
    }
    denied(&soon(queue("hears").await.ping()).await.unwrap_err(), "_INBOX.");
}

/// A single call that was waited for would take 5 s.
async fn soon<T>(call: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(4), call).await.expect("it is said at once")
}
