//! The response future: hands the guard on to the body.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::Body;
use lifecycle::{Handle, InFlight, Phase, Stage};

use crate::body::DrainBody;
use crate::grpc;
use crate::head::Asked;
use crate::outcome;
use crate::reject::Discard;
use crate::stream::{StreamEnd, StreamPolicy};

pin_project_lite::pin_project! {
    /// The response future of [`DrainService`](crate::DrainService). Dropped before it is
    /// ready, the request is no longer in flight.
    #[must_use = "futures do nothing unless polled"]
    pub struct DrainFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateProjection]
    enum State<F, B> {
        Served {
            #[pin]
            inner: F,
            // Both absent: counted further out, and once is enough.
            guard: Option<InFlight>,
            late: Option<Handle>,
            asked: Asked,
        },
        // Boxed: it is rare, and larger than what the others have beside the inner future.
        Refused {
            discard: Pin<Box<Discard<B>>>,
        },
    }
}

impl<F, B> DrainFuture<F, B> {
    #[inline]
    pub(crate) fn counted(inner: F, guard: InFlight, asked: Asked) -> Self {
        Self { state: State::Served { inner, guard: Some(guard), late: None, asked } }
    }

    /// After the drain a request is served all the same, uncounted: there is nothing left that
    /// would wait for it.
    pub(crate) fn late(inner: F, handle: Handle, asked: Asked) -> Self {
        Self { state: State::Served { inner, guard: None, late: Some(handle), asked } }
    }

    /// Of a request that is counted further out.
    pub(crate) fn uncounted(inner: F, asked: Asked) -> Self {
        Self { state: State::Served { inner, guard: None, late: None, asked } }
    }

    pub(crate) fn refused(discard: Discard<B>) -> Self {
        Self { state: State::Refused { discard: Box::pin(discard) } }
    }
}

impl<F, ReqB, ResB, E> Future for DrainFuture<F, ReqB>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    ReqB: Body,
    ResB: Body,
{
    type Output = Result<Response<DrainBody<ResB>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (inner, guard, late, asked) = match self.project().state.project() {
            StateProjection::Served { inner, guard, late, asked } => (inner, guard, late, *asked),
            StateProjection::Refused { discard } => return discard.as_mut().poll(cx),
        };
        // Looked at where it lies, and moved once: a response is large.
        let mut answered = ready!(inner.poll(cx));
        let guard = guard.take();
        let end = match &mut answered {
            Ok(response) => look_at(response, guard.as_ref(), late.as_ref(), asked),
            Err(_) => None,
        };
        let body = |inner| DrainBody::new(inner, guard, end);
        Poll::Ready(answered.map(|response| response.map(body)))
    }
}

/// Makes of a response what it becomes in a shutdown, and says when its body is to end.
#[inline]
fn look_at<B: Body>(
    response: &mut Response<B>,
    guard: Option<&InFlight>,
    late: Option<&Handle>,
    asked: Asked,
) -> Option<Box<StreamEnd>> {
    let phase = match (guard, late) {
        (Some(guard), _) => {
            guard.set_stage(Stage::Sending);
            guard.phase()
        }
        (None, Some(handle)) => handle.phase(),
        (None, None) => return None,
    };
    if phase.is_shutting_down() {
        outcome::answered(|| phase);
        let status = response.status();
        asked.close(phase, status, response.headers_mut());
    }
    let policy = response.extensions().get::<StreamPolicy>().copied();
    let spread = StreamEnd::spread_of(response.headers(), response.body(), policy)?;
    let draining = match (guard, late) {
        (Some(guard), _) => guard.reached(Phase::Draining),
        (None, Some(handle)) => handle.draining(),
        (None, None) => return None,
    };
    let is_grpc = grpc::is_grpc(asked.version, response.headers());
    let trailers = is_grpc.then(|| grpc::unavailable(grpc::DRAIN));
    Some(Box::new(StreamEnd::new(draining, spread).with_trailers(trailers)))
}

impl<F, B> fmt::Debug for DrainFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (counted, refused) = match &self.state {
            State::Served { guard, .. } => (guard.is_some(), false),
            State::Refused { discard } => (discard.is_counted(), true),
        };
        f.debug_struct("DrainFuture")
            .field("counted", &counted)
            .field("refused", &refused)
            .finish_non_exhaustive()
    }
}
