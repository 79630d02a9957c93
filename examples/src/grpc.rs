//! A gRPC service, written by hand where others have tonic's generator (which needs
//! `protoc`): a method of each kind, and what each does at a stop.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use lifecycle_tower::DrainToken;
use tokio::time::sleep;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

/// The only message: `message Number { uint64 n = 1; }`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
#[allow(clippy::exhaustive_structs, reason = "a message, made by its fields")]
pub struct Number {
    /// The number.
    #[prost(uint64, tag = "1")]
    pub n: u64,
}

/// The service `examples.Work`, as tonic's generator would make it:
///
/// ```proto
/// service Work {
///   rpc Once(Number) returns (Number);
///   rpc Sum(stream Number) returns (Number);
///   rpc Count(Number) returns (stream Number);
///   rpc Echo(stream Number) returns (stream Number);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct WorkServer;

type Numbers = BoxStream<'static, Result<Number, Status>>;

/// Answers with `n` after so many milliseconds: a stop lets it finish.
async fn once(request: Request<Number>) -> Result<Response<Number>, Status> {
    let number = request.into_inner();
    sleep(Duration::from_millis(number.n)).await;
    Ok(Response::new(number))
}

/// Adds up what it is sent: it is the client who says when it is over, until the hard stop.
async fn sum(request: Request<Streaming<Number>>) -> Result<Response<Number>, Status> {
    let mut numbers = request.into_inner();
    let mut sum = 0_u64;
    while let Some(number) = numbers.message().await? {
        sum = sum.saturating_add(number.n);
    }
    Ok(Response::new(Number { n: sum }))
}

/// Counts, a number every `n` milliseconds, until the drain: its token says when.
async fn count(request: Request<Number>) -> Result<Response<Numbers>, Status> {
    let token = request.extensions().get::<DrainToken>().cloned();
    let token = token.ok_or_else(|| Status::internal("not under `serve`"))?;
    let pause = Duration::from_millis(request.into_inner().n);
    let numbers = stream::unfold(0, move |n| async move {
        sleep(pause).await;
        Some((Ok(Number { n }), n + 1))
    });
    Ok(Response::new(numbers.take_until(token.draining()).boxed()))
}

/// Sends back what it is sent: as `sum`.
async fn echo(request: Request<Streaming<Number>>) -> Result<Response<Numbers>, Status> {
    Ok(Response::new(request.into_inner().boxed()))
}

impl NamedService for WorkServer {
    const NAME: &'static str = "examples.Work";
}

impl Service<http::Request<Body>> for WorkServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(match call.uri().path() {
                "/examples.Work/Once" => grpc.unary(service_fn(once), call).await,
                "/examples.Work/Sum" => grpc.client_streaming(service_fn(sum), call).await,
                "/examples.Work/Count" => grpc.server_streaming(service_fn(count), call).await,
                "/examples.Work/Echo" => grpc.streaming(service_fn(echo), call).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}
