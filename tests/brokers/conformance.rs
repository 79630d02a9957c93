//! Every queue that ships, on its real broker, through the suite that is public.

use lifecycle_worker::conformance::suite;
use lifecycle_worker::{PostgresQueue, Queue, RedisQueue, SqliteQueue};
use tests::brokers::{PrivatePostgres, PrivateRedis, RedisCluster};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let report = suite(async |setting| {
        let url = format!("sqlite:{}/{}.db", folder.path().display(), setting.name);
        let first = SqliteQueue::connect(&url, setting.name.as_str()).await?.lease(setting.lease);
        first.prepare().await?;
        let second = SqliteQueue::connect(&url, setting.name.as_str()).await?.lease(setting.lease);
        Ok((first, second))
    })
    .await;
    println!("{report}");
    report.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_conforms() {
    let server = PrivatePostgres::start().await;
    let report = suite(async |setting| {
        let connect = async || PostgresQueue::connect(&server.url(), setting.name.as_str()).await;
        let first = connect().await?.lease(setting.lease);
        first.prepare().await?;
        Ok((first, connect().await?.lease(setting.lease)))
    })
    .await;
    println!("{report}");
    report.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_conforms() {
    let server = PrivateRedis::start().await;
    let report = suite(async |setting| {
        let connect = async || RedisQueue::connect(&server.url(), setting.name.as_str()).await;
        let first = connect().await?.lease(setting.lease);
        Ok((first, connect().await?.lease(setting.lease)))
    })
    .await;
    println!("{report}");
    report.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_conforms() {
    let cluster = RedisCluster::start(3).await;
    let report = suite(async |setting| {
        let connect = async || RedisQueue::cluster(cluster.urls(), setting.name.as_str()).await;
        let first = connect().await?.lease(setting.lease);
        Ok((first, connect().await?.lease(setting.lease)))
    })
    .await;
    println!("{report}");
    report.assert_passed();
}
