//! The service that counts requests.
//!
//! # Invariants
//! 1. The guard is taken in `call`: a service that is ready and never called, or a clone
//!    that idles, holds nothing.

use std::task::{Context, Poll};

use http::{Request, Response};
use lifecycle::{Gate, Handle, InFlight, Refused};
use tower_service::Service;

use crate::body::DrainBody;
use crate::future::DrainFuture;
use crate::head::Asked;
use crate::stream::DrainToken;

/// A service that counts its requests; made by [`DrainLayer`](crate::DrainLayer).
#[derive(Clone, Debug)]
pub struct DrainService<S> {
    inner: S,
    handle: Handle,
    requests: Gate,
    token: DrainToken,
    names: Names,
}

/// Whether requests are noted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Kept,
    Dropped,
}

impl Names {
    /// Enters the gate as this request.
    pub(crate) fn enter<B>(self, gate: &Gate, request: &Request<B>) -> Result<InFlight, Refused> {
        match self {
            Self::Kept => gate.enter(request.method().as_str(), request.uri().path()),
            Self::Dropped => gate.enter_unnamed(),
        }
    }
}

impl<S> DrainService<S> {
    pub(crate) fn new(
        inner: S,
        handle: Handle,
        requests: Gate,
        token: DrainToken,
        names: Names,
    ) -> Self {
        Self { inner, handle, requests, token, names }
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for DrainService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    ResB: http_body::Body,
{
    type Response = Response<DrainBody<ResB>>;
    type Error = S::Error;
    type Future = DrainFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        if request.extensions().get::<DrainToken>().is_some() {
            // Already counted further out; once is enough.
            return DrainFuture::uncounted(self.inner.call(request));
        }
        // After the drain a request is served all the same, uncounted: there is nothing
        // left that would wait for it.
        let guard = self.names.enter(&self.requests, &request).ok();
        let asked = Asked::of(&request);
        request.extensions_mut().insert(self.token.clone());
        DrainFuture::counted(self.inner.call(request), self.handle.clone(), asked, guard)
    }
}
