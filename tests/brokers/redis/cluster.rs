//! Clusters: a queue is on one node, whichever is asked, and follows its slot.

use std::time::Duration;

use lifecycle_worker::{Queue, QueueError, RedisQueue};
use tests::brokers::{PrivateRedis, RedisCluster};
use tokio::time::{Instant, sleep};

use super::{all_done, blocked, jobs, most, receipts, work_off};

const LONG: Duration = Duration::from_secs(60);

async fn owner<'a>(cluster: &'a RedisCluster, key: &str) -> &'a PrivateRedis {
    for node in cluster.nodes() {
        if node.cli(&["exists", key]).await == "1" {
            return node;
        }
    }
    panic!("nobody has {key}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_spread_over_a_cluster_and_work_from_any_node() {
    let cluster = RedisCluster::start(3).await;
    let mut used = Vec::new();
    for (at, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let one = RedisQueue::connect(&cluster.urls()[at % 3], name).await.unwrap();
        let other = RedisQueue::cluster(cluster.urls(), name).await.unwrap();
        let claiming = {
            let other = other.clone();
            tokio::spawn(async move { other.claim(most(1), LONG).await.unwrap() })
        };
        one.push(&jobs(10)).await.unwrap();
        let taken = claiming.await.unwrap();
        assert!(all_done(&other.ack(&receipts(&taken)).await));
        assert_eq!(work_off(&other).await, 9);
        used.push(owner(&cluster, &format!("lifecycle:{{{name}}}:counters")).await.port());

        let claiming = {
            let other = other.clone();
            tokio::spawn(async move { other.claim(most(1), LONG).await.unwrap() })
        };
        blocked(owner(&cluster, &format!("lifecycle:{{{name}}}:counters")).await, 1).await;
        let began = Instant::now();
        other.interrupt().await;
        assert!(claiming.await.unwrap().is_empty());
        assert!(began.elapsed() < Duration::from_secs(1));
        other.close().await.unwrap();
    }
    used.sort_unstable();
    used.dedup();
    assert!(used.len() > 1, "all five queues on one node");
}

#[tokio::test]
async fn a_cluster_is_found_through_the_nodes_that_are_there() {
    let mut cluster = RedisCluster::start(3).await;
    // Every node has slots: without one of them the cluster still serves the others' if told so.
    for node in cluster.nodes() {
        node.cli(&["config", "set", "cluster-require-full-coverage", "no"]).await;
    }
    let queue = RedisQueue::cluster(cluster.urls(), "mail").await.unwrap();
    queue.push(&jobs(3)).await.unwrap();
    let port = owner(&cluster, "lifecycle:{mail}:ready").await.port();
    let urls = cluster.urls();
    let away = cluster.nodes_mut().iter_mut().find(|node| node.port() != port).unwrap();
    away.stop().await;
    let again = RedisQueue::cluster(urls, "mail").await.unwrap();
    assert_eq!(again.claim(most(1), Duration::ZERO).await.unwrap().len(), 1);

    let home = cluster.nodes_mut().iter_mut().find(|node| node.port() == port).unwrap();
    home.restart().await;
    let limit = Instant::now() + Duration::from_secs(20);
    while let Err(error) = queue.ping().await {
        assert!(!error.is_fatal() && Instant::now() < limit, "{error:?}");
        // Sleeps: the node joins again, and tells nobody.
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(work_off(&queue).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_whose_slot_is_moved_is_followed() {
    let cluster = RedisCluster::start(3).await;
    let queue = RedisQueue::cluster(cluster.urls(), "mail").await.unwrap();
    queue.push(&jobs(100)).await.unwrap();
    let held = queue.claim(most(10), Duration::ZERO).await.unwrap();
    let from = owner(&cluster, "lifecycle:{mail}:ready").await;
    let to = cluster.nodes().iter().find(|node| node.port() != from.port()).unwrap();
    let waiting = RedisQueue::cluster(cluster.urls(), "mail").await.unwrap();
    move_slot(&cluster, from, to).await;
    assert_eq!(to.cli(&["exists", "lifecycle:{mail}:ready"]).await, "1");

    // The first call meets the old node and learns better, the next one goes to the new.
    let limit = Instant::now() + Duration::from_secs(10);
    while !all_done(&queue.ack(&receipts(&held)).await) {
        assert!(Instant::now() < limit, "never found again");
    }
    assert_eq!(work_off(&queue).await, 90);

    // And a claim that waits is told when it is moved back.
    let claiming = {
        let waiting = waiting.clone();
        tokio::spawn(async move {
            waiting.ping().await.unwrap();
            waiting.claim(most(1), LONG).await
        })
    };
    blocked(to, 1).await;
    move_slot(&cluster, to, from).await;
    let error = claiming.await.unwrap().unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    assert!(waiting.claim(most(1), Duration::ZERO).await.unwrap().is_empty());
}

async fn move_slot(cluster: &RedisCluster, from: &PrivateRedis, to: &PrivateRedis) {
    let slot = from.cli(&["cluster", "keyslot", "lifecycle:{mail}:ready"]).await;
    let (from_id, to_id) =
        (from.cli(&["cluster", "myid"]).await, to.cli(&["cluster", "myid"]).await);
    to.cli(&["cluster", "setslot", &slot, "importing", &from_id]).await;
    from.cli(&["cluster", "setslot", &slot, "migrating", &to_id]).await;
    let keys = from.cli(&["cluster", "getkeysinslot", &slot, "1000"]).await;
    let port = to.port().to_string();
    let mut migrate = vec!["migrate", "127.0.0.1", &port, "", "0", "5000", "keys"];
    migrate.extend(keys.lines());
    assert_eq!(from.cli(&migrate).await, "OK");
    for node in [to, from].into_iter().chain(cluster.nodes()) {
        node.cli(&["cluster", "setslot", &slot, "node", &to_id]).await;
    }
}
