//! Clusters that are half there: nodes that say nothing, and slots that are on their way.

use std::time::Duration;

use lifecycle_worker::{Fail, Next, Push, Queue, QueueError, RedisQueue};
use tests::brokers::{PrivateRedis, RedisCluster};
use tokio::time::Instant;

use super::{all_done, jobs, most, receipts};

async fn owner<'a>(cluster: &'a RedisCluster, key: &str) -> &'a PrivateRedis {
    for node in cluster.nodes() {
        if node.cli(&["exists", key]).await == "1" {
            return node;
        }
    }
    panic!("nobody has {key}")
}

#[tokio::test]
async fn a_cluster_is_found_beside_a_node_that_says_nothing() {
    let cluster = RedisCluster::start(3).await;
    let queue = RedisQueue::cluster(cluster.urls(), "mail").await.unwrap();
    queue.push(&jobs(2)).await.unwrap();
    let port = owner(&cluster, "lifecycle:{mail}:ready").await.port();
    let (away, here): (Vec<_>, Vec<_>) =
        cluster.nodes().iter().partition(|node| node.port() != port);
    away[0].pause();
    let urls: Vec<_> = [away[0], away[1], here[0]].map(PrivateRedis::url).into();
    let other = RedisQueue::cluster(urls, "mail").await.unwrap();
    let held = other.claim(most(1), Duration::ZERO).await.unwrap();
    assert!(all_done(&other.ack(&receipts(&held)).await));
    away[0].resume();
}

/// A claim that meets a job on the other node fails, and has changed nothing.
#[tokio::test]
async fn a_claim_in_a_cluster_whose_slot_is_half_moved_changes_nothing() {
    let cluster = RedisCluster::start(2).await;
    let queue = RedisQueue::cluster(cluster.urls(), "mail").await.unwrap();
    // One key of each kind, without which the server refuses the script as a whole.
    let delayed = |delay| Push::new("mail", "later").delay(Duration::from_secs(delay));
    queue.push(&[delayed(3600)]).await.unwrap();
    queue.push(&jobs(4)).await.unwrap();
    let held = queue.claim(most(2), Duration::ZERO).await.unwrap();
    let dead = Fail::new(held[0].receipt.clone(), "no", Next::Dead);
    assert!(all_done(&queue.fail(&[dead]).await));
    let from = owner(&cluster, "lifecycle:{mail}:ready").await;
    let to = cluster.nodes().iter().find(|node| node.port() != from.port()).unwrap();
    let slot = from.cli(&["cluster", "keyslot", "lifecycle:{mail}:ready"]).await;
    let (from_id, to_id) =
        (from.cli(&["cluster", "myid"]).await, to.cli(&["cluster", "myid"]).await);
    to.cli(&["cluster", "setslot", &slot, "importing", &from_id]).await;
    from.cli(&["cluster", "setslot", &slot, "migrating", &to_id]).await;
    let ready = from.cli(&["zrange", "lifecycle:{mail}:ready", "0", "-1"]).await;
    let second = format!("lifecycle:{{mail}}:job:{}", &ready.lines().nth(1).unwrap()[35..]);
    let port = to.port().to_string();
    assert_eq!(from.cli(&["migrate", "127.0.0.1", &port, &second, "0", "5000"]).await, "OK");

    let error = queue.claim(most(2), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");

    let rest = from.cli(&["cluster", "getkeysinslot", &slot, "1000"]).await;
    let mut migrate = vec!["migrate", "127.0.0.1", &port, "", "0", "5000", "keys"];
    migrate.extend(rest.lines());
    assert_eq!(from.cli(&migrate).await, "OK");
    for node in [to, from] {
        node.cli(&["cluster", "setslot", &slot, "node", &to_id]).await;
    }
    let limit = Instant::now() + Duration::from_secs(10);
    let claimed = loop {
        // The first call meets the old node and learns better.
        match queue.claim(most(2), Duration::ZERO).await {
            Ok(claimed) => break claimed,
            Err(error) => assert!(!error.is_fatal() && Instant::now() < limit, "{error:?}"),
        }
    };
    let attempts: Vec<_> = claimed.iter().map(|job| job.attempt).collect();
    assert_eq!(attempts, [1, 1]);
    assert_eq!(queue.stats().await.unwrap().attempts, 4);
}
