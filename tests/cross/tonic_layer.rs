//! The layer alone under tonic's own server: what it gives there, and what bounds the rest.
#![allow(clippy::large_futures, reason = "tonic's own, in a test")]

use std::net::SocketAddr;

use lifecycle::{Handle, Phase, Report};
use lifecycle_tower::{DrainLayer, Refusal};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::wire::{limited, settings};

struct Grpc {
    addr: SocketAddr,
    handle: Handle,
    run: JoinHandle<Report>,
}

/// Whether the server is told of the drain, as `serve_with_shutdown` would tell it.
#[derive(Clone, Copy)]
enum Told {
    OfTheDrain,
    Nothing,
}

impl Grpc {
    async fn start(told: Told) -> Self {
        let mut life = settings().build_local().unwrap();
        let handle = life.handle();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let layer = DrainLayer::new(&handle).refuse_late(Refusal::new());
        let (_reporter, health) = tonic_health::server::health_reporter();
        let stop = handle.draining();
        life.spawn("grpc", async move {
            let stop = async move {
                match told {
                    Told::OfTheDrain => stop.await,
                    Told::Nothing => std::future::pending().await,
                }
            };
            Server::builder()
                .layer(layer)
                .add_service(health)
                .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop)
                .await
        });
        let run = tokio::spawn(async move { life.run().await.unwrap() });
        limited(handle.reached(Phase::Running)).await;
        Self { addr, handle, run }
    }

    async fn client(&self) -> HealthClient<Channel> {
        let channel = Channel::from_shared(format!("http://{}", self.addr)).unwrap();
        HealthClient::new(limited(channel.connect()).await.unwrap())
    }

    async fn report(self) -> Report {
        limited(self.run).await.unwrap()
    }
}

fn overall() -> HealthCheckRequest {
    HealthCheckRequest { service: String::new() }
}

#[tokio::test]
async fn under_tonic_calls_are_counted_by_name_until_their_stream_ends() {
    let grpc = Grpc::start(Told::OfTheDrain).await;
    let mut client = grpc.client().await;
    limited(client.check(overall())).await.unwrap();
    assert!(grpc.handle.blockers().iter().all(|blocker| !blocker.name.contains("Health")));
    let stream = limited(client.watch(overall())).await.unwrap().into_inner();
    let named =
        || grpc.handle.blockers().into_iter().find(|blocker| blocker.name.contains("Health"));
    assert_eq!(named().unwrap().name, "POST /grpc.health.v1.Health/Watch");
    drop((stream, client));
    limited(async {
        while named().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    grpc.handle.shutdown("test");
    assert_eq!(grpc.report().await.exit_code(), 0);
}

/// A call that comes once the drain has begun, on a connection that the server still holds.
#[tokio::test]
async fn under_tonic_a_late_call_is_refused_as_unavailable() {
    let grpc = Grpc::start(Told::Nothing).await;
    let mut client = grpc.client().await;
    limited(client.check(overall())).await.unwrap();
    grpc.handle.shutdown("test");
    limited(grpc.handle.draining()).await;
    let refused = limited(client.check(overall())).await.expect_err("late");
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(refused.message(), "shutdown: drain");
    let refused = limited(client.watch(overall())).await.expect_err("late");
    assert_eq!(refused.code(), Code::Unavailable);
    drop((client, grpc));
}

/// Tonic's server waits for such a stream without a bound; the lifecycle does not.
#[tokio::test]
async fn under_tonic_an_endless_stream_is_bounded_by_the_deadline_and_named() {
    let grpc = Grpc::start(Told::OfTheDrain).await;
    let mut client = grpc.client().await;
    let _stream = limited(client.watch(overall())).await.unwrap();
    grpc.handle.shutdown("test");
    let report = grpc.report().await;
    assert_eq!(report.exit_code(), 3);
    let cut = &report.cuts()[0].blockers;
    let names: Vec<_> = cut.iter().map(|blocker| blocker.name.as_str()).collect();
    assert!(names.contains(&"POST /grpc.health.v1.Health/Watch"), "{report}");
    assert!(report.to_string().contains("component grpc aborted: out of time"), "{report}");
}
