//! What is special to the queue on NATS; what all queues promise is in the conformance suite.

use lifecycle_worker::conformance::suite;
use lifecycle_worker::{NatsQueue, Queue};
use tests::brokers::PrivateNats;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_conforms() {
    let server = PrivateNats::start().await;
    let report = suite(async |setting| {
        let connect = async || NatsQueue::connect(&server.url(), setting.name.as_str()).await;
        let first = connect().await?.lease(setting.lease);
        first.prepare().await?;
        Ok((first, connect().await?.lease(setting.lease)))
    })
    .await;
    println!("{report}");
    report.assert_passed();
}
