//! Clusters that are half there: nodes that say nothing, and slots that are on their way.

use std::time::Duration;

use lifecycle_worker::{
    Claimed, Extend, Extended, Fail, Next, Push, Queue, QueueError, RedisQueue,
};
use tests::brokers::{PrivateRedis, Proxy, RedisCluster};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::{all_done, jobs, most, receipts, server_and_queue};

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

#[tokio::test]
async fn a_seed_that_is_slow_is_not_given_up_for_those_that_say_nothing() {
    let redis = PrivateRedis::start().await;
    let slow = Proxy::start(redis.port()).await;
    slow.freeze();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut ports = vec![silent.local_addr().unwrap().port(); 9];
    ports.insert(0, slow.port());
    let opening = RedisQueue::cluster(ports.into_iter().map(|port| redis.url_at(port)), "mail");
    let answering = async {
        let asked = silent.accept().await.unwrap();
        slow.thaw();
        asked
    };
    let (queue, _asked) = tokio::join!(opening, answering);
    queue.unwrap().ping().await.unwrap();
}

/// A job in each set, without which the server refuses scripts as a whole when the slot is on
/// its way; and what is held.
async fn a_job_in_each_set(queue: &RedisQueue, ready: usize) -> Vec<Claimed> {
    let delayed = Push::new("mail", "later").delay(Duration::from_secs(3600));
    queue.push(&[delayed]).await.unwrap();
    queue.push(&jobs(2 + ready)).await.unwrap();
    let mut held = queue.claim(most(2), Duration::ZERO).await.unwrap();
    let dead = Fail::new(held.remove(0).receipt, "no", Next::Dead);
    assert!(all_done(&queue.fail(&[dead]).await));
    held
}

/// Where the slot is, where it goes to, and its number.
async fn on_its_way(cluster: &RedisCluster) -> (&PrivateRedis, &PrivateRedis, String) {
    let from = owner(cluster, "lifecycle:{mail}:ready").await;
    let to = cluster.nodes().iter().find(|node| node.port() != from.port()).unwrap();
    let slot = from.cli(&["cluster", "keyslot", "lifecycle:{mail}:ready"]).await;
    let (from_id, to_id) =
        (from.cli(&["cluster", "myid"]).await, to.cli(&["cluster", "myid"]).await);
    to.cli(&["cluster", "setslot", &slot, "importing", &from_id]).await;
    from.cli(&["cluster", "setslot", &slot, "migrating", &to_id]).await;
    (from, to, slot)
}

/// There a set that is empty is the other node's, and ends the script that asks for it.
#[tokio::test]
async fn the_last_of_a_set_is_not_lost_while_the_slot_is_on_its_way() {
    let cluster = RedisCluster::start(2).await;
    let queue = RedisQueue::cluster(cluster.urls(), "mail").await.unwrap();
    let mut held = a_job_in_each_set(&queue, 1).await;
    let (from, to, slot) = on_its_way(&cluster).await;
    let extended = queue.extend(&[Extend::new(held[0].receipt.clone())]).await;
    assert!(matches!(extended[..], [Extended::Until(_)]), "{extended:?}");
    held.extend(queue.claim(most(1), Duration::ZERO).await.unwrap());
    assert_eq!(held.len(), 2);
    for node in [from, to] {
        node.cli(&["cluster", "setslot", &slot, "stable"]).await;
    }
    assert_eq!(queue.stats().await.unwrap().running, 2);
    assert!(all_done(&queue.ack(&receipts(&held)).await));
}

#[tokio::test]
async fn a_job_that_is_in_two_sets_is_settled_out_of_both() {
    let (redis, queue) = server_and_queue().await;
    queue.push(&jobs(1)).await.unwrap();
    let held = queue.claim(most(1), Duration::ZERO).await.unwrap();
    let member = redis.cli(&["zrange", "lifecycle:{mail}:leases", "0", "-1"]).await;
    redis.cli(&["zadd", "lifecycle:{mail}:ready", "0", &member]).await;
    let next = Next::Retry(Duration::from_secs(3600));
    assert!(all_done(&queue.fail(&[Fail::new(held[0].receipt.clone(), "no", next)]).await));
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.scheduled, stats.running), (0, 1, 0));
}

/// A claim that meets a job on the other node fails, and has changed nothing.
#[tokio::test]
async fn a_claim_in_a_cluster_whose_slot_is_half_moved_changes_nothing() {
    let cluster = RedisCluster::start(2).await;
    let queue = RedisQueue::cluster(cluster.urls(), "mail").await.unwrap();
    a_job_in_each_set(&queue, 2).await;
    let (from, to, slot) = on_its_way(&cluster).await;
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
    let to_id = to.cli(&["cluster", "myid"]).await;
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
