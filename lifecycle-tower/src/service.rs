//! The service that counts requests.
//!
//! # Invariants
//! 1. The guard is taken in `call`: a service that is ready and never called, or a clone
//!    that idles, holds nothing.
//! 2. A refused request never reaches the inner service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use lifecycle::{Gate, Handle, InFlight, Phase, Refused};
use tower_service::Service;

use crate::body::DrainBody;
use crate::future::DrainFuture;
use crate::head::Asked;
use crate::reject::Refusal;
use crate::stream::DrainToken;

/// A service that counts its requests; made by [`DrainLayer`](crate::DrainLayer).
#[derive(Clone, Debug)]
pub struct DrainService<S> {
    inner: S,
    // One pointer: servers clone a service for every connection, axum for every request.
    settings: Arc<Settings>,
}

/// What a layer was told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) handle: Handle,
    pub(crate) requests: Gate,
    pub(crate) names: Names,
    pub(crate) extras: Option<Extras>,
}

/// What is asked for and costs something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    pub(crate) token: Option<DrainToken>,
    pub(crate) refusal: Option<Refusal>,
}

/// Whether requests are noted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Kept,
    Dropped,
}

impl Names {
    /// Enters the gate as this request.
    #[inline]
    pub(crate) fn enter<B>(self, gate: &Gate, request: &Request<B>) -> Result<InFlight, Refused> {
        match self {
            Self::Kept => gate.enter(request.method().as_str(), request.uri().path()),
            Self::Dropped => gate.enter_unnamed(),
        }
    }
}

impl<S> DrainService<S> {
    pub(crate) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for DrainService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    ReqB: Body,
    ResB: Body,
{
    type Response = Response<DrainBody<ResB>>;
    type Error = S::Error;
    type Future = DrainFuture<S::Future, ReqB>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let settings = &*self.settings;
        if settings.extras.is_some() || request.extensions().get::<DrainToken>().is_some() {
            return self.call_with_extras(request);
        }
        let asked = Asked::of(&request);
        match settings.names.enter(&settings.requests, &request) {
            Ok(guard) => DrainFuture::counted(self.inner.call(request), guard, asked),
            Err(_) => self.call_late(request),
        }
    }
}

impl<S> DrainService<S> {
    /// A token, refusals, or a layer further out: what [`call`](Service::call) is spared.
    #[inline(never)]
    fn call_with_extras<ReqB>(&mut self, mut request: Request<ReqB>) -> DrainFuture<S::Future, ReqB>
    where
        S: Service<Request<ReqB>>,
    {
        let settings = &*self.settings;
        let asked = Asked::of(&request);
        if request.extensions().get::<DrainToken>().is_some() {
            return DrainFuture::uncounted(self.inner.call(request), asked);
        }
        let guard = settings.names.enter(&settings.requests, &request).ok();
        let extras = settings.extras.as_ref();
        if let Some(refusal) = extras.and_then(|extras| extras.refusal.as_ref())
            && settings.handle.phase() >= Phase::Draining
            && !refusal.exempts(request.uri().path())
        {
            return DrainFuture::refused(refusal.discard(request, guard));
        }
        if let Some(token) = extras.and_then(|extras| extras.token.as_ref()) {
            request.extensions_mut().insert(token.clone());
        }
        let inner = self.inner.call(request);
        match guard {
            Some(guard) => DrainFuture::counted(inner, guard, asked),
            None => DrainFuture::late(inner, settings.handle.clone(), asked),
        }
    }

    #[cold]
    #[inline(never)]
    fn call_late<ReqB>(&mut self, request: Request<ReqB>) -> DrainFuture<S::Future, ReqB>
    where
        S: Service<Request<ReqB>>,
    {
        let (asked, handle) = (Asked::of(&request), self.settings.handle.clone());
        DrainFuture::late(self.inner.call(request), handle, asked)
    }
}
