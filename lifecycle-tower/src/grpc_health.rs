//! The gRPC health service (`grpc.health.v1`), following the lifecycle's readiness.
//!
//! Not here: what readiness is made of (`lifecycle`), the messages (tonic-health).
//!
//! # Invariants
//! 1. A service is SERVING only while the process is ready and its own switch is on.
//! 2. At the drain every watch ends, after its last NOT_SERVING: none holds the drain.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use lifecycle::{Handle, Phase, Readiness};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// The gRPC health service: SERVING while the process is ready, for clients, balancers and
/// platforms that ask by gRPC. A clone is the same service.
///
/// The whole server (the service named "") follows readiness, as
/// [`ReadinessPolicy`](lifecycle::ReadinessPolicy) has it in a shutdown; the services named by
/// [`set`](Self::set) follow it too, each with a switch of its own. `Check` of any other is
/// NOT_FOUND; `Watch` of any other says SERVICE_UNKNOWN and waits for it, as the protocol has
/// it. Watches are told of changes as they happen, and ended at the drain with status OK, which
/// gRPC clients take as "ask again elsewhere". Nothing polls; a watch costs memory only.
///
/// It works under [`serve`](crate::serve()) and under tonic's own server alike.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lifecycle_tower::{GrpcHealth, Serving};
///
/// let life = lifecycle::Lifecycle::builder().build_local()?;
/// let health = GrpcHealth::new(&life.handle());
/// health.set("shop.Orders", Serving::Yes);
/// let service = health.service(); // for `tonic::service::Routes::add_service`
/// health.set("shop.Orders", Serving::No); // its own trouble; others are not touched
/// # drop(service);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct GrpcHealth {
    handle: Handle,
    readiness: Readiness,
    services: Arc<watch::Sender<BTreeMap<String, Serving>>>,
}

/// Whether a named service serves, as far as it is up to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a switch has two positions")]
pub enum Serving {
    /// It does while the process is ready.
    Yes,
    /// It does not.
    No,
}

/// What one `Watch` knows.
struct Watching {
    name: String,
    handle: Handle,
    readiness: Readiness,
    services: watch::Receiver<BTreeMap<String, Serving>>,
    told: Option<ServingStatus>,
}

type Statuses = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

impl GrpcHealth {
    /// A health service of that lifecycle, with the whole server as its only service.
    #[must_use]
    pub fn new(handle: &Handle) -> Self {
        let services = BTreeMap::from([(String::new(), Serving::Yes)]);
        let services = Arc::new(watch::Sender::new(services));
        Self { handle: handle.clone(), readiness: handle.readiness(), services }
    }

    /// Adds the service of that full name (`package.Service`, or "" for the whole server), or
    /// turns its switch. Those who watch it are told.
    pub fn set(&self, name: impl Into<String>, serving: Serving) {
        let name = name.into();
        self.services.send_if_modified(|services| services.insert(name, serving) != Some(serving));
    }

    /// The service for tonic: `Routes::new(health.service())`.
    #[must_use]
    pub fn service(&self) -> HealthServer<Self> {
        HealthServer::new(self.clone())
    }
}

#[tonic::async_trait]
impl Health for GrpcHealth {
    type WatchStream = Statuses;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let serving = self.services.borrow().get(&request.get_ref().service).copied();
        match status(serving, &self.handle, &self.readiness) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("no such service here")),
            known => Ok(Response::new(answer(known))),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Statuses>, Status> {
        let watching = Watching {
            name: request.into_inner().service,
            handle: self.handle.clone(),
            readiness: self.readiness.clone(),
            services: self.services.subscribe(),
            told: None,
        };
        Ok(Response::new(Box::pin(stream::unfold(watching, next))))
    }
}

/// The next status of a watch that it was not told yet, if any comes.
async fn next(mut it: Watching) -> Option<(Result<HealthCheckResponse, Status>, Watching)> {
    loop {
        // The phase first: what is told after the drain has begun is the last.
        let over = it.handle.phase() >= Phase::Draining;
        let serving = it.services.borrow_and_update().get(&it.name).copied();
        let status = status(serving, &it.handle, &it.readiness);
        if it.told.replace(status) != Some(status) {
            return Some((Ok(answer(status)), it));
        }
        if over {
            return None;
        }
        // Woken for nothing, it only looks again.
        tokio::select! {
            () = it.handle.draining() => {}
            Some(_) = it.readiness.changed() => {}
            Ok(()) = it.services.changed() => {}
            else => return None,
        }
    }
}

fn status(serving: Option<Serving>, handle: &Handle, readiness: &Readiness) -> ServingStatus {
    let ready = handle.phase() < Phase::Draining && readiness.is_ready();
    match serving {
        None => ServingStatus::ServiceUnknown,
        Some(Serving::Yes) if ready => ServingStatus::Serving,
        Some(_) => ServingStatus::NotServing,
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

impl fmt::Debug for GrpcHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcHealth")
            .field("ready", &self.readiness.is_ready())
            .field("services", &*self.services.borrow())
            .finish_non_exhaustive()
    }
}
