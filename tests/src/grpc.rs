//! A gRPC client, and a server's half of a call, for messages of one number.

use std::future::Future;

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{IntoStreamingRequest, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// The only message.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
#[allow(clippy::exhaustive_structs, reason = "a message, made by its fields")]
pub struct Number {
    /// The number.
    #[prost(uint64, tag = "1")]
    pub n: u64,
}

/// A client of any service whose messages are numbers.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

/// What a server's method needs to speak gRPC.
#[must_use]
pub fn server() -> tonic::server::Grpc<ProstCodec<Number, Number>> {
    tonic::server::Grpc::new(ProstCodec::default())
}

/// A message of that number.
#[must_use]
pub fn number(n: u64) -> Number {
    Number { n }
}

impl Client {
    /// A client with one connection at a time, made when it is needed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(address: std::net::SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a valid URI");
        Self { channel: endpoint.connect_lazy() }
    }

    /// One number for one.
    ///
    /// # Errors
    /// As the call ended.
    pub async fn unary(&self, path: &'static str, n: u64) -> Result<u64, Status> {
        let mut grpc = self.ready().await?;
        let request = Request::new(number(n));
        let answer = grpc.unary(request, PathAndQuery::from_static(path), codec());
        Ok(Box::pin(answer).await?.into_inner().n)
    }

    /// One number for many.
    ///
    /// # Errors
    /// As the call ended.
    pub async fn client_streaming(
        &self,
        path: &'static str,
        numbers: impl IntoStreamingRequest<Message = Number>,
    ) -> Result<u64, Status> {
        let mut grpc = self.ready().await?;
        let request = numbers.into_streaming_request();
        let path = PathAndQuery::from_static(path);
        let answer = grpc.client_streaming(request, path, codec());
        Ok(Box::pin(answer).await?.into_inner().n)
    }

    /// Many numbers for one.
    ///
    /// # Errors
    /// As the call ended, when it ended without an answer.
    pub async fn server_streaming(
        &self,
        path: &'static str,
        n: u64,
    ) -> Result<Streaming<Number>, Status> {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.server_streaming(Request::new(number(n)), path, codec());
        Box::pin(answer).await.map(Response::into_inner)
    }

    /// Many numbers for many.
    ///
    /// # Errors
    /// As the call ended, when it ended without an answer.
    pub async fn streaming(
        &self,
        path: &'static str,
        numbers: impl IntoStreamingRequest<Message = Number>,
    ) -> Result<Streaming<Number>, Status> {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.streaming(numbers.into_streaming_request(), path, codec());
        Box::pin(answer).await.map(Response::into_inner)
    }

    fn ready(&self) -> impl Future<Output = Result<Grpc<Channel>, Status>> + use<> {
        let mut grpc = Grpc::new(self.channel.clone());
        async move {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            Ok(grpc)
        }
    }
}

fn codec() -> ProstCodec<Number, Number> {
    ProstCodec::default()
}
