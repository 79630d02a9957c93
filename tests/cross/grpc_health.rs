//! The gRPC health service under `serve`, asked by tonic-health's own client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use lifecycle::{Check, Handle, Lifecycle, Phase, ReadinessPolicy, Report};
use lifecycle_tower::{GrpcHealth, Serving, serve};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::wire::{limited, pass, settings};

/// A server with a health service, and its only client.
struct Asked {
    handle: Handle,
    health: GrpcHealth,
    client: HealthClient<Channel>,
    run: JoinHandle<Report>,
}

impl Asked {
    async fn start(mut life: Lifecycle) -> Self {
        let handle = life.handle();
        let health = GrpcHealth::new(&handle);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        life.spawn("grpc", serve(listener, Routes::new(health.service())));
        let run = tokio::spawn(async move { life.run().await.unwrap() });
        limited(handle.reached(Phase::Running)).await;
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
        Self { handle, health, client: HealthClient::new(endpoint.connect_lazy()), run }
    }

    async fn check(&self, service: &str) -> Result<ServingStatus, Status> {
        let mut client = self.client.clone();
        let call = client.check(request(service));
        let answer = limited(Box::pin(call)).await?;
        Ok(answer.into_inner().status())
    }

    async fn watch(&self, service: &str) -> Streaming<HealthCheckResponse> {
        limited(Box::pin(self.client.clone().watch(request(service)))).await.unwrap().into_inner()
    }
}

fn request(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

/// What a watch is told next; `None` at its clean end.
async fn next(watch: &mut Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    limited(watch.message()).await.unwrap().map(|answer| answer.status())
}

#[tokio::test]
async fn a_stop_is_told_to_those_who_watch_and_then_their_streams_end() {
    let asked = Asked::start(settings().build_local().unwrap()).await;
    asked.health.set("shop.Orders", Serving::Yes);
    let (mut whole, mut orders) = (asked.watch("").await, asked.watch("shop.Orders").await);
    assert_eq!(next(&mut whole).await, Some(ServingStatus::Serving));
    assert_eq!(next(&mut orders).await, Some(ServingStatus::Serving));
    assert_eq!(asked.check("").await.unwrap(), ServingStatus::Serving);
    assert_eq!(asked.check("shop.Orders").await.unwrap(), ServingStatus::Serving);
    asked.handle.shutdown("test");
    for watch in [&mut whole, &mut orders] {
        assert_eq!(next(watch).await, Some(ServingStatus::NotServing));
        assert_eq!(next(watch).await, None, "ended, with status OK");
    }
    let report = limited(asked.run).await.unwrap();
    assert_eq!(report.exit_code(), 0);
    assert!(report.cuts().is_empty(), "a watch holds no drain: {report:?}");
}

#[tokio::test]
async fn readiness_falls_in_the_lame_duck_and_watches_end_at_the_drain() {
    let lame_duck = Duration::from_secs(10);
    let builder = Lifecycle::builder().grace_period(3 * lame_duck).lame_duck_period(lame_duck);
    let asked = Asked::start(builder.build_local().unwrap()).await;
    let mut watch = asked.watch("").await;
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    asked.handle.shutdown("test");
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
    assert_eq!(asked.handle.phase(), Phase::LameDuck);
    assert_eq!(asked.check("").await.unwrap(), ServingStatus::NotServing, "still answered");
    let mut late = asked.watch("").await;
    assert_eq!(next(&mut late).await, Some(ServingStatus::NotServing));
    assert_eq!(asked.handle.phase(), Phase::LameDuck);
    pass(lame_duck).await;
    assert_eq!(next(&mut watch).await, None);
    assert_eq!(next(&mut late).await, None);
    assert!(asked.handle.phase() >= Phase::Draining);
    assert_eq!(limited(asked.run).await.unwrap().exit_code(), 0);
}

#[tokio::test]
async fn where_readiness_never_falls_the_drain_is_told_all_the_same() {
    let life = settings().readiness(ReadinessPolicy::Never).build_local().unwrap();
    let asked = Asked::start(life).await;
    let mut watch = asked.watch("").await;
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    asked.handle.shutdown("test");
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
    assert_eq!(next(&mut watch).await, None);
    assert_eq!(limited(asked.run).await.unwrap().exit_code(), 0);
}

#[tokio::test]
async fn a_check_that_fails_and_recovers_is_seen_while_running() {
    let mut life = settings().build_local().unwrap();
    let passes = Arc::new(AtomicBool::new(true));
    let looked_at = Arc::clone(&passes);
    let check = Check::readiness("db", move || {
        let passes = looked_at.load(Relaxed);
        async move { if passes { Ok(()) } else { Err("down") } }
    });
    life.check(check.interval(Duration::from_millis(20)).failure_threshold(1));
    let asked = Asked::start(life).await;
    let mut watch = asked.watch("").await;
    // The first run of the check may be seen as not over.
    let first = next(&mut watch).await;
    if first == Some(ServingStatus::NotServing) {
        assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    }
    passes.store(false, Relaxed);
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
    assert_eq!(asked.check("").await.unwrap(), ServingStatus::NotServing);
    passes.store(true, Relaxed);
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    assert_eq!(asked.handle.phase(), Phase::Running);
    asked.handle.shutdown("test");
    assert_eq!(limited(asked.run).await.unwrap().exit_code(), 0);
}

#[tokio::test]
async fn a_service_of_its_own_has_its_own_switch_and_an_unknown_one_none() {
    let asked = Asked::start(settings().build_local().unwrap()).await;
    let status = asked.check("shop.Orders").await.expect_err("nobody has named it");
    assert_eq!(status.code(), Code::NotFound);
    let mut watch = asked.watch("shop.Orders").await;
    assert_eq!(next(&mut watch).await, Some(ServingStatus::ServiceUnknown));
    asked.health.set("shop.Orders", Serving::No);
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
    asked.health.set("shop.Bills", Serving::Yes);
    asked.health.set("shop.Orders", Serving::Yes);
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving), "others' news are none");
    asked.health.set("shop.Orders", Serving::No);
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
    assert_eq!(asked.check("").await.unwrap(), ServingStatus::Serving);
    asked.handle.shutdown("test");
    assert_eq!(next(&mut watch).await, None, "was told already");
    assert_eq!(limited(asked.run).await.unwrap().exit_code(), 0);
}
